"""Why a side loses, by evidence in its rows. Where the rows show none, that is what is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import CURVE
from runner.config.axes import values_of
from runner.config.dtypes import ITEM_BYTES
from runner.rows.rows import BenchmarkRow

LAUNCH_SHARE = 0.5  # of the call's time: a launch that takes this much bounds it, since the device waits for the next
NEAR_PEAK = 0.5  # of a peak: a call that reaches this much can at most double its speed
FLAT = 1.5  # calls that take no more than this over the smallest size's time ...
GROWN = 4  # ... up to so many times its elements pay for being called and not for their work
BY_WIDTH = 0.8  # of the time that a dtype's bytes explain; moving them is not all of a call
MUCH_SLOWER = (
    0.5  # a dtype that is no wider and at less than half the speed has no kernel worth the name
)


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
    groups: dict[str, list[_Loss]] = {}
    for speedup in speedups:
        if speedup.verdict == "slower":
            row = rows[speedup.other_cell]
            key, evidence = _cause(speedup, row, curves.get(_curve_of(speedup)))
            groups.setdefault(key, []).append(_Loss(speedup, speedup.speedup or 0.0, evidence))
        elif (
            speedup.verdict == "faster" and speedup.each_high is not None and speedup.each_high < 1
        ):
            evidence = {"each": speedup.each_speedup, "transfer": speedup.transfer_s}
            groups.setdefault("transfers", []).append(
                _Loss(speedup, speedup.each_speedup or 0.0, evidence)
            )

    # the worst loss of each cause stands for it
    ranked = []
    for key, losses in groups.items():
        worst = min(losses, key=attrgetter("ratio"))
        cause = Cause(key, tuple(loss.speedup for loss in losses), worst.speedup, worst.evidence)
        ranked.append((worst.ratio, cause))
    return [cause for _, cause in sorted(ranked, key=lambda pair: pair[0])]


class _Loss(NamedTuple):
    """A lost comparison, its ratio (with transfers where these are the cause), and the numbers beside the times."""

    speedup: Speedup
    ratio: float
    evidence: dict[str, Any]


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


_curve_of = values_of(*CURVE)


def _curves(speedups: Iterable[Speedup]) -> Mapping[Any, _Curve]:
    groups: dict[Any, list[Speedup]] = {}
    for speedup in speedups:
        if speedup.elements and speedup.other_s is not None:
            groups.setdefault(_curve_of(speedup), []).append(speedup)
    return {key: _curve(group) for key, group in groups.items()}


def _curve(speedups: Sequence[Speedup]) -> _Curve:
    by_elements = [(speedup.elements or 0, speedup) for speedup in speedups]
    smallest, floor = min((elements, speedup.other_s or 0.0) for elements, speedup in by_elements)
    flat = max(
        elements for elements, speedup in by_elements if (speedup.other_s or 0.0) <= FLAT * floor
    )
    losing = max(
        (elements for elements, speedup in by_elements if speedup.verdict == "slower"), default=0
    )
    winning = [
        (elements, speedup.size)
        for elements, speedup in by_elements
        if speedup.verdict == "faster" and elements > losing
    ]
    return _Curve(floor, flat if flat >= GROWN * smallest else 0, min(winning, default=None))


def _cause(speedup: Speedup, row: BenchmarkRow, curve: _Curve | None) -> tuple[str, dict[str, Any]]:
    time, ratio = speedup.other_s or 0.0, speedup.speedup or 0.0
    own_bytes, base_bytes = ITEM_BYTES.get(row.dtype, 0), ITEM_BYTES.get(speedup.baseline)

    # a dtype without kernels of its own says more than any time
    if "cpu_fallback" in row.flags:
        return "fallback", {}
    if speedup.axis == "dtype" and own_bytes <= (base_bytes or 0) and (ratio or 1.0) < MUCH_SLOWER:
        return "no_kernel", {}

    # what was measured of the call itself: its launch, how near it comes to a peak, the width of its numbers
    if row.launch_s is not None and row.launch_s >= LAUNCH_SHARE * time:
        return "launch", {"launch": row.launch_s, "kernel": row.median_s}
    if (
        row.fraction_of_peak is not None
        and row.fraction_of_peak >= NEAR_PEAK
        and row.bound in ("memory", "compute")
    ):
        return row.bound, {"fraction": row.fraction_of_peak}
    width = own_bytes / (base_bytes or 1) if speedup.axis == "dtype" else 1.0
    if width > 1 and ratio * width >= BY_WIDTH:
        return "width", {"width": width}

    # the last resort is what the other sizes show
    if curve is not None and speedup.elements:
        if (
            row.launch_s is None
            and speedup.elements <= curve.flat_until
            and time <= FLAT * curve.floor_s
        ):
            return "overhead", {"floor": curve.floor_s}
        if curve.wins_at is not None:
            return "small", {"wins_at": curve.wins_at[1]}
    return "unexplained", {}
