"""Calling what is verified: its outputs, and its graph, from which gradients are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.target import TensorFunction, Tensors
from runner.verify.gradients.vectors import copied, flat


def outputs_at(call: TensorFunction, inputs: Sequence[Tensor]) -> Tensors:
    """The outputs, with random numbers that are the same in every call, and without a graph."""
    with torch.no_grad():
        reseed(inputs)
        return [t.detach() for t in call(list(inputs))]


def reseed(inputs: Sequence[Tensor]) -> None:
    """Make an operation that draws random numbers draw the same ones again."""
    torch.default_generator.manual_seed(0)
    if inputs and not inputs[0].is_cpu:
        torch.manual_seed(0)


def draws_random_numbers(call: TensorFunction, inputs: Sequence[Tensor]) -> bool:
    """Whether a call draws random numbers, which other layouts may get in another order."""
    reseed(inputs)
    state = torch.default_generator.get_state()
    outputs_at(call, copied(inputs))
    return not torch.equal(state, torch.default_generator.get_state())


def effective_eps(call: TensorFunction, inputs: Sequence[Tensor]) -> float:
    """The eps of the narrowest dtype that holds a function's values: some compute in less than their inputs' dtype."""
    outputs = [t for t in outputs_at(call, copied(inputs)) if is_differentiable(t.dtype)]
    values = flat(outputs).nan_to_num()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if torch.equal(values.to(dtype).double(), values):
            return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Traced:
    """A call with its autograd graph.

    Attributes:
        leaves: the tensors whose gradients are taken, in the order of the differentiable inputs.
        outputs: those of floating or complex dtype that depend on the leaves.
        positions: of these among all outputs.
    """

    leaves: Tensors
    outputs: Tensors
    positions: tuple[int, ...]

    def gradients(self, cotangents: Sequence[Tensor | None]) -> Tensors:
        """The gradients of the outputs' products with cotangents; zeros for a leaf that they do not reach.

        Args:
            cotangents: one for each output; None leaves an output out.
        """
        used = [
            (o, c)
            for o, c in zip(self.outputs, cotangents, strict=True)
            if o.requires_grad and c is not None
        ]
        if not used:
            return [torch.zeros_like(t) for t in self.leaves]
        gradients = torch.autograd.grad(
            [o for o, _ in used],
            self.leaves,
            [c for _, c in used],
            retain_graph=True,
            allow_unused=True,
        )
        return [
            torch.zeros_like(t) if g is None else g
            for g, t in zip(gradients, self.leaves, strict=True)
        ]


def trace(
    call: TensorFunction,
    inputs: Sequence[Tensor],
    requires_grad: Sequence[bool],
    *,
    in_place: bool = False,
    every_output: bool = False,
) -> Traced:
    """Call with a graph.

    Args:
        call: what is verified.
        inputs: used in their memory layout, not copied.
        requires_grad: which of them have a gradient.
        in_place: hand over copies that are not leaves, for an operation that overwrites its input.
        every_output: keep outputs without a graph even if others have one; their gradient is zero.
    """
    given = [
        t.detach().requires_grad_() if r else t for t, r in zip(inputs, requires_grad, strict=True)
    ]
    leaves = [t for t, r in zip(given, requires_grad, strict=True) if r]
    passed = [t.clone() if in_place else t for t in given]
    with torch.enable_grad():
        reseed(inputs)
        outputs = call(passed)

    # where no output has a graph, all are kept, and each gradient is compared with zero
    positions = [j for j, t in enumerate(outputs) if is_differentiable(t.dtype)]
    if not every_output:
        positions = [j for j in positions if outputs[j].requires_grad] or positions
    return Traced(leaves, [outputs[j] for j in positions], tuple(positions))
