"""One side against another: ``speedup.csv``. A ratio is claimed where both sides can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from runner.analysis.pairs import BUSY, SLOW, Pairs, elements_of
from runner.analysis.transfer_model import MEMORY, NOTHING, Models, transfer_time
from runner.config.axes import AXES, CellKey, same_but, values_of
from runner.config.dtypes import KIND_OF
from runner.config.schema import Report
from runner.rows.flags import FLAGS
from runner.rows.rows import BenchmarkRow, grouped
from runner.stats.estimate import Estimate, extreme
from runner.stats.log_estimate import LogEstimate
from runner.stats.sequential import ERROR, PairedRatio, adjusted, smallest_difference, verdict_of

if TYPE_CHECKING:
    from runner.analysis.changes import Change
    from runner.analysis.operation_changes import OperationChange

_axes_of = values_of(*AXES)


@dataclass(frozen=True, kw_only=True, slots=True)  # a report may have 100,000
class Speedup(CellKey):
    """A row of ``speedup.csv``: a cell against its baseline. Every interval is one of 95 %."""

    variant: str | None
    node: str | None  # the machine of the other side
    # number of elements of the first input: the size in the search for crossovers
    elements: int | None
    axis: str  # what the two differ in
    baseline: str  # the baseline's value of that axis
    other: str  # the other side's value of that axis
    baseline_cell: str | None  # identity of the baseline's cell, by which its row is found
    other_cell: str  # identity of the other cell
    # seconds that a call of the baseline costs where one follows another: the median, or on a
    # device that works asynchronously the launch where that is longer
    baseline_s: float | None
    other_s: float | None  # the same of the other side
    speedup: float | None = None  # baseline_s / other_s: above 1 the other is faster
    # lower end of the speed-up's interval. Where the sides were not measured in turn, it includes
    # how much the machine varies between moments; blank where that is not known
    low: float | None = None
    high: float | None = None  # upper end of the speed-up's interval
    # number of visits in the ratio, also where it is withheld; blank where the sides were not
    # measured in turn
    paired: int | None = None
    # number of all visits, also those in slow moments; the ratio uses these where too few were calm
    in_all: int | None = None
    as_it_came: float | None = None  # the ratio of all visits, also of those in slow moments
    # number of processes that made the visits. With 1 the interval does not include differences
    # between processes
    pair_processes: int | None = None
    # number of processes that made all visits, also those in slow moments
    processes_in_all: int | None = None
    # p value of the hypothesis that the sides are equal, adjusted for the run's other comparisons
    # (Benjamini and Hochberg); blank without an interval
    adjusted_p: float | None = None
    # faster, slower, same or unclear, of the other side; blank without a ratio
    verdict: str | None = None
    # the smallest relative difference that these visits would have shown; at least what equal sides
    # differ by here, where ``+sweep=noise`` has measured it
    smallest_difference: float | None = None
    reason: str | None = None  # why no ratio is claimed, or why the verdict is unclear
    # the value of the axis whose side alone spends most of its time on fresh memory for its output
    # (flag first_touch): the ratio is not one of their work
    fresh_memory: str | None = None
    fastest_dtype: str | None = None  # the dtype of the same kind in which the baseline is fastest
    fastest_s: float | None = None  # the baseline's median in that dtype
    fastest_speedup: float | None = None  # fastest_s / other_s
    fastest_low: float | None = None  # lower end of its interval
    fastest_high: float | None = None  # upper end of its interval
    # seconds to bring the inputs to the device and the outputs back
    transfer_s: float | None = None
    transfer_low_s: float | None = None  # lower end of its interval
    transfer_high_s: float | None = None  # upper end of its interval
    # the kind of host memory that the transfers were measured with
    transfer_memory: str | None = None
    each_speedup: float | None = None  # the ratio where data are moved at each call
    each_low: float | None = None  # lower end of its interval
    each_high: float | None = None  # upper end of its interval
    calls_per_transfer: int | None = None  # calls that share one transfer in ``once_speedup``
    # the ratio where data are moved once for ``calls_per_transfer`` calls
    once_speedup: float | None = None
    once_low: float | None = None  # lower end of its interval
    once_high: float | None = None  # upper end of its interval
    # how many calls on the same data pay for moving it: transfer_s / (baseline_s - other_s), where
    # the other side is surely faster without it, and both times are of calm moments
    break_even_calls: float | None = None
    break_even_low: float | None = None  # lower end of its interval
    break_even_high: float | None = None  # upper end of its interval
    # seconds that the other side took until it could be called as it is timed
    build_s: float | None = None
    # how many calls pay for that: build_s / (baseline_s - other_s), where the other side is surely
    # faster, and both times are of calm moments
    build_calls: float | None = None
    build_calls_low: float | None = None  # lower end of its interval
    build_calls_high: float | None = None  # upper end of its interval


def compare(
    rows: Sequence[BenchmarkRow],
    report: Report,
    models: Models | None = None,
    pairs: Pairs | None = None,
) -> list[Speedup]:
    """Each row that is not of the baseline against the one that differs in the compared axis alone.

    Args:
        rows: of one run, or of several.
        report: the axis and its baseline, and what counts.
        models: what transfers cost, by direction.
        pairs: what was measured in turn; None: all rows are of one moment.

    Returns:
        a comparison for each row that is not of the baseline, in the rows' order. Takes time linear
        in the rows.
    """
    values = [str(value) for value in map(attrgetter(report.axis), rows)]
    valued = list(zip(rows, values, strict=True))
    usual = report.value
    baseline_rows = [row for row, value in valued if value == usual]
    comparer = _Comparer(baseline_rows, report, models or {}, pairs)
    speedups = [comparer.compared(row, value) for row, value in valued if value != usual]
    return [_explained(speedup, report.same_within) for speedup in claimed_together(speedups)]


def _explained(speedup: Speedup, margin: float) -> Speedup:
    """With the reason where its verdict is unclear, and that is not said yet."""
    if speedup.verdict != "unclear" or speedup.reason:
        return speedup
    if speedup.low is None or speedup.high is None:
        why = "few_visits"
    else:
        is_clear_alone = verdict_of(speedup.low, speedup.high, margin) != "unclear"
        why = "chance" if is_clear_alone else "wide"
    return replace(speedup, reason=UNCLEAR[why])


Claim = TypeVar("Claim", "Speedup", "Change", "OperationChange")


def claimed_together(found: list[Claim]) -> list[Claim]:
    """With p values adjusted for each other, and no claim that may be chance among so many."""
    positions = [n for n, claim in enumerate(found) if claim.adjusted_p is not None]
    together = adjusted([found[position].adjusted_p or 0.0 for position in positions])
    for position, p_value in zip(positions, together, strict=True):
        claim = found[position]
        is_claim = claim.verdict in ("faster", "slower")
        verdict = "unclear" if is_claim and p_value > ERROR else claim.verdict
        found[position] = replace(claim, adjusted_p=p_value, verdict=verdict)
    return found


def cost_of(row: BenchmarkRow) -> Estimate | None:
    """What a call costs where one follows another; None: it was not timed.

    That is its time, or on an accelerator that of its launch if it is longer: a device that is
    faster than its launches waits for the host at each of them.
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


