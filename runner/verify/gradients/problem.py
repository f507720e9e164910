"""One call under test, and how its inputs and cotangents are moved and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.target import TensorFunction, Tensors
from runner.verify.gradients.vjp import Traced, copied, gaussian, trace, unflat


@dataclass(frozen=True)
class GradientProblem:
    """One call under test: where, of what, and under which name.

    Attributes:
        probe: as results name it.
        call, inputs: what is called with what, in float64.
        requires_grad: which inputs have a gradient.
        names: of the inputs.
        in_place: whether the operation overwrites its inputs on purpose.
        each_element: whether every element is looked at by itself, rather than some directions through all of them.
        special: whether gradients may be one of several there, as at ties.
        every_output: whether an output without a graph counts beside others that have one.
        eps: of the precision in which the function computes, whatever its inputs are.
    """

    probe: str
    call: TensorFunction
    inputs: tuple[torch.Tensor, ...]
    requires_grad: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int
    in_place: bool = False
    each_element: bool = True
    special: bool = False
    every_output: bool = False
    eps: float = torch.finfo(torch.float64).eps

    def traced(self, inputs: Sequence[torch.Tensor]) -> Traced:
        """Call with a graph at these inputs, used as they lie in memory."""
        return trace(self.call, inputs, self.requires_grad, in_place=self.in_place, every_output=self.every_output)

    @property
    def positions(self) -> list[int]:
        """Of the inputs that have a gradient."""
        return [i for i, w in enumerate(self.requires_grad) if w]


def second_order(problem: GradientProblem) -> GradientProblem:
    """The gradient as a function of inputs and cotangents, whose own gradient is the second derivative."""
    outputs = problem.traced(copied(problem.inputs)).outputs
    generator = torch.Generator().manual_seed(problem.seed + 14)
    cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in outputs]
    count = len(problem.inputs)

    def call(tensors: Tensors) -> Tensors:
        given, weights = list(tensors[:count]), tensors[count:]
        with torch.enable_grad():
            for i, w in enumerate(problem.requires_grad):
                if w and not given[i].requires_grad:
                    given[i] = given[i].detach().requires_grad_()
            leaves = [t for t, w in zip(given, problem.requires_grad, strict=True) if w]
            passed = [t.clone() if problem.in_place else t for t in given]
            made = [t for t in problem.call(passed) if t.requires_grad]
            found = torch.autograd.grad(made, leaves, weights[: len(made)], create_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]

    return GradientProblem(
        probe="second order",
        call=call,
        inputs=(*problem.inputs, *cotangents),
        requires_grad=(*problem.requires_grad, *(True for _ in cotangents)),
        names=(*problem.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        seed=problem.seed,
        each_element=problem.each_element,
        every_output=True,
        eps=problem.eps,
    )


def perturbed(tensor: torch.Tensor, roundoff: float, generator: torch.Generator) -> torch.Tensor:
    """A tensor each of whose elements has moved by one relative roundoff, up or down."""
    if not is_differentiable(tensor.dtype):
        return tensor
    signs = (torch.randint(2, tensor.shape, generator=generator) * 2 - 1).to(tensor.device)
    return tensor * (1 + roundoff * signs)


def split_row(row: torch.Tensor, outputs: Sequence[torch.Tensor]) -> Tensors:
    """A real row as a cotangent for each output."""
    sizes = [t.numel() * (2 if t.is_complex() else 1) for t in outputs]
    return [unflat(part, t) for part, t in zip(torch.split(row, sizes), outputs, strict=True)]


def index_text(element: int, tensor: torch.Tensor) -> str:
    """An element's position, ``3,1``, from its index in the vector of :func:`runner.verify.gradients.vjp.flat`."""
    position = element // 2 if tensor.is_complex() else element
    indices = []
    for n in reversed(tensor.shape):
        position, rest = divmod(position, n)
        indices.append(rest)
    return ",".join(map(str, reversed(indices)))


def max_abs(tensor: torch.Tensor) -> float:
    """The largest absolute value among the finite elements; 0 where there is none."""
    return tensor.abs().nan_to_num(0.0, 0.0).max().item() if tensor.numel() else 0.0
