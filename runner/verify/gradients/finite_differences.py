"""Oracles in float64: finite differences of the forward pass, and forward mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch.autograd import forward_ad

from runner.calls.bound_operation import is_differentiable
from runner.config.size import shape_text
from runner.verify.gradients.differences import EPS, HUGE, TRUST, Slopes, differentiate
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem, max_abs, split_row
from runner.verify.gradients.slope_comparison import BOUND_FACTOR, FLOOR, MANY, VjpBatch, compare, vjp
from runner.verify.gradients.target import TensorFunction
from runner.verify.gradients.vjp import copied, flat, gaussian, outputs_at, reseed, unflat

MOST_OUTPUTS = 4096  # elements of the outputs whose slopes are taken
NEIGHBOURS = 48  # enough that each of some five equal elements is at least once the one that counts
APART = 1e-3  # of that distance: how far elements of an input that moves as a whole come apart
CLOSE = 1e-9  # relative; a smooth function of any slope worth mentioning moves within it
NEARBY = 1e-6  # how far these are: gradients change by little where there is no kink
SECOND_LADDER = 0.37 * 0.25  # an accusation is checked once more from steps that are no multiples of the first


def by_differences(problem: GradientProblem) -> list[GradientCheck]:
    """Compare each input's gradient with finite differences: a check for each input."""
    generator = torch.Generator().manual_seed(problem.seed + 12)
    subset = OutputSubset.of(problem, generator)
    if not subset.size or not all(problem.inputs[p].numel() for p in problem.positions):
        empty = "there is no element"
        return [GradientCheck(problem.probe, "finite_differences", "inconclusive", reason=empty)]
    directions = [
        _directions(problem.inputs[p], generator, each_element=problem.each_element) for p in problem.positions
    ]
    slopes = [
        [_slopes(problem, subset, position, direction) for direction in of_input]
        for position, of_input in zip(problem.positions, directions, strict=True)
    ]
    if problem.special:
        slopes = [_differentiable(of_input, along) for of_input, along in zip(directions, slopes, strict=True)]
    batch = vjp(
        problem, known=None if problem.each_element else subset.spread(_reliable([s for row in slopes for s in row]))
    )
    part = replace(batch, cotangents=batch.cotangents[:, subset.indices])
    checks = []
    for column, position in enumerate(problem.positions):
        table = compare(part, column, torch.stack(directions[column]), slopes[column])
        near: list[torch.Tensor] | None = None
        for d in table.failing_directions():
            direction = directions[column][d]
            again = _again(problem, subset, position, direction)
            table.confirm_with(d, compare(part, column, direction.unsqueeze(0), [again]))
            if problem.special:
                near = near or _nearby(problem, batch)
                table.accept_subgradient(d, near[column] @ direction)
            if table.fails(d):
                break  # one that stands is enough
        checks.append(table.check(problem, problem.inputs[position], problem.names[position], directions[column]))
    return checks


