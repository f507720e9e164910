"""A size as users type it: ``256``, ``64x1024x1024`` or ``{m: 64, k: 128, n: 32}``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runner.errors import ConfigError

BATCH = "batch"
"""The name of the dimensions under ``...`` in a size's mapping and in a formula."""

LONGEST = 10**12  # elements along a dimension: more than any memory holds
MOST_ELEMENTS = 10**30  # of a shape that is plotted
ALLOWED = (
    "allowed: 256 (256x256), 64x1024x1024, "
    "or named dimensions such as {m: 64, k: 128}, each of 1 or more, and 64 dimensions at most"
)
MOST_DIMENSIONS = 64  # PyTorch computes with no more
LENGTH = r"[0-9]{1,13}"
SHAPE = rf"{LENGTH}(?:x{LENGTH})*"

Named = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Size:
    """What was asked for, before a signature gives it a meaning. One of the first three is set."""

    square: int | None = None  # a single number n: n x n, or just n for an operation on vectors
    shape: tuple[int, ...] = ()  # the shape of the first input
    named: Named = ()  # dimensions by name; ``batch`` may have several
    # what a shape does not say: further dimensions by name, as results show them
    further: Named = ()

    def at_most(self, inner: int, outer: int) -> Size:
        """The size with its last two dimensions cut to ``inner``, all others to ``outer``."""
        if self.square is not None:
            return Size(square=min(self.square, inner))
        if self.shape:
            head, tail = self.shape[:-2], self.shape[-2:]
            shape = tuple(min(n, outer) for n in head) + tuple(min(n, inner) for n in tail)
            return Size(shape=shape, further=_at_most(self.further, inner, outer))
        return Size(named=_at_most(self.named, inner, outer))


def parse_size(value: object) -> Size:
    """Read a size: an integer, text such as ``64x1024`` or, as results show it, ``64x128 n=32``.

    It may also be a sequence of integers, or a mapping of dimensions.
    """
    try:
        match value:
            case int():
                return Size(square=_lengths(value)[0])
            case str() if re.fullmatch(rf"\s*{LENGTH}(\s*x\s*{LENGTH})*\s*", value):
                lengths = _lengths("".join(value.split()))
                return Size(square=lengths[0]) if len(lengths) == 1 else Size(shape=lengths)
            case str() if parts := re.fullmatch(rf"({SHAPE})((?: [a-z]\w*={SHAPE})+)", value):
                further = (word.split("=") for word in parts[2].split())
                return Size(shape=_lengths(parts[1]), further=_by_name(further))
            case str() if re.fullmatch(r"\{\s*\w+\s*:[^{}]*\}", value):
                pairs = (
                    [part.strip() for part in pair.split(":")] for pair in value[1:-1].split(",")
                )
                return Size(named=_by_name(pairs))
            case Mapping() if value:
                return Size(named=_by_name(value.items()))
            case list() | tuple():
                return Size(shape=_lengths(value))
    except ValueError:
        pass
    if isinstance(value, list | tuple) and any(map(_is_whole_size, value)):
        several = ",".join(map(_given, value))
        advice = f"several are given with commas and -m: size={several}"
        raise ConfigError(f"size=[{several}] is a list, and a cell has one size; {advice}")
    blank = isinstance(value, str) and not value.strip()
    shown = repr(value) if blank else str(value)
    raise ConfigError(f"size={shown} is not a size; {ALLOWED}")


def _is_whole_size(part: object) -> bool:
    """Whether what stands in a list is a size of its own, and no length."""
    return isinstance(part, Mapping) or (isinstance(part, str) and "x" in part)


def _given(size: object) -> str:
    """A size as the command line takes it."""
    if not isinstance(size, Mapping):
        return str(size)
    return f"{{{', '.join(f'{name}: {length}' for name, length in size.items())}}}"


def shape_text(shape: Sequence[int]) -> str:
    """``(64, 1024)`` as ``64x1024``; a tensor of no dimensions is ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


@lru_cache(maxsize=100_000)  # sizes come in turn, so that a smaller one forgets all of them
def first_input_shape(size: str) -> tuple[int, ...] | None:
    """The shape that a row's size names; None where the cell could not even be composed.

    >>> first_input_shape("64x1024x1024 n=8"), first_input_shape("scalar")
    ((64, 1024, 1024), ())
    >>> first_input_shape("default")
    """
    if size == shape_text(()):
        return ()
    if not re.fullmatch(SHAPE, text := size.partition(" ")[0]):
        return None
    shape = tuple(map(int, text.split("x")))
    return shape if 0 < math.prod(shape) <= MOST_ELEMENTS else None


def _at_most(named: Named, inner: int, outer: int) -> Named:
    limits = {BATCH: outer}
    return tuple(
        (name, tuple(min(n, limits.get(name, inner)) for n in lengths)) for name, lengths in named
    )


def _by_name(pairs: Iterable[Sequence[object]]) -> Named:
    return tuple(sorted((str(name), _lengths(length)) for name, length in pairs))


def _lengths(value: object) -> tuple[int, ...]:
    """One length or several; ValueError where the value is none."""
    if isinstance(value, str) and re.fullmatch(SHAPE, value):
        value = [int(part) for part in value.split("x")]
    lengths = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not 0 < len(lengths) <= MOST_DIMENSIONS or not all(
        type(n) is int and 0 < n <= LONGEST for n in lengths
    ):
        raise ValueError
    return lengths
