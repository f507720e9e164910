"""One side against another: ``speedup.csv``. The ratio is claimed only where both sides' numbers can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.config import COMPARED, Report
from runner.flags import FLAGS, flags_of
from runner.intervals import ratio_interval
from runner.results import BenchmarkRow


@dataclass(frozen=True)
class Speedup:
    """A row of ``speedup.csv``: a cell against its baseline.

    Attributes:
        baseline, other: the two values of the compared axis.
        baseline_s, other_s: the medians.
        speedup: baseline_s / other_s: above 1 the other is faster.
        low, high: its 95 % interval.
        verdict: faster, slower, same or unclear, of the other side; blank where no ratio is claimed.
        reason: why no ratio is claimed.
    """

    op: str
    size: str
    dtype: str
    device: str
    threads: int | None
    direction: str
    cache: str | None
    layout: str | None
    fill: str | None
    compile: bool | None
    graph: bool | None
    seed: int
    variant: str | None
    axis: str
    baseline: str
    other: str
    baseline_s: float | None
    other_s: float | None
    speedup: float | None
    low: float | None
    high: float | None
    verdict: str | None
    reason: str | None


def compare(rows: Sequence[BenchmarkRow], report: Report) -> list[Speedup]:
    """Each row that is not of the baseline against the one that differs from it in the compared axis alone."""
    axis, value = report.axis, report.value
    bases = {_others(row, axis): row for row in rows if str(getattr(row, axis)) == value}
    pairs = [(bases.get(_others(row, axis)), row) for row in rows if str(getattr(row, axis)) != value]
    return [_compared(base, row, axis, value, report.same_within) for base, row in pairs]


def _others(row: BenchmarkRow, axis: str) -> tuple[Any, ...]:
    variant = None if axis == "op" else row.variant  # two operations never have the same
    return (row.seed, variant, *(getattr(row, key) for key in COMPARED if key != axis))


def _compared(base: BenchmarkRow | None, other: BenchmarkRow, axis: str, value: str, same_within: float) -> Speedup:
    reason = _objection(base, f"{axis}={value}") or _objection(other, f"{axis}={getattr(other, axis)}")
    speedup = low = high = verdict = None
    if not reason and base is not None and base.median_s and other.median_s:
        speedup = base.median_s / other.median_s
        if None not in (base.ci_low_s, base.ci_high_s, other.ci_low_s, other.ci_high_s):
            low, high = ratio_interval(_estimate(base), _estimate(other))
            verdict = _verdict(low, high, same_within)
    return Speedup(
        **{key: getattr(other, key) for key in (*COMPARED, "seed", "variant")},
        axis=axis,
        baseline=value,
        other=str(getattr(other, axis)),
        baseline_s=base.median_s if base else None,
        other_s=other.median_s,
        speedup=speedup,
        low=low,
        high=high,
        verdict=verdict,
        reason=reason,
    )


def _objection(row: BenchmarkRow | None, side: str) -> str | None:
    """Why a row may not be compared."""
    if row is None:
        return f"{side} was not measured"
    if row.status != "ok":
        return f"{side}: {row.status}"
    misleading = [flag.why for name, flag in FLAGS.items() if flag.forbids_ratio and name in flags_of(row.flags)]
    return f"{side}: {misleading[0]}" if misleading else None


def _estimate(row: BenchmarkRow) -> tuple[float, float, float]:
    assert row.median_s is not None and row.ci_low_s is not None and row.ci_high_s is not None
    return row.median_s, row.ci_low_s, row.ci_high_s


def _verdict(low: float, high: float, same_within: float) -> str:
    if low > 1 + same_within:
        return "faster"
    if high < 1 - same_within:
        return "slower"
    return "same" if low >= 1 - same_within and high <= 1 + same_within else "unclear"