_but_dtype = same_but("dtype")
_Side = tuple[BenchmarkRow, Estimate]


def _dtypes_of_a_kind(row: BenchmarkRow) -> tuple[object, ...]:
    """What rows share that differ in nothing but the dtype, and in that not by its kind."""
    return _but_dtype(row), row.node, KIND_OF.get(row.dtype)


def _fastest_dtypes(baseline_rows: Iterable[BenchmarkRow]) -> dict[object, _Side]:
    """The fastest trusted row and its time, over the baseline's dtypes of a kind.

    The least of several times lies between the least of their lower and of their upper ends.
    """
    trusted = (row for row in baseline_rows if not objection(row))
    fastest: dict[object, _Side] = {}
    for key, rows in grouped(trusted, _dtypes_of_a_kind).items():
        sides = [(row, cost) for row in rows if (cost := cost_of(row)) is not None]
        row, _ = min(sides, key=lambda side: side[1].value)
        fastest[key] = row, extreme(min, [cost for _, cost in sides])
    return fastest


class _Comparer:
    """Compares rows with those of the baseline."""

    def __init__(
        self,
        baseline_rows: Sequence[BenchmarkRow],
        report: Report,
        models: Models,
        pairs: Pairs | None,
    ) -> None:
        self._report, self._models, self._pairs = report, models, pairs
        self._axis, self._value = report.axis, report.value
        self._fastest = _fastest_dtypes(baseline_rows) if report.axis != "dtype" else {}

        # the baseline's rows by what they share with the others
        self._shared = same_but(report.axis)
        shared_of = [(self._shared(row), row) for row in baseline_rows]
        self._on_any_node = dict(shared_of)
        self._on_node = {(shared, row.node): row for shared, row in shared_of}

    def compared(self, other: BenchmarkRow, value: str) -> Speedup:
        """A row against the baseline; of several baseline rows that of the same node counts."""
        shared = self._shared(other)
        base = self._on_node.get((shared, other.node)) or self._on_any_node.get(shared)
        before, after = cost_of(base) if base is not None else None, cost_of(other)

        # the ratios stay blank where there is a reason against them
        paired = None
        if base is not None and self._pairs is not None:
            paired = self._pairs.ratio(base.cell, other.cell, self._report.same_within)
        reason = self._reason(base, other, value, paired)
        ratios: dict[str, Any] = {"reason": reason}
        if reason is None and base is not None and before is not None and after is not None:
            ratios = self._ratios((base, before), (other, after), paired)
            if paired is None and ratios["verdict"] == "unclear":
                ratios["reason"] = self._objection(base, other, value) or ratios.get("reason")
        if base is not None and paired is not None and reason in (None, paired.withheld):
            ratios |= self._of_visits(base, other, paired)
        return Speedup(
            **dict(zip(AXES, _axes_of(other), strict=True)),
            variant=other.variant,
            node=other.node,
            elements=elements_of(other.size),
            axis=self._axis,
            baseline=self._value,
            other=value,
            baseline_cell=base.cell if base else None,
            other_cell=other.cell,
            baseline_s=before.value if before is not None else None,
            other_s=after.value if after is not None else None,
            **ratios,
        )

    def _ratios(self, base: _Side, other: _Side, paired: PairedRatio | None) -> dict[str, Any]:
        """The columns of a comparison that is claimed."""
        (base_row, before), (other_row, after) = base, other
        if paired is not None:
            ratio = Estimate(paired.value, paired.low, paired.high)
        else:
            ratio = self._over(base, other)
        columns = _columns(ratio, "speedup", "low", "high")
        margin = self._report.same_within
        columns["verdict"] = verdict_of(ratio.low, ratio.high, margin)
        if paired is not None:
            columns["verdict"], columns["reason"] = paired.verdict(margin), paired.withheld
            columns["adjusted_p"] = None if paired.low is None else paired.p_value
        elif ratio.low is not None and ratio.high is not None:
            estimate = LogEstimate.of_interval(ratio.value, ratio.low, ratio.high)
            columns["adjusted_p"] = estimate.p_value(margin)
        else:
            columns["reason"] = UNCLEAR["no_interval"]
        seen = smallest_difference(ratio.value, ratio.low, ratio.high, margin)
        if seen is not None and self._pairs is not None:
            for row in (base_row, other_row):
                seen = max(
                    seen, self._pairs.floor((row.device_name, row.threads), row.op, row.size)
                )
        columns["smallest_difference"] = seen
        is_fresh = [FRESH in row.flags for row in (base_row, other_row)]
        if any(is_fresh) and not all(is_fresh):
            side = base_row if is_fresh[0] else other_row
            columns["fresh_memory"] = str(getattr(side, self._axis))
        fastest = self._fastest.get(_dtypes_of_a_kind(base_row))
        # of a baseline that was measured while the machine was busy it is not known
        if fastest is not None and not objection(base_row):
            columns |= {"fastest_dtype": fastest[0].dtype, "fastest_s": fastest[1].value}
            names = ("fastest_speedup", "fastest_low", "fastest_high")
            columns |= _columns(self._over(fastest, other), *names)
        # what is gained in seconds is told from times of calm moments alone
        is_gain = columns["verdict"] == "faster"
        is_gain &= not (is_disturbed(base_row) or is_disturbed(other_row))
        if other_row.build_s is not None:
            columns["build_s"] = other_row.build_s
            gain = before.minus(after) if is_gain else None
            if gain is not None and gain.low is not None and gain.low > 0:
                built = Estimate(other_row.build_s, other_row.build_s, other_row.build_s)
                names = ("build_calls", "build_calls_low", "build_calls_high")
                columns |= _columns(built.over(gain), *names)
        return columns | self._with_transfers(base, other, paired, is_gain=is_gain)

    def _of_visits(
        self, base: BenchmarkRow, other: BenchmarkRow, paired: PairedRatio
    ) -> dict[str, Any]:
        """The columns of a comparison in turn that may be claimed, or that moments forbid."""
        came = self._pairs.as_it_came(base.cell, other.cell) if self._pairs is not None else None
        columns: dict[str, Any] = {"paired": paired.visits, "pair_processes": paired.processes}
        if came is not None:
            columns |= {"as_it_came": came.value, "in_all": came.visits}
            columns["processes_in_all"] = came.processes
        return columns

    def _over(self, base: _Side, other: _Side) -> Estimate:
        """A ratio of two moments; no interval is made where none could be said."""
        (base_row, before), (other_row, after) = base, other
        if self._pairs is not None and self._pairs.slowdown is None:
            return Estimate(before.value / after.value)
        return self._of_two_moments(before.over(after), slowdown_in(base_row, other_row))

    def _of_two_moments(self, ratio: Estimate, slowdown: float = 1.0) -> Estimate:
        """A ratio of rows, with an interval that holds what differs between moments.

        It also holds the ``slowdown`` that is in the rows' times.
        """
        return ratio if self._pairs is None else self._pairs.of_two_moments(ratio, slowdown)

    def _with_transfers(
        self, base: _Side, other: _Side, paired: PairedRatio | None, *, is_gain: bool
    ) -> dict[str, Any]:
        """The ratios with each side's transfers, and how many calls pay for the other side's."""
        if not self._models:
            return {}
        (base_row, before), (other_row, after) = base, other
        base_transfer = transfer_time(base_row, self._models)
        other_transfer = transfer_time(other_row, self._models)
        if base_transfer is None or other_transfer is None:
            return {}
        if base_transfer is NOTHING and other_transfer is NOTHING:
            return {}
        # transfers were timed at another moment than the sides, which these ratios hold
        if paired is not None and base_transfer is not NOTHING:
            base_transfer = self._of_two_moments(base_transfer)
        if paired is not None and other_transfer is not NOTHING:
            other_transfer = self._of_two_moments(other_transfer)

        # with the data moved at each call, and once for so many of them
        calls = self._report.calls_per_transfer
        each = before.plus(base_transfer).over(after.plus(other_transfer))
        all_before, all_after = before.times(calls), after.times(calls)
        once = all_before.plus(base_transfer).over(all_after.plus(other_transfer))
        if paired is None:
            slowdown = slowdown_in(base_row, other_row)
            each, once = (self._of_two_moments(ratio, slowdown) for ratio in (each, once))
        transfer = base_transfer if other_transfer is NOTHING else other_transfer
        columns = {"transfer_memory": MEMORY, "calls_per_transfer": calls}
        columns |= _columns(transfer, "transfer_s", "transfer_low_s", "transfer_high_s")
        columns |= _columns(each, "each_speedup", "each_low", "each_high")
        columns |= _columns(once, "once_speedup", "once_low", "once_high")

        # calls pay for a transfer only where the other side is surely faster, and nothing moves to
        # the baseline
        gain = before.minus(after)
        is_surely_faster = is_gain and gain.low is not None and gain.low > 0
        if base_transfer is NOTHING and is_surely_faster:
            names = ("break_even_calls", "break_even_low", "break_even_high")
            columns |= _columns(other_transfer.over(gain), *names)
        return columns

    def _reason(
        self,
        base: BenchmarkRow | None,
        other: BenchmarkRow,
        value: str,
        paired: PairedRatio | None,
    ) -> str | None:
        """Why no ratio may be claimed."""
        if base is None:
            return f"{self._axis}={self._value} was not measured"
        if paired is not None:
            but: Sequence[str] = OF_MOMENTS
        else:  # how slow the machine was is in the interval of two moments
            but = (SLOW_MACHINE,) if self._pairs is not None else ()
        if why := self._objection(base, other, value, but):
            return why
        if paired is not None and paired.withheld and paired.low is None:
            return paired.withheld
        if base.node == other.node or self._report.compare_across_nodes:
            return None
        nodes = [row.node or "a machine that is not named" for row in (base, other)]
        return (
            f"{self._axis}={self._value} ran on {nodes[0]}, {self._axis}={value} on {nodes[1]}; "
            "report.compare_across_nodes=true compares times of different machines"
        )

    def _objection(
        self, base: BenchmarkRow, other: BenchmarkRow, value: str, but: Sequence[str] = ()
    ) -> str | None:
        """What is said against a side, ``but`` for some flags; None: nothing.

        A side that is not there comes before what is said against the other.
        """
        sides = (base, self._value), (other, value)
        for row, side in sorted(sides, key=lambda pair: pair[0].status == "ok"):
            if why := objection(row, but):
                return f"{self._axis}={side}: {why}"
        return None


