"""What a model pays: each call of a workload, as often as it is made, and their sum: ``bill.csv``.

The sum's interval is that of visits that go through all calls: what slows the machine for a while
slows many of them, so that their own intervals must not be added as if they were independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from typing import Any

from runner.analysis.comparison import Speedup, cost_of
from runner.analysis.pairs import Pairs
from runner.analysis.questions import Answer, Sentence, first_of
from runner.config.axes import AXES, CellKey, values_of
from runner.config.schema import Report
from runner.rows.other_schemas import own_columns
from runner.rows.rows import BenchmarkRow, PairVisit, grouped
from runner.stats.estimate import Estimate
from runner.stats.sequential import PairedRatio, verdict_of

DECIDING = 0.9  # of all that the calls take, or save and lose: the fewest with so much are named
NAMED_AT_MOST = 5
OF_CALL = ("op", "size", "parameters")  # what tells the calls of one side apart
OF_SIDES = tuple(name for name in AXES if name not in OF_CALL)
NO_ROUNDS = "no visit went through all calls, so that the sum has no interval"


@dataclass(frozen=True, kw_only=True)
class Charge(CellKey):
    """A row of ``bill.csv``: a call of a workload, or their sum. Every interval is one of 95 %.

    Attributes:
        workload: the workload that the call belongs to.
        part: call; model (the model as a whole); or sum (of the calls).
        cell: identity of the measured row; blank for a sum.
        node: the machine that measured it.
        count: how often the model makes the call.
        modules: which parts of the model make it, each with how often.
        call_s: seconds of one call.
        call_low_s: lower end of its interval.
        call_high_s: upper end of its interval.
        total_s: count times call_s.
        share: share of the side's sum.
        bound: the measured peak that limits the call: compute or memory.
        fraction_of_peak: the share of that peak that the call reaches.
        saved_bytes: bytes that its forward passes keep for a backward pass.
        missing: calls that the sum lacks, since they have no time.
        of_model: the sum over the time of the model itself.
        of_model_low: lower end of its interval.
        of_model_high: upper end of its interval.
        axis: the axis on which sides are compared.
        baseline: the baseline's value of it.
        other: this side's value of it.
        baseline_total_s: ``total_s`` of the baseline.
        saved_s: baseline_total_s - total_s.
        speedup: baseline_total_s / total_s.
        low: lower end of its interval; of a sum from visits that go through all calls, or blank.
        high: upper end of its interval.
        visits: number of visits in the ratio.
        verdict: faster, slower, same or unclear.
        reason: why there is no time, no ratio, or no interval.
    """

    workload: str
    part: str
    cell: str | None = None
    node: str | None = None
    count: int | None = None
    modules: str | None = None
    call_s: float | None = None
    call_low_s: float | None = None
    call_high_s: float | None = None
    total_s: float | None = None
    share: float | None = None
    bound: str | None = None
    fraction_of_peak: float | None = None
    saved_bytes: int | None = None
    missing: int | None = None
    of_model: float | None = None
    of_model_low: float | None = None
    of_model_high: float | None = None
    axis: str = ""
    baseline: str = ""
    other: str = ""
    baseline_total_s: float | None = None
    saved_s: float | None = None
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    visits: int | None = None
    verdict: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Entry:
    """A row of a workload."""

    row: BenchmarkRow
    cost: Estimate | None  # of one call; None: it was not timed
    workload: str
    count: int
    modules: str | None
    passes: str | None  # of the model itself

    @property
    def total_s(self) -> float:
        return self.count * self.cost.value if self.cost is not None else 0.0

    @property
    def call(self) -> tuple[object, ...]:
        """What it shares with the same call on another side."""
        return self.row.op, self.row.size, self.row.parameters, self.row.variant


class Rounds:
    """The visits that went through all calls of workloads."""

    def __init__(self, visits: Iterable[PairVisit], margin: float) -> None:
        self._margin = margin
        self._rounds: list[tuple[PairVisit, dict[str, float]]] = []
        by_visit = grouped(visits, attrgetter("baseline_cell", "process", "visit"))
        for first, *others in by_visit.values():
            seconds = {visit.other_cell: visit.other_s for visit in (first, *others)}
            self._rounds.append((first, {first.baseline_cell: first.baseline_s, **seconds}))

    def ratio(self, before: Sequence[_Entry], after: Sequence[_Entry]) -> PairedRatio | None:
        """The time of some calls, as often as they are made, over that of others, if visited."""
        cells = {entry.row.cell for entry in (*before, *after)}
        pairs = []
        for first, seconds in self._rounds:
            if cells <= seconds.keys():
                sums = [sum(e.count * seconds[e.row.cell] for e in of) for of in (before, after)]
                both = replace(first, baseline_cell="before", other_cell="after")
                pairs.append(replace(both, baseline_s=sums[0], other_s=sums[1]))
        return Pairs(pairs).ratio("before", "after", self._margin)


def charges(
    rows: Iterable[BenchmarkRow],
    speedups: Iterable[Speedup],
    visits: Iterable[PairVisit],
    report: Report,
) -> list[Charge]:
    """The bill of each workload on each side: the sum, the model itself, and the dearest first."""
    rounds = Rounds(visits, report.same_within)
    writer = _Writer({speedup.other_cell: speedup for speedup in speedups}, rounds, report)
    entries = [entry for row in rows if (entry := _entry(row)) is not None]
    shared = values_of(*(name for name in OF_SIDES if name != report.axis), "node")
    found: list[Charge] = []
    for of_all in grouped(entries, lambda e: (e.workload, shared(e.row))).values():
        sides = grouped(of_all, lambda entry: str(getattr(entry.row, report.axis)))
        for value in sorted(sides, key=lambda value: value != report.value):
            found += writer.of_side(sides[value], sides.get(report.value, []), value)
    return found


def _entry(row: BenchmarkRow) -> _Entry | None:
    try:
        own = own_columns(row)
        of_row = str(own["workload"]), int(own["count"]), own.get("modules"), own.get("passes")
    except (ValueError, TypeError, KeyError, OverflowError):  # none of a workload
        return None
    return _Entry(row, cost_of(row) if row.status == "ok" else None, *of_row)


class _Writer:
    """Writes the lines of a bill."""

    def __init__(self, speedup_of: Mapping[str, Speedup], rounds: Rounds, report: Report) -> None:
        self._speedup_of, self._rounds, self._report = speedup_of, rounds, report

    def of_side(self, side: Sequence[_Entry], base: Sequence[_Entry], value: str) -> list[Charge]:
        """The lines of one side, with what each saves against the baseline's."""
        base_of = {entry.call: entry for entry in base if entry.cost is not None}
        calls = [entry for entry in side if not entry.passes]
        whole = [entry for entry in side if entry.passes]
        if not calls:
            return []
        total = self._sum(calls, [entry for entry in whole if entry.cost], base_of, value)
        lines = [self._line(entry, base_of, value, total.total_s) for entry in calls]
        lines.sort(key=lambda line: -(line.total_s or 0.0))
        return [total, *(self._line(entry, base_of, value) for entry in whole), *lines]

    def _line(
        self, entry: _Entry, base_of: Mapping[Any, _Entry], value: str, sum_s: float | None = None
    ) -> Charge:
        row, cost, base = entry.row, entry.cost, base_of.get(entry.call)
        line = self._blank(entry, value, "model" if entry.passes else "call")
        line = replace(line, cell=row.cell, count=entry.count, modules=entry.modules)
        if cost is None:
            return replace(line, reason=row.reason or row.status)
        known: dict[str, Any] = {
            "call_s": cost.value,
            "call_low_s": cost.low,
            "call_high_s": cost.high,
            "total_s": entry.total_s,
            "share": entry.total_s / sum_s if sum_s else None,
            "bound": row.bound,
            "fraction_of_peak": row.fraction_of_peak,
            "saved_bytes": None if row.saved_bytes is None else entry.count * row.saved_bytes,
        }
        speedup = self._speedup_of.get(row.cell)
        if speedup is not None and base is not None:
            ratio = ("speedup", "low", "high", "verdict", "reason")
            known |= {name: getattr(speedup, name) for name in ratio}
            known |= {"visits": speedup.paired, **_saved([base], [entry])}
        return replace(line, **known)

    def _sum(
        self,
        calls: Sequence[_Entry],
        whole: Sequence[_Entry],
        base_of: Mapping[Any, _Entry],
        value: str,
    ) -> Charge:
        timed = [entry for entry in calls if entry.cost is not None]
        line = replace(
            self._blank(calls[0], value, "sum"),
            op=calls[0].workload,
            size=f"{len(calls)} calls",
            count=sum(entry.count for entry in calls),
            total_s=sum(entry.total_s for entry in timed),
            missing=sum(entry.count for entry in calls if entry.cost is None),
        )
        if whole and timed:
            of_model = self._rounds.ratio(timed, whole)
            shown = of_model or Estimate(sum(e.total_s for e in timed) / whole[0].total_s)
            line = replace(
                line, of_model=shown.value, of_model_low=shown.low, of_model_high=shown.high
            )

        # against the baseline, of the calls that both sides have
        both = [entry for entry in timed if entry.call in base_of]
        if value == self._report.value or not both:
            return line
        before = [base_of[entry.call] for entry in both]
        line = replace(line, **_saved(before, both))
        ratio = self._rounds.ratio(before, both)
        if ratio is None:
            saved = (line.baseline_total_s or 0.0) / sum(entry.total_s for entry in both)
            return replace(line, speedup=saved, reason=NO_ROUNDS)
        return replace(
            line,
            speedup=ratio.value,
            low=ratio.low,
            high=ratio.high,
            visits=ratio.visits,
            verdict=verdict_of(ratio.low, ratio.high, self._report.same_within),
            reason=ratio.withheld,
        )

    def _blank(self, entry: _Entry, value: str, part: str) -> Charge:
        known: dict[str, Any] = {name: getattr(entry.row, name) for name in AXES}
        known |= {"workload": entry.workload, "part": part, "node": entry.row.node, "other": value}
        return Charge(**known, axis=self._report.axis, baseline=self._report.value)


