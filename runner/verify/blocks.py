"""Blocks of the output, which are compared where the whole reference would take too long."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation
from runner.config.signature import ELLIPSIS, Axes

Block = Mapping[str, Tensor]
"""Positions along axes, those under ``...`` one by one; an axis that is not there is whole."""
WHOLE: Block = MappingProxyType({})
MOST_ELEMENTS, MOST_FLOP = 2**20, 2**27  # of a block and of what it is computed from
SAME = 2**10  # eps, of results that are the same by another order of adding up


def part_of(
    block: Block, bound: BoundOperation, tensors: Sequence[Tensor], signature: Sequence[Axes]
) -> list[Tensor]:
    """A block of the tensors that a signature names; what comes after them stays as it is."""
    parts = list(tensors)
    for number, axes in enumerate(signature[: len(parts)]):
        for dim, axis in enumerate(_named(axes, bound)):
            if axis in block:
                parts[number] = parts[number].index_select(dim, block[axis])
    return parts


def block_of(
    bound: BoundOperation,
    reduced: BoundOperation,
    expected: Callable[[list[Tensor]], list[Tensor]],
    draw: random.Random,
) -> Block:
    """A block at positions that are drawn; the whole where the operation does not divide.

    It divides along an axis if at a ``reduced`` size, where ``expected`` calls the reference, this
    gives a block of its output from the same block of its inputs.
    """
    inputs, outputs = bound.op.parsed.inputs, bound.op.parsed.outputs
    tensors = reduced.draw()
    right = expected(tensors)

    def divides(axis: str) -> bool:
        block = {axis: _positions(few[axis], few[axis] // 2, draw)}
        try:
            got = expected(part_of(block, reduced, tensors, inputs))
        except Exception:  # of a size that nobody asked for
            return False
        return all(map(_is_same, got, part_of(block, reduced, right, outputs)))

    lengths, few = _lengths(bound), _lengths(reduced)
    taken = {axis: length for axis, length in lengths.items() if axis in few and divides(axis)}
    shapes = [list(zip(_named(a, bound), bound.dimensions.shape(a), strict=True)) for a in inputs]
    flop = bound.op.work(bound.op.flop, bound.dimensions) or 0
    while taken:
        share = math.prod(count / lengths[axis] for axis, count in taken.items())
        sizes = (math.prod(taken.get(axis, n) for axis, n in shape) for shape in shapes)
        longest = max(taken, key=lambda axis: taken[axis])
        if (share * flop <= MOST_FLOP and sum(sizes) <= MOST_ELEMENTS) or taken[longest] == 1:
            break
        taken[longest] //= 2
    return {axis: _positions(lengths[axis], count, draw) for axis, count in taken.items()}


def _lengths(bound: BoundOperation) -> dict[str, int]:
    """The lengths of the axes that all outputs and some input have; none where one is twice."""
    inputs = [_named(axes, bound) for axes in bound.op.parsed.inputs]
    outputs = [_named(axes, bound) for axes in bound.op.parsed.outputs]
    lengths: dict[str, int] = {}
    for axes, named in zip(bound.op.parsed.inputs, inputs, strict=True):
        lengths.update(zip(named, bound.dimensions.shape(axes), strict=True))
    once = all(len(set(axes)) == len(axes) for axes in inputs + outputs)
    shared = set(lengths).intersection(*outputs) if once and outputs else set()
    return {axis: length for axis, length in lengths.items() if axis in shared and length > 1}


def _named(axes: Axes, bound: BoundOperation) -> list[str]:
    batch = [f"{ELLIPSIS}{number}" for number in range(len(bound.dimensions.batch))]
    position = axes.index(ELLIPSIS) if ELLIPSIS in axes else len(axes)
    return [*axes[:position], *(batch if ELLIPSIS in axes else []), *axes[position + 1 :]]


def _positions(length: int, count: int, draw: random.Random) -> Tensor:
    return torch.tensor(sorted(draw.sample(range(length), max(1, count))))


def _is_same(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape or not (expected.is_floating_point() or expected.is_complex()):
        return bool(torch.equal(got, expected))
    near = SAME * torch.finfo(expected.dtype).eps
    scale = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max()) if expected.numel() else 0.0
    return bool(torch.allclose(got, expected, near, near * scale, equal_nan=True))
