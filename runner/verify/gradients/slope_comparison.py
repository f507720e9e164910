"""Gradients against slopes: every cotangent by every direction, and what to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runner.config.size import shape_text
from runner.verify.gradients.differences import EPS, HUGE, TRUST, Slopes
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem, index_text, perturbed, split_row
from runner.verify.gradients.vjp import copied, flat

BOUND_FACTOR = 8.0  # roundings that a gradient passes through, beside those that its inputs' rounding explains
FLOOR = 1e-9  # relative: what differences of order h^6 reach where the function is smooth
NEGLIGIBLE = 1e-13  # relative to the largest derivative among those looked at together
USEFUL = 1e-3  # relative; a looser comparison says nothing either way
PERTURBATIONS = 2  # draws of inputs one roundoff away, for a gradient in float64
MANY = 16  # elements up to which each is looked at by itself
NEARBY_SLACK = 1e-4  # relative: how far gradients may move between a point and its neighbours


@dataclass(frozen=True)
class VjpBatch:
    """Gradients for several cotangents, as real matrices.

    Attributes:
        cotangents: a row for each, over the elements of all outputs.
        gradients: for each differentiable input, a row for each cotangent.
        uncertainty: by how much rounding may have changed each.
        outputs: positions of the outputs that the cotangents are of.
    """

    cotangents: torch.Tensor
    gradients: list[torch.Tensor]
    uncertainty: list[torch.Tensor]
    outputs: tuple[int, ...]


def vjp(problem: GradientProblem, *, dense: int = 2, known: torch.Tensor | None = None) -> VjpBatch:
    """Gradients for dense cotangents and, where the outputs are small, for each of their elements.

    Args:
        problem: the call.
        dense: how many dense cotangents.
        known: the outputs' elements that dense cotangents reach; None: all.
    """
    traced = problem.traced(copied(problem.inputs))
    generator = torch.Generator().manual_seed(problem.seed + 11)
    size = sum(t.numel() * (2 if t.is_complex() else 1) for t in traced.outputs)
    rows = torch.randn(dense, size, generator=generator, dtype=torch.float64)
    if known is not None:
        rows = rows * known
    if problem.each_element and size <= MANY:
        weights = torch.randn(size, generator=generator, dtype=torch.float64)
        rows = torch.cat([rows, torch.diag(torch.where(weights.abs() < 0.1, torch.ones(()).double(), weights))])

    def all_gradients(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        graph = problem.traced(copied(inputs))
        found = [graph.gradients(split_row(row, graph.outputs)) for row in rows]
        return [torch.stack([flat([g[i]]) for g in found]) for i in range(len(graph.leaves))]

    gradients = all_gradients(problem.inputs)
    uncertainty = [torch.zeros_like(g) for g in gradients]
    for _ in range(PERTURBATIONS):
        try:
            moved = all_gradients([perturbed(t, problem.eps, generator) for t in problem.inputs])
        except Exception:  # out of the domain by a roundoff
            continue
        changes = [(m - g).abs().nan_to_num(0.0, 0.0) for m, g in zip(moved, gradients, strict=True)]
        uncertainty = [torch.maximum(d, c) for d, c in zip(uncertainty, changes, strict=True)]
    bounds = [
        BOUND_FACTOR * (problem.eps * g.abs().nan_to_num(0.0, 0.0) + d)
        for g, d in zip(gradients, uncertainty, strict=True)
    ]
    return VjpBatch(rows, gradients, bounds, traced.positions)


def compare(batch: VjpBatch, column: int, directions: torch.Tensor, slopes: Sequence[Slopes]) -> SlopeComparison:
    """Gradients times directions against cotangents times slopes, for one input."""
    cotangents, gradients, uncertainty = batch.cotangents, batch.gradients[column], batch.uncertainty[column]
    bad = (~gradients.isfinite()).double() @ (directions != 0).double().T > 0
    got = gradients.nan_to_num(0.0, 0.0, 0.0) @ directions.T
    got = torch.where(bad, torch.full_like(got, float("nan")), got)
    value = torch.stack([s.value for s in slopes])
    left, right = torch.stack([s.left for s in slopes]), torch.stack([s.right for s in slopes])
    kink = torch.stack([s.kink for s in slopes])
    error = torch.stack([s.error for s in slopes])
    low_end, high_end = torch.where(kink, left, value), torch.where(kink, right, value)
    error = torch.where(kink, 1e-6 * torch.maximum(left.abs(), right.abs()), error)
    positive, negative = cotangents.clamp(min=0.0), cotangents.clamp(max=0.0)
    low = positive @ low_end.T + negative @ high_end.T
    high = positive @ high_end.T + negative @ low_end.T
    absolute = cotangents.abs()
    uncertainty = uncertainty.nan_to_num(0.0, 0.0) + EPS * absolute.amax(
        1, keepdim=True
    )  # terms of order 1 may have cancelled
    rounding = uncertainty @ directions.abs().T
    size = absolute @ torch.maximum(low_end.abs(), high_end.abs()).T
    size = size + NEGLIGIBLE / FLOOR * torch.where(error.T.amax(0) < HUGE / 2, size, 0 * size).max()
    tolerance = (TRUST * absolute @ error.T + FLOOR * size + rounding + 1e-300).nan_to_num(HUGE, HUGE).clamp(max=HUGE)
    known = (error < HUGE / 2).all(1)  # 0 times an infinite slope is NaN by right, for any cotangent
    tolerance = torch.where(got.isfinite() | known, tolerance, torch.full_like(tolerance, HUGE))
    return SlopeComparison(got, low, high, tolerance, absolute @ kink.double().T > 0)


class SlopeComparison:
    """Every cotangent against every direction: got, expected as an interval, tolerance."""

    def __init__(
        self, got: torch.Tensor, low: torch.Tensor, high: torch.Tensor, tolerance: torch.Tensor, kink: torch.Tensor
    ) -> None:
        self.got, self.low, self.high, self.tolerance, self.kink = got, low, high, tolerance, kink
        finite = torch.maximum(low.abs(), high.abs())[tolerance < HUGE / 2]
        self.scale = finite.max().item() if finite.numel() else 0.0
        outside = torch.maximum(low - got, got - high).clamp(min=0.0)
        self.error = torch.where(got.isfinite(), outside, torch.full_like(got, float("inf")))

    @property
    def useful(self) -> torch.Tensor:
        """Where the tolerance says something."""
        size = torch.maximum(self.low.abs(), self.high.abs())
        return (self.tolerance <= USEFUL * size.clamp(min=self.scale)) | ((self.scale == 0) & (self.tolerance < 1e-6))

    def failing_directions(self) -> list[int]:
        """The directions in which some entry is off by more than is allowed, the worst first."""
        if not self.error.numel():
            return []
        worst = self._excess().amax(0)
        return [d for d in worst.argsort(descending=True).tolist() if worst[d] > 0]

    def fails(self, d: int) -> bool:
        """Whether some entry along a direction is off by more than is allowed."""
        return bool((self._excess()[:, d] > 0).any())

    def _excess(self) -> torch.Tensor:
        """Error over tolerance where it is more than allowed; elsewhere 0."""
        wrong = (self.error > self.tolerance) & (self.tolerance < HUGE / 2)
        ratio = torch.where(wrong, self.error / self.tolerance.clamp(min=1e-300), torch.zeros_like(self.error))
        return ratio.nan_to_num(0.0, HUGE)

    def confirm_with(self, d: int, second: SlopeComparison) -> None:
        """Keep an accusation only where other steps repeat it and agree on what should be; for its direction."""
        agree = torch.maximum(self.low[:, d] - second.high[:, 0], second.low[:, 0] - self.high[:, d])
        repeated = (second.error[:, 0] > second.tolerance[:, 0]) & (
            agree <= self.tolerance[:, d] + second.tolerance[:, 0]
        )
        failing_directions = self.error[:, d] > self.tolerance[:, d]
        self.tolerance[:, d] = torch.where(
            failing_directions & ~repeated, torch.full_like(agree, HUGE), self.tolerance[:, d]
        )

    def accept_subgradient(self, d: int, nearby: torch.Tensor) -> None:
        """Take back what is said along a direction where gradients nearby, a row a draw, lie on both sides."""
        low, high = nearby.nan_to_num(HUGE).amin(0), nearby.nan_to_num(-HUGE).amax(0)
        slack = NEARBY_SLACK * torch.maximum(low.abs(), high.abs())
        got = self.got[:, d]
        apart = high - low > 10 * slack  # where they agree there is no kink, and being alike proves nothing
        inside = got.isfinite() & apart & (got >= low - slack) & (got <= high + slack)
        failing_directions = self.error[:, d] > self.tolerance[:, d]
        self.tolerance[:, d] = torch.where(
            failing_directions & inside, torch.full_like(got, HUGE), self.tolerance[:, d]
        )
        self.kink[:, d] |= failing_directions & inside

    def check(
        self, problem: GradientProblem, tensor: torch.Tensor, name: str, directions: Sequence[torch.Tensor]
    ) -> GradientCheck:
        """The worst entry, and the verdict on all."""
        if not self.error.numel():
            shape, empty = shape_text(tuple(tensor.shape)), "there is no element"
            return GradientCheck(problem.probe, "finite_differences", "inconclusive", name, shape, reason=empty)
        useful = self.useful
        wrong = (self.error > self.tolerance) & (self.tolerance < HUGE / 2)
        ratio = torch.where(
            wrong | useful, self.error / self.tolerance.clamp(min=1e-300), torch.full_like(self.error, -1.0)
        ).nan_to_num(0.0, HUGE)
        worst = int(ratio.argmax())
        c, d = divmod(worst, ratio.shape[1])
        confirmed = bool(wrong.any())
        total, decided = ratio.numel(), int(useful.sum())
        verdict = (
            "fail"
            if confirmed
            else "inconclusive"
            if 2 * decided < total or not total
            else "kink"
            if bool((self.kink & useful).any())
            else "pass"
        )
        touched = directions[d].nonzero().flatten().tolist()
        expected = min(max(self.got[c, d].nan_to_num(0.0).item(), self.low[c, d].item()), self.high[c, d].item())
        error, scale = self.error[c, d].item(), self.scale
        reason = None
        got = self.got[c, d]
        if verdict == "fail" and not got.isfinite():
            reason = f"the gradient of input {name} is {got.item()}, not {expected:.6g}"
        elif verdict == "fail":
            reason = f"the gradient of input {name} is off by {relative(error, scale):.3g} of its scale"
            reason += f"; {relative(self.tolerance[c, d].item(), scale):.3g} is allowed"
        elif decided < total:
            reason = f"{total - decided} of {total} derivatives could not be told by differences"
        return GradientCheck(
            probe=problem.probe,
            oracle="finite_differences",
            verdict=verdict,
            argument=name,
            shape=shape_text(tuple(tensor.shape)),
            max_abs_error=error,
            max_relative_error=relative(error, scale),
            worst_index=index_text(touched[0], tensor) if len(touched) == 1 else None,
            got=self.got[c, d].item(),
            expected=expected,
            tolerance=relative(self.tolerance[c, d].item(), scale),
            tolerance_source="one-sided slopes" if bool(self.kink[c, d]) else "differences",
            reason=reason,
        )
