"""How far gradients are from what a property asks, and how far they may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.config.size import shape_text
from runner.verify.gradients.finding import GradientCheck
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.reference import DRAWS
from runner.verify.gradients.target import Tensors
from runner.verify.gradients.trace import Traced
from runner.verify.gradients.vectors import (
    all_perturbed,
    copied,
    index_text,
    max_abs,
    random_cotangents,
)
from runner.verify.rounding import BOUND_FACTOR

WIDE = (torch.float64, torch.complex128)
SLACK = 4.0  # a layout or another grouping may add in another order
FLOOR = 1e-11  # relative: a smaller deviation in float64 is nothing that anybody could see
VANISHING = (
    1e-10  # relative to the cotangent; a gradient below is all rounding, of terms of unknown size
)
LARGEST_TERM = 1e3  # relative to the cotangent: what these terms are taken to be at most


@dataclass(frozen=True)
class Deviation:
    """A gradient, and what a property asks it to be.

    Attributes:
        got, expected: for each differentiable input.
        layout: of the tensors whose memory layout was changed.
        error: why there is no gradient to compare, where the call raised.
        exact: whether they are to be the same to the bit.
    """

    got: Sequence[Tensor] = ()
    expected: Sequence[Tensor] = ()
    layout: str | None = None
    error: str | None = None
    exact: bool = False


class Baseline:
    """The gradient of one problem, in the dtype and on the device under test, that variants are compared with.

    Attributes:
        problem: its inputs are in the dtype and on the device.
        inputs: copies of these.
        cotangents: a random one for each output.
        gradients: at these inputs, for these cotangents.
        roundoff: of the dtype, or of the precision in which the function computes.
        uncertainty: for each gradient, how far it moves when everything moves by some roundoffs.
    """

    def __init__(self, problem: GradientProblem, *, dtype: torch.dtype) -> None:
        self.problem, self.dtype = problem, dtype
        self.inputs = copied(problem.inputs)
        generator = problem.generator(21)
        traced = self.traced(self.inputs)
        self.cotangents = random_cotangents(traced.outputs, generator)
        self.gradients = traced.gradients(self.cotangents)
        self.roundoff = max(torch.finfo(dtype).eps, problem.eps if dtype in WIDE else 0.0) / 2
        self.uncertainty = [0.0] * len(self.gradients)
        for _ in range(DRAWS):
            try:
                inputs = all_perturbed(self.inputs, 4 * self.roundoff, generator)
                traced = self.traced(inputs)
                moved = traced.gradients(
                    all_perturbed(self.cotangents, 4 * self.roundoff, generator)
                )
            except Exception:  # out of the domain by a roundoff
                continue
            changes = [max_abs(m - g) for m, g in zip(moved, self.gradients, strict=True)]
            self.uncertainty = [max(u, c) for u, c in zip(self.uncertainty, changes, strict=True)]

    def traced(self, inputs: Sequence[Tensor]) -> Traced:
        """Call with a graph."""
        return self.problem.traced(inputs)

    def gradients_at(
        self, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]
    ) -> Tensors:
        """The gradients at other inputs or cotangents."""
        return self.traced(inputs).gradients(cotangents)

    @property
    def weight(self) -> float:
        """The largest element of the cotangents, of whose size are the terms that a gradient adds up."""
        return max((max_abs(c) for c in self.cotangents), default=0.0)


@dataclass(frozen=True)
class Tolerance:
    """The error that is allowed of one gradient, term by term.

    Attributes:
        reordering: of a sum that is added up in another order, as far as the inputs' rounding shows.
        cancellation: of a gradient that is the rest of terms of the cotangent's size, and of underflow.
        vanishing: of a gradient so small that all of it is rounding.
        invisible: relative to the gradient in float64.
    """

    reordering: float
    cancellation: float
    vanishing: float = 0.0
    invisible: float = 0.0

    @classmethod
    def of(
        cls, baseline: Baseline, expected: Tensor, scale: float, uncertainty: float
    ) -> Tolerance:
        """The tolerance of one gradient.

        Args:
            baseline: of the problem.
            expected: the gradient.
            scale: its largest element.
            uncertainty: the baseline's, of this gradient.
        """
        u, weight = baseline.roundoff, baseline.weight
        summed = reordered_sum(baseline, expected)
        return cls(
            reordering=SLACK * BOUND_FACTOR * summed * (2 * u * scale + uncertainty),
            cancellation=16 * (u * weight + torch.finfo(baseline.dtype).tiny),
            vanishing=LARGEST_TERM * u * weight if scale <= VANISHING * weight else 0.0,
            invisible=FLOOR * scale if baseline.dtype in WIDE else 0.0,
        )

    @property
    def allowed(self) -> float:
        """The largest error allowed."""
        return max(self.reordering + self.cancellation, self.vanishing, self.invisible)


def allowed_of_repetition(baseline: Baseline, expected: Tensor, scale: float) -> float:
    """The largest error of a gradient that should be the same to the bit.

    The uncertainty has no part in it: where calls are not repeatable, the draws that it is made of differ, too.
    """
    summed = reordered_sum(baseline, expected)
    return (
        16 * baseline.roundoff * summed * max(scale, baseline.weight)
        + torch.finfo(baseline.dtype).tiny
    )


def reordered_sum(baseline: Baseline, gradient: Tensor) -> float:
    """By how much the order of adding up multiplies a gradient's rounding: the root of the number of terms."""
    terms = sum(c.numel() for c in baseline.cotangents) / max(1, gradient.numel())
    return float(max(1.0, terms) ** 0.5)


