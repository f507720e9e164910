"""A plain function of tensors as what the verifier of gradients takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from runner.calls.bound_operation import is_differentiable, outputs_of
from runner.config.domain import Domain
from runner.verify.gradients.problem import GradientTarget, ShapedInputs
from runner.verify.values import reference_input


def function_target(
    function: Callable[..., object],
    inputs: Sequence[Tensor],
    *,
    names: Sequence[str] = (),
    domains: Sequence[Domain | None] = (),
    requires_grad: Sequence[bool] = (),
    seed: int = 0,
) -> GradientTarget:
    """A target made of a plain function of tensors and one set of inputs.

    The function takes them by position, widened to float64, and returns a tensor, or a tuple or
    list with some. By default inputs are named by position, their domains are inferred, and those
    of floating or complex dtype have a gradient.
    """
    differentiable = [is_differentiable(t.dtype) for t in inputs]
    pairs = zip(inputs, differentiable, strict=True)
    wide = tuple(reference_input(t.detach()) if d else t for t, d in pairs)
    return GradientTarget(
        example=ShapedInputs("example", lambda tensors: outputs_of(function(*tensors)), wide),
        arguments=tuple(names) or tuple(map(str, range(len(inputs)))),
        requires_grad=tuple(requires_grad or differentiable),
        domains=tuple(domains) or (None,) * len(inputs),
        seed=seed,
    )


def exact_scale(x: Tensor, beta: float = 1.0) -> Tensor:
    """What an op file can name as a reference."""
    return x * beta
