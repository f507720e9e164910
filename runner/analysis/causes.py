"""Why a side loses, by evidence in its rows. Where the rows show none, that is what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import CURVE
from runner.config.dtypes import ITEM_BYTES
from runner.rows.rows import BenchmarkRow

LAUNCH_SHARE = 0.5  # of the call's time: a launch that takes this much bounds it, since the device waits for the next
NEAR_PEAK = 0.5  # of a peak: a call that reaches this much can at most double its speed
FLAT = 1.5  # calls that take no more than this over the smallest size's time ...
GROWN = 4  # ... up to so many times its elements pay for being called and not for their work
BY_WIDTH = 0.8  # of the time that a dtype's bytes explain; moving them is not all of a call
MUCH_SLOWER = 0.5  # a dtype that is no wider and at less than half the speed has no kernel worth the name


@dataclass(frozen=True)
class Cause:
    """Comparisons that were lost for one reason.

    Attributes:
        key: no_kernel, fallback, launch, memory, compute, width, overhead, small, transfers or unexplained.
        speedups: those lost.
        worst: the one with the smallest ratio.
        evidence: its numbers beside the times.
    """

    key: str
    speedups: tuple[Speedup, ...]
    worst: Speedup
    evidence: Mapping[str, Any] = field(default_factory=dict)


def causes(speedups: Iterable[Speedup], rows: Mapping[str, BenchmarkRow]) -> list[Cause]:
    """Group what is surely slower by its cause, and what is slower only with transfers; the worst loss first.

    Args:
        speedups: those that have a ratio.
        rows: by cell.
    """
    speedups = list(speedups)
    curves = _curves(speedups)
    groups: dict[str, list[tuple[Speedup, dict[str, Any]]]] = {}
    for one in speedups:
        if one.verdict == "slower":
            key, evidence = _cause(one, rows[one.other_cell], curves.get(_curve_of(one)))
            groups.setdefault(key, []).append((one, evidence))
        elif one.verdict == "faster" and one.each_high is not None and one.each_high < 1:
            moved = {"each": one.each_speedup, "transfer": one.transfer_s}
            groups.setdefault("transfers", []).append((one, moved))
    found = []
    for key, group in groups.items():
        ratio = attrgetter("each_speedup" if key == "transfers" else "speedup")
        worst, evidence = min(group, key=lambda pair: ratio(pair[0]))
        found.append((ratio(worst), Cause(key, tuple(one for one, _ in group), worst, evidence)))
    return [cause for _, cause in sorted(found, key=itemgetter(0))]


@dataclass(frozen=True)
class _Curve:
    """What the other sizes tell of one.

    Attributes:
        floor_s: the other side's time at the smallest size.
        flat_until: the elements up to which that time hardly grows; 0 where it grows at once.
        wins_at: the smallest size above all those that lose, with its elements, where there is one that wins.
    """

    floor_s: float
    flat_until: int
    wins_at: tuple[int, str] | None


_curve_of: Callable[[Speedup], Any] = attrgetter(*CURVE)


def _curves(speedups: Iterable[Speedup]) -> Mapping[Any, _Curve]:
    curves: dict[Any, list[Speedup]] = {}
    for one in speedups:
        if one.elements and one.other_s is not None:
            curves.setdefault(_curve_of(one), []).append(one)
    found = {}
    for key, curve in curves.items():
        smallest, floor = min((one.elements or 0, one.other_s or 0.0) for one in curve)
        flat = max(one.elements or 0 for one in curve if (one.other_s or 0.0) <= FLAT * floor)
        losing = max((one.elements or 0 for one in curve if one.verdict == "slower"), default=0)
        winning = [
            (one.elements, one.size)
            for one in curve
            if one.verdict == "faster" and one.elements and one.elements > losing
        ]
        found[key] = _Curve(floor, flat if flat >= GROWN * smallest else 0, min(winning, default=None))
    return found


def _cause(one: Speedup, row: BenchmarkRow, curve: _Curve | None) -> tuple[str, dict[str, Any]]:
    time = one.other_s or 0.0
    if "cpu_fallback" in row.flags:
        return "fallback", {}
    narrower = ITEM_BYTES.get(row.dtype, 0) <= ITEM_BYTES.get(one.baseline, 0)
    if one.axis == "dtype" and narrower and (one.speedup or 1.0) < MUCH_SLOWER:
        return "no_kernel", {}
    if row.launch_s is not None and row.launch_s >= LAUNCH_SHARE * time:
        return "launch", {"launch": row.launch_s, "kernel": row.median_s}
    if row.fraction_of_peak is not None and row.fraction_of_peak >= NEAR_PEAK and row.bound in ("memory", "compute"):
        return row.bound, {"fraction": row.fraction_of_peak}
    width = ITEM_BYTES.get(row.dtype, 0) / ITEM_BYTES.get(one.baseline, 1) if one.axis == "dtype" else 1.0
    if width > 1 and (one.speedup or 0.0) * width >= BY_WIDTH:
        return "width", {"width": width}
    if curve is not None and one.elements:
        if row.launch_s is None and one.elements <= curve.flat_until and time <= FLAT * curve.floor_s:
            return "overhead", {"floor": curve.floor_s}
        if curve.wins_at is not None:
            return "small", {"wins_at": curve.wins_at[1]}
    return "unexplained", {}
