"""One side against another: ``speedup.csv``. The ratio is claimed only where both sides' numbers can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any

from runner.analysis.transfer_model import MEMORY, NOTHING, Models, transfer_time
from runner.config.axes import AXES, CellKey, same_but
from runner.config.dtypes import KIND_OF
from runner.config.schema import Report
from runner.rows.flags import FLAGS
from runner.rows.rows import BenchmarkRow
from runner.stats.estimate import Estimate, extreme

_names: Callable[[Any], tuple[Any, ...]] = attrgetter(*AXES)


@dataclass(frozen=True, kw_only=True)
class Speedup(CellKey):
    """A row of ``speedup.csv``: a cell against its baseline. Every interval is one of 95 %.

    Attributes:
        node: the machine of the other side.
        elements: of the first input, the measure of size along which crossovers are looked for.
        axis: what the two differ in.
        baseline, other: the two values of that axis.
        baseline_cell, other_cell: the cells' identities, by which their rows are found.
        baseline_s, other_s: what a call costs where one follows another, see :func:`cost_of`.
        speedup: baseline_s / other_s: above 1 the other is faster.
        low, high: its interval.
        verdict: faster, slower, same or unclear, of the other side; blank where no ratio is claimed.
        reason: why no ratio is claimed.
        fastest_dtype, fastest_s: the dtype of the same kind in which the baseline is fastest, and its median.
        fastest_speedup, fastest_low, fastest_high: fastest_s / other_s and its interval.
        transfer_s, transfer_low_s, transfer_high_s: to bring the inputs to the device and the outputs back.
        transfer_memory: the kind of host memory that the transfers were measured with.
        each_speedup, each_low, each_high: the ratio where data are moved at each call.
        calls_per_transfer: calls between which the ratio below shares one transfer.
        once_speedup, once_low, once_high: the ratio where data are moved once for so many calls.
        break_even_calls: how many calls on the same data pay for moving it: transfer_s / (baseline_s - other_s), where
            the other side is surely faster without it.
        break_even_low, break_even_high: its interval.
    """

    variant: str | None
    node: str | None
    elements: int | None
    axis: str
    baseline: str
    other: str
    baseline_cell: str | None
    other_cell: str
    baseline_s: float | None
    other_s: float | None
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str | None = None
    reason: str | None = None
    fastest_dtype: str | None = None
    fastest_s: float | None = None
    fastest_speedup: float | None = None
    fastest_low: float | None = None
    fastest_high: float | None = None
    transfer_s: float | None = None
    transfer_low_s: float | None = None
    transfer_high_s: float | None = None
    transfer_memory: str | None = None
    each_speedup: float | None = None
    each_low: float | None = None
    each_high: float | None = None
    calls_per_transfer: int | None = None
    once_speedup: float | None = None
    once_low: float | None = None
    once_high: float | None = None
    break_even_calls: float | None = None
    break_even_low: float | None = None
    break_even_high: float | None = None


COLUMNS = tuple(f.name for f in fields(Speedup))


def compare(rows: Sequence[BenchmarkRow], report: Report, models: Models | None = None) -> list[Speedup]:
    """Each row that is not of the baseline against the one that differs from it in the compared axis alone.

    Args:
        rows: of one run, or of several.
        report: the axis and its baseline, and what counts.
        models: what transfers cost, by direction.

    Returns:
        a comparison for each row that is not of the baseline, in the rows' order. Takes time linear in the rows.
    """
    axis, baseline = report.axis, report.value
    value = attrgetter(axis)
    key = same_but(axis)
    bases = [row for row in rows if str(value(row)) == baseline]
    of_key = _Bases(bases, key)
    context = _Context(report, axis, baseline, _fastest_dtypes(bases, axis), models or {})
    found = []
    for row in rows:
        other = str(value(row))
        if other != baseline:
            found.append(_compared(of_key.of(row), row, other, context))
    return found


@cache
def elements_of(size: str) -> int | None:
    """How many elements a first input of this size has; None where the size is none.

    >>> elements_of("64x1024x1024 n=8")
    67108864
    """
    count = 1
    for part in size.split(" ", 1)[0].split("x"):
        if not part.isdigit():
            return 1 if size == "scalar" else None
        count *= int(part)
    return count


def cost_of(row: BenchmarkRow) -> Estimate | None:
    """What a call costs where one follows another: its time, or on an accelerator that of its launch if it is longer.

    A device that is faster than its launches waits for the host at each of them. None: it was not timed.
    """
    if row.median_s is None:
        return None
    time = Estimate(row.median_s, row.ci_low_s, row.ci_high_s)
    if row.launch_s is None:
        return time
    launch = Estimate(row.launch_s, row.launch_low_s, row.launch_high_s)
    if not launch.known and time.value >= launch.value:
        return time
    return extreme(max, (time, launch))


class _Bases:
    """The baseline's rows by what they share with the others; of several the one of the same node."""

    def __init__(self, rows: Iterable[BenchmarkRow], key: Callable[[Any], Any]) -> None:
        self._key = key
        self._here: dict[Any, BenchmarkRow] = {}
        self._anywhere: dict[Any, BenchmarkRow] = {}
        for row in rows:
            shared = key(row)
            self._here[shared, row.node] = self._anywhere[shared] = row

    def of(self, row: BenchmarkRow) -> BenchmarkRow | None:
        shared = self._key(row)
        return self._here.get((shared, row.node)) or self._anywhere.get(shared)


