"""One side against another: ``speedup.csv``. The ratio is claimed only where both sides' numbers can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, NamedTuple

from runner.analysis.pairs import Pairs
from runner.analysis.transfer_model import MEMORY, NOTHING, Models, transfer_time
from runner.config.axes import AXES, CellKey, same_but, values_of
from runner.config.dtypes import KIND_OF
from runner.config.schema import Report
from runner.config.size import first_input_shape
from runner.rows.flags import FLAGS
from runner.rows.rows import BenchmarkRow
from runner.stats.estimate import Estimate, extreme
from runner.stats.sequential import ERROR, PairedRatio, adjusted, verdict_of

_axes_of = values_of(*AXES)


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
        low, high: its interval; where the sides were not measured in turn, it holds what the machine varies between
            moments, and is blank where that is not known.
        paired: the number of visits that the ratio is from; blank where the sides were not measured in turn.
        pair_processes: that shared these visits. With one the interval says nothing of what differs between processes.
        adjusted_p: of the hypothesis that the sides are the same, adjusted for the run's other comparisons
            (:func:`runner.stats.sequential.adjusted`); blank where they were not measured in turn.
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
    paired: int | None = None
    pair_processes: int | None = None
    adjusted_p: float | None = None
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


def compare(
    rows: Sequence[BenchmarkRow],
    report: Report,
    models: Models | None = None,
    pairs: Pairs | None = None,
) -> list[Speedup]:
    """Each row that is not of the baseline against the one that differs from it in the compared axis alone.

    Args:
        rows: of one run, or of several.
        report: the axis and its baseline, and what counts.
        models: what transfers cost, by direction.
        pairs: what was measured in turn; None: all rows are of one moment.

    Returns:
        a comparison for each row that is not of the baseline, in the rows' order. Takes time linear in the rows.
    """
    axis, baseline = report.axis, report.value
    values = [str(value) for value in map(attrgetter(axis), rows)]
    baseline_rows = [row for row, value in zip(rows, values, strict=True) if value == baseline]
    baselines = _Baselines(baseline_rows, same_but(axis))
    fastest = _fastest_dtypes(baseline_rows, axis)
    context = _Context(report, axis, baseline, fastest, models or {}, pairs)
    speedups = [
        _compared(baselines.of(row), row, value, context)
        for row, value in zip(rows, values, strict=True)
        if value != baseline
    ]
    return _claimed_together(speedups)


def _claimed_together(speedups: list[Speedup]) -> list[Speedup]:
    """With p values adjusted for each other, and without the claims that may be chance among so many."""
    positions = [n for n, speedup in enumerate(speedups) if speedup.adjusted_p is not None]
    together = adjusted([speedups[position].adjusted_p or 0.0 for position in positions])
    for position, p_value in zip(positions, together, strict=True):
        speedup = speedups[position]
        is_claim = speedup.verdict in ("faster", "slower")
        verdict = "unclear" if is_claim and p_value > ERROR else speedup.verdict
        speedups[position] = replace(speedup, adjusted_p=p_value, verdict=verdict)
    return speedups


def elements_of(size: str) -> int | None:
    """How many elements a first input of this size has; None where the size is none.

    >>> elements_of("64x1024x1024 n=8")
    67108864
    """
    shape = first_input_shape(size)
    return None if shape is None else math.prod(shape)


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
    if not launch.has_interval and time.value >= launch.value:
        return time
    return extreme(max, (time, launch))


class _Baselines:
    """The baseline's rows by what they share with the others; of several the one of the same node."""

    def __init__(self, rows: Iterable[BenchmarkRow], key: Callable[[Any], Any]) -> None:
        self._key = key
        self._on_node: dict[Any, BenchmarkRow] = {}
        self._on_any_node: dict[Any, BenchmarkRow] = {}
        for row in rows:
            shared = key(row)
            self._on_node[shared, row.node] = self._on_any_node[shared] = row

    def of(self, row: BenchmarkRow) -> BenchmarkRow | None:
        shared = self._key(row)
        return self._on_node.get((shared, row.node)) or self._on_any_node.get(shared)


