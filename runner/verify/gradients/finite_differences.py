"""The oracle of finite differences: gradients against slopes of the forward pass, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, islice, product

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.rows.rows import GradientCheck
from runner.verify.gradients.precision import Narrowing
from runner.verify.gradients.problem import (
    MANY,
    SINGLE,
    GradientProblem,
    VjpBatch,
    gradients_at,
    outputs_at,
)
from runner.verify.gradients.slope_comparison import FLOOR, SlopeComparison
from runner.verify.gradients.slopes import EPS, HUGE, TRUST, Slopes, differentiate
from runner.verify.gradients.vectors import (
    Tensors,
    copied,
    flat,
    gaussian,
    magnitudes,
    real_size,
    unflat,
)

MOST_OUTPUTS = 4096  # elements of the outputs whose slopes are taken
NEIGHBOURS = 48  # enough that each of some five equal elements is at least once the one that counts
NEARBY = 1e-6  # the distance of neighbours, within which gradients change little without a kink
APART = 1e-3  # of that distance: how far elements of an input that moves as a whole come apart
CLOSE = 1e-9  # relative; a smooth function of any slope worth mentioning moves within it
MOST_SPECIAL = 40  # elements of which each has its slope taken where there may be no derivative
SECOND_LADDER = 0.37 * 0.25  # failures are confirmed with steps that are no multiples of the first


def by_differences(problem: GradientProblem) -> list[GradientCheck]:
    """Compare each input's gradient with finite differences: a check for each input."""
    generator = problem.generator(12)
    lines = _Lines(problem, generator)
    if not lines.size or not all(problem.inputs[p].numel() for p in problem.positions):
        check = GradientCheck(problem.probe, "finite_differences", verdict="inconclusive")
        return [replace(check, reason="there is no element")]

    # slopes first: outputs whose slopes are unknown get no weight in the dense cotangents
    directions = [_directions(problem, p, generator) for p in problem.positions]
    slopes = list(map(lines.slopes, problem.positions, directions))
    reached = None
    if not problem.each_element:
        reached = torch.zeros(lines.size, dtype=torch.bool)
        reached[lines.indices] = _reliable(chain.from_iterable(slopes))
    batch = VjpBatch(problem, reached)

    # where a gradient has no slope in some direction, NaN may be its derivative along any
    if problem.every_output:
        near = [lines.at(moved).isfinite() for moved in islice(_neighbours(problem), 4)]
        known = torch.stack([*(s.error < HUGE / 2 for s in chain(*slopes)), *near])
        batch.nan_excused = not bool(known.all())

    checks = []
    for column, position in enumerate(problem.positions):
        comparison = _compare(lines, batch, column, directions[column], slopes[column])
        checks.append(comparison.check(problem, position, directions[column]))
    return checks


class _Lines:
    """The outputs along lines through the inputs: all of their elements, or some of very many.

    Attributes:
        outputs: their positions.
        size: of the flat vector of these outputs.
        indices: of the elements in it.
        widened: whether what the function would do in a narrower dtype is done in float64.
        lost: NaN for elements of which differences say nothing in that dtype, 0 for the others.
    """

    def __init__(self, problem: GradientProblem, generator: torch.Generator) -> None:
        traced = problem.traced(copied(problem.inputs))
        self.problem, self.outputs = problem, traced.positions
        self.size = real_size(traced.outputs)
        self.indices = torch.arange(self.size)
        if self.size > MOST_OUTPUTS:
            drawn = torch.randint(self.size, (MOST_OUTPUTS,), generator=generator).tolist()
            self.indices = torch.tensor(sorted({0, self.size - 1, *drawn}))
        self.rounding: Tensor | float = 0.0
        self.widened, self.lost = False, torch.zeros(())
        if problem.eps > EPS:
            self._widen()

    def _widen(self) -> None:
        """Have the function compute in float64, which shows slopes, where it lets us."""
        narrow, self.widened = self.at(self.problem.inputs), True
        wide = self.at(self.problem.inputs)
        if bool((wide.isfinite() | ~narrow.isfinite()).all()) and not torch.equal(wide, narrow):
            self.lost = 0.0 * narrow
            return

        # a kernel that does not show its steps: in half precision it stands still over several
        self.widened = False
        if self.problem.eps > SINGLE:
            self.lost = torch.full_like(narrow, float("nan"))

    def at(self, inputs: Sequence[Tensor]) -> Tensor:
        """The elements at some inputs; NaN outside the domain."""
        try:
            with Narrowing(prevented=True) if self.widened else nullcontext():
                outputs = outputs_at(self.problem.call, copied(inputs))
            return flat([outputs[j] for j in self.outputs])[self.indices] + self.lost
        except Exception:  # outside the domain
            return torch.full((len(self.indices),), float("nan"), dtype=torch.float64)

    def along(self, position: int, direction: Tensor) -> Callable[[float], Tensor]:
        """The elements by how far an input moves along a direction."""
        step = unflat(direction, self.problem.inputs[position])

        def along(h: float) -> Tensor:
            moved = copied(self.problem.inputs)
            moved[position] = moved[position] + h * step
            return self.at(moved)

        return along

    def slopes(self, position: int, directions: Sequence[Tensor]) -> list[Slopes]:
        """The slopes along each direction of an input."""
        slopes = [differentiate(self.along(position, d)) for d in directions]
        return _differentiable(directions, slopes) if self.problem.special else slopes

    def second_slopes(self, position: int, direction: Tensor) -> Slopes:
        """Slopes from other steps; unknown where the function stands still, as one that rounds."""
        along = self.along(position, direction)
        slopes = differentiate(along, coarsest=SECOND_LADDER)
        still = (along(CLOSE) == slopes.base) & (along(-CLOSE) == slopes.base)
        stairs = still & (slopes.value.abs() * CLOSE > 8 * EPS * slopes.base.abs())
        return replace(slopes, error=slopes.error.masked_fill(stairs, HUGE))


