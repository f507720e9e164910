"""The oracle of finite differences: gradients compared with slopes of the forward pass, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.finding import GradientCheck
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.slope_comparison import FLOOR, SlopeComparison, compare
from runner.verify.gradients.slopes import EPS, HUGE, TRUST, Slopes, differentiate
from runner.verify.gradients.target import TensorFunction, Tensors
from runner.verify.gradients.trace import outputs_at
from runner.verify.gradients.vectors import copied, flat, gaussian, real_size, unflat
from runner.verify.gradients.vjp import MANY, VjpBatch, gradients_at, vjp

MOST_OUTPUTS = 4096  # elements of the outputs whose slopes are taken
NEIGHBOURS = 48  # enough that each of some five equal elements is at least once the one that counts
NEARBY = (
    1e-6  # the distance of neighbours: gradients change by little within it where there is no kink
)
APART = 1e-3  # of that distance: how far elements of an input that moves as a whole come apart
CLOSE = 1e-9  # relative; a smooth function of any slope worth mentioning moves within it
SECOND_LADDER = 0.37 * 0.25  # failures are confirmed with steps that are no multiples of the first


def by_differences(problem: GradientProblem) -> list[GradientCheck]:
    """Compare each input's gradient with finite differences: a check for each input."""
    generator = problem.generator(12)
    subset = OutputSubset.of(problem, generator)
    if not subset.size or not all(problem.inputs[p].numel() for p in problem.positions):
        empty = "there is no element"
        return [GradientCheck(problem.probe, "finite_differences", "inconclusive", reason=empty)]

    # slopes first: outputs whose slopes are unknown get no weight in the dense cotangents
    inputs = [
        _Directions(column, position, _directions(problem, position, generator))
        for column, position in enumerate(problem.positions)
    ]
    slopes = [_slopes(problem, subset, of_input) for of_input in inputs]
    reached = None
    if not problem.each_element:
        reached = subset.mask_over_all(_reliable(chain.from_iterable(slopes)))
    batch = vjp(problem, reached=reached)

    checks = []
    for of_input, along in zip(inputs, slopes, strict=True):
        comparison = _compare(problem, subset, batch, of_input, along)
        checks.append(comparison.check(problem, of_input.position, of_input.vectors))
    return checks


@dataclass(frozen=True)
class _Directions:
    """The directions along which an input moves.

    Attributes:
        column: of the input among the differentiable ones.
        position: among all.
        vectors: a real vector for each direction.
    """

    column: int
    position: int
    vectors: list[Tensor]


def _slopes(
    problem: GradientProblem, subset: OutputSubset, directions: _Directions
) -> list[Slopes]:
    position = directions.position
    slopes = [
        differentiate(_along(problem, subset, position, vector), 1.0)
        for vector in directions.vectors
    ]
    return _differentiable(directions.vectors, slopes) if problem.special else slopes


def _compare(
    problem: GradientProblem,
    subset: OutputSubset,
    batch: VjpBatch,
    directions: _Directions,
    slopes: list[Slopes],
) -> SlopeComparison:
    """The comparison of one input, whose failures are tried again with other steps until one stands."""
    column, position, vectors = directions.column, directions.position, directions.vectors
    part = replace(batch, cotangents=batch.cotangents[:, subset.indices])
    comparison = compare(part, column, torch.stack(vectors), slopes)
    nearby: list[Tensor] = []
    for d in comparison.failing_directions():
        second = _second_slopes(problem, subset, position, vectors[d])
        comparison = comparison.confirm_with(
            d, compare(part, column, vectors[d].unsqueeze(0), [second])
        )
        if problem.special:
            nearby = nearby or _nearby(problem, batch)
            comparison = comparison.accept_subgradient(d, nearby[column] @ vectors[d])
        if comparison.fails(d):
            break
    return comparison


@dataclass(frozen=True)
class OutputSubset:
    """The elements of the outputs whose slopes are taken: all of them, or some of very many.

    Attributes:
        outputs: positions of the outputs.
        indices: of the elements, in the flat vector of these outputs.
        size: of that vector.
    """

    outputs: tuple[int, ...]
    indices: Tensor
    size: int

    @classmethod
    def of(cls, problem: GradientProblem, generator: torch.Generator) -> OutputSubset:
        """All elements, or a random part where there are many."""
        traced = problem.traced(copied(problem.inputs))
        size = real_size(traced.outputs)
        indices = torch.arange(size)
        if size > MOST_OUTPUTS:
            drawn = torch.randint(size, (MOST_OUTPUTS,), generator=generator)
            indices = torch.tensor(sorted({0, size - 1, *drawn.tolist()}))
        return cls(traced.positions, indices, size)

    def at(self, call: TensorFunction, inputs: Sequence[Tensor]) -> Tensor:
        """These elements of a call's outputs."""
        outputs = outputs_at(call, copied(inputs))
        return flat([outputs[j] for j in self.outputs])[self.indices]

    def mask_over_all(self, mask: Tensor) -> Tensor:
        """A mask over the elements of the subset as one over all elements."""
        whole = torch.zeros(self.size, dtype=torch.bool)
        whole[self.indices] = mask
        return whole


