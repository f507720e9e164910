"""Calling what is verified: its outputs, and its graph, from which gradients are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.vectors import TensorFunction, Tensors, copied, flat


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


def effective_eps(outputs: Tensors) -> float:
    """The eps of the narrowest dtype that holds a function's values.

    Some functions compute in less than their inputs' dtype.
    """
    values = flat([t for t in outputs if is_differentiable(t.dtype)]).nan_to_num()
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
        """The gradients of the outputs' products with cotangents.

        Args:
            cotangents: one for each output; None leaves an output out.

        Returns:
            one for each leaf; zeros where no output reaches it.
        """
        pairs = zip(self.outputs, cotangents, strict=True)
        used = [(o, c) for o, c in pairs if o.requires_grad and c is not None]
        if not used:
            return [torch.zeros_like(t) for t in self.leaves]
        outputs, weights = zip(*used, strict=True)
        gradients = torch.autograd.grad(
            outputs, self.leaves, weights, retain_graph=True, materialize_grads=True
        )
        return [g.detach() for g in gradients]
