"""Parts of a call that are compared where the whole reference would take too long.

Blocks of the output, at positions that are drawn anew each time; and for a product a sum of the
output with random signs, which a wrong element anywhere changes (Freivalds, 1977).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.config.signature import ELLIPSIS, Axes, Dimensions

BLOCK_ELEMENTS, BLOCK_FLOP = 2**20, 2**27  # of a block and of what it is computed from
SAME = 2**10  # eps, of results that are the same by another order of adding up
ADDED_UP = 2.0  # times the error allowed, of a sum with random signs
Expected = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Part:
    """What is compared of a call; by default all of it.

    Attributes:
        chosen: by its axis, the positions along it, or the signs with which all is added up.
    """

    chosen: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def adds_up(self) -> bool:
        """Whether it is a sum."""
        return any(pick.is_floating_point() for pick in self.chosen.values())

    def of_inputs(self, bound: BoundOperation, tensors: list[Tensor]) -> list[Tensor]:
        """What the reference is called with; a module's parameters stay."""
        return self._of(tensors, bound.op.parsed.inputs, bound.dimensions)

    def of_outputs(self, bound: BoundOperation, tensors: list[Tensor]) -> list[Tensor]:
        """What is compared with that."""
        return self._of(tensors, bound.op.parsed.outputs, bound.dimensions)

    def _of(self, tensors: list[Tensor], signature: Sequence[Axes], d: Dimensions) -> list[Tensor]:
        pairs = zip(tensors, signature, strict=False)
        return [self._cut(t, _axes(axes, d)) for t, axes in pairs] + tensors[len(signature) :]

    def _cut(self, tensor: Tensor, axes: Sequence[str]) -> Tensor:
        for dim, axis in enumerate(axes):
            pick = self.chosen.get(axis)
            if pick is not None and pick.is_floating_point():
                wide = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
                tensor = torch.tensordot(wide, pick.to(wide.dtype), ([dim], [0])).unsqueeze(dim)
            elif pick is not None:
                tensor = tensor.index_select(dim, pick)
        return tensor


def parts_of(
    bound: BoundOperation, reduced: BoundOperation, expected: Expected, draw: random.Random
) -> list[Part]:
    """A block and a sum of an operation's output; none where its reference allows neither.

    Along which axes these are what the reference gives of parts of the inputs is tried at a
    ``reduced`` size, where ``expected`` calls it.
    """
    tensors = reduced.draw()
    right = expected(tensors)

    def holds(part: Part) -> bool:
        try:
            got = expected(part.of_inputs(reduced, tensors))
        except Exception:  # of a size that nobody asked for
            return False
        return all(map(_is_same, got, part.of_outputs(reduced, right)))

    lengths, few = _lengths(bound), _lengths(reduced)
    axes = [axis for axis in lengths if few.get(axis, 1) > 1]
    divisible = [a for a in axes if holds(Part({a: _positions(few[a], few[a] // 2, draw)}))]
    parts = [_block(bound, {axis: lengths[axis] for axis in divisible}, draw)] if divisible else []
    floating = all(is_differentiable(t.dtype) for t in [*tensors, *right])
    for axis in sorted(axes, key=lambda axis: -lengths[axis]) if floating else ():
        if holds(Part({axis: _signs(few[axis], draw)})):
            return [*parts, Part({axis: _signs(lengths[axis], draw)})]
    return parts


def _block(bound: BoundOperation, lengths: Mapping[str, int], draw: random.Random) -> Part:
    """Positions along these axes, so many that the block costs little."""
    taken, d = dict(lengths), bound.dimensions
    flop = bound.op.work(bound.op.flop, d) or 0
    signature = bound.op.parsed.inputs + bound.op.parsed.outputs
    tensors = [(_axes(axes, d), d.shape(axes)) for axes in signature]

    def costs_little() -> bool:
        share = math.prod(taken[axis] / lengths[axis] for axis in taken)
        sizes = [math.prod(map(taken.get, *tensor)) for tensor in tensors]  # type: ignore[arg-type]
        return share * flop <= BLOCK_FLOP and sum(sizes) <= BLOCK_ELEMENTS

    while not costs_little() and max(taken.values()) > 1:
        longest = max(taken, key=lambda axis: taken[axis])
        taken[longest] //= 2
    return Part({axis: _positions(lengths[axis], taken[axis], draw) for axis in taken})


def _lengths(bound: BoundOperation) -> dict[str, int]:
    """The lengths of the axes that every output and some input has, and no tensor twice."""
    signature, d = bound.op.parsed, bound.dimensions
    inputs, outputs = ([_axes(a, d) for a in of] for of in (signature.inputs, signature.outputs))
    lengths: dict[str, int] = {}
    for axes, shape in zip(inputs, map(d.shape, signature.inputs), strict=True):
        lengths.update(zip(axes, shape, strict=True))
    once = all(len(set(axes)) == len(axes) for axes in inputs + outputs)
    shared = set(lengths).intersection(*outputs) if once and outputs else set()
    return {axis: length for axis, length in lengths.items() if axis in shared and length > 1}


def _axes(axes: Axes, dimensions: Dimensions) -> list[str]:
    """A tensor's axes, those under ``...`` one by one."""
    named: list[str] = []
    for axis in axes:
        batch = [f"{ELLIPSIS}{number}" for number in range(len(dimensions.batch))]
        named += batch if axis == ELLIPSIS else [axis]
    return named


def _positions(length: int, count: int, draw: random.Random) -> Tensor:
    return torch.tensor(sorted(draw.sample(range(length), max(1, count))))


def _signs(length: int, draw: random.Random) -> Tensor:
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    return torch.randint(2, (length,), generator=generator).double() * 2 - 1


def _is_same(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape:
        return False
    if not is_differentiable(expected.dtype):
        return bool(torch.equal(got, expected))
    near = SAME * torch.finfo(expected.dtype).eps
    scale = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max()) if expected.numel() else 0.0
    return bool(torch.allclose(got.to(expected.dtype), expected, near, near * scale, True))