@dataclass(frozen=True)
class OutputSubset:
    """The elements of the outputs whose slopes are taken: all of them, or some of very many.

    Attributes:
        outputs: positions of the outputs.
        indices: of the elements, in the flat vector of these outputs.
        size: of that vector.
    """

    outputs: tuple[int, ...]
    indices: torch.Tensor
    size: int

    @classmethod
    def of(cls, problem: GradientProblem, generator: torch.Generator) -> OutputSubset:
        """All elements, or a random part where there are many."""
        traced = problem.traced(copied(problem.inputs))
        size = sum(t.numel() * (2 if t.is_complex() else 1) for t in traced.outputs)
        indices = torch.arange(size)
        if size > MOST_OUTPUTS:
            drawn = torch.randint(size, (MOST_OUTPUTS,), generator=generator)
            indices = torch.tensor(sorted({0, size - 1, *drawn.tolist()}))
        return cls(traced.positions, indices, size)

    def at(self, call: TensorFunction, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """These elements of a call's outputs."""
        found = outputs_at(call, copied(inputs))
        return flat([found[j] for j in self.outputs])[self.indices]

    def spread(self, known: torch.Tensor) -> torch.Tensor:
        """A mask over the elements of the subset as one over all elements."""
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[self.indices] = known
        return mask


def _reliable(slopes: Sequence[Slopes]) -> torch.Tensor:
    """The outputs' elements whose slopes are known along each direction, unless hardly any are."""
    known = torch.ones_like(slopes[0].value, dtype=torch.bool)
    for along in slopes:
        size = along.value.abs().max() if along.value.numel() else torch.zeros(())
        known &= (along.error <= 1e-6 * size + 1e-12) & ~along.kink
    return known if 2 * int(known.sum()) >= known.numel() else torch.ones_like(known)


def _differentiable(directions: Sequence[torch.Tensor], slopes: list[Slopes]) -> list[Slopes]:
    """The slopes, unknown for outputs that are smooth along each element alone and otherwise along all together.

    The singular values of a matrix of zeros are: they have a slope along every line, and yet no derivative.
    """
    dense, singles = slopes[0], slopes[2:]
    if len(singles) != len(directions[0]):  # not every element is looked at by itself
        return slopes
    factors = directions[0] / torch.stack(list(directions[2:])).diagonal()
    total = factors @ torch.stack([s.value for s in singles])
    error = dense.error + factors.abs() @ torch.stack([s.error for s in singles])
    size = factors.abs() @ torch.stack([s.value.abs() for s in singles]) + dense.value.abs()
    smooth = ~torch.stack([s.kink | (s.error >= HUGE / 2) for s in singles]).any(0)
    apart = (total - dense.value).abs() > TRUST * error + FLOOR * size
    without = smooth & (dense.kink | apart)
    huge = torch.full_like(dense.error, HUGE)
    return [replace(s, error=torch.where(without, huge, s.error), kink=s.kink & ~without) for s in slopes]


def _nearby(problem: GradientProblem, batch: VjpBatch) -> list[torch.Tensor]:
    """Gradients at points around, for the same cotangents: an array of draws x cotangents x elements for each input.

    At a kink a gradient is right that is between those of its neighbours (Clarke); these were compared with
    differences at points of their own.
    """
    generator = torch.Generator().manual_seed(problem.seed + 17)
    found: list[list[torch.Tensor]] = []
    floating = [i for i, t in enumerate(problem.inputs) if is_differentiable(t.dtype)]
    shifts = list(product((-1, 0, 1), repeat=len(floating))) if len(floating) in (2, 3) else []
    for draw in range(NEIGHBOURS + len(shifts)):
        moved = copied(problem.inputs)
        for i in floating:  # each element by itself; then one whole input past another, as between two equal ones
            shift = 0 if draw < NEIGHBOURS else shifts[draw - NEIGHBOURS][floating.index(i)]
            by = 1.0 if draw < NEIGHBOURS else APART
            moved[i] = moved[i] + NEARBY * (shift + by * gaussian(moved[i], generator))
        try:
            graph = problem.traced(moved)
            rows = [graph.gradients(split_row(row, graph.outputs)) for row in batch.cotangents]
        except Exception:  # outside the domain
            continue
        found.append([torch.stack([flat([g[i]]) for g in rows]) for i in range(len(graph.leaves))])
    if not found:
        return [torch.full((1, *g.shape), float("nan"), dtype=torch.float64) for g in batch.gradients]
    return [torch.stack([drawn[i] for drawn in found]) for i in range(len(batch.gradients))]


def _directions(tensor: torch.Tensor, generator: torch.Generator, *, each_element: bool) -> list[torch.Tensor]:
    """Directions as real vectors: dense, all elements alike, and single elements where there are few."""
    vector = flat([tensor])
    size = len(vector)
    spread = vector.abs().square().mean().sqrt() if size else torch.ones(())
    weights = torch.maximum(vector.abs(), 0.1 * spread) if spread else torch.ones(size, dtype=torch.float64)
    dense = torch.randn(size, generator=generator, dtype=torch.float64).clamp(-3, 3) * weights
    if not each_element:
        return [dense]
    alike = torch.ones(size, dtype=torch.float64) * (spread if spread else 1.0)
    chosen = (
        range(size) if size <= MANY else sorted({0, size - 1, *torch.randint(size, (6,), generator=generator).tolist()})
    )
    singles = []
    for i in chosen:
        single = torch.zeros(size, dtype=torch.float64)
        single[i] = weights[i]
        singles.append(single)
    return [dense, alike, *singles]


def _again(problem: GradientProblem, subset: OutputSubset, position: int, direction: torch.Tensor) -> Slopes:
    """Slopes from other steps; unknown where the function stands still closer by, as one that rounds does."""
    along = _along(problem, subset, position, direction)
    slopes = differentiate(along, 1.0, coarsest=SECOND_LADDER)
    still = (along(CLOSE) == slopes.base) & (along(-CLOSE) == slopes.base)
    stairs = still & (slopes.value.abs() * CLOSE > 8 * EPS * slopes.base.abs())
    return replace(slopes, error=torch.where(stairs, torch.full_like(slopes.error, HUGE), slopes.error))


def _slopes(problem: GradientProblem, subset: OutputSubset, position: int, direction: torch.Tensor) -> Slopes:
    return differentiate(_along(problem, subset, position, direction), 1.0)


def _along(
    problem: GradientProblem, subset: OutputSubset, position: int, direction: torch.Tensor
) -> Callable[[float], torch.Tensor]:
    step = unflat(direction, problem.inputs[position])

    def along(h: float) -> torch.Tensor:
        moved = list(problem.inputs)
        moved[position] = moved[position] + h * step
        try:
            return subset.at(problem.call, moved)
        except Exception:  # outside the domain
            return torch.full((len(subset.indices),), float("nan"), dtype=torch.float64)

    return along


def by_forward_mode(problem: GradientProblem, batch: VjpBatch) -> list[GradientCheck]:
    """Compare reverse mode with forward mode, which is other code; nothing where there is none."""
    generator = torch.Generator().manual_seed(problem.seed + 13)
    checks = []
    for column, position in enumerate(problem.positions):
        tensor, name = problem.inputs[position], problem.names[position]
        direction = gaussian(tensor, generator)
        try:
            with forward_ad.dual_level():
                given = copied(problem.inputs)
                given[position] = forward_ad.make_dual(given[position], direction)  # type: ignore[no-untyped-call]
                if problem.in_place:
                    given = [t.clone() for t in given]
                reseed(given)
                outputs = problem.call(given)
                found = [forward_ad.unpack_dual(outputs[j]).tangent for j in batch.outputs]  # type: ignore[no-untyped-call]
                tangents = [
                    torch.zeros_like(outputs[j]) if t is None else t for t, j in zip(found, batch.outputs, strict=True)
                ]
        except Exception as error:
            from runner.errors import one_line

            checks.append(
                GradientCheck(problem.probe, "forward_mode", "unsupported", name, reason=one_line(error, 120))
            )
            continue
        jvp = flat(tangents)
        if all(t is None for t in found) or not jvp.isfinite().all():
            reason = "forward mode gives no number"
            checks.append(GradientCheck(problem.probe, "forward_mode", "inconclusive", name, reason=reason))
            continue
        cotangent = batch.cotangents[0]
        expected = float(cotangent @ jvp)
        vector = flat([direction])
        got = float(batch.gradients[column][0] @ vector)
        scale = float(cotangent.abs() @ jvp.abs())
        uncertainty = float(batch.uncertainty[column][0] @ vector.abs())
        lost = BOUND_FACTOR * EPS * max_abs(cotangent) * float(vector.abs().sum())  # terms that cancelled
        tolerance = max(1e-10, 8 * problem.eps) * scale + uncertainty + lost + 1e-300
        apart = abs(got - expected)
        good = apart <= tolerance or (math.isnan(got) and math.isnan(expected))
        checks.append(
            GradientCheck(
                problem.probe,
                "forward_mode",
                "pass" if good else "fail",
                name,
                shape=shape_text(tuple(tensor.shape)),
                max_abs_error=apart,
                max_relative_error=relative(apart, scale),
                got=got,
                expected=expected,
                tolerance=relative(tolerance, scale),
                tolerance_source="conditioning",
                reason=None if good else f"forward and reverse mode disagree on input {name}",
            )
        )
    return checks