def _along(
    problem: GradientProblem, subset: OutputSubset, position: int, direction: Tensor
) -> Callable[[float], Tensor]:
    """The outputs as a function of how far one input moves along a direction; NaN outside the domain."""
    step = unflat(direction, problem.inputs[position])

    def along(h: float) -> Tensor:
        moved = list(problem.inputs)
        moved[position] = moved[position] + h * step
        try:
            return subset.at(problem.call, moved)
        except Exception:  # outside the domain
            return torch.full((len(subset.indices),), float("nan"), dtype=torch.float64)

    return along


def _second_slopes(
    problem: GradientProblem, subset: OutputSubset, position: int, direction: Tensor
) -> Slopes:
    """Slopes from other steps; unknown where the function stands still closer by, as one that rounds does."""
    along = _along(problem, subset, position, direction)
    slopes = differentiate(along, 1.0, coarsest=SECOND_LADDER)
    still = (along(CLOSE) == slopes.base) & (along(-CLOSE) == slopes.base)
    stairs = still & (slopes.value.abs() * CLOSE > 8 * EPS * slopes.base.abs())
    return replace(
        slopes, error=torch.where(stairs, torch.full_like(slopes.error, HUGE), slopes.error)
    )


def _directions(
    problem: GradientProblem, position: int, generator: torch.Generator
) -> list[Tensor]:
    """Directions of an input: dense, all elements alike, and single elements where there are few."""
    vector = flat([problem.inputs[position]])
    size = len(vector)
    spread = vector.abs().square().mean().sqrt() if size else torch.ones(())

    # steps are relative to each element's own size, and to the others' where it is small
    weights = (
        torch.maximum(vector.abs(), 0.1 * spread)
        if spread
        else torch.ones(size, dtype=torch.float64)
    )
    dense = torch.randn(size, generator=generator, dtype=torch.float64).clamp(-3, 3) * weights
    if not problem.each_element:
        return [dense]

    alike = torch.ones(size, dtype=torch.float64) * (spread if spread else 1.0)
    chosen = list(range(size))
    if size > MANY:
        chosen = sorted({0, size - 1, *torch.randint(size, (6,), generator=generator).tolist()})
    return [dense, alike, *(_single(weights, i) for i in chosen)]


def _single(weights: Tensor, element: int) -> Tensor:
    direction = torch.zeros_like(weights)
    direction[element] = weights[element]
    return direction


def _reliable(slopes: Iterator[Slopes]) -> Tensor:
    """The outputs' elements whose slopes are known along each direction, or all if hardly any are."""
    masks = []
    for along in slopes:
        size = along.value.abs().max() if along.value.numel() else torch.zeros(())
        masks.append((along.error <= 1e-6 * size + 1e-12) & ~along.kink)
    known = torch.stack(masks).all(0)
    return known if 2 * int(known.sum()) >= known.numel() else torch.ones_like(known)


def _differentiable(directions: Sequence[Tensor], slopes: list[Slopes]) -> list[Slopes]:
    """The slopes, unknown for outputs that are smooth along each element alone but not along all together.

    The singular values of a matrix of zeros are: they have a slope along every line, and yet no derivative.
    """
    dense, singles = slopes[0], slopes[2:]
    if len(singles) != len(directions[0]):  # some elements have no slope of their own
        return slopes

    # a derivative is linear: the slope along a direction is the sum of the slopes along its elements
    factors = directions[0] / torch.stack(list(directions[2:])).diagonal()
    total = factors @ torch.stack([s.value for s in singles])
    error = dense.error + factors.abs() @ torch.stack([s.error for s in singles])
    size = factors.abs() @ torch.stack([s.value.abs() for s in singles]) + dense.value.abs()
    apart = (total - dense.value).abs() > TRUST * error + FLOOR * size

    smooth = ~torch.stack([s.kink | (s.error >= HUGE / 2) for s in singles]).any(0)
    without = smooth & (dense.kink | apart)
    huge = torch.full_like(dense.error, HUGE)
    return [
        replace(s, error=torch.where(without, huge, s.error), kink=s.kink & ~without)
        for s in slopes
    ]


def _nearby(problem: GradientProblem, batch: VjpBatch) -> list[Tensor]:
    """Gradients at points nearby, for the same cotangents: for each input, points x cotangents x elements.

    At a kink every gradient between those of its neighbours is right (Clarke's subgradient). These were compared with
    differences at points of their own.
    """
    points: list[list[Tensor]] = []
    for moved in _neighbours(problem):
        try:
            points.append(gradients_at(problem, moved, batch.cotangents))
        except Exception:  # outside the domain
            continue
    if not points:
        return [
            torch.full((1, *g.shape), float("nan"), dtype=torch.float64) for g in batch.gradients
        ]
    return [torch.stack(list(of_input)) for of_input in zip(*points, strict=True)]


def _neighbours(problem: GradientProblem) -> Iterator[Tensors]:
    """Inputs nearby: first with independent elements, then with one whole input past another, as of equal ones."""
    generator = problem.generator(17)
    floating = [i for i, t in enumerate(problem.inputs) if is_differentiable(t.dtype)]
    past_each_other = product((-1, 0, 1), repeat=len(floating)) if len(floating) in (2, 3) else ()
    apart = ((0,) * len(floating) for _ in range(NEIGHBOURS))
    for spread, shifts in chain(product((1.0,), apart), product((APART,), past_each_other)):
        moved = copied(problem.inputs)
        for i, shift in zip(floating, shifts, strict=True):
            moved[i] = moved[i] + NEARBY * (shift + spread * gaussian(moved[i], generator))
        yield moved
