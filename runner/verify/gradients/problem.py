"""The gradient of one call at one set of inputs, as a problem that oracles and probes are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.verify.gradients.target import TensorFunction, Tensors
from runner.verify.gradients.trace import Traced, trace
from runner.verify.gradients.vectors import copied, random_cotangents


@dataclass(frozen=True)
class GradientProblem:
    """One gradient to verify: of what, where, and under which name.

    Attributes:
        probe: the name in results.
        call: the function.
        inputs: where its gradient is verified, in float64.
        requires_grad: which inputs have a gradient.
        names: of the inputs.
        seed: of everything that is drawn.
        in_place: whether the operation overwrites its inputs on purpose.
        each_element: whether the slope along every element is taken, rather than along a few directions.
        special: whether the gradient may be one of several, as at ties.
        every_output: whether an output without a graph counts even if others have one.
        eps: of the precision in which the function computes, whatever its inputs' dtype.
    """

    probe: str
    call: TensorFunction
    inputs: tuple[Tensor, ...]
    requires_grad: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int
    in_place: bool = False
    each_element: bool = True
    special: bool = False
    every_output: bool = False
    eps: float = torch.finfo(torch.float64).eps

    def traced(self, inputs: Sequence[Tensor]) -> Traced:
        """Call with a graph at other inputs, used in their memory layout."""
        return trace(
            self.call,
            inputs,
            self.requires_grad,
            in_place=self.in_place,
            every_output=self.every_output,
        )

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed + stream)

    @property
    def positions(self) -> list[int]:
        """Of the inputs that have a gradient."""
        return [i for i, r in enumerate(self.requires_grad) if r]


def second_order(problem: GradientProblem) -> GradientProblem:
    """The gradient as a function of inputs and cotangents, whose own gradient is the second derivative."""
    outputs = problem.traced(copied(problem.inputs)).outputs
    cotangents = random_cotangents(outputs, problem.generator(14))
    count = len(problem.inputs)

    def gradient(tensors: Tensors) -> Tensors:
        inputs, weights = list(tensors[:count]), tensors[count:]
        with torch.enable_grad():
            # the first derivative needs leaves, even when the inputs are called without a graph
            for i in problem.positions:
                if not inputs[i].requires_grad:
                    inputs[i] = inputs[i].detach().requires_grad_()
            leaves = [inputs[i] for i in problem.positions]

            passed = [t.clone() if problem.in_place else t for t in inputs]
            results = [t for t in problem.call(passed) if t.requires_grad]
            weights = weights[: len(results)]
            gradients = torch.autograd.grad(
                results, leaves, weights, create_graph=True, allow_unused=True
            )
        return [
            torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves, strict=True)
        ]

    return GradientProblem(
        probe="second order",
        call=gradient,
        inputs=(*problem.inputs, *cotangents),
        requires_grad=(*problem.requires_grad, *(True for _ in cotangents)),
        names=(*problem.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        seed=problem.seed,
        each_element=problem.each_element,
        every_output=True,
        eps=problem.eps,
    )
