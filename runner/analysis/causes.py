"""Why a side loses, by evidence in its rows. Where the rows show none, that is what is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import curve_of
from runner.config.dtypes import ITEM_BYTES
from runner.rows.rows import BenchmarkRow, grouped

LAUNCH_SHARE = 0.5  # of the call's time: a launch that takes this much makes the device wait
NEAR_PEAK = 0.5  # of a peak: a call that reaches this much can at most double its speed
FLAT = 1.5  # calls that take no more than this over the smallest size's time ...
GROWN = 4  # ... up to so many times its elements pay for being called and not for their work
BY_WIDTH = 0.8  # of the time that a dtype's bytes explain; moving them is not all of a call
MUCH_SLOWER = 0.5  # a dtype that is no wider and yet below this speed has no kernel to speak of


@dataclass(frozen=True)
class Cause:
    """Comparisons that were lost for one reason."""

    # no_kernel, fallback, launch, memory, compute, width, overhead, small, transfers or unexplained
    key: str
    speedups: tuple[Speedup, ...]  # those lost
    worst: Speedup  # the one with the smallest ratio
    evidence: Mapping[str, Any] = field(default_factory=dict)  # its numbers beside the times


def causes(speedups: Iterable[Speedup], rows: Mapping[str, BenchmarkRow]) -> list[Cause]:
    """Group what is surely slower, or slower only with transfers, by its cause; the worst first."""
    speedups = list(speedups)
    timed = (speedup for speedup in speedups if speedup.elements and speedup.other_s is not None)
    curves = {key: _curve(curve) for key, curve in grouped(timed, curve_of).items()}
    groups: dict[str, list[_Loss]] = {}
    for speedup in speedups:
        if speedup.verdict == "slower":
            row = rows[speedup.other_cell]
            key, evidence = _cause(speedup, row, curves.get(curve_of(speedup)))
            ratio = speedup.speedup
        elif speedup.verdict == "faster" and (speedup.each_high or 1) < 1:
            key, ratio = "transfers", speedup.each_speedup
            evidence = {"each": ratio, "transfer": speedup.transfer_s}
        else:
            continue
        groups.setdefault(key, []).append(_Loss(speedup, ratio or 0.0, evidence))

    # the worst loss of each cause stands for it
    worst_of = {key: min(losses, key=attrgetter("ratio")) for key, losses in groups.items()}
    return [
        Cause(key, tuple(loss.speedup for loss in groups[key]), worst.speedup, worst.evidence)
        for key, worst in sorted(worst_of.items(), key=lambda item: item[1].ratio)
    ]


class _Loss(NamedTuple):
    """A lost comparison, its ratio (with transfers where these are the cause), and its evidence."""

    speedup: Speedup
    ratio: float
    evidence: dict[str, Any]


@dataclass(frozen=True)
class _Curve:
    """What the other sizes tell of one."""

    floor_s: float  # the other side's time at the smallest size
    flat_until: int  # the elements up to which that time hardly grows; 0 where it grows at once
    # the smallest size above all those that lose that wins, with its elements
    wins_at: tuple[int, str] | None
    ever_wins: bool  # whether any size does: then no kernel is missing


def _curve(speedups: Sequence[Speedup]) -> _Curve:
    points = [(s.elements or 0, s.other_s or 0.0, s.verdict, s.size) for s in speedups]
    smallest, floor, *_ = min(points, key=lambda point: point[:2])
    flat = max(elements for elements, time, *_ in points if time <= FLAT * floor)
    losing = [elements for elements, _, verdict, _ in points if verdict == "slower"]
    above = max(losing, default=0)
    winning = [
        (elements, size)
        for elements, _, verdict, size in points
        if verdict == "faster" and elements > above
    ]
    flat = flat if flat >= GROWN * smallest else 0
    ever_wins = any(verdict == "faster" for _, _, verdict, _ in points)
    return _Curve(floor, flat, min(winning, default=None), ever_wins)


def _cause(speedup: Speedup, row: BenchmarkRow, curve: _Curve | None) -> tuple[str, dict[str, Any]]:
    time, ratio = speedup.other_s or 0.0, speedup.speedup or 0.0
    own_bytes, base_bytes = ITEM_BYTES.get(row.dtype, 0), ITEM_BYTES.get(speedup.baseline, 0)

    # a dtype without kernels of its own says more than any time, but for one that wins elsewhere
    is_missing = curve is None or not curve.ever_wins
    if "cpu_fallback" in row.flags and is_missing:
        return "fallback", {}
    no_wider = speedup.axis == "dtype" and own_bytes <= base_bytes
    if is_missing and no_wider and (ratio or 1.0) < MUCH_SLOWER:
        return "no_kernel", {}

    # what was measured of the call itself: its launch, how near it is to a peak, its numbers' width
    if row.launch_s is not None and row.launch_s >= LAUNCH_SHARE * time:
        return "launch", {"launch": row.launch_s, "kernel": row.median_s}
    if row.bound in ("memory", "compute") and (row.fraction_of_peak or 0.0) >= NEAR_PEAK:
        return row.bound, {"fraction": row.fraction_of_peak}
    width = own_bytes / (base_bytes or 1) if speedup.axis == "dtype" else 1.0
    if width > 1 and ratio * width >= BY_WIDTH:
        return "width", {"width": width}

    # the last resort is what the other sizes show
    if curve is not None and speedup.elements:
        flat = speedup.elements <= curve.flat_until and time <= FLAT * curve.floor_s
        if flat and row.launch_s is None:
            return "overhead", {"floor": curve.floor_s}
        if curve.wins_at is not None:
            return "small", {"wins_at": curve.wins_at[1]}
    return "unexplained", {}
