"""Signatures with named dimensions: ``"... m k, ... k n -> ... m n"``.

Inputs are drawn and outputs checked from them. ``...`` stands for any number of dimensions, the
same in every tensor, ``?`` for a length of an output that the numbers decide, and ``-> none`` for a
call that returns nothing. ``* -> *`` says nothing of either side: the inputs are what a function of
the user's makes of a number, the size.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from runner.config.formula import check_names, evaluate, names_in
from runner.config.size import BATCH, Size, shape_text
from runner.errors import ConfigError

ELLIPSIS = "..."
ANY = "?"  # a length of an output that the numbers decide
NOTHING = "none"  # in place of outputs
OPEN = ["*", "->", "*"]  # the words of a signature that says nothing
NUMBER = "n"  # what its size is called
Axes = tuple[str, ...]  # the dimensions of one tensor, by name
Lengths = dict[str, tuple[int, ...]]  # one of each dimension, and any number of BATCH


@dataclass(frozen=True)
class Dimensions:
    """Every dimension of a signature, with its length: those under ``...``, and the named ones."""

    batch: tuple[int, ...]
    lengths: Mapping[str, int]

    def shape(self, axes: Axes, free: int = 1) -> tuple[int, ...]:
        """The shape of a tensor with these axes, with ``free`` for what the numbers decide."""
        lengths: list[int] = []
        for axis in axes:
            if axis == ELLIPSIS:
                lengths += self.batch
            else:
                lengths.append(free if axis == ANY else self.lengths[axis])
        return tuple(lengths)

    def admits(self, axes: Axes, shape: Sequence[int]) -> bool:
        """Whether a tensor with these axes may have this shape."""
        expected = self.shape(axes, free=-1)
        pairs = zip(shape, expected, strict=False)
        return len(shape) == len(expected) and all(m in (n, -1) for n, m in pairs)

    @property
    def variables(self) -> dict[str, int]:
        """What a formula may mention: the named dimensions, and all of ``...`` as ``batch``."""
        return {**self.lengths, BATCH: prod(self.batch)}


@dataclass(frozen=True)
class Signature:
    """The axes of each input and output, and the formulas of dimensions that follow from others."""

    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]
    formulas: Mapping[str, str]
    is_open: bool = False  # whether it says nothing of inputs and outputs

    @classmethod
    def parse(cls, text: str, formulas: Mapping[str, str]) -> Signature:
        """Read a signature; ConfigError where it is none, or says nothing of a dimension."""
        where = f"signature {text!r}"
        if text.split() == OPEN:
            return cls((), (), dict(formulas), is_open=True)
        left, arrow, right = text.partition("->")
        if not arrow or not (left.strip() or right.strip() not in ("", NOTHING)):
            example = '"... m k, ... k n -> ... m n"'
            raise ConfigError(f"{where}: write inputs -> outputs, such as {example}")
        inputs = _tensors(left, where) if left.strip() else ()
        outputs = () if right.strip() == NOTHING else _tensors(right, where, allowed=(ANY,))
        signature = cls(inputs, outputs, dict(formulas))
        signature._check(where)
        return signature

    def bind(self, size: Size) -> Dimensions:
        """Give every dimension its length; ConfigError where the signature cannot take this size.

        The first input takes its own from ``size``; the others follow from the formulas, and where
        there is none they are as long as the first input's last dimension.
        """
        # what the size itself says
        requested = self._named(size) if size.named else self._matched(size)
        if size.further:
            requested |= self._further(size)
        batch = requested.pop(BATCH, ())
        lengths = {name: length for name, (length,) in requested.items()}
        self._follow(batch, lengths)

        # what nothing says is as long as the first input's last dimension, so that 256 is a size
        # of every operation
        free = self.of_inputs - {ELLIPSIS} - lengths.keys() - self.formulas.keys()
        if free:
            last = self.sized[-1]
            length = (batch or (1,))[-1] if last == ELLIPSIS else lengths.get(last)
            if length is None:
                raise ConfigError(f"derived_dims: {last} needs {_listed(free)}; give them in size")
            lengths.update(dict.fromkeys(free, length))

        # formulas that waited for these
        self._follow(batch, lengths)
        pending = self.formulas.keys() - lengths.keys()
        if pending:
            raise ConfigError(f"derived_dims: {_listed(pending)} depend on each other")
        return Dimensions(batch, lengths)

    @property
    def sized(self) -> Axes:
        """The tensor whose shape is the size: the first input, or output where there is none."""
        return (self.inputs or self.outputs or ((NUMBER,),))[0]

    @property
    def takes(self) -> str:
        """The first input's axes, for people: ``... x m x k``."""
        return " x ".join(self.sized)

    @property
    def of_inputs(self) -> set[str]:
        """Every axis of an input, ``...`` among them; without inputs those that are sized."""
        return set(chain.from_iterable(self.inputs or [self.sized]))

    def _check(self, where: str) -> None:
        drawn, produced = self.of_inputs, set(chain.from_iterable(self.outputs)) - {ANY}
        if not self.sized:
            problem = "the first input needs a dimension"
            raise ConfigError(f"{where}: {problem}, since size is its shape")
        if ELLIPSIS in produced - drawn:
            raise ConfigError(f"{where}: '...' stands in an output but in no input")
        for name in self.formulas:
            _check_name(name, "derived_dims")

        # a dimension that only an output has needs a formula
        derived = produced - drawn - self.formulas.keys()
        if derived:
            raise ConfigError(
                f"{where}: only an output has dimension {_listed(derived)}; "
                "give it a formula under derived_dims:"
            )

        # and a formula names dimensions that there are
        known = (drawn | self.formulas.keys()) - {ELLIPSIS} | {BATCH}
        for name, formula in self.formulas.items():
            check_names(f"derived_dims: {name}: {formula}", formula, known)

    def _matched(self, size: Size) -> Lengths:
        """What a shape says, or a number, which is n x n, or n for an operation on vectors."""
        first = self.sized
        any_more = ELLIPSIS in first
        named = len(first) - any_more
        shape = size.shape
        if size.square is not None:
            is_vector = len(first) == 1 and not any_more
            shape = (size.square,) if is_vector else (size.square, size.square)
        taken = f"the signature, whose first input is {self.takes}"
        misfit = f"size {shape_text(shape)} does not fit {taken}"
        if len(shape) < named or (len(shape) > named and not any_more):
            example = shape_text((8,) * max(0, named - 2) + (64,) * min(2, named))
            count = f"{named} or more" if any_more else str(named)
            raise ConfigError(f"{misfit}; give {count} dimensions, such as size={example}")

        # '...' takes what the named dimensions before and after it leave
        start = first.index(ELLIPSIS) if any_more else named
        stop = len(shape) - (named - start)
        axes = [axis for axis in first if axis != ELLIPSIS]
        lengths: dict[str, int] = {}
        for axis, length in zip(axes, shape[:start] + shape[stop:], strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ConfigError(f"{misfit}: {axis} would be both {lengths[axis]} and {length}")
        return {BATCH: shape[start:stop], **{axis: (length,) for axis, length in lengths.items()}}

    def _named(self, size: Size) -> Lengths:
        requested = dict(size.named)
        allowed = _as_written(self.of_inputs)
        needed = set(self.sized) - {ELLIPSIS} - self.formulas.keys()
        faults = {
            "unknown": requested.keys() - allowed,
            "missing": needed - requested.keys(),
            "one length each": _with_several(requested),
        }
        wrong = [f"{fault}: {_listed(names)}" for fault, names in faults.items() if names]
        if wrong:
            problem = f"size with dimensions {_listed(requested)}: {'; '.join(wrong)}"
            raise ConfigError(f"{problem}; the dimensions are {_listed(allowed)}")
        return requested

    def _further(self, size: Size) -> Lengths:
        """What a size says of the other inputs' dimensions, which the first's shape leaves open."""
        requested = dict(size.further)
        allowed = _as_written(chain.from_iterable(self.inputs[1:])) - set(self.sized)
        allowed |= self.formulas.keys()
        if ELLIPSIS in self.sized:
            allowed.discard(BATCH)
        wrong = (requested.keys() - allowed) | _with_several(requested)
        if wrong:
            raise ConfigError(
                f"size {shape_text(size.shape)} with {_listed(wrong)}: beside the first input's "
                f"shape there are {_listed(allowed) or 'no dimensions'}, one length each"
            )
        return requested

    def _follow(self, batch: tuple[int, ...], lengths: dict[str, int]) -> None:
        """Add each length whose formula can be computed from those that are there."""
        open_formulas = {n: f for n, f in self.formulas.items() if n not in lengths}
        while True:
            variables = {**lengths, BATCH: prod(batch)}
            ready = [n for n, f in open_formulas.items() if names_in(f) <= variables.keys()]
            if not ready:
                return
            for name in ready:
                formula = open_formulas.pop(name)
                length = evaluate(formula, variables)
                if length < 1 or length != int(length):
                    raise ConfigError(
                        f"dimension {name} = {formula} would be {length:g}; choose a larger size"
                    )
                lengths[name] = int(length)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _as_written(axes: Iterable[str]) -> set[str]:
    """Axes by the names that a size has for them."""
    return {BATCH if axis == ELLIPSIS else axis for axis in axes}


def _with_several(requested: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The dimensions that were given several lengths, and can have only one."""
    return {name for name, lengths in requested.items() if name != BATCH and len(lengths) != 1}


def _check_name(name: str, where: str) -> None:
    reserved = keyword.iskeyword(name) or name in (BATCH, NOTHING)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or reserved:
        raise ConfigError(
            f"{where}: {name!r} is no dimension; use lower-case names (not {BATCH!r}) or '...'"
        )


def _tensors(side: str, where: str, allowed: Sequence[str] = ()) -> tuple[Axes, ...]:
    tensors = tuple(tuple(part.split()) for part in side.split(","))
    for axes in tensors:
        for axis in axes:
            if axis not in (ELLIPSIS, *allowed):
                _check_name(axis, where)
        if axes.count(ELLIPSIS) > 1:
            raise ConfigError(f"{where}: '...' may stand once in a tensor")
    return tensors
