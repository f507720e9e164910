"""Calling what is verified: its outputs, and its gradients for given cotangents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.target import TensorFunction, Tensors


def outputs_at(call: TensorFunction, inputs: Sequence[torch.Tensor]) -> Tensors:
    """The outputs, with random numbers that are the same in every call, and without a graph."""
    with torch.no_grad():
        reseed(inputs)
        return [t.detach() for t in call(list(inputs))]


def reseed(inputs: Sequence[torch.Tensor]) -> None:
    """Make an operation that draws random numbers draw the same ones again."""
    torch.default_generator.manual_seed(0)
    if inputs and not inputs[0].is_cpu:
        torch.manual_seed(0)


def draws_random_numbers(call: TensorFunction, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether a call draws random numbers, which may then lie otherwise in other layouts."""
    reseed(inputs)
    before = torch.default_generator.get_state()
    outputs_at(call, copied(inputs))
    return not torch.equal(before, torch.default_generator.get_state())


def effective_eps(call: TensorFunction, inputs: Sequence[torch.Tensor]) -> float:
    """The eps of the narrowest dtype that holds a function's values: some compute in less than they are given."""
    outputs = flat([t for t in outputs_at(call, copied(inputs)) if is_differentiable(t.dtype)]).nan_to_num()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if torch.equal(outputs.to(dtype).double(), outputs):
            return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


def copied(inputs: Sequence[torch.Tensor]) -> Tensors:
    """Inputs that a call may overwrite."""
    return [t.detach().clone() for t in inputs]


@dataclass(frozen=True)
class Traced:
    """A call of which autograd keeps the graph.

    Attributes:
        leaves: what the gradients are of, in the order of the differentiable inputs.
        passed: what the call was given.
        outputs: those of floating or complex dtype which the inputs' gradients pass through.
        positions: where these are among all outputs.
    """

    leaves: Tensors
    passed: Tensors
    outputs: Tensors
    positions: tuple[int, ...]

    def gradients(
        self, cotangents: Sequence[torch.Tensor | None], *, keep: bool = True, second: bool = False
    ) -> Tensors:
        """The gradients of the outputs' products with cotangents; zeros for a leaf that they do not reach.

        Args:
            cotangents: one for each output; None leaves an output out.
            keep: keep the graph for another call.
            second: make the gradients differentiable themselves.
        """
        used = [(o, c) for o, c in zip(self.outputs, cotangents, strict=True) if o.requires_grad and c is not None]
        if not used:
            return [torch.zeros_like(t) for t in self.leaves]
        found = torch.autograd.grad(
            [o for o, _ in used],
            self.leaves,
            [c for _, c in used],
            retain_graph=keep,
            create_graph=second,
            allow_unused=True,
        )
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, self.leaves, strict=True)]


def trace(
    call: TensorFunction,
    inputs: Sequence[torch.Tensor],
    requires_grad: Sequence[bool],
    *,
    in_place: bool = False,
    every_output: bool = False,
) -> Traced:
    """Call with a graph.

    Args:
        call: what is verified.
        inputs: used as they lie in memory, not copied.
        requires_grad: which of them have a gradient.
        in_place: hand over copies that are not leaves, for an operation that overwrites its input.
        every_output: keep outputs that have no graph beside others that have one; their gradient is zero.
    """
    given = [t.detach().requires_grad_() if w else t for t, w in zip(inputs, requires_grad, strict=True)]
    passed = [t.clone() if in_place else t for t in given]
    with torch.enable_grad():
        reseed(inputs)
        outputs = call(list(passed))
    leaves = [t for t, w in zip(given, requires_grad, strict=True) if w]
    positions = [j for j, t in enumerate(outputs) if is_differentiable(t.dtype)]
    reached = [j for j in positions if outputs[j].requires_grad]
    positions = (
        positions if every_output else reached or positions
    )  # where no output has a graph, each is compared with a gradient of zero
    return Traced(leaves, passed, [outputs[j] for j in positions], tuple(positions))


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors as one real vector in float64; a complex number is two of its elements."""
    parts = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    if not parts:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([t.detach().resolve_neg().reshape(-1).to("cpu", torch.float64) for t in parts])


def unflat(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A real vector in the shape, dtype and device of ``like``; the inverse of :func:`flat` for one tensor."""
    if like.is_complex():
        return torch.view_as_complex(vector.reshape(*like.shape, 2).clone()).to(like.device, like.dtype)
    return vector.reshape(like.shape).to(like.device, like.dtype)


def gaussian(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Signed standard normal numbers in float64 (complex128), of a tensor's shape, on the CPU."""
    dtype = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, generator=generator, dtype=dtype)
