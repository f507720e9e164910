"""How far gradients are from what a property asks, and how far they may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.config.size import shape_text
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finding import Worst, badness, relative
from runner.verify.gradients.precision import moved_by_rounding
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.reference import DRAWS, LARGEST_TERM
from runner.verify.gradients.vectors import (
    Tensors,
    copied,
    largest,
    max_abs,
    random_cotangents,
)
from runner.verify.rounding import rounding_bound, summing_factor

WIDE = (torch.float64, torch.complex128)
SLACK = 4.0  # a layout or another grouping may add in another order
FLOOR = 1e-11  # relative: a smaller deviation in float64 is nothing that anybody could see
VANISHING = 1e-10  # as in the oracle of float64


@dataclass(frozen=True)
class Deviation:
    """A gradient, and what a property asks it to be."""

    got: Sequence[Tensor] = ()
    expected: Sequence[Tensor] = ()
    layout: str | None = None  # of the tensors whose memory layout was changed
    error: str | None = None  # why there is no gradient to compare, where the call raised
    exact: bool = False  # whether they are to be the same to the bit
    columns: Sequence[int] = ()  # which gradients these are; blank: all of them


class Baseline:
    """The gradient of one problem that variants are compared with.

    Attributes:
        problem: its inputs, of which it has copies, are in the dtype and on the device under test.
        cotangents: a random one for each output.
        weight: their largest element, of whose size are the terms that a gradient adds up.
        gradients: at these inputs, for these cotangents.
        roundoff: of the dtype, or of the precision in which the function computes.
        uncertainty: for each gradient, how far it moves when everything moves by some roundoffs.
    """

    def __init__(self, problem: GradientProblem, *, dtype: torch.dtype) -> None:
        self.problem, self.dtype = problem, dtype
        self.traced = problem.traced
        self.inputs = copied(problem.inputs)
        generator = problem.generator(21)
        traced = self.traced(self.inputs)
        self.cotangents = random_cotangents(traced.outputs, generator)
        self.weight = largest(self.cotangents)
        self.gradients = traced.gradients(self.cotangents)
        self.roundoff = max(torch.finfo(dtype).eps, problem.eps) / 2

        parts, step = (self.inputs, self.cotangents), 4 * self.roundoff
        moved = moved_by_rounding(
            self.gradients, self.gradients_at, parts, step, generator, draws=DRAWS
        )
        self.uncertainty = [max_abs(change) for change in moved]

    def gradients_at(self, inputs: Tensors, cotangents: Sequence[Tensor | None]) -> Tensors:
        """The gradients at other inputs or cotangents."""
        return self.traced(inputs).gradients(cotangents)

    def allowed(self, expected: Tensor, scale: float, uncertainty: float) -> float:
        """The largest error that rounding explains of a gradient, by its largest element."""
        # of a sum that is added up in another order, as far as the inputs' rounding shows
        bound = rounding_bound(2 * self.roundoff, scale, uncertainty)
        reordering = SLACK * summing_factor(self.cotangents, expected) * bound

        # of a gradient that is the rest of terms of the cotangent's size, and of underflow
        term = self.roundoff * self.weight
        cancellation = 16 * (term + torch.finfo(self.dtype).tiny)

        # of a gradient so small that all of it is rounding; and what nobody could see in float64
        vanishing = LARGEST_TERM * term if scale <= VANISHING * self.weight else 0.0
        invisible = FLOOR * scale if self.dtype in WIDE else 0.0
        return max(reordering + cancellation, vanishing, invisible)

    def allowed_of_repetition(self, expected: Tensor, scale: float) -> float:
        """The same of a gradient that should be equal to the bit.

        The uncertainty has no part in it: where calls are not repeatable, its draws differ, too.
        """
        summed = summing_factor(self.cotangents, expected)
        size = max(scale, self.weight)
        return 16 * self.roundoff * summed * size + torch.finfo(self.dtype).tiny


def worst_of(
    baseline: Baseline, probe: str, deviations: Iterator[Deviation]
) -> GradientCheck | None:
    """The check of the deviation nearest to what is allowed, or beyond it; None where none is.

    A call that raises is a failure, after which nothing more is tried.
    """
    checks: list[GradientCheck] = []
    for deviation in deviations:
        if deviation.error:
            failed = GradientCheck(probe, "invariant", verdict="fail", reason=deviation.error)
            return replace(failed, memory_layout=deviation.layout)
        checks += [_check(baseline, probe, deviation, i) for i in range(len(deviation.got))]
    return max(checks, key=badness, default=None)


def _check(baseline: Baseline, probe: str, deviation: Deviation, index: int) -> GradientCheck:
    """One gradient of a deviation: its worst element, and the verdict."""
    got, expected = deviation.got[index], deviation.expected[index]
    column = deviation.columns[index] if deviation.columns else index
    name, shape = baseline.problem.arguments[column], shape_text(tuple(expected.shape))
    check = GradientCheck(probe, "invariant", name, shape, deviation.layout, verdict="pass")
    if not got.numel():
        return replace(check, max_abs_error=0.0, max_relative_error=0.0, tolerance=0.0)

    scale, usual = max_abs(expected), baseline.gradients[column]
    if expected.shape == usual.shape:
        scale = max(scale, max_abs(usual))
    if deviation.exact:
        allowed = baseline.allowed_of_repetition(expected, scale)
    else:
        allowed = baseline.allowed(expected, scale, baseline.uncertainty[column])

    if not bool(expected.isfinite().any()):
        reason = f"no element of the gradient of input {name} is finite"
        return replace(check, verdict="inconclusive", reason=reason)
    worst = Worst(got, expected)
    check = worst.put_into(check, allowed, scale)
    if worst.error <= allowed and not (deviation.exact and worst.error):
        return check
    verdict = "fail" if worst.error > allowed else "inconclusive"
    difference = f"differs by {relative(worst.error, scale):.3g} of its scale"
    return replace(check, verdict=verdict, reason=f"the gradient of input {name} {difference}")
