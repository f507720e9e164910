"""Signatures with named dimensions: ``"... m k, ... k n -> ... m n"``.

Inputs are drawn and outputs checked from them. ``...`` stands for any number of dimensions, the same in every tensor.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod

from runner.config.formula import evaluate, names_in
from runner.config.size import BATCH, Size, shape_text
from runner.errors import ConfigError

ELLIPSIS = "..."
Axes = tuple[str, ...]  # the dimensions of one tensor, by name


@dataclass(frozen=True)
class Dimensions:
    """Every dimension of a signature, with its length.

    Attributes:
        batch: the lengths under ``...``.
        lengths: the named dimensions.
    """

    batch: tuple[int, ...]
    lengths: Mapping[str, int]

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """The shape of a tensor with these axes."""
        lengths: list[int] = []
        for axis in axes:
            lengths += self.batch if axis == ELLIPSIS else (self.lengths[axis],)
        return tuple(lengths)

    @property
    def variables(self) -> dict[str, int]:
        """What a formula may mention: the named dimensions, and ``batch``, the product of those under ``...``."""
        return {**self.lengths, BATCH: prod(self.batch)}


@dataclass(frozen=True)
class Signature:
    """The axes of each input and of each output, and the formulas of dimensions that follow from others."""

    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]
    formulas: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, formulas: Mapping[str, str]) -> Signature:
        """Read a signature.

        Raises:
            ConfigError: the text is no signature, a formula names an unknown dimension, or an output has a
                dimension that neither an input nor a formula gives.
        """
        left, arrow, right = text.partition("->")
        if not arrow or not left.strip():
            raise ConfigError(
                f'signature {text!r}: write inputs -> outputs, such as "... m k, ... k n -> ... m n"'
            )
        signature = cls(_tensors(left, text), _tensors(right, text), dict(formulas))
        signature._check(text)
        return signature

    def bind(self, size: Size) -> Dimensions:
        """Give every dimension its length.

        The first input takes its own from ``size``; the others follow from the formulas, and where there is none
        they are as long as the first input's last dimension.

        Raises:
            ConfigError: the signature cannot take this size.
        """
        # what the size itself says
        batch, lengths = self._named(size) if size.named else self._matched(size)
        if size.further:
            batch, lengths = self._further(size, batch, lengths)
        self._follow(batch, lengths, self.formulas)

        # what nothing says is as long as the first input's last dimension, so that 256 is a size of every operation
        free = self.of_inputs - {ELLIPSIS} - lengths.keys() - self.formulas.keys()
        if free:
            last = self.inputs[0][-1]
            length = (batch or (1,))[-1] if last == ELLIPSIS else lengths.get(last)
            if length is None:
                raise ConfigError(
                    f"derived_dims: {last} needs {', '.join(sorted(free))}; give them in size"
                )
            lengths.update(dict.fromkeys(free, length))

        # formulas that waited for these
        self._follow(batch, lengths, self.formulas)
        pending = self.formulas.keys() - lengths.keys()
        if pending:
            raise ConfigError(f"derived_dims: {', '.join(sorted(pending))} depend on each other")
        return Dimensions(batch, lengths)

    @property
    def takes(self) -> str:
        """The first input's axes, for people: ``... x m x k``."""
        return " x ".join(self.inputs[0])

    @property
    def of_inputs(self) -> set[str]:
        """Every axis of an input, ``...`` among them."""
        return set(chain.from_iterable(self.inputs))

    def _check(self, text: str) -> None:
        drawn = self.of_inputs
        if not self.inputs[0]:
            raise ConfigError(
                f"signature {text!r}: the first input needs a dimension, since size is its shape"
            )
        if any(ELLIPSIS in axes for axes in self.outputs) and ELLIPSIS not in drawn:
            raise ConfigError(f"signature {text!r}: '...' stands in an output but in no input")
        for name in self.formulas:
            _check_name(name, "derived_dims")

        # a dimension that only an output has needs a formula
        derived = set(chain.from_iterable(self.outputs)) - drawn - self.formulas.keys()
        if derived:
            raise ConfigError(
                f"signature {text!r}: only an output has dimension {', '.join(sorted(derived))}; "
                "give it a formula under derived_dims:"
            )

        # and a formula names dimensions that there are
        known = (drawn | self.formulas.keys()) - {ELLIPSIS} | {BATCH}
        for name, formula in self.formulas.items():
            unknown = names_in(formula) - known
            if unknown:
                raise ConfigError(
                    f"derived_dims: {name}: {formula}: unknown dimension {', '.join(sorted(unknown))}; "
                    f"known here: {', '.join(sorted(known))}"
                )

    def _matched(self, size: Size) -> tuple[tuple[int, ...], dict[str, int]]:
        first = self.inputs[0]
        named = len(first) - (ELLIPSIS in first)

        # a single number is n x n, or n for an operation on vectors
        shape = size.shape
        if size.square is not None:
            vector = len(first) == 1 and ELLIPSIS not in first
            shape = (size.square,) if vector else (size.square, size.square)
        if len(shape) < named or (len(shape) > named and ELLIPSIS not in first):
            raise ConfigError(
                f"size {shape_text(shape)} does not fit the signature, whose first input is {self.takes}; "
                f"give {named}{' or more' if ELLIPSIS in first else ''} dimensions, "
                f"such as size={shape_text((8,) * max(0, named - 2) + (64,) * min(2, named))}"
            )

        # '...' takes what the named dimensions before and after it leave
        start = first.index(ELLIPSIS) if ELLIPSIS in first else named
        stop = len(shape) - (named - start)
        lengths: dict[str, int] = {}
        for axis, n in zip(
            [a for a in first if a != ELLIPSIS], shape[:start] + shape[stop:], strict=True
        ):
            if lengths.setdefault(axis, n) != n:
                raise ConfigError(
                    f"size {shape_text(shape)} does not fit the signature, whose first input is {self.takes}: "
                    f"{axis} would be both {lengths[axis]} and {n}"
                )
        return shape[start:stop], lengths

    def _named(self, size: Size) -> tuple[tuple[int, ...], dict[str, int]]:
        requested = dict(size.named)
        allowed = {BATCH if axis == ELLIPSIS else axis for axis in self.of_inputs}
        needed = {axis for axis in self.inputs[0] if axis != ELLIPSIS} - self.formulas.keys()
        faults = {
            "unknown": sorted(requested.keys() - allowed),
            "missing": sorted(needed - requested.keys()),
            "one length each": [
                n for n, lengths in requested.items() if n != BATCH and len(lengths) != 1
            ],
        }
        wrong = [f"{what}: {', '.join(names)}" for what, names in faults.items() if names]
        if wrong:
            raise ConfigError(
                f"size with dimensions {', '.join(sorted(requested))}: {'; '.join(wrong)}; "
                f"the dimensions are {', '.join(sorted(allowed))}"
            )
        return requested.pop(BATCH, ()), {name: lengths[0] for name, lengths in requested.items()}

    def _further(
        self, size: Size, batch: tuple[int, ...], lengths: dict[str, int]
    ) -> tuple[tuple[int, ...], dict[str, int]]:
        requested = dict(size.further)

        # the other inputs' dimensions, but those that the first input's shape has settled
        others = chain.from_iterable(self.inputs[1:])
        allowed = {BATCH if axis == ELLIPSIS else axis for axis in others} - lengths.keys()
        allowed |= self.formulas.keys()
        allowed -= {BATCH} if ELLIPSIS in self.inputs[0] else set()
        wrong = [
            name
            for name, of in requested.items()
            if name not in allowed or (name != BATCH and len(of) != 1)
        ]
        if wrong:
            raise ConfigError(
                f"size {shape_text(size.shape)} with {', '.join(wrong)}: beside the first input's shape there are "
                f"{', '.join(sorted(allowed)) or 'no dimensions'}, one length each"
            )
        return requested.pop(BATCH, batch), {
            **lengths,
            **{name: of[0] for name, of in requested.items()},
        }

    @staticmethod
    def _follow(
        batch: tuple[int, ...], lengths: dict[str, int], formulas: Mapping[str, str]
    ) -> None:
        """Add each length whose formula can be computed from those that are there."""
        while True:
            variables = {**lengths, BATCH: prod(batch)}
            ready = [
                n
                for n, f in formulas.items()
                if n not in lengths and names_in(f) <= variables.keys()
            ]
            if not ready:
                return
            for name in ready:
                length = evaluate(formulas[name], variables)
                if length < 1 or length != int(length):
                    raise ConfigError(
                        f"dimension {name} = {formulas[name]} would be {length:g}; choose a larger size"
                    )
                lengths[name] = int(length)


def _check_name(name: str, where: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name == BATCH:
        raise ConfigError(
            f"{where}: {name!r} is no dimension; use lower-case names (not {BATCH!r}) or '...'"
        )


def _tensors(side: str, text: str) -> tuple[Axes, ...]:
    tensors = tuple(tuple(part.split()) for part in side.split(","))
    for axes in tensors:
        for axis in axes:
            if axis != ELLIPSIS:
                _check_name(axis, f"signature {text!r}")
        if axes.count(ELLIPSIS) > 1:
            raise ConfigError(f"signature {text!r}: '...' may stand once in a tensor")
    return tensors