_but_dtype = same_but("dtype")
_Side = tuple[BenchmarkRow, Estimate]
Fastest = Mapping[Any, _Side]


def _fastest_dtypes(baseline_rows: Iterable[BenchmarkRow], axis: str) -> Fastest:
    """The fastest trusted row and its time, over the dtypes of a kind that the baseline was measured in.

    The least of several times lies between the least of their lower and the least of their upper ends.
    """
    if axis == "dtype":
        return {}
    groups: dict[Any, list[_Side]] = {}
    for row in baseline_rows:
        cost = cost_of(row)
        if cost is not None and not objection(row):
            groups.setdefault(_dtypes_of_a_kind(row), []).append((row, cost))
    return {
        key: (
            min(sides, key=lambda side: side[1].value)[0],
            extreme(min, [cost for _, cost in sides]),
        )
        for key, sides in groups.items()
    }


def _dtypes_of_a_kind(row: BenchmarkRow) -> tuple[Any, ...]:
    """What the rows share that differ in nothing but the dtype, and in that not by its kind."""
    return _but_dtype(row), row.node, KIND_OF.get(row.dtype)


@dataclass(frozen=True)
class _Context:
    """What all comparisons of a run have in common."""

    report: Report
    axis: str
    baseline: str
    fastest: Fastest
    models: Models
    pairs: Pairs | None

    def paired(self, base: BenchmarkRow | None, other: BenchmarkRow) -> PairedRatio | None:
        """What visits to both sides say."""
        if self.pairs is None or base is None:
            return None
        return self.pairs.ratio(base.cell, other.cell, self.report.same_within)

    def of_two_moments(self, ratio: Estimate) -> Estimate:
        """A ratio of rows, with an interval that holds what differs between moments."""
        return ratio if self.pairs is None else self.pairs.of_two_moments(ratio)

    def processes(self, base: BenchmarkRow | None, other: BenchmarkRow) -> int | None:
        """How many processes visited both sides."""
        if self.pairs is None or base is None:
            return None
        return self.pairs.processes(base.cell, other.cell)


class _Blank(NamedTuple):
    """What stands for an estimate where there is none."""

    value: None = None
    low: None = None
    high: None = None


BLANK = _Blank()
Ends = Estimate | _Blank


class _FastestRatio(NamedTuple):
    """The other side against the fastest dtype of the baseline."""

    dtype: str | None = None
    seconds: float | None = None
    ratio: Ends = BLANK


class _TransferRatios(NamedTuple):
    """The comparison with transfers."""

    memory: str | None = None
    transfer: Ends = BLANK
    each: Ends = BLANK
    calls_per_transfer: int | None = None
    once: Ends = BLANK
    break_even: Ends = BLANK


NO_FASTEST, NOT_MOVED = _FastestRatio(), _TransferRatios()


def _compared(
    base: BenchmarkRow | None, other: BenchmarkRow, value: str, context: _Context
) -> Speedup:
    report = context.report
    paired = context.paired(base, other)
    reason = _reason(base, other, value, context, PAIRED_MAY_HAVE if paired else ())
    before, after = cost_of(base) if base is not None else None, cost_of(other)

    # the ratios stay blank where there is a reason against them
    ratio: Ends = BLANK
    verdict, fastest, moved = None, NO_FASTEST, NOT_MOVED
    if reason is None and base is not None and before is not None and after is not None:
        if paired is not None:
            ratio = Estimate(paired.value, paired.low, paired.high)
        else:
            ratio = context.of_two_moments(before.over(after))
        verdict = verdict_of(ratio.low, ratio.high, report.same_within)
        fastest = _against_fastest(base, after, context)
        moved = _with_transfers(
            (base, before), (other, after), report.calls_per_transfer, context.models
        )

    claimed = paired if reason is None else None
    return Speedup(
        **dict(zip(AXES, _axes_of(other), strict=True)),
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
        speedup=ratio.value,
        low=ratio.low,
        high=ratio.high,
        paired=claimed.visits if claimed else None,
        pair_processes=context.processes(base, other) if claimed else None,
        adjusted_p=claimed.p_value if claimed else None,
        verdict=verdict,
        reason=reason,
        fastest_dtype=fastest.dtype,
        fastest_s=fastest.seconds,
        fastest_speedup=fastest.ratio.value,
        fastest_low=fastest.ratio.low,
        fastest_high=fastest.ratio.high,
        transfer_s=moved.transfer.value,
        transfer_low_s=moved.transfer.low,
        transfer_high_s=moved.transfer.high,
        transfer_memory=moved.memory,
        each_speedup=moved.each.value,
        each_low=moved.each.low,
        each_high=moved.each.high,
        calls_per_transfer=moved.calls_per_transfer,
        once_speedup=moved.once.value,
        once_low=moved.once.low,
        once_high=moved.once.high,
        break_even_calls=moved.break_even.value,
        break_even_low=moved.break_even.low,
        break_even_high=moved.break_even.high,
    )


