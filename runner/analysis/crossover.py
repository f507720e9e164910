"""The size from which the other side wins, and at every larger size measured: ``crossover.csv``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from runner.analysis.comparison import Speedup
from runner.analysis.pairs import BUSY, SLOW
from runner.config.axes import AXES, CellKey, values_of
from runner.config.schema import Report
from runner.config.size import first_input_shape
from runner.rows.rows import grouped

PREFIXES = {"none": "", "once": "once_", "each_call": "each_"}
"""Whether a ratio has transfers in it, and how the columns of a comparison begin that hold it."""


@dataclass(frozen=True, kw_only=True)
class Crossover(CellKey):
    """A row of ``crossover.csv``: from which size on a side wins; intervals of 95 %."""

    size: str = field(default="", metadata={"column": False})  # a curve has many
    variant: str | None
    node: str | None
    axis: str
    baseline: str
    other: str
    transfers: str  # none, once (shared by ``calls_per_transfer`` calls) or each_call
    calls_per_transfer: int | None
    # found; always or never (at the sizes measured); unresolved (the intervals are too wide, or
    # larger sizes have no ratio); no_ratio (no size has one)
    state: str
    # elements of the first input from which on the other side wins: it is faster by more than
    # ``report.same_within``
    elements: float | None
    elements_low: float | None  # lower end of its interval: it wins from there on at the earliest
    elements_high: float | None  # upper end: it wins from there on at the latest
    side: float | None  # ``elements`` as the n of n x n, where all sizes are square
    side_low: float | None  # lower end of its interval
    side_high: float | None  # upper end of its interval
    size_below: str | None  # the largest size at which the other side does not win
    size_above: str | None  # the next larger size that was measured
    smallest: str | None  # the smallest size with a ratio
    largest: str | None  # the largest size with a ratio
    sizes: int  # number of sizes that have a ratio with an interval
    gaps: int  # number of sizes that have none; ``speedup.csv`` says why
    cells: str  # the other side's cells, from the smallest size to the largest, separated by spaces

    @property
    def location(self) -> Location:
        """Where it crosses, in the unit that says more."""
        if self.side_high is not None:
            return Location("side", self.side, self.side_low, self.side_high)
        return Location("elements", self.elements, self.elements_low, self.elements_high)


class Location(NamedTuple):
    """Where a curve crosses, with its interval: by the ``side`` n of n x n, or by ``elements``."""

    unit: str
    at: float | None
    low: float | None
    high: float | None


CURVE = (*(name for name in AXES if name != "size"), "variant", "node", "axis", "baseline", "other")
curve_of = values_of(*CURVE)
"""What the sizes of one curve have in common."""


class CurvePoint(NamedTuple):
    """A size of a curve, on logarithms."""

    x: float  # of the elements
    # y, low, high: of the ratio and of its interval's ends, over the least that wins
    y: float
    low: float
    high: float


def crossovers(
    speedups: Iterable[Speedup], same_within: float = Report.same_within
) -> list[Crossover]:
    """Where each curve crosses: without transfers, and by each measured way of counting them.

    A side wins where it is faster by more than ``same_within``, as a verdict says it.
    """
    sized = (s for s in speedups if s.axis != "size" and s.elements is not None)
    crossings = []
    for curve in grouped(sized, curve_of).values():
        curve.sort(key=attrgetter("elements"))
        for transfers, prefix in PREFIXES.items():
            ratio_of = attrgetter(f"{prefix}speedup")
            if transfers == "none" or any(ratio_of(speedup) is not None for speedup in curve):
                crossings.append(_crossover(curve, transfers, 1 + same_within))
    return crossings


def _crossover(curve: Sequence[Speedup], transfers: str, least: float) -> Crossover:
    points_of = [(speedup.size, _point(speedup, transfers, least)) for speedup in curve]
    measured = [(size, point) for size, point in points_of if point is not None]
    sizes, points = _one_of_each_length(measured)
    state, *ends = locate(points)
    largest = max(math.log(speedup.elements or 1) for speedup in curve)
    if state == "never" and largest > points[-1].x:
        state = "unresolved"  # the larger sizes have no ratio, and may win

    # the columns are in elements, and in n where every size is n x n
    elements = [None if end is None else math.exp(end) for end in ends]
    square = all(map(_is_square, sizes))
    sides = [None if end is None or not square else math.sqrt(end) for end in elements]

    names = ("elements", "elements_low", "elements_high", "side", "side_low", "side_high")
    where: dict[str, Any] = dict(zip(names, [*elements, *sides], strict=True))

    below = _last_below(points, "y")
    crosses = 0 <= below < len(sizes) - 1
    shared_calls = None
    if transfers == "once":
        shared_calls = next((s.calls_per_transfer for s in curve if s.calls_per_transfer), None)
    return Crossover(
        **{name: getattr(curve[0], name) for name in CURVE},
        transfers=transfers,
        calls_per_transfer=shared_calls,
        state=state,
        **where,
        size_below=sizes[below] if below >= 0 else None,
        size_above=sizes[below + 1] if crosses else None,
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        sizes=len(sizes),
        gaps=len(curve) - len(measured),
        cells=" ".join(speedup.other_cell for speedup in curve),
    )


def _one_of_each_length(
    measured: Sequence[tuple[str, CurvePoint]],
) -> tuple[list[str], list[CurvePoint]]:
    """Sizes and points by increasing elements; of shapes with as many, that which wins less."""
    of_x: dict[float, tuple[str, CurvePoint]] = {}
    for size, point in sorted(measured, key=lambda pair: pair[1].y, reverse=True):
        of_x[point.x] = size, point
    pairs = [of_x[x] for x in sorted(of_x)]
    return [size for size, _ in pairs], [point for _, point in pairs]


def locate(points: Sequence[CurvePoint]) -> tuple[str, float | None, float | None, float | None]:
    """Where a curve passes from not winning to winning for the last time; its points are by size.

    Between two sizes the logarithm of the ratio is taken to be a straight line in the logarithm of
    the size. The interval's ends are where the upper and the lower end of the ratio's interval do
    the same, each further out by what the line may be wrong: by Newton's form of interpolation the
    error is C (x - a) (b - x), with C half the second derivative, for which the second divided
    differences of the neighbouring sizes stand. With no neighbour to tell the curvature from, the
    interval is all that lies between the two sizes.

    Returns:
        the state, and the logarithms of the size and of its interval's ends, where known.
    """
    if not points:
        return "no_ratio", None, None, None
    ends = [_last_crossing(points, end) for end in ("y", "high", "low")]
    if ends[2] == -math.inf:
        return "always", None, None, None
    if ends[1] == math.inf:
        return "never", None, None, None
    at, low, high = (end if math.isfinite(end) else None for end in ends)
    if at is None or low is None or high is None:
        return "unresolved", None, low, high
    return "found", at, low, high


def _last_crossing(points: Sequence[CurvePoint], end: str) -> float:
    """Where one of a curve's lines rises above 0 for good: -inf: it always is, inf: it ends below.

    ``end`` is y for the ratio itself, low or high for the ends of its interval.
    """
    below = _last_below(points, end)
    if below == -1:
        return -math.inf
    if below == len(points) - 1:
        return math.inf

    # with no neighbours to tell the curvature from, the interval is all between the two sizes
    a, b = points[below].x, points[below + 1].x
    if len(points) == 2 and end != "y":
        return a if end == "high" else b

    # the interval's ends are further out by what the straight line may be wrong by
    bend = {"y": 0.0, "high": 1.0, "low": -1.0}[end] * _curvature(points, below)
    y_below, y_above = getattr(points[below], end), getattr(points[below + 1], end)
    slope = (y_above - y_below) / (b - a)
    # 0 = value + slope t + bend t (b - a - t) with t = x - a has one root between a and b, since
    # the ends' signs differ
    p, q = slope + bend * (b - a), y_below
    divisor = p + math.sqrt(max(0.0, p * p + 4 * bend * q))
    return a - 2 * q / divisor if divisor else a


def _last_below(points: Sequence[CurvePoint], end: str) -> int:
    """The position of the last point at which a curve's line is not above 0; -1: it always is."""
    below = [position for position, point in enumerate(points) if getattr(point, end) <= 0]
    return max(below, default=-1)


