"""In which precision a function computes, and what rounding does to what it computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.vectors import Tensors, farthest, max_abs, perturbed, random_signs

MOST_MOVED = 20_000  # elements of gradients up to which each step is moved, which takes its time
FINER = 1e-3  # times a step that moves gradients far
JUMP = 0.1  # relative to the largest element: what moves farther by roundoffs is not continuous


class Narrowing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as below: torch has no types
    """Sees where a function narrows numbers to compute, with the narrowest eps, or prevents it."""

    def __init__(self, *, prevented: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.prevented, self.eps = prevented, torch.finfo(torch.float64).eps

    def __torch_dispatch__(
        self, function: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        dtype = kwargs.get("dtype")
        if function is torch.ops.aten._to_copy.default and dtype is not None:
            own = args[0].dtype
            same_kind = own.is_complex == dtype.is_complex and own.to_real().is_floating_point
            if same_kind and dtype.to_real().is_floating_point and own.itemsize > dtype.itemsize:
                self.eps = max(self.eps, torch.finfo(dtype).eps)
                kwargs = {**kwargs, "dtype": own if self.prevented else dtype}
        return function(*args, **kwargs)


class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves the result of each operation by a relative roundoff, up or down.

    What rounding does is seen by doing it, in a dtype that adds next to none of its own: to what
    cancels on the way, and to what a backward pass takes for exact, as that of tanh does in
    1 - y**2. What solves with a matrix leaves a residual of its own in each column, which cancels
    nowhere: of |L| |U| |x| roundoffs (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    ed., theorem 9.4).
    """

    def __init__(self, roundoff: float, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.roundoff, self.generator = roundoff, generator

    def __torch_dispatch__(
        self, function: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        result = self._solved(function, function(*args, **kwargs), args, kwargs)
        if any(returned.alias_info for returned in function._schema.returns):
            return result  # a view, or what was written in place
        return tree_map_only(Tensor, self._moved, result)

    def _solved(
        self, function: OpOverload, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """What solves, with a residual in each column; what does anything else, as it is."""
        aten, is_left = torch.ops.aten, kwargs.get("left", True)
        if function is aten.linalg_inv_ex.default:
            inverse, *others = result
            residual = self._signed(args[0].abs() @ inverse.abs())
            return (inverse + inverse @ residual.to(inverse), *others)

        if function is aten.linalg_lu_solve.default:
            factors, pivots, right = args
            permutation, lower, upper = torch.lu_unpack(factors, pivots)
            matrix, solution = permutation @ (lower.abs() @ upper.abs()), result.abs()
            matrix = matrix.mT if kwargs.get("adjoint", False) else matrix
        elif function is aten._linalg_solve_ex.default and args[0].dim() == args[1].dim():
            right, matrix, solution = args[1], args[0].abs(), result[0].abs()
        else:
            return result
        residual = self._signed(matrix @ solution if is_left else solution @ matrix)
        return function(*args[:-1], right + residual, **kwargs)

    def _signed(self, magnitude: Tensor) -> Tensor:
        return self.roundoff * magnitude * random_signs(magnitude, self.generator)

    def _moved(self, tensor: Tensor) -> Tensor:
        if tensor.layout is not torch.strided or tensor._is_zerotensor():
            return tensor  # the latter has no memory
        eps = torch.finfo(tensor.dtype).eps if is_differentiable(tensor.dtype) else 0.0
        if eps > max(4 * self.roundoff, torch.finfo(torch.float64).eps):
            return tensor  # of less precision than is looked at, which nothing excuses
        return perturbed([tensor], self.roundoff, self.generator)[0]


def moved_by_rounding(
    gradients: Tensors,
    at: Callable[[Tensors, Tensors], Tensors],
    parts: tuple[Sequence[Tensor], Sequence[Tensor]],
    roundoff: float,
    generator: torch.Generator,
    *,
    draws: int,
) -> Tensors:
    """How far rounding moves gradients, those ``at`` two parts: inputs, and cotangents.

    Both parts are moved, and each step. A backward pass that looks for equal numbers, as that of
    amax does for the largest, jumps when a step moves; then the steps are left as they are.
    """

    def perturb() -> Tensors:
        inputs, cotangents = (perturbed(part, roundoff, generator) for part in parts)
        return at(inputs, cotangents)

    def at_each_step(step: float = roundoff) -> Tensors:
        try:
            with Rounding(step, generator):
                return perturb()
        except Exception:  # what is compiled may refuse to be looked at
            return perturb()

    # cotangents are of order 1, so that what rounding moves is small beside that, too
    def far(moved: Tensors) -> bool:
        pairs, least = zip(moved, gradients, strict=True), math.sqrt(roundoff)
        return any(max_abs(m) > JUMP * max_abs(g) + least for m, g in pairs)

    if sum(g.numel() for g in gradients) > MOST_MOVED:
        return farthest(gradients, perturb, draws)
    moved = farthest(gradients, at_each_step, draws)

    # what cancels moves less by smaller steps, however far, and what jumps does not
    if far(moved):
        finer = farthest(gradients, lambda: at_each_step(FINER * roundoff), draws)
        pairs = zip(map(max_abs, finer), map(max_abs, moved), strict=True)
        if far(finer) and any(less > JUMP * most for less, most in pairs):
            return farthest(gradients, perturb, draws)
    return moved