def _columns(estimate: Estimate, value: str, low: str, high: str) -> dict[str, Any]:
    return {value: estimate.value, low: estimate.low, high: estimate.high}


FORBIDDING = {name: flag.why for name, flag in FLAGS.items() if flag.forbids_ratio}

UNCLEAR = {
    "few_visits": "too few undisturbed visits for an interval; timing.max_time_s=5 takes more",
    "no_interval": "not measured in turn, and its samples or visits do not suffice for an interval",
    "chance": "among so many comparisons it may be chance",
    "wide": "its interval allows more than one verdict",
    "busy": BUSY,
    "slow": SLOW,
}
"""Why a verdict is unclear, or withheld."""

FRESH = "first_touch"

SLOW_MACHINE = "slow_machine"

SLOW_MEMORY = "slow_memory"

OF_MOMENTS = ("contended", SLOW_MACHINE)
"""Flags that a ratio of visits need not mind: it is of those that nothing disturbed."""


def is_disturbed(row: BenchmarkRow) -> bool:
    """Whether a time is of moments that were not calm, and says little: it stands in brackets."""
    return bool(row.flags) and not set(OF_MOMENTS).isdisjoint(row.flags)


def slowdown_in(*rows: BenchmarkRow) -> float:
    """How slow the machine, or memory, was in the times of the worse of these rows; 1: in none."""
    slowdowns = [row.machine_slowdown for row in rows if SLOW_MACHINE in row.flags]
    slowdowns += [row.memory_slowdown for row in rows if SLOW_MEMORY in row.flags]
    return max((slowdown or math.inf for slowdown in slowdowns), default=1.0)


def objection(row: BenchmarkRow, but: Sequence[str] = ()) -> str | None:
    """Why a row may not be compared, ``but`` for some flags; None where it may."""
    if row.status != "ok":
        return row.status
    if row.flags:
        for flag, why in FORBIDDING.items():
            if flag in row.flags and flag not in but:
                return why
        for flag in row.flags:
            if flag not in FLAGS:
                return f"it is flagged {flag}, which this release does not know"
    return None if row.median_s else "was not timed"
