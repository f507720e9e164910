"""The oracle of float64: gradients in a dtype on a device, compared with those from the same rounded inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.size import shape_text
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.slope_comparison import USEFUL
from runner.verify.gradients.target import Tensors
from runner.verify.gradients.vectors import (
    all_perturbed,
    copied,
    gaussian,
    index_text,
    max_abs,
    perturbed,
    random_cotangents,
)
from runner.verify.rounding import BOUND_FACTOR, rounding_bound

SMALLEST_NORMAL = 2.0**-900  # of what is worth counting in units of the last place
DRAWS = 6  # of inputs one roundoff away, to see how far a gradient moves
VANISHING = (
    1e-12  # relative to the cotangent; a gradient below is all rounding, of terms of unknown size
)
LARGEST_TERM = 1e3  # relative to the cotangent: what these terms are taken to be at most


def by_reference(
    problem: GradientProblem,
    dtype: torch.dtype,
    device: torch.device,
    roundoffs: float,
    usual: Sequence[float] = (),
) -> list[GradientCheck]:
    """Compare gradients in a dtype on a device with those in float64 on the CPU, from the same rounded inputs.

    Args:
        problem: the call, in float64.
        dtype: the dtype under test.
        device: where it is computed.
        roundoffs: see :func:`conditioned_bounds`.
        usual: what :func:`gradient_scales` says of the same shapes at usual inputs. A gradient that is far smaller at
            these may be the rest of a difference, of which rounding explains more than of the gradient itself.
    """
    generator = problem.generator(16)
    sides = _BothSides.of(problem, dtype, device, generator)
    info = torch.finfo(dtype)
    moved = sides.moved(info.eps / 2, generator)
    bounds = conditioned_bounds(sides.expected, moved, info.eps / 2, roundoffs)
    weight = _weight(sides.cotangents)
    underflow = BOUND_FACTOR * info.smallest_normal * max(1.0, weight)
    elements = sum(c.numel() for c in sides.cotangents)

    checks = []
    for column, position in enumerate(problem.positions):
        got, expected = sides.got[column], sides.expected[column]

        # terms are added up one by one, and their rounding errors walk in random directions
        summed = math.sqrt(max(1.0, elements / max(1, expected.numel())))
        bound = bounds[column] * summed + underflow
        check = _Comparison(got.to(expected.dtype), expected, bound, info.eps).check(
            problem, position
        )

        # a failure that the dtype's limits explain is none
        scale = usual[column] if usual else 0.0
        if check.verdict == "fail" and _lost(check, expected, weight, info.eps, scale):
            reason = "rounding of larger terms explains the difference"
            check = replace(check, verdict="inconclusive", reason=reason)
        if check.verdict == "fail" and (sides.overflow or max_abs(expected) > info.max / 16):
            reason = f"{str(dtype).removeprefix('torch.')} overflows here"
            check = replace(check, verdict="inconclusive", reason=reason)
        checks.append(check)
    return checks


@dataclass(frozen=True)
class _BothSides:
    """Gradients from the same numbers, in the dtype on the device and in float64 on the CPU.

    Attributes:
        problem: in float64, its inputs rounded to the dtype and widened again.
        cotangents: in the dtype, on the CPU.
        wide_cotangents: in float64.
        got, expected: the gradients of the device and in float64, on the CPU.
        overflow: whether some output of the device is not finite.
    """

    problem: GradientProblem
    cotangents: Tensors
    wide_cotangents: Tensors
    got: Tensors
    expected: Tensors
    overflow: bool

    @classmethod
    def of(
        cls,
        problem: GradientProblem,
        dtype: torch.dtype,
        device: torch.device,
        generator: torch.Generator,
    ) -> _BothSides:
        """Compute both."""
        rounded = [
            t.to(narrowed(t, dtype)) if is_differentiable(t.dtype) else t for t in problem.inputs
        ]
        wide = [t.to(w.dtype) for t, w in zip(rounded, problem.inputs, strict=True)]
        traced = problem.traced([t.to(device, copy=True) for t in rounded])
        cotangents = [gaussian(t, generator).to(t.dtype) for t in traced.outputs]
        reference = problem.traced(copied(wide))
        wide_cotangents = [
            c.to(t.dtype) for c, t in zip(cotangents, reference.outputs, strict=True)
        ]
        return cls(
            problem=replace(problem, inputs=tuple(wide)),
            cotangents=cotangents,
            wide_cotangents=wide_cotangents,
            expected=reference.gradients(wide_cotangents),
            got=[g.cpu() for g in traced.gradients([c.to(device) for c in cotangents])],
            overflow=not all(bool(t.detach().isfinite().all()) for t in traced.outputs),
        )

    def moved(self, roundoff: float, generator: torch.Generator) -> list[float]:
        """How far each float64 gradient moves when inputs, cotangents and saved tensors move by one roundoff.

        It is the most of several draws. An output that the forward pass saves may be far larger than what its rounding
        does to the gradient: that of logsumexp is exp(x - output).
        """
        farthest = [0.0] * len(self.expected)

        def rounded(saved: Tensor) -> Tensor:
            return perturbed(saved.detach(), roundoff, generator)

        for _ in range(DRAWS):
            inputs = all_perturbed(self.problem.inputs, roundoff, generator)
            try:
                with torch.autograd.graph.saved_tensors_hooks(rounded, _unchanged):
                    traced = self.problem.traced(inputs)
                others = traced.gradients(all_perturbed(self.wide_cotangents, roundoff, generator))
            except Exception:  # out of the domain by a roundoff
                continue
            changes = [max_abs(o - e) for o, e in zip(others, self.expected, strict=True)]
            farthest = [max(f, c) for f, c in zip(farthest, changes, strict=True)]
        return farthest


def _unchanged(saved: Tensor) -> Tensor:
    return saved


def _weight(cotangents: Sequence[Tensor]) -> float:
    return max((max_abs(c) for c in cotangents), default=1.0)


def _lost(check: GradientCheck, expected: Tensor, weight: float, eps: float, usual: float) -> bool:
    """Whether an error is no more than the rounding of terms of the usual size, of which a small gradient is left."""
    largest = LARGEST_TERM if max_abs(expected) <= VANISHING * weight else usual
    return (
        check.max_abs_error is not None
        and check.max_abs_error <= BOUND_FACTOR * eps * largest * weight
    )


def gradient_scales(problem: GradientProblem) -> list[float]:
    """The usual size of gradients: for each differentiable input, its largest one over the largest cotangent."""
    traced = problem.traced(copied(problem.inputs))
    cotangents = random_cotangents(traced.outputs, problem.generator(18))
    weight = _weight(cotangents) or 1.0
    return [max_abs(g) / weight for g in traced.gradients(cotangents)]


def narrowed(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a float64 or complex128 tensor has when others have ``dtype``."""
    if tensor.is_complex() and not dtype.is_complex:
        return torch.complex128 if dtype is torch.float64 else torch.complex64
    if dtype.is_complex and not tensor.is_complex():
        return torch.float64 if dtype is torch.complex128 else torch.float32
    return dtype


