"""A size as users type it: ``256``, ``64x1024x1024`` or ``{m: 64, k: 128, n: 32}``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runner.errors import ConfigError

BATCH = (
    "batch"  # the name under which a size mapping and a formula speak of the dimensions under '...'
)
LONGEST = 10**12  # elements along a dimension: more than any memory holds
ALLOWED = "allowed: 256 (256x256), 64x1024x1024, or named dimensions such as {m: 64, k: 128}, all of 1 or more"


Named = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Size:
    """What was asked for, before an operation's signature gives it a meaning. One of the first three is set.

    Attributes:
        square: a single number n: n x n, or just n for an operation on vectors.
        shape: the shape of the first input.
        named: dimensions by name; ``batch`` may have several.
        further: what a shape does not say: further dimensions by name, as results show them.
    """

    square: int | None = None
    shape: tuple[int, ...] = ()
    named: Named = ()
    further: Named = ()

    def at_most(self, inner: int, outer: int) -> Size:
        """The same size cut down: the last two dimensions to ``inner``, the others and ``batch`` to ``outer``."""
        if self.square is not None:
            return Size(square=min(self.square, inner))
        if self.shape:
            head, tail = self.shape[:-2], self.shape[-2:]
            shape = tuple(min(n, outer) for n in head) + tuple(min(n, inner) for n in tail)
            return Size(shape=shape, further=_at_most(self.further, inner, outer))
        return Size(named=_at_most(self.named, inner, outer))


def parse_size(value: object) -> Size:
    """Read a size from the configuration.

    Args:
        value: an integer, text such as ``64x1024`` or, as results show it, ``64x128 n=32``, a sequence of integers,
            or a mapping of dimensions.

    Raises:
        ConfigError: it is none of these, or a length is not a positive integer.
    """
    match value:
        case bool() | float() | None:
            pass
        case int() if 0 < value <= LONGEST:
            return Size(square=value)
        case str() if re.fullmatch(r"\s*\d{1,13}(\s*x\s*\d{1,13})*\s*", value):
            lengths = tuple(int(part) for part in value.split("x"))
            if all(lengths):
                return Size(square=lengths[0]) if len(lengths) == 1 else Size(shape=lengths)
        case str() if found := re.fullmatch(
            r"(\d{1,13}(?:x\d{1,13})*)((?: [a-z]\w*=\d{1,13}(?:x\d{1,13})*)+)", value
        ):
            shape = _lengths(value, found[1])
            named = (word.split("=") for word in found[2].split())
            return Size(
                shape=shape,
                further=tuple(sorted((name, _lengths(value, length)) for name, length in named)),
            )
        case Mapping() if value:
            return Size(
                named=tuple(
                    sorted((str(name), _lengths(value, length)) for name, length in value.items())
                )
            )
        case list() | tuple() if value and all(_is_length(length) for length in value):
            return Size(shape=tuple(value))
    raise ConfigError(f"size={_shown(value)} is not a size; {ALLOWED}")


def shape_text(shape: Sequence[int]) -> str:
    """``(64, 1024)`` as ``64x1024``; a tensor of no dimensions is ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


@lru_cache(maxsize=10_000)
def first_input_shape(size: str) -> tuple[int, ...] | None:
    """The shape that a row's size names; None where it names none, as of a cell that could not even be composed.

    >>> first_input_shape("64x1024x1024 n=8"), first_input_shape("scalar"), first_input_shape("default")
    ((64, 1024, 1024), (), None)
    """
    if size == shape_text(()):
        return ()
    lengths = size.partition(" ")[0].split("x")
    return tuple(map(int, lengths)) if all(map(str.isdecimal, lengths)) else None


def _at_most(named: Named, inner: int, outer: int) -> Named:
    return tuple(
        (name, tuple(min(n, outer if name == BATCH else inner) for n in lengths))
        for name, lengths in named
    )


def _lengths(mapping: object, value: object) -> tuple[int, ...]:
    if _is_length(value):
        return (value,)  # type: ignore[return-value]  # _is_length has just said that it is an int
    if isinstance(value, str) and re.fullmatch(r"\d{1,13}(x\d{1,13})*", value):
        value = [int(part) for part in value.split("x")]
    if isinstance(value, list | tuple) and value and all(map(_is_length, value)):
        return tuple(value)
    raise ConfigError(f"size={_shown(mapping)} is not a size; {ALLOWED}")


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LONGEST


def _shown(value: object) -> str:
    """As it was typed, with quotes where there would be nothing to see."""
    blank = isinstance(value, str) and not value.strip()
    return repr(value) if blank else str(value)