def _against_fastest(base: BenchmarkRow, other: Estimate, context: _Context) -> _FastestRatio:
    side = context.fastest.get(_dtypes_of_a_kind(base))
    if side is None:
        return NO_FASTEST
    row, time = side
    return _FastestRatio(row.dtype, time.value, context.of_two_moments(time.over(other)))


def _with_transfers(
    base: _Side, other: _Side, calls_per_transfer: int, models: Models
) -> _TransferRatios:
    """The ratios with each side's transfers, and how many calls pay for the other side's."""
    (base_row, before), (other_row, after) = base, other
    base_transfer, other_transfer = (
        transfer_time(base_row, models),
        transfer_time(other_row, models),
    )
    if base_transfer is None or other_transfer is None:
        return NOT_MOVED
    if base_transfer is NOTHING and other_transfer is NOTHING:
        return NOT_MOVED

    # with the data moved at each call, and once for so many of them
    each = before.plus(base_transfer).over(after.plus(other_transfer))
    all_before, all_after = before.times(calls_per_transfer), after.times(calls_per_transfer)
    once = all_before.plus(base_transfer).over(all_after.plus(other_transfer))

    # calls pay for a transfer only where the other side is surely faster, and nothing moves to the baseline
    break_even: Ends = BLANK
    gain = before.minus(after)
    if base_transfer is NOTHING and gain.low is not None and gain.low > 0:
        break_even = other_transfer.over(gain)

    transfer = base_transfer if other_transfer is NOTHING else other_transfer
    return _TransferRatios(MEMORY, transfer, each, calls_per_transfer, once, break_even)


def _reason(
    base: BenchmarkRow | None,
    other: BenchmarkRow,
    value: str,
    context: _Context,
    allowed_flags: Container[str],
) -> str | None:
    """Why no ratio may be claimed."""
    base_side, other_side = f"{context.axis}={context.baseline}", f"{context.axis}={value}"
    if base is None:
        return f"{base_side} was not measured"
    for row, side in ((base, base_side), (other, other_side)):
        why = objection(row, allowed_flags)
        if why:
            return f"{side}: {why}"
    if base.node != other.node and not context.report.compare_across_nodes:
        base_node, other_node = (row.node or "a machine that is not named" for row in (base, other))
        return (
            f"{base_side} ran on {base_node}, {other_side} on {other_node}; "
            "report.compare_across_nodes=true compares times of different machines"
        )
    return None


def objection(row: BenchmarkRow, allowed_flags: Container[str] = ()) -> str | None:
    """Why a row may not be compared; None where it may.

    Args:
        row: one side.
        allowed_flags: that are no reason here.
    """
    if row.status != "ok":
        return row.status
    if row.flags:
        for flag, why in FORBIDDING.items():
            if flag in row.flags and flag not in allowed_flags:
                return why
    return None if row.median_s else "was not timed"


PAIRED_MAY_HAVE = ("contended",)  # what else runs slows both sides of a visit
FORBIDDING = {name: flag.why for name, flag in FLAGS.items() if flag.forbids_ratio}