def worst_of(
    baseline: Baseline, probe: str, deviations: Iterator[Deviation]
) -> GradientCheck | None:
    """The check of the deviation that comes nearest to what is allowed, or exceeds it most; None of none.

    A call that raises is a failure, after which nothing more is tried.
    """
    worst: GradientCheck | None = None
    highest = -1.0
    for deviation in deviations:
        if deviation.error:
            return GradientCheck(
                probe, "invariant", "fail", memory_layout=deviation.layout, reason=deviation.error
            )
        for index in range(len(deviation.got)):
            check = check_of(baseline, probe, deviation, index)
            ratio = (check.max_relative_error or 0.0) / (check.tolerance or 1e-300)
            if check.verdict == "fail":
                ratio = 1e300
            if ratio > highest:
                worst, highest = check, ratio
    return worst


def check_of(baseline: Baseline, probe: str, deviation: Deviation, index: int) -> GradientCheck:
    """One gradient of a deviation: its worst element, and the verdict."""
    got, expected = deviation.got[index], deviation.expected[index]

    # fewer gradients than inputs are of a subset, for which the first input stands
    column = index if len(deviation.got) == len(baseline.problem.positions) else 0
    argument = baseline.problem.names[baseline.problem.positions[column]]
    shape = shape_text(tuple(expected.shape))
    if not got.numel():
        return GradientCheck(
            probe,
            "invariant",
            "pass",
            argument,
            shape,
            deviation.layout,
            max_abs_error=0.0,
            max_relative_error=0.0,
            tolerance=0.0,
        )

    # where a gradient is not finite, oracles say whether it should be
    errors = torch.where(expected.isfinite(), (got - expected).abs(), torch.zeros(())).to(
        torch.float64
    )
    errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
    worst = int(errors.argmax())
    error = errors[worst].item()

    scale = max_abs(expected)
    if expected.shape == baseline.gradients[column].shape:
        scale = max(scale, max_abs(baseline.gradients[column]))
    if deviation.exact:
        allowed = allowed_of_repetition(baseline, expected, scale)
    else:
        allowed = Tolerance.of(baseline, expected, scale, baseline.uncertainty[column]).allowed

    verdict = _verdict(error, allowed, exact=deviation.exact)
    relative, tolerance = (error / scale, allowed / scale) if scale else (error, allowed)
    reason = f"the gradient of input {argument} differs by {relative:.3g} of its scale"
    return GradientCheck(
        probe,
        "invariant",
        verdict,
        argument,
        shape,
        deviation.layout,
        max_abs_error=error,
        max_relative_error=relative,
        worst_index=index_text(worst * (2 if got.is_complex() else 1), got),
        got=_real(got.flatten()[worst]),
        expected=_real(expected.flatten()[worst]),
        tolerance=tolerance,
        tolerance_source="conditioning",
        reason=None if verdict == "pass" else reason,
    )


def _verdict(error: float, allowed: float, *, exact: bool) -> str:
    if error > allowed:
        return "fail"
    return "inconclusive" if exact and error else "pass"


def _real(number: Tensor) -> float:
    return number.to(torch.complex128).real.item()