_but_dtype = same_but("dtype")
_Side = tuple[BenchmarkRow, Estimate]
Fastest = Mapping[Any, _Side]


def _fastest_dtypes(bases: Iterable[BenchmarkRow], axis: str) -> Fastest:
    """The fastest trusted row and its time, over the dtypes of a kind that the baseline was measured in.

    The least of several times lies between the least of their lower and the least of their upper ends.
    """
    if axis == "dtype":
        return {}
    groups: dict[Any, list[_Side]] = {}
    for row in bases:
        cost = cost_of(row)
        if cost is not None and not objection(row):
            groups.setdefault((_but_dtype(row), row.node, KIND_OF.get(row.dtype)), []).append((row, cost))
    return {
        key: (min(of, key=lambda side: side[1].value)[0], extreme(min, [cost for _, cost in of]))
        for key, of in groups.items()
    }


@dataclass(frozen=True)
class _Context:
    """What all comparisons of a run have in common."""

    report: Report
    axis: str
    baseline: str
    fastest: Fastest
    models: Models


def _compared(base: BenchmarkRow | None, other: BenchmarkRow, value: str, context: _Context) -> Speedup:
    report = context.report
    reason = _reason(base, other, value, context)
    known: dict[str, Any] = {"reason": reason}
    before, after = cost_of(base) if base is not None else None, cost_of(other)
    if reason is None and base is not None and before is not None and after is not None:
        ratio = before.over(after)
        known |= _ends("speedup", "low", "high", ratio)
        known["verdict"] = _verdict(ratio, report.same_within)
        known |= _against_fastest(base, after, context.fastest)
        known |= _with_transfers((base, before), (other, after), report.calls_per_transfer, context.models)
    return Speedup(
        **dict(zip(AXES, _names(other), strict=True)),
        variant=other.variant,
        node=other.node,
        elements=elements_of(other.size),
        axis=context.axis,
        baseline=context.baseline,
        other=value,
        baseline_cell=base.cell if base else None,
        other_cell=other.cell,
        baseline_s=before.value if before is not None else None,
        other_s=after.value if after is not None else None,
        **known,
    )


def _against_fastest(base: BenchmarkRow, other: Estimate, fastest: Fastest) -> dict[str, Any]:
    found = fastest.get((_but_dtype(base), base.node, KIND_OF.get(base.dtype)))
    if found is None:
        return {}
    row, time = found
    ratio = _ends("fastest_speedup", "fastest_low", "fastest_high", time.over(other))
    return {"fastest_dtype": row.dtype, "fastest_s": time.value, **ratio}


def _with_transfers(base: _Side, other: _Side, calls_per_transfer: int, models: Models) -> dict[str, Any]:
    """The ratios with each side's transfers, and how many calls pay for the other side's."""
    (base_row, before), (other_row, after) = base, other
    here, there = transfer_time(base_row, models), transfer_time(other_row, models)
    if here is None or there is None or (here is NOTHING and there is NOTHING):
        return {}
    known: dict[str, Any] = {"transfer_memory": MEMORY, "calls_per_transfer": calls_per_transfer}
    known |= _ends("transfer_s", "transfer_low_s", "transfer_high_s", here if there is NOTHING else there)
    each = before.plus(here).over(after.plus(there))
    once = before.times(calls_per_transfer).plus(here).over(after.times(calls_per_transfer).plus(there))
    known |= _ends("each_speedup", "each_low", "each_high", each)
    known |= _ends("once_speedup", "once_low", "once_high", once)
    gain = before.minus(after)
    if here is NOTHING and gain.low is not None and gain.low > 0:
        known |= _ends("break_even_calls", "break_even_low", "break_even_high", there.over(gain))
    return known


def _ends(value: str, low: str, high: str, estimate: Estimate) -> dict[str, Any]:
    return {value: estimate.value, low: estimate.low, high: estimate.high}


def _reason(base: BenchmarkRow | None, other: BenchmarkRow, value: str, context: _Context) -> str | None:
    """Why no ratio may be claimed."""
    sides = [(base, f"{context.axis}={context.baseline}"), (other, f"{context.axis}={value}")]
    for row, side in sides:
        why = objection(row)
        if why:
            return f"{side}{' ' if row is None else ': '}{why}"
    assert base is not None
    if base.node != other.node and not context.report.compare_across_nodes:
        (_, one), (_, another) = sides
        where = [row.node or "a machine that is not named" for row in (base, other)]
        return (
            f"{one} ran on {where[0]}, {another} on {where[1]}; "
            "report.compare_across_nodes=true compares times of different machines"
        )
    return None


def objection(row: BenchmarkRow | None) -> str | None:
    """Why a row may not be compared; None where it may."""
    if row is None:
        return "was not measured"
    if row.status != "ok":
        return row.status
    why = next((why for flag, why in FORBIDDING.items() if flag in row.flags), None) if row.flags else None
    return why or (None if row.median_s else "was not timed")


FORBIDDING = {name: flag.why for name, flag in FLAGS.items() if flag.forbids_ratio}


def _verdict(ratio: Estimate, same_within: float) -> str:
    if ratio.low is None or ratio.high is None:
        return "unclear"
    if ratio.low > 1 + same_within:
        return "faster"
    if ratio.high < 1 - same_within:
        return "slower"
    return "same" if ratio.low >= 1 - same_within and ratio.high <= 1 + same_within else "unclear"