def conditioned_bounds(
    reference: Sequence[Tensor], moved: Sequence[float], roundoff: float, roundoffs: float
) -> list[float]:
    """The largest error of each gradient that rounding explains, for its largest element.

    Args:
        reference: the gradients in float64.
        moved: how far each moves when inputs and cotangents move by one roundoff.
        roundoff: of the dtype.
        roundoffs: what the operation itself declares, in roundoffs of the largest element; used where it is useful.
    """
    declared = roundoff * roundoffs if roundoff * roundoffs <= USEFUL else 0.0
    return [
        max(rounding_bound(roundoff, max_abs(g), d), declared * max_abs(g))
        for g, d in zip(reference, moved, strict=True)
    ]


@dataclass(frozen=True)
class _Comparison:
    """A gradient against the expected one, with one bound for all of its elements.

    Attributes:
        got, expected: the gradients, in one dtype.
        bound: the largest error allowed.
        eps: of the dtype under test.
    """

    got: Tensor
    expected: Tensor
    bound: float
    eps: float

    def check(self, problem: GradientProblem, position: int) -> GradientCheck:
        """The element with the largest error, and the verdict."""
        name, scale = problem.names[position], max_abs(self.expected)
        shape = shape_text(tuple(self.expected.shape))
        if not self.expected.numel():
            return GradientCheck(
                problem.probe,
                "float64_reference",
                "pass",
                name,
                shape,
                max_abs_error=0.0,
                max_relative_error=0.0,
            )

        # where the reference is not finite, other oracles say whether it should be
        defined = self.expected.isfinite()
        errors = torch.where(defined, (self.got - self.expected).abs(), torch.zeros(())).to(
            torch.float64
        )
        errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
        worst = int(errors.argmax())
        error = errors[worst].item()

        verdict = self._verdict(error, scale)
        return GradientCheck(
            problem.probe,
            "float64_reference",
            verdict,
            name,
            shape,
            max_abs_error=error,
            max_relative_error=relative(error, scale),
            ulp=self._ulp(error, worst),
            worst_index=index_text(worst * (2 if self.got.is_complex() else 1), self.got),
            got=_real(self.got.flatten()[worst]),
            expected=_real(self.expected.flatten()[worst]),
            tolerance=relative(self.bound, scale),
            tolerance_source="conditioning",
            reason=self._reason(verdict, name, worst, error, scale),
        )

    def _verdict(self, error: float, scale: float) -> str:
        if error > self.bound:
            return "fail"
        useful = self.bound <= max(USEFUL, 64 * self.eps) * scale or error == 0
        return "pass" if useful or not scale else "inconclusive"

    def _ulp(self, error: float, element: int) -> float | None:
        """The error in units of the last place of an expected element."""
        size = self.expected.flatten()[element].abs().item()
        if not (math.isfinite(error) and math.isfinite(size) and size >= SMALLEST_NORMAL):
            return None
        return error / (self.eps * 2.0 ** math.floor(math.log2(size)))

    def _reason(
        self, verdict: str, name: str, element: int, error: float, scale: float
    ) -> str | None:
        got, expected = self.got.flatten()[element], self.expected.flatten()[element]
        if verdict == "fail" and not bool(got.isfinite()):
            return f"the gradient of input {name} is {got.item()}, not {expected.item()}"
        if verdict == "fail":
            allowed = relative(self.bound, scale)
            return (
                f"the gradient of input {name} is off by {relative(error, scale):.3g} of its scale; "
                f"{allowed:.3g} is allowed"
            )
        if verdict == "inconclusive":
            return f"rounding alone explains {relative(self.bound, scale):.2g} of its scale"
        return None


def _real(number: Tensor) -> float:
    return float(number.real.item() if number.is_complex() else number.item())
