"""Gradients compared with slopes: every cotangent with every direction, and the verdict on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from runner.config.size import shape_text
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.slopes import EPS, HUGE, TRUST, Slopes
from runner.verify.gradients.vectors import index_text
from runner.verify.gradients.vjp import VjpBatch

FLOOR = 1e-9  # relative: what differences of order h^6 reach where the function is smooth
NEGLIGIBLE = 1e-13  # relative to the largest derivative among those looked at together
USEFUL = 1e-3  # relative; a looser comparison says nothing either way
NEARBY_SLACK = 1e-4  # relative: how far gradients may move between a point and its neighbours
KINK_ERROR = 1e-6  # relative, of the one-sided slopes
TINY = 1e-300  # keeps a tolerance from being 0


@dataclass(frozen=True)
class SlopeComparison:
    """One input's gradients times directions, and the interval in which each product should be.

    Attributes:
        got: a row for each cotangent, a column for each direction.
        low, high: the ends of the interval; they differ at kinks.
        tolerance: how far ``got`` may be outside of it; :data:`HUGE` where nothing is known.
        kink: where some slope that counts is one-sided.
        scale: the largest product expected.
    """

    got: Tensor
    low: Tensor
    high: Tensor
    tolerance: Tensor
    kink: Tensor
    scale: float

    @cached_property
    def error(self) -> Tensor:
        """How far each product is outside of its interval."""
        outside = torch.maximum(self.low - self.got, self.got - self.high).clamp(min=0.0)
        return torch.where(self.got.isfinite(), outside, torch.full_like(self.got, float("inf")))

    @cached_property
    def useful(self) -> Tensor:
        """Where the tolerance is tight enough to say something."""
        size = torch.maximum(self.low.abs(), self.high.abs())
        tight = self.tolerance <= USEFUL * size.clamp(min=self.scale)
        return tight | ((self.scale == 0) & (self.tolerance < 1e-6))

    @cached_property
    def wrong(self) -> Tensor:
        """Where the error is more than is allowed."""
        return (self.error > self.tolerance) & (self.tolerance < HUGE / 2)

    @cached_property
    def ratio(self) -> Tensor:
        """Error over tolerance, at most :data:`HUGE`."""
        return (self.error / self.tolerance.clamp(min=TINY)).nan_to_num(0.0, HUGE)

    def failing_directions(self) -> list[int]:
        """The directions in which some product is wrong, the worst first."""
        if not self.error.numel():
            return []
        worst = self._excess().amax(0)
        return [d for d in worst.argsort(descending=True).tolist() if worst[d] > 0]

    def fails(self, d: int) -> bool:
        """Whether some product along a direction is wrong."""
        return bool((self._excess()[:, d] > 0).any())

    def _excess(self) -> Tensor:
        return torch.where(self.wrong, self.ratio, torch.zeros_like(self.error))

    def confirm_with(self, d: int, second: SlopeComparison) -> SlopeComparison:
        """The same, with a direction's failures kept only where a second comparison repeats them.

        Args:
            d: the direction.
            second: made of that direction alone, with other steps. It has to agree on the interval, too.
        """
        apart = torch.maximum(
            self.low[:, d] - second.high[:, 0], second.low[:, 0] - self.high[:, d]
        )
        agrees = apart <= self.tolerance[:, d] + second.tolerance[:, 0]
        repeated = (second.error[:, 0] > second.tolerance[:, 0]) & agrees
        return self._without_failures(d, ~repeated)

    def accept_subgradient(self, d: int, nearby: Tensor) -> SlopeComparison:
        """The same, without a direction's failures that lie between gradients on both sides of a kink.

        Args:
            d: the direction.
            nearby: products of gradients at points nearby with it, a row for each point.
        """
        low, high = nearby.nan_to_num(HUGE).amin(0), nearby.nan_to_num(-HUGE).amax(0)
        slack = NEARBY_SLACK * torch.maximum(low.abs(), high.abs())
        got = self.got[:, d]

        # where the gradients nearby agree there is no kink, and to be like them proves nothing
        apart = high - low > 10 * slack
        inside = got.isfinite() & apart & (got >= low - slack) & (got <= high + slack)

        accepted = inside & (self.error[:, d] > self.tolerance[:, d])
        kink = self.kink.clone()
        kink[:, d] |= accepted
        return replace(self._without_failures(d, inside), kink=kink)

    def _without_failures(self, d: int, where: Tensor) -> SlopeComparison:
        failing = self.error[:, d] > self.tolerance[:, d]
        tolerance = self.tolerance.clone()
        tolerance[:, d] = torch.where(
            failing & where, torch.full_like(self.got[:, d], HUGE), tolerance[:, d]
        )
        return replace(self, tolerance=tolerance)

    @cached_property
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
        """The worst product, and the verdict on all.

        Args:
            problem: what was compared.
            position: of the input.
            directions: its directions, one for each column.
        """
        tensor, name = problem.inputs[position], problem.names[position]
        shape = shape_text(tuple(tensor.shape))
        if not self.error.numel():
            empty = "there is no element"
            return GradientCheck(
                problem.probe, "finite_differences", "inconclusive", name, shape, reason=empty
            )

        # the worst is sought among the products that decide, if there are any
        decisive = torch.where(
            self.wrong | self.useful, self.ratio, torch.full_like(self.error, -1.0)
        )
        c, d = divmod(int(decisive.argmax()), decisive.shape[1])
        got, low, high = (t[c, d].item() for t in (self.got, self.low, self.high))
        expected = min(max(self.got[c, d].nan_to_num(0.0).item(), low), high)
        touched = directions[d].nonzero().flatten().tolist()

        return GradientCheck(
            probe=problem.probe,
            oracle="finite_differences",
            verdict=self.verdict,
            argument=name,
            shape=shape,
            max_abs_error=self.error[c, d].item(),
            max_relative_error=relative(self.error[c, d].item(), self.scale),
            worst_index=index_text(touched[0], tensor) if len(touched) == 1 else None,
            got=got,
            expected=expected,
            tolerance=relative(self.tolerance[c, d].item(), self.scale),
            tolerance_source="one-sided slopes" if bool(self.kink[c, d]) else "differences",
            reason=self._reason(name, c, d, expected),
        )

    def _reason(self, name: str, c: int, d: int, expected: float) -> str | None:
        """What is wrong with the product of a cotangent and a direction, or how many say nothing."""
        got, total, decided = self.got[c, d], self.useful.numel(), int(self.useful.sum())
        if self.verdict == "fail" and not got.isfinite():
            return f"the gradient of input {name} is {got.item()}, not {expected:.6g}"
        if self.verdict == "fail":
            error = relative(self.error[c, d].item(), self.scale)
            allowed = relative(self.tolerance[c, d].item(), self.scale)
            return f"the gradient of input {name} is off by {error:.3g} of its scale; {allowed:.3g} is allowed"
        if decided < total:
            return f"{total - decided} of {total} derivatives could not be told by differences"
        return None


def compare(
    batch: VjpBatch, column: int, directions: Tensor, slopes: Sequence[Slopes]
) -> SlopeComparison:
    """Compare gradients times directions with cotangents times slopes, for one input.

    Args:
        batch: the gradients.
        column: of the input among the differentiable ones.
        directions: a row for each.
        slopes: of the outputs along each direction.
    """
    got = _products(batch.gradients[column], directions)
    kink = torch.stack([s.kink for s in slopes])
    low_slopes, high_slopes, error = _intervals(slopes, kink)

    # a negative cotangent turns an interval round
    cotangents = batch.cotangents
    positive, negative = cotangents.clamp(min=0.0), cotangents.clamp(max=0.0)
    low = positive @ low_slopes.T + negative @ high_slopes.T
    high = positive @ high_slopes.T + negative @ low_slopes.T

    # the gradient is uncertain by its rounding, also of terms of order 1 that may have cancelled
    absolute = cotangents.abs()
    uncertainty = batch.uncertainty[column].nan_to_num(0.0, 0.0) + EPS * absolute.amax(
        1, keepdim=True
    )
    rounding = uncertainty @ directions.abs().T

    # the differences are uncertain by their own error, and relative to the terms that they add up
    size = absolute @ torch.maximum(low_slopes.abs(), high_slopes.abs()).T
    largest = torch.where(error.T.amax(0) < HUGE / 2, size, 0 * size).max()
    size = size + NEGLIGIBLE / FLOOR * largest
    tolerance = TRUST * absolute @ error.T + FLOOR * size + rounding + TINY
    tolerance = tolerance.nan_to_num(HUGE, HUGE).clamp(max=HUGE)

    # 0 times an infinite slope is NaN by right, for any cotangent
    known = (error < HUGE / 2).all(1)
    tolerance = torch.where(got.isfinite() | known, tolerance, torch.full_like(tolerance, HUGE))

    decided = torch.maximum(low.abs(), high.abs())[tolerance < HUGE / 2]
    scale = decided.max().item() if decided.numel() else 0.0
    return SlopeComparison(got, low, high, tolerance, absolute @ kink.double().T > 0, scale)


def _products(gradients: Tensor, directions: Tensor) -> Tensor:
    """Gradients times directions, NaN where a direction touches an element that is not finite."""
    bad = (~gradients.isfinite()).double() @ (directions != 0).double().T > 0
    products = gradients.nan_to_num(0.0, 0.0, 0.0) @ directions.T
    return torch.where(bad, torch.full_like(products, float("nan")), products)


def _intervals(slopes: Sequence[Slopes], kink: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ends of the interval in which each slope may be, which at a kink is wide, and their error."""
    value = torch.stack([s.value for s in slopes])
    left, right = torch.stack([s.left for s in slopes]), torch.stack([s.right for s in slopes])
    error = torch.stack([s.error for s in slopes])
    error = torch.where(kink, KINK_ERROR * torch.maximum(left.abs(), right.abs()), error)
    return torch.where(kink, left, value), torch.where(kink, right, value), error
