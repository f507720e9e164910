"""Are the gradients right: autograd's against a float64 reference and against finite differences in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from runner.numerics import reference_input, unit_roundoff
from runner.size import shape_text
from runner.tensors import BoundOperation, is_differentiable

BOUND_FACTOR = 8  # roundings that a gradient passes through, beside those that its inputs' rounding explains
PERTURBATIONS = 6  # draws of inputs one roundoff away, to see how far the gradient itself moves
STEP = torch.finfo(torch.float64).eps ** (1 / 5)  # for the five-point rule below, whose error is of order step^4
SMALL_STEP = 1e-6  # crosses few kinks; its rounding error is about eps / 1e-6, 1e-10 of the scale
DIFFERENCE_TOLERANCE = 1e-7  # relative; the rule's own error at this step is about eps^(4/5), 3e-13, times the scale
ESTIMATE_FACTOR = 4  # how many times the change between two steps the error may be: large where a kink is crossed
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
    differentiable = [i for i, t in enumerate(inputs) if is_differentiable(t.dtype)]
    moved = _conditioning(bound, wide, wide_cotangents, references)
    checks = []
    for position, got, expected, change in zip(differentiable, gradients, references, moved, strict=True):
        checks.append(_compared(bound, position, got.cpu(), expected, change))
        if not bound.dtype.is_complex:
            checks.append(_by_differences(bound, wide, wide_cotangents, position, expected))
    return checks


def _argument(bound: BoundOperation, position: int) -> str:
    return bound.op.inputs[position] if bound.op.inputs else str(position)


def _differentiable_outputs(bound: BoundOperation, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    return [t for t in bound.outputs(inputs) if is_differentiable(t.dtype)]


def _cotangents(bound: BoundOperation, wide: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = bound.generator(500)
    drawn = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in _differentiable_outputs(bound, wide)]
    complex_dtype = torch.complex128 if bound.dtype in (torch.float64, torch.complex128) else torch.complex64
    return [t.to(complex_dtype if t.is_complex() else bound.dtype) for t in drawn]


def _gradients(bound: BoundOperation, inputs: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [t.detach().clone().requires_grad_() if is_differentiable(t.dtype) else t for t in inputs]
    outputs = _differentiable_outputs(bound, leaves)
    wanted = [t for t in leaves if t.requires_grad]
    matched = [c.to(t.dtype) for c, t in zip(cotangents, outputs, strict=True)]
    gradients = torch.autograd.grad(outputs, wanted, matched, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, wanted, strict=True)]


def _conditioning(
    bound: BoundOperation, wide: list[torch.Tensor], cotangents: list[torch.Tensor], references: list[torch.Tensor]
) -> list[float]:
    """How far each float64 gradient moves when inputs and cotangents move by one roundoff of the dtype."""
    generator = bound.generator(700)
    u = unit_roundoff(bound.dtype)

    def nudged(tensor: torch.Tensor) -> torch.Tensor:
        if not is_differentiable(tensor.dtype):
            return tensor
        signs = torch.randint(2, tensor.shape, generator=generator) * 2 - 1
        return tensor * (1 + u * signs)

    moved = [0.0] * len(references)
    for _ in range(PERTURBATIONS):
        gradients = _gradients(bound, [nudged(t) for t in wide], [nudged(c) for c in cotangents])
        changes = [(g - r).abs().max().item() for g, r in zip(gradients, references, strict=True)]
        moved = [max(pair) for pair in zip(moved, changes, strict=True)]
    return moved


def _compared(
    bound: BoundOperation, position: int, got: torch.Tensor, expected: torch.Tensor, moved: float
) -> GradientCheck:
    """The largest error, against 8 (u max|g| + d): u the unit roundoff, d what one roundoff in the inputs does to g.

    Where the operation's own tolerance is larger and yet says something, as for long sums in float32, that one holds.
    """
    wide = got.to(expected.dtype)
    errors = (wide - expected).abs().flatten().nan_to_num(float("inf"), float("inf"))
    worst = int(errors.argmax())
    scale = expected.abs().max().item()
    u = unit_roundoff(bound.dtype)
    conditioned = BOUND_FACTOR * (u + (moved / scale if scale else moved))
    by_operation = u * bound.op.roundoffs(bound.dimensions)
    return GradientCheck(
        oracle="float64_reference",
        argument=_argument(bound, position),
        shape=shape_text(tuple(got.shape)),
        max_abs_error=errors[worst].item(),
        max_relative_error=errors[worst].item() / scale if scale else errors[worst].item(),
        got=wide.flatten()[worst].real.item() if wide.is_complex() else wide.flatten()[worst].item(),
        expected=expected.flatten()[worst].real.item() if wide.is_complex() else expected.flatten()[worst].item(),
        tolerance=max(conditioned, by_operation if by_operation <= USEFUL_TOLERANCE else 0.0),
    )


def _by_differences(
    bound: BoundOperation,
    inputs: list[torch.Tensor],
    cotangents: list[torch.Tensor],
    position: int,
    gradient: torch.Tensor,
) -> GradientCheck:
    """The five-point central difference along one random signed direction, against the gradient along it.

    It is taken at two steps and, one-sided, at a very small one; where they disagree, as they do at a kink or across
    one, the tolerance grows with the disagreement.
    """
    generator = bound.generator(600 + position)
    direction = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
    direction = direction / max(direction.abs().max().item(), 1.0)

    def along(step: float) -> list[torch.Tensor]:
        moved = [t + step * direction if i == position else t for i, t in enumerate(inputs)]
        return _differentiable_outputs(bound, moved)

    def along_cotangents(outputs: list[torch.Tensor]) -> tuple[float, float]:
        products = [(o * c.conj()).real for o, c in zip(outputs, cotangents, strict=True)]
        return sum(p.sum().item() for p in products), sum(p.abs().sum().item() for p in products)

    def slope(step: float) -> tuple[float, float]:
        far, near, near_ahead, far_ahead = (along(k * step) for k in (-2, -1, 1, 2))
        rows = zip(far, near, near_ahead, far_ahead, strict=True)
        return along_cotangents([(8 * (c - b) - (d - a)) / (12 * step) for a, b, c, d in rows])

    (coarse, _), (expected, scale) = slope(STEP), slope(STEP / 2)
    behind, here, ahead = along(-SMALL_STEP), along(0.0), along(SMALL_STEP)
    before = along_cotangents([(b - a) / SMALL_STEP for a, b in zip(behind, here, strict=True)])[0]
    after, one_sided = along_cotangents([(b - a) / SMALL_STEP for a, b in zip(here, ahead, strict=True)])
    scale = max(scale, one_sided)
    got = (gradient * direction).sum().item()
    error = abs(got - expected)
    doubt = max(abs(coarse - expected), abs((before + after) / 2 - expected), abs(after - before) / 2)
    return GradientCheck(
        oracle="finite_differences",
        argument=_argument(bound, position),
        shape=shape_text(tuple(gradient.shape)),
        max_abs_error=error,
        max_relative_error=error / scale if scale else error,
        got=got,
        expected=expected,
        tolerance=max(DIFFERENCE_TOLERANCE, ESTIMATE_FACTOR * doubt / scale if scale else 0.0),
    )