def _saved(before: Sequence[_Entry], after: Sequence[_Entry]) -> dict[str, Any]:
    before_s, after_s = (sum(entry.total_s for entry in of) for of in (before, after))
    return {"baseline_total_s": before_s, "saved_s": before_s - after_s}


def bill_answers(bill: Sequence[Charge]) -> list[Answer]:
    """For each workload what it pays, what another side saves, and which calls decide that."""
    axes_of, found = values_of(*OF_SIDES), []
    for workload, lines in grouped(bill, attrgetter("workload")).items():
        sides = grouped(lines, lambda line: (line.node, *axes_of(line))).values()
        sentences = chain.from_iterable(map(_said, sides))
        found.append(Answer("bill", Sentence("bill", {"workload": workload}), tuple(sentences)))
    return found


def _said(lines: Sequence[Charge]) -> list[Sentence]:
    """The sentences of one side."""
    total, calls = lines[0], [line for line in lines if line.part == "call"]
    sides = {"side": f"{total.axis}={total.other}", "baseline": f"{total.axis}={total.baseline}"}
    times = {"before": total.baseline_total_s, "after": total.total_s}
    said = []
    if total.speedup is not None:
        ratio = Estimate(total.speedup, total.low, total.high)
        said.append(Sentence("bill_moves", {**sides, **times, "ratio": ratio}))
        said.append(_fewest("bill_decide", calls, lambda line: abs(line.saved_s or 0.0), {}))
        losing = [line for line in calls if line.verdict == "slower"]
        said += [_naming("bill_lose", losing, {})] if losing else []
    else:
        said.append(
            _fewest("bill_most", calls, lambda line: line.total_s or 0.0, {**sides, **times})
        )
    for model in (line for line in lines if line.part == "model"):
        share = Estimate(total.of_model or 0.0, total.of_model_low, total.of_model_high)
        values = {**sides, "share": share}
        said += [Sentence("bill_model", values, (model.cell or "",))] if total.of_model else []
    left = [line for line in calls if line.total_s is None]
    said += [_naming("bill_missing", left, {**sides, "count": total.missing})] if left else []
    return said


def _fewest(
    key: str, calls: Sequence[Charge], size: Callable[[Charge], float], values: Mapping[str, Any]
) -> Sentence:
    """Which fewest calls make nearly all of a sum, the largest first."""
    chosen: list[Charge] = []
    so_far, whole = 0.0, sum(map(size, calls))
    for line in sorted(calls, key=size, reverse=True):
        if so_far >= DECIDING * whole:
            break
        chosen.append(line)
        so_far += size(line)
    share = so_far / whole if whole else 0.0
    counts = {"count": len(chosen), "of": len(calls), "share": share}
    return _naming(key, chosen, {**values, **counts})


def _naming(key: str, lines: Sequence[Charge], values: Mapping[str, Any]) -> Sentence:
    """A sentence that names calls."""
    names = [f"{line.op.removeprefix(f'{line.workload}.')} x {line.count}" for line in lines]
    cells = tuple(line.cell for line in lines[:NAMED_AT_MOST] if line.cell)
    return Sentence(key, {**values, "named": first_of(names, NAMED_AT_MOST)}, cells)