def _curvature(points: Sequence[CurvePoint], below: int) -> float:
    """The larger second divided difference of the two threes of points around the crossing."""
    differences = [0.0]
    for first in (below - 1, below):
        if first < 0 or first + 2 >= len(points):
            continue
        (ax, ay, *_), (bx, by, *_), (cx, cy, *_) = points[first : first + 3]
        differences.append(abs(((cy - by) / (cx - bx) - (by - ay) / (bx - ax)) / (cx - ax)))
    return max(differences)


def _point(speedup: Speedup, transfers: str, least: float) -> CurvePoint | None:
    """A size of a curve that wins above a ratio of ``least``.

    None where it has no interval, or one from which nothing may be claimed. A ratio that is not
    called faster does not surely win, whatever its own interval.
    """
    prefix = PREFIXES[transfers]
    ratio, low, high = attrgetter(f"{prefix}speedup", f"{prefix}low", f"{prefix}high")(speedup)
    if ratio is None or low is None or high is None or not speedup.elements:
        return None
    if speedup.reason in (BUSY, SLOW):
        return None
    if speedup.verdict == "unclear" and transfers == "none":  # among so many it may be chance
        low = min(low, least)
    return CurvePoint(
        math.log(speedup.elements), *(math.log(end / least) for end in (ratio, low, high))
    )


def _is_square(size: str) -> bool:
    shape = first_input_shape(size)
    return shape is not None and len(shape) == 2 and shape[0] == shape[1] and " " not in size
