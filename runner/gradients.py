"""Are the gradients right: autograd's against a float64 reference and against finite differences in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from runner.numerics import reference_input, unit_roundoff
from runner.size import shape_text
from runner.tensors import BoundOperation, is_differentiable

GRADIENT_FACTOR = 8  # a gradient passes through about as many roundings as its operation, and a cotangent's besides
STEP = torch.finfo(torch.float64).eps ** (1 / 5)  # for the five-point rule below, whose error is of order step^4
DIFFERENCE_TOLERANCE = 1e-7  # relative; the rule's own error at this step is about eps^(4/5), 3e-13, times the scale
ESTIMATE_FACTOR = 4  # how many times the change between two steps may the error be: more where a kink is crossed
USEFUL_TOLERANCE = 1e-3  # relative; a looser comparison says nothing either way


@dataclass(frozen=True)
class GradientCheck:
    """One gradient, by one oracle; the fields are those of :class:`runner.results.AutogradRow`."""

    oracle: str
    argument: str
    shape: str
    max_abs_error: float
    max_relative_error: float
    got: float
    expected: float
    tolerance: float

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` (a NaN is one) or, where only a loose comparison was possible, ``inconclusive``."""
        if self.oracle == "finite_differences" and self.tolerance > USEFUL_TOLERANCE:
            return "inconclusive"
        return "pass" if self.max_relative_error <= self.tolerance else "fail"


def check_gradients(bound: BoundOperation, device: torch.device) -> list[GradientCheck]:
    """Check the gradient of each floating input.

    The cotangent is random and signed. In the dtype on ``device``, autograd is compared with itself in float64 on
    the CPU from the same rounded inputs; in float64, with the directional derivative by central differences.

    Raises:
        RuntimeError: the operation cannot be differentiated by autograd in this dtype or on this device.
    """
    inputs = bound.draw()
    wide = [reference_input(t) for t in inputs]
    cotangents = _cotangents(bound, wide)
    wide_cotangents = [reference_input(c) for c in cotangents]
    gradients = _gradients(bound, [t.to(device) for t in inputs], [c.to(device) for c in cotangents])
    references = _gradients(bound, wide, wide_cotangents)
    names = bound.op.inputs or tuple(map(str, range(len(inputs))))
    differentiable = [i for i, t in enumerate(inputs) if is_differentiable(t.dtype)]
    tolerance = GRADIENT_FACTOR * bound.op.roundoffs(bound.dimensions) * unit_roundoff(bound.dtype)
    checks = []
    for position, got, expected in zip(differentiable, gradients, references, strict=True):
        checks.append(_compared(names[position], got.cpu(), expected, tolerance))
        if not bound.dtype.is_complex:
            checks.append(_by_differences(bound, wide, wide_cotangents, position, expected))
    return checks


def _differentiable_outputs(bound: BoundOperation, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    return [t for t in bound.outputs(inputs) if is_differentiable(t.dtype)]


def _cotangents(bound: BoundOperation, wide: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = bound.generator(500)
    drawn = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in _differentiable_outputs(bound, wide)]
    return [t if t.is_complex() else t.to(bound.dtype) for t in drawn]


def _gradients(bound: BoundOperation, inputs: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [t.detach().clone().requires_grad_() if is_differentiable(t.dtype) else t for t in inputs]
    outputs = _differentiable_outputs(bound, leaves)
    wanted = [t for t in leaves if t.requires_grad]
    matched = [c.to(t.dtype) for c, t in zip(cotangents, outputs, strict=True)]
    gradients = torch.autograd.grad(outputs, wanted, matched, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, wanted, strict=True)]


def _compared(argument: str, got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> GradientCheck:
    wide = got.to(expected.dtype)
    errors = (wide - expected).abs().flatten().nan_to_num(float("inf"), float("inf"))
    worst = int(errors.argmax())
    scale = expected.abs().max().item()
    return GradientCheck(
        oracle="float64_reference",
        argument=argument,
        shape=shape_text(tuple(got.shape)),
        max_abs_error=errors[worst].item(),
        max_relative_error=errors[worst].item() / scale if scale else errors[worst].item(),
        got=wide.flatten()[worst].real.item() if wide.is_complex() else wide.flatten()[worst].item(),
        expected=expected.flatten()[worst].real.item() if wide.is_complex() else expected.flatten()[worst].item(),
        tolerance=tolerance,
    )


def _by_differences(
    bound: BoundOperation,
    inputs: list[torch.Tensor],
    cotangents: list[torch.Tensor],
    position: int,
    gradient: torch.Tensor,
) -> GradientCheck:
    """The five-point central difference along one random signed direction, against the gradient along it.

    It is taken at two steps; where they disagree, as they do across a kink, the tolerance grows with the disagreement.
    """
    generator = bound.generator(600 + position)
    direction = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
    direction = direction / max(direction.abs().max().item(), 1.0)

    def along(step: float) -> list[torch.Tensor]:
        moved = [t + step * direction if i == position else t for i, t in enumerate(inputs)]
        return _differentiable_outputs(bound, moved)

    def slope(step: float) -> tuple[float, float]:
        far, near, near_ahead, far_ahead = (along(k * step) for k in (-2, -1, 1, 2))
        total, scale = 0.0, 0.0
        for a, b, c, d, cotangent in zip(far, near, near_ahead, far_ahead, cotangents, strict=True):
            products = ((8 * (c - b) - (d - a)) / (12 * step) * cotangent.conj()).real
            total += products.sum().item()
            scale += products.abs().sum().item()
        return total, scale

    (expected, scale), (finer, _) = slope(STEP), slope(STEP / 2)
    got = (gradient * direction).sum().item()
    error, doubt = abs(got - finer), abs(expected - finer)
    return GradientCheck(
        oracle="finite_differences",
        argument=bound.op.inputs[position] if bound.op.inputs else str(position),
        shape=shape_text(tuple(gradient.shape)),
        max_abs_error=error,
        max_relative_error=error / scale if scale else error,
        got=got,
        expected=finer,
        tolerance=max(DIFFERENCE_TOLERANCE, ESTIMATE_FACTOR * doubt / scale if scale else 0.0),
    )