def _compare(
    lines: _Lines, batch: VjpBatch, column: int, directions: list[Tensor], slopes: list[Slopes]
) -> SlopeComparison:
    """Compare one input's gradient; failures are tried again with other steps until one stands."""
    problem, rows = lines.problem, torch.stack(directions)
    comparison = SlopeComparison(batch, lines.indices, column, rows, slopes)
    nearby: Tensors = []
    for d in comparison.failing_directions():
        second = lines.second_slopes(problem.positions[column], directions[d])
        repetition = SlopeComparison(batch, lines.indices, column, rows[d : d + 1], [second])
        comparison.confirm_with(d, repetition)
        if problem.special:
            nearby = nearby or _nearby(problem, batch)
            comparison.accept_subgradient(d, nearby[column] @ directions[d])
        if comparison.wrong[:, d].any():
            break
    return comparison


def _directions(problem: GradientProblem, position: int, generator: torch.Generator) -> Tensors:
    """Directions of an input: dense, all elements alike, and single elements, of many only some."""
    tensor = problem.inputs[position]
    vector = flat([tensor])
    size, finite = len(vector), vector.isfinite()
    spread = magnitudes(vector).square().sum().div(finite.sum().clamp(min=1)).sqrt()

    # steps are relative to each element's own size, and to the others' where it is small; an
    # infinite one stays what it is, however far it is moved
    weights = torch.maximum(magnitudes(vector), 0.1 * spread) if spread else torch.ones_like(vector)

    def allowed(direction: Tensor) -> Tensor:
        return flat([problem.direction(position, unflat(direction, tensor))])

    dense = torch.randn(size, generator=generator, dtype=torch.float64).clamp(-3, 3) * weights
    if not problem.each_element:
        return [allowed(dense)]

    alike = torch.ones_like(vector) * (spread or 1.0)
    chosen = list(range(size))
    each = problem.special and not problem.every_output  # of second derivatives it takes long
    if size > (MOST_SPECIAL if each else MANY):
        chosen = sorted({0, size - 1, *torch.randint(size, (6,), generator=generator).tolist()})
    alone = torch.arange(size) == torch.tensor(chosen).unsqueeze(1)
    return list(map(allowed, [dense, alike, *torch.where(alone, weights, 0.0)]))


def _reliable(slopes: Iterator[Slopes]) -> Tensor:
    """The elements whose slopes are known along each direction, or all if hardly any are."""
    masks = [(s.error <= 1e-6 * s.value.abs().max() + 1e-12) & ~s.kink for s in slopes]
    known = torch.stack(masks).all(0)
    return known if 2 * int(known.sum()) >= known.numel() else torch.ones_like(known)


def _differentiable(directions: Sequence[Tensor], slopes: list[Slopes]) -> list[Slopes]:
    """The slopes, unknown for outputs smooth along each element alone but not along all together.

    The singular values of a matrix of zeros have a slope along every line, and yet no derivative.
    """
    dense, singles = slopes[0], slopes[2:]
    if len(singles) != len(directions[0]):  # some elements have no slope of their own
        return slopes
    values = torch.stack([s.value for s in singles])
    errors = torch.stack([s.error for s in singles])

    # a derivative is linear: the slope along a direction is the sum of those along its elements
    factors = directions[0] / sum(directions[2:])
    error = dense.error + factors.abs() @ errors
    size = factors.abs() @ values.abs() + dense.value.abs()
    apart = (factors @ values - dense.value).abs() > TRUST * error + FLOOR * size

    rough = (torch.stack([s.kink for s in singles]) | (errors >= HUGE / 2)).any(0)
    without = ~rough & (dense.kink | apart)
    return [
        replace(s, error=s.error.masked_fill(without, HUGE), kink=s.kink & ~without) for s in slopes
    ]


def _nearby(problem: GradientProblem, batch: VjpBatch) -> Tensors:
    """Gradients at points nearby, for the same cotangents; points x cotangents x elements each.

    At a kink every gradient between those of its neighbours is right (Clarke's subgradient). These
    were compared with differences at points of their own.
    """
    points: list[Tensors] = []
    for moved in _neighbours(problem):
        try:
            points.append(gradients_at(problem, moved, batch.cotangents))
        except Exception:  # outside the domain
            continue
    if not points:
        points = [[torch.full_like(g, float("nan")) for g in batch.gradients]]
    return [torch.stack(of_input) for of_input in zip(*points, strict=True)]


def _neighbours(problem: GradientProblem) -> Iterator[Tensors]:
    """Inputs nearby: with independent elements, then whole inputs that pass each other."""
    generator = problem.generator(17)
    floating = [i for i, t in enumerate(problem.inputs) if is_differentiable(t.dtype)]
    moves = [(1.0, (0,) * len(floating)) for _ in range(NEIGHBOURS)]
    if len(floating) in (2, 3):
        moves += [(APART, shifts) for shifts in product((-1, 0, 1), repeat=len(floating))]
    for spread, shifts in moves:
        moved = copied(problem.inputs)
        for i, shift in zip(floating, shifts, strict=True):
            moved[i] = moved[i] + NEARBY * (shift + spread * gaussian(moved[i], generator))
        yield moved
