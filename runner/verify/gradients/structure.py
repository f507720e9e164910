"""What an example shows of its inputs though nobody has declared it: matrices, indices, order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.domain import Domain
from runner.verify.gradients.problem import GradientProblem, ShapedInputs, outputs_at
from runner.verify.gradients.vectors import (
    TensorFunction,
    copied,
    flat,
    gaussian,
    max_abs,
    random_cotangents,
)

LEAST_ROWS = 3  # a matrix of fewer may be symmetric, or its rows in order, by accident
LEAST_INTEGERS = 16  # of fewer the lowest may be missing by accident
SYMMETRIC = 1e-5  # relative; what is computed in float32 may be symmetric but for rounding
SMALL = 1e-4  # relative; a matrix that has a factor keeps it
SAME = 1e-9  # relative; what adding up in another order changes is less


@dataclass(frozen=True)
class PositiveDefinite(Domain):
    """Symmetric (Hermitian) positive definite matrices in the last two dimensions."""

    @property
    def is_real(self) -> bool:
        """Whether it is all of the real numbers."""
        return False

    def fold(self, tensor: Tensor) -> Tensor:
        """Z Z^H / n and a tenth of its mean diagonal, so that its condition has no scale."""
        n = tensor.shape[-1]
        square = tensor @ tensor.mH / n
        size = square.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
        return square + 0.1 * size * torch.eye(n, dtype=tensor.dtype)

    def holds(self, tensor: Tensor) -> Tensor:
        """Everywhere or nowhere."""
        return torch.full(tensor.shape, fill_value=_positive_definite(tensor))


def shown_domain(example: Tensor) -> Domain | None:
    """The domain that an example leaves no doubt about; None where there is doubt."""
    strided = example.layout is torch.strided and is_differentiable(example.dtype)
    if not strided or example.dim() < 2 or not example.numel():
        return None
    rows, columns = example.shape[-2:]
    if rows != columns or rows < LEAST_ROWS or bool((example == 0).any()):
        return None
    return PositiveDefinite() if _positive_definite(example) else None


def _positive_definite(tensor: Tensor) -> bool:
    symmetric = torch.allclose(tensor, tensor.mH, rtol=SYMMETRIC, atol=0.0)
    return symmetric and not bool(torch.linalg.cholesky_ex(tensor).info.any())


def one_triangle(problem: GradientProblem) -> tuple[int, ...]:
    """The inputs that are taken to be symmetric: functions such as cholesky read one triangle.

    Their gradient is not 0 in the other one all the same, and so right along symmetric directions
    alone; that of eigh need not even be symmetric.
    """
    shapes = [(i, problem.inputs[i].shape) for i in problem.positions]
    square = [i for i, shape in shapes if len(shape) > 1 and shape[-1] == shape[-2] > 1]
    unread = {i: _unread_triangle(problem, i) for i in square}
    if not any(unread.values()):
        return ()
    traced = problem.traced(copied(problem.inputs))
    gradients = traced.gradients(random_cotangents(traced.outputs, problem.generator(19)))
    of_input = dict(zip(problem.positions, gradients, strict=True))
    # NaN, as of equal eigenvalues, is none that is 0
    return tuple(i for i, part in unread.items() if part and bool((part(of_input[i]) != 0).any()))


def _unread_triangle(problem: GradientProblem, position: int) -> Callable[[Tensor], Tensor] | None:
    """What takes the side of the diagonal whose elements do nothing, where one alone does not."""
    tensor = problem.inputs[position]
    part = SMALL * max_abs(tensor) * torch.ones_like(tensor)
    values = []
    for moved in (tensor, tensor + part.triu(1), tensor + part.tril(-1)):
        inputs = copied(problem.inputs)
        inputs[position] = moved
        try:
            values.append(flat(outputs_at(problem.call, inputs)))
        except Exception:  # whatever it raises, nothing is known
            return None
    upper, lower = (torch.equal(values[0], moved) for moved in values[1:])
    if upper == lower:
        return None
    return partial(torch.triu, diagonal=1) if upper else partial(torch.tril, diagonal=-1)


def lowest(example: Tensor) -> int:
    """The lowest integer that an input may hold: 0, or what the example has where it has many."""
    return max(0, int(example.min())) if example.numel() >= LEAST_INTEGERS else 0


def is_index(tensor: Tensor) -> bool:
    """Whether a tensor holds integers, which may be positions in another."""
    return not is_differentiable(tensor.dtype) and tensor.dtype is not torch.bool


def order_decides(call: TensorFunction, inputs: Sequence[Tensor], example: ShapedInputs) -> bool:
    """Whether equal indices make the result depend on the order in which they come.

    Where several elements are written to one place and one of them stays, the implementation
    decides which, and there is no gradient. Seen by reversing the indices together with all inputs
    of their shape: nothing changes at the example, whose indices differ, and something does at
    these inputs, whose indices do not.
    """
    for position, index in enumerate(inputs):
        if not is_index(index) or len(set(index.flatten().tolist())) == index.numel():
            continue
        for dim in range(index.dim()):
            matters = _reversible(call, inputs, dim, position) is False
            if matters and _writes(example, dim, position):
                return True
    return False


def draws_differ(call: TensorFunction, inputs: Sequence[Tensor]) -> bool:
    """Whether what a function draws at random depends on its inputs, so that it has no slope.

    As rrelu does, which draws a number for each element that is not positive. Seen by how far the
    generator has come after a call there, and nearby.
    """
    generator, states = torch.Generator().manual_seed(0), []
    for distance in (0.0, SAME, SAME):
        floating = ((t, is_differentiable(t.dtype)) for t in copied(inputs))
        moved = [t + distance * gaussian(t, generator) if f else t for t, f in floating]
        try:
            outputs_at(call, moved)
        except Exception:  # whatever it raises, nothing is known
            return False
        states.append(torch.default_generator.get_state())
    return not all(torch.equal(state, states[0]) for state in states)


def _writes(example: ShapedInputs, dim: int, position: int) -> bool:
    """Whether the order of different indices, each with its value, makes no difference."""
    index = example.inputs[position]
    if dim >= index.dim():
        return False
    before, after = example.inputs[:position], example.inputs[position + 1 :]
    changed = ((*before, distinct, *after) for distinct in _distinct(index, dim))
    return any(_reversible(example.call, inputs, dim, position) for inputs in changed)


def _reversible(
    call: TensorFunction, inputs: Sequence[Tensor], dim: int, position: int
) -> bool | None:
    """Whether reversing inputs of an index's shape changes nothing; None where the call fails."""
    shape, count = inputs[position].shape, inputs[position].numel()

    # numbers in (0, 1) that are all different: equal ones would hide which of them stays
    unequal = ((torch.arange(count) + 1) / (count + 1)).reshape(shape)
    replaced = [t.shape == shape and is_differentiable(t.dtype) for t in inputs]
    pairs = zip(inputs, replaced, strict=True)
    inputs = [unequal.to(t.dtype) if r else t for t, r in pairs]
    flipped = [t.flip(dim) if t.shape == shape else t for t in inputs]
    try:
        values, others = (flat(outputs_at(call, copied(tensors))) for tensors in (inputs, flipped))
    except Exception:  # whatever it raises, nothing is known
        return None
    same_shape = values.shape == others.shape
    return same_shape and torch.allclose(values, others, rtol=SAME, atol=0.0, equal_nan=True)


def _distinct(index: Tensor, dim: int) -> Iterator[Tensor]:
    """Indices in the same range that differ: all, those of the last dimensions, those along one."""
    low, count = int(index.min()), int(index.max() - index.min()) + 1
    along = torch.Size(n if d == dim else 1 for d, n in enumerate(index.shape))
    for shape in (*(index.shape[first:] for first in range(index.dim())), along):
        if LEAST_ROWS <= shape.numel() <= count:
            order = torch.arange(shape.numel())
            order[:2] = order[:2].flip(
                0
            )  # reading a reversed tensor by them then changes the result
            yield (low + order).reshape(shape).expand(index.shape).to(index.dtype)
