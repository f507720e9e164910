"""Gradients against slopes: every cotangent with every direction, and the verdict on all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from runner.config.size import shape_text
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finding import relative
from runner.verify.gradients.problem import SINGLE, GradientProblem, VjpBatch
from runner.verify.gradients.slopes import HUGE, TRUST, Slopes
from runner.verify.gradients.vectors import index_text, max_abs

FLOOR = 1e-9  # relative: what differences of order h^6 reach where the function is smooth
NEGLIGIBLE = 1e-13  # relative to the largest derivative among those looked at together
USEFUL = 1e-3  # relative; a looser comparison says nothing either way
VANISHES = 1e-9  # relative to what the function changes by over a long step: a slope below is 0
LOOSE = 8.0  # times a tolerance that is not useful, which is an estimate, to be wrong all the same
NEARBY_SLACK = 1e-4  # relative: how far gradients may move between a point and its neighbours
KINK_ERROR = 1e-6  # relative, of the one-sided slopes
TINY = 1e-300  # keeps a tolerance from being 0
LEVEL = (
    "the function is level between its steps; where it is meant to have another one's gradient, "
    "write gradient_of:"
)


class SlopeComparison:
    """One input's gradients times directions, and the interval in which each product should be.

    Attributes:
        got: the products: a row for each cotangent, a column for each direction.
        low, high: the ends of the interval, cotangents times slopes; they differ at kinks.
        error: how far each product is outside of its interval.
        tolerance: how far it may be; :data:`HUGE` where nothing is known.
        kink: where some slope that counts is one-sided.
        scale: the largest product expected.
        rise: what the function changes by over a long step, over that step.
    """

    def __init__(
        self, batch: VjpBatch, at: Tensor, column: int, directions: Tensor, slopes: list[Slopes]
    ) -> None:
        """Of the input in a column, with a row for each direction, at some of the outputs."""
        # a product with an element that is not finite is NaN
        gradients = batch.gradients[column]
        bad = (~gradients.isfinite()).double() @ (directions != 0).double().T > 0
        got = gradients.nan_to_num(0.0, 0.0, 0.0) @ directions.T
        got = got.masked_fill(bad, float("nan"))

        # the interval in which each slope may be, which at a kink is wide
        kink = torch.stack([s.kink for s in slopes])
        value = torch.stack([s.value for s in slopes])
        left, right = torch.stack([s.left for s in slopes]), torch.stack([s.right for s in slopes])
        low_slopes, high_slopes = torch.where(kink, left, value), torch.where(kink, right, value)
        error = torch.stack([s.error for s in slopes])
        error = torch.where(kink, KINK_ERROR * torch.maximum(left.abs(), right.abs()), error)

        # a negative cotangent turns an interval round
        cotangents = batch.cotangents[:, at]
        positive, negative = cotangents.clamp(min=0.0), cotangents.clamp(max=0.0)
        low = positive @ low_slopes.T + negative @ high_slopes.T
        high = positive @ high_slopes.T + negative @ low_slopes.T

        # the gradient is uncertain by its rounding, also of terms of order 1 that cancelled
        absolute = cotangents.abs()
        # which kernels of half precision compute in float32
        cancelled = min(batch.eps, SINGLE) * absolute.amax(1, keepdim=True)
        uncertainty = batch.uncertainty[column].nan_to_num(0.0, 0.0) + cancelled
        rounding = uncertainty @ directions.abs().T

        # the differences are uncertain by their error, and relative to the terms that they add up
        size = absolute @ torch.maximum(low_slopes.abs(), high_slopes.abs()).T
        largest = size.masked_fill(~(error.amax(1) < HUGE / 2), 0.0).max()
        size = size + NEGLIGIBLE / FLOOR * largest
        tolerance = TRUST * absolute @ error.T + FLOOR * size + rounding + TINY
        tolerance = tolerance.nan_to_num(HUGE, HUGE).clamp(max=HUGE)

        # 0 times an infinite slope is NaN by right, for any cotangent
        known = (error < HUGE / 2).all(1)
        known = known & (not batch.nan_excused)
        tolerance = tolerance.masked_fill(~(got.isfinite() | known), HUGE)

        self.got, self.low, self.high, self.tolerance = got, low, high, tolerance
        self.eps = batch.eps
        self.cotangents, self.kink = batch.cotangents, absolute @ kink.double().T > 0
        self.rise = absolute @ torch.stack([s.rise for s in slopes]).T
        outside = torch.maximum(low - got, got - high).clamp(min=0.0)
        self.error = outside.masked_fill(~got.isfinite(), float("inf"))
        decided = torch.maximum(low.abs(), high.abs())[tolerance < HUGE / 2]
        self.scale = decided.max().item() if decided.numel() else 0.0

    @property
    def useful(self) -> Tensor:
        """Where the tolerance is tight enough to say something."""
        size = torch.maximum(self.low.abs(), self.high.abs())
        tight = self.tolerance <= max(USEFUL, 64 * self.eps) * size.clamp(min=self.scale)
        vanishes = self.tolerance <= VANISHES * max_abs(self.rise)
        return tight | vanishes | ((self.scale == 0) & (self.tolerance < 1e-6))

    @property
    def wrong(self) -> Tensor:
        """Where the error is more than is allowed, and far more where that is a mere estimate."""
        factor = torch.where(self.useful, 1.0, LOOSE)
        return (self.error > factor * self.tolerance) & (self.tolerance < HUGE / 2)

    @property
    def ratio(self) -> Tensor:
        """Error over tolerance, at most :data:`HUGE`."""
        return (self.error / self.tolerance.clamp(min=TINY)).nan_to_num(0.0, HUGE)

    def failing_directions(self) -> list[int]:
        """The directions in which some product is wrong, the worst first."""
        if not self.error.numel():
            return []
        worst = self.ratio.masked_fill(~self.wrong, 0.0).amax(0)
        return [d for d in worst.argsort(descending=True).tolist() if worst[d] > 0]

    def confirm_with(self, d: int, second: SlopeComparison) -> None:
        """Keep a direction's failures only where another of it, with other steps, repeats them."""
        above, below = self.low[:, d] - second.high[:, 0], second.low[:, 0] - self.high[:, d]
        agrees = torch.maximum(above, below) <= self.tolerance[:, d] + second.tolerance[:, 0]
        repeated = (second.error[:, 0] > second.tolerance[:, 0]) & agrees
        self._forgive(d, ~repeated)

    def accept_subgradient(self, d: int, nearby: Tensor) -> None:
        """Forgive a direction's failures between gradients ``nearby``, on both sides of a kink."""
        low, high = nearby.nan_to_num(HUGE).amin(0), nearby.nan_to_num(-HUGE).amax(0)
        slack = NEARBY_SLACK * torch.maximum(low.abs(), high.abs())
        got = self.got[:, d]

        # where the gradients nearby agree there is no kink, and to be like them proves nothing
        apart = high - low > 10 * slack
        inside = got.isfinite() & apart & (got >= low - slack) & (got <= high + slack)
        self.kink[:, d] |= self._forgive(d, inside)

    def _forgive(self, d: int, where: Tensor) -> Tensor:
        forgiven = where & (self.error[:, d] > self.tolerance[:, d])
        self.tolerance[forgiven, d] = HUGE
        return forgiven

    @property
    def verdict(self) -> str:
        """The verdict on all products together."""
        useful = self.useful
        if bool(self.wrong.any()):
            return "fail"
        if 2 * int(useful.sum()) < useful.numel() or not useful.numel():
            return "inconclusive"
        return "kink" if bool((self.kink & useful).any()) else "pass"

    def check(
        self, problem: GradientProblem, position: int, directions: Sequence[Tensor]
    ) -> GradientCheck:
        """The worst product, and the verdict on all, of an input and its directions."""
        tensor, name = problem.inputs[position], problem.names[position]
        shape = shape_text(tuple(tensor.shape))
        check = GradientCheck(problem.probe, "finite_differences", name, shape)
        if not self.error.numel():
            return replace(check, verdict="inconclusive", reason="there is no element")

        # the worst is sought among the products that decide, if there are any
        decisive = self.ratio.masked_fill(~(self.wrong | self.useful), -1.0)
        # of equal ones, as NaNs are, that of one output by one element, and which is not zero
        alone = self.cotangents.count_nonzero(1).unsqueeze(1)
        alone = alone * torch.stack([*directions]).count_nonzero(1) == 1
        size = torch.maximum(self.low.abs(), self.high.abs())
        columns = (t.flatten().tolist() for t in (decisive, alone, size))
        rank = list(zip(*columns, strict=True))
        c, d = divmod(rank.index(max(rank)), decisive.shape[1])
        error, tolerance = self.error[c, d].item(), self.tolerance[c, d].item()
        moved = directions[d].nonzero().flatten().tolist()
        parts = 2 if tensor.is_complex() else 1

        # a derivative of one output by one element is shown as such, without their weights
        unit = 1.0
        for weights in (directions[d], self.cotangents[c]):
            (reached,) = weights.nonzero(as_tuple=True)
            unit *= weights[reached[0]].item() if len(moved) == len(reached) == 1 else 1.0
        got, *ends = (t[c, d].item() / unit for t in (self.got, self.low, self.high))
        low, high = sorted(ends)
        expected = min(max(0.0 if math.isnan(got) else got, low), high)
        worst = replace(
            check,
            verdict=self.verdict,
            max_abs_error=error / abs(unit),
            max_relative_error=relative(error, self.scale),
            worst_index=index_text(moved[0] // parts, tensor) if len(moved) == 1 else None,
            got=got,
            expected=expected,
            tolerance=relative(tolerance, self.scale),
            tolerance_source="one-sided slopes" if bool(self.kink[c, d]) else "differences",
        )
        return replace(worst, reason=self._reason(worst))

    def _reason(self, worst: GradientCheck) -> str | None:
        total, decided = self.useful.numel(), int(self.useful.sum())
        what = f"the gradient of input {worst.argument} is"
        if self.verdict == "fail" and not math.isfinite(worst.got or 0.0):
            where = f" at [{worst.worst_index}]" if worst.worst_index else ""
            return f"{what.removesuffix(' is')}{where} is {worst.got}, not {worst.expected:.6g}"
        if self.verdict == "fail":
            error, allowed = worst.max_relative_error, worst.tolerance
            off = f"{what} off by {error:.3g} of its scale; {allowed:.3g} is allowed"
            return f"{off}; {LEVEL}" if not self.scale and max_abs(self.rise) else off
        if decided < total:
            return f"{total - decided} of {total} derivatives could not be told by differences"
        return None
