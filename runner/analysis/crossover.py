"""The size from which the other side wins, and at every larger size measured: ``crossover.csv``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

from runner.analysis.comparison import Speedup
from runner.config.axes import AXES, CellKey

MOVES = {"none": "speedup", "once": "once", "each_call": "each"}
"""Whether the ratio has transfers in it, and where a comparison keeps that ratio."""


@dataclass(frozen=True, kw_only=True)
class Crossover(CellKey):
    """A row of ``crossover.csv``: an operation's speed-up along the sizes. Intervals are of 95 %.

    Attributes:
        transfers: none, once (shared by ``calls_per_transfer`` calls) or each_call.
        state: found; always or never (at the sizes measured); unresolved, where the intervals do not tell, or where it
            does not win and larger sizes have no ratio; no_ratio, where no size has one.
        elements, elements_low, elements_high: of the first input, where the ratio passes 1, and the interval. Of an
            unresolved one the ends that are known are there: it wins from ``elements_high`` on at the latest, and from
            ``elements_low`` on at the earliest.
        side, side_low, side_high: the same as the n of n x n, where all sizes are that.
        size_below, size_above: the largest size at which it does not win, and the next one measured.
        smallest, largest: the sizes between which there are ratios.
        sizes: how many sizes have a ratio with an interval.
        gaps: how many sizes have none, for a reason that ``speedup.csv`` gives, or none with an interval.
        cells: the other side's cells, from the smallest size to the largest, separated by spaces.
    """

    size: str = ""  # a curve has many, so that this is no column
    variant: str | None
    node: str | None
    axis: str
    baseline: str
    other: str
    transfers: str
    calls_per_transfer: int | None
    state: str
    elements: float | None
    elements_low: float | None
    elements_high: float | None
    side: float | None
    side_low: float | None
    side_high: float | None
    size_below: str | None
    size_above: str | None
    smallest: str | None
    largest: str | None
    sizes: int
    gaps: int
    cells: str


CURVE = (*(name for name in AXES if name != "size"), "variant", "node", "axis", "baseline", "other")
"""What the sizes of one curve have in common."""
COLUMNS = tuple(f.name for f in fields(Crossover) if f.name != "size")


class CurvePoint(NamedTuple):
    """A size of a curve, on logarithms.

    Attributes:
        x: of the elements.
        y, low, high: of the ratio and of its interval's ends, which are the ratio itself where there is no interval.
    """

    x: float
    y: float
    low: float
    high: float


def crossovers(speedups: Iterable[Speedup]) -> list[Crossover]:
    """Where each curve crosses: a row without transfers, and one for each way of counting them that was measured.

    Along another axis than size only; where sizes are compared with each other there is no curve.
    """
    curves: dict[object, list[Speedup]] = {}
    key = attrgetter(*CURVE)
    for one in speedups:
        if one.axis != "size" and one.elements is not None:
            curves.setdefault(key(one), []).append(one)
    found = []
    for curve in curves.values():
        curve.sort(key=attrgetter("elements"))
        for transfers, ratio in MOVES.items():
            if transfers == "none" or any(getattr(one, f"{ratio}_speedup") is not None for one in curve):
                found.append(_crossover(curve, transfers))
    return found


def _crossover(curve: Sequence[Speedup], transfers: str) -> Crossover:
    found = [(one.size, point) for one in curve if (point := _point(one, transfers)) is not None]
    of_size: dict[float, tuple[str, CurvePoint]] = {}
    for size, point in sorted(found, key=lambda each: each[1].y, reverse=True):
        of_size[point.x] = size, point  # of two shapes with as many elements that which wins less
    of_size = dict(sorted(of_size.items()))
    sizes, points = [size for size, _ in of_size.values()], [point for _, point in of_size.values()]
    state, at, low, high = locate(points)
    if state == "never" and any(math.log(one.elements or 1) > points[-1].x for one in curve):
        state = "unresolved"  # the larger sizes have no ratio, and may win
    below = max((i for i, point in enumerate(points) if point.y <= 0), default=None)
    square = all(_is_square(size) for size in sizes)
    ends = [None if end is None else math.exp(end) for end in (at, low, high)]
    sides = [None if end is None or not square else math.sqrt(end) for end in ends]
    return Crossover(
        **{name: getattr(curve[0], name) for name in CURVE},
        transfers=transfers,
        calls_per_transfer=next((one.calls_per_transfer for one in curve if one.calls_per_transfer), None)
        if transfers == "once"
        else None,
        state=state,
        elements=ends[0],
        elements_low=ends[1],
        elements_high=ends[2],
        side=sides[0],
        side_low=sides[1],
        side_high=sides[2],
        size_below=sizes[below] if below is not None else None,
        size_above=sizes[below + 1] if below is not None and below + 1 < len(sizes) else None,
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        sizes=len(sizes),
        gaps=len(curve) - len(found),
        cells=" ".join(one.other_cell for one in curve),
    )


def locate(points: Sequence[CurvePoint]) -> tuple[str, float | None, float | None, float | None]:
    """Where a curve passes from not winning to winning for the last time.

    Between two sizes the logarithm of the ratio is taken to be a straight line in the logarithm of the size. The
    interval's ends are where the upper and the lower end of the ratio's interval do the same, each further out by what
    the line may be wrong: by Newton's form of interpolation the error is C (x - a) (b - x), with C half the second
    derivative, for which the second divided differences of the neighbouring sizes stand. With no neighbour to tell
    the curvature from, the interval is all that lies between the two sizes.

    Args:
        points: by increasing size.

    Returns:
        the state, and the logarithms of the size and of the ends of its interval, where each is known.
    """
    if not points:
        return "no_ratio", None, None, None
    at = _last_crossing(points, "y")
    low, high = _last_crossing(points, "high"), _last_crossing(points, "low")
    if high == -math.inf:
        return "always", None, None, None
    if low == math.inf:
        return "never", None, None, None
    finite = [end if math.isfinite(end) else None for end in (at, low, high)]
    state = "found" if None not in finite else "unresolved"
    return state, finite[0] if state == "found" else None, finite[1], finite[2]


def _last_crossing(points: Sequence[CurvePoint], end: str) -> float:
    """Where one of a curve's three lines rises above 0 for good: -inf where it always is, inf where it ends below.

    Args:
        points: by increasing size.
        end: y for the ratio itself, low or high for the ends of its interval.
    """
    values = [getattr(point, end) for point in points]
    below = max((i for i, value in enumerate(values) if value <= 0), default=-1)
    if below == -1:
        return -math.inf
    if below == len(points) - 1:
        return math.inf
    a, b = points[below].x, points[below + 1].x
    if len(points) == 2 and end != "y":
        return a if end == "high" else b
    bend = {"y": 0.0, "high": 1.0, "low": -1.0}[end] * _curvature(points, below)
    slope = (values[below + 1] - values[below]) / (b - a)
    # 0 = value + slope t + bend t (b - a - t) with t = x - a has one root between a and b, since the ends' signs differ
    p, q = slope + bend * (b - a), values[below]
    divisor = p + math.sqrt(max(0.0, p * p + 4 * bend * q))
    return a - 2 * q / divisor if divisor else a


def _curvature(points: Sequence[CurvePoint], below: int) -> float:
    """The larger second divided difference of the two threes of points that have the crossing between them."""
    found = [0.0]
    for first in (below - 1, below):
        if first < 0 or first + 2 >= len(points):
            continue
        (ax, ay, *_), (bx, by, *_), (cx, cy, *_) = points[first : first + 3]
        found.append(abs(((cy - by) / (cx - bx) - (by - ay) / (bx - ax)) / (cx - ax)))
    return max(found)


def _point(one: Speedup, transfers: str) -> CurvePoint | None:
    prefix = "" if transfers == "none" else f"{MOVES[transfers]}_"
    ratio, low, high = (getattr(one, prefix + name) for name in ("speedup", "low", "high"))
    if ratio is None or low is None or high is None or not one.elements:
        return None
    return CurvePoint(math.log(one.elements), math.log(ratio), math.log(low), math.log(high))


def _is_square(size: str) -> bool:
    first, _, second = size.partition("x")
    return first == second and first.isdigit()
