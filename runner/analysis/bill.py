"""What a model pays: each call of a workload, as often as it is made, and their sum: ``bill.csv``.

The sum's interval is that of visits that go through all calls: what slows the machine for a while
slows many of them, so that their own intervals must not be added as if they were independent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from runner.analysis.comparison import Speedup, cost_of
from runner.analysis.pairs import Pairs
from runner.analysis.questions import Answer, Sentence
from runner.config.axes import AXES, CellKey, values_of
from runner.config.schema import Report
from runner.rows.rows import BenchmarkRow, PairVisit, grouped
from runner.stats.estimate import Estimate
from runner.stats.sequential import PairedRatio, verdict_of

DECIDING = 0.9  # of all that the calls save and lose: the fewest that make so much are named
NAMED_AT_MOST = 5
OF_CALL = ("op", "size", "parameters")  # what tells the calls of one side apart
OF_SIDES = tuple(name for name in AXES if name not in OF_CALL)


@dataclass(frozen=True, kw_only=True)
class Charge(CellKey):
    """A row of ``bill.csv``. Every interval is one of 95 %.

    Attributes:
        workload: whose it is.
        part: call, or model, where that was measured as a whole, or sum of the calls.
        cell: the row that it is of; blank for a sum.
        node: the machine.
        count: how often the model makes the call.
        modules: which parts of the model make it, each with how often.
        call_s, call_low_s, call_high_s: what one call costs, and its interval.
        total_s: count times call_s.
        share: of the sum of its side.
        bound, fraction_of_peak: which measured peak bounds it, and how much of that it reaches.
        missing: of a sum, how many calls have no time and so are not in it.
        of_model, of_model_low, of_model_high: the sum over the time of the model itself.
        axis, baseline, other: what is compared, and this side's value of it.
        baseline_total_s: what the same costs with the baseline.
        saved_s: baseline_total_s - total_s.
        speedup, low, high: baseline_total_s / total_s and its interval; of a sum, from visits that
            go through all calls, or blank.
        visits: that the sum's interval is from.
        verdict: faster, slower, same or unclear.
        reason: why there is no ratio, or no interval.
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


COLUMNS = tuple(f.name for f in fields(Charge))


class _Entry(NamedTuple):
    """A row of a workload."""

    row: BenchmarkRow
    cost: Estimate | None  # of one call; None: it was not timed
    workload: str
    count: int
    modules: str | None
    passes: str | None  # of the model itself


class Rounds:
    """The visits that went through all calls of workloads."""

    def __init__(self, visits: Iterable[PairVisit]) -> None:
        by_visit = grouped(visits, attrgetter("baseline_cell", "process", "visit"))
        self._rounds: list[tuple[PairVisit, dict[str, float]]] = []
        for together in by_visit.values():
            seconds = {visit.other_cell: visit.other_s for visit in together}
            first = together[0]
            self._rounds.append((first, {first.baseline_cell: first.baseline_s, **seconds}))

    def ratio(
        self, before: Mapping[str, int], after: Mapping[str, int], margin: float
    ) -> PairedRatio | None:
        """The time of some calls over that of others, each cell so often; None: not visited."""
        if not before or not after:
            return None
        pairs = []
        for first, seconds in self._rounds:
            if before.keys() | after.keys() <= seconds.keys():
                sums = [sum(n * seconds[cell] for cell, n in of.items()) for of in (before, after)]
                sides = {"baseline_cell": "before", "other_cell": "after"}
                pairs.append(replace(first, baseline_s=sums[0], other_s=sums[1], **sides))
        return Pairs(pairs).ratio("before", "after", margin)


def charges(
    rows: Iterable[BenchmarkRow],
    speedups: Iterable[Speedup],
    visits: Iterable[PairVisit],
    report: Report,
) -> list[Charge]:
    """The bill of each workload on each side: the sum, the model itself, and the dearest first."""
    writer = _Writer({speedup.other_cell: speedup for speedup in speedups}, Rounds(visits), report)
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
        own = json.loads(row.own or "{}")
        of_row = own["workload"], int(own["count"]), own.get("modules"), own.get("passes")
    except (ValueError, TypeError, KeyError, AttributeError):  # none of a workload
        return None
    cost = cost_of(row) if row.status == "ok" else None
    return _Entry(row, cost, *of_row)


class _Writer:
    """Writes the lines of a bill."""

    def __init__(self, speedup_of: Mapping[str, Speedup], rounds: Rounds, report: Report) -> None:
        self._speedup_of, self._rounds, self._report = speedup_of, rounds, report

    def of_side(self, side: Sequence[_Entry], base: Sequence[_Entry], value: str) -> list[Charge]:
        """The lines of one side, with what each saves against the baseline's."""
        by_call = {_call_of(e): e for e in base if e.cost is not None}
        calls = [entry for entry in side if not entry.passes]
        whole = [entry for entry in side if entry.passes]
        timed = [entry for entry in calls if entry.cost is not None]
        total_s = sum(_total(entry) for entry in timed)
        lines = [self._line(entry, by_call, value, total_s) for entry in calls]
        lines.sort(key=lambda line: -(line.total_s or 0.0))
        models = [self._line(entry, by_call, value, None) for entry in whole]
        return [self._sum(calls, timed, whole, by_call, value), *models, *lines]

    def _line(
        self, entry: _Entry, by_call: Mapping[Any, _Entry], value: str, total_s: float | None
    ) -> Charge:
        row, cost = entry.row, entry.cost
        line = self._blank(entry, value, part="model" if entry.passes else "call")
        line = replace(line, cell=row.cell, count=entry.count, modules=entry.modules)
        if cost is None:
            return replace(line, reason=row.reason or row.status)
        own_s, base = _total(entry), by_call.get(_call_of(entry))
        line = replace(
            line,
            call_s=cost.value,
            call_low_s=cost.low,
            call_high_s=cost.high,
            total_s=own_s,
            share=own_s / total_s if total_s else None,
            bound=row.bound,
            fraction_of_peak=row.fraction_of_peak,
        )
        speedup = self._speedup_of.get(row.cell)
        if speedup is None or base is None:
            return line
        before_s = _total(base)
        saved = {"baseline_total_s": before_s, "saved_s": before_s - own_s}
        ratio = {name: getattr(speedup, name) for name in ("speedup", "low", "high", "verdict")}
        return replace(line, **saved, **ratio, visits=speedup.paired, reason=speedup.reason)

    def _sum(
        self,
        calls: Sequence[_Entry],
        timed: Sequence[_Entry],
        whole: Sequence[_Entry],
        by_call: Mapping[Any, _Entry],
        value: str,
    ) -> Charge:
        some = (calls or whole)[0]
        total_s = sum(_total(entry) for entry in timed)
        line = self._blank(some, value, part="sum")
        line = replace(
            line,
            op=some.workload,
            size=f"{len(calls)} calls",
            count=sum(entry.count for entry in calls),
            total_s=total_s,
            share=1.0 if timed else None,
            missing=sum(entry.count for entry in calls if entry.cost is None),
        )
        margin = self._report.same_within
        weights = {entry.row.cell: entry.count for entry in timed}
        if whole and whole[0].cost is not None:
            of_model = self._rounds.ratio(weights, {whole[0].row.cell: 1}, margin)
            shown = Estimate(total_s / whole[0].cost.value)
            shown = Estimate(of_model.value, of_model.low, of_model.high) if of_model else shown
            ends = {"of_model_low": shown.low, "of_model_high": shown.high}
            line = replace(line, of_model=shown.value, **ends)

        # against the baseline, of the calls that both sides have
        both = [entry for entry in timed if _call_of(entry) in by_call]
        if value == self._report.value or not both:
            return line
        before = [by_call[_call_of(entry)] for entry in both]
        before_s, after_s = (sum(map(_total, of)) for of in (before, both))
        ratio = self._rounds.ratio(
            {entry.row.cell: entry.count for entry in before},
            {entry.row.cell: entry.count for entry in both},
            margin,
        )
        saved = {"baseline_total_s": before_s, "saved_s": before_s - after_s}
        if ratio is None:
            reason = "no visit went through all calls, so that the sum has no interval"
            return replace(line, **saved, speedup=before_s / after_s, reason=reason)
        ends = {"low": ratio.low, "high": ratio.high, "visits": ratio.visits}
        verdict = verdict_of(ratio.low, ratio.high, margin)
        found = {"speedup": ratio.value, "verdict": verdict, "reason": ratio.withheld}
        return replace(line, **saved, **found, **ends)

    def _blank(self, entry: _Entry, value: str, *, part: str) -> Charge:
        axes = {name: getattr(entry.row, name) for name in AXES}
        of_report = {"axis": self._report.axis, "baseline": self._report.value, "other": value}
        of_row = {"workload": entry.workload, "part": part, "node": entry.row.node}
        return Charge(**axes, **of_row, **of_report)


def _total(entry: _Entry) -> float:
    return entry.count * entry.cost.value if entry.cost is not None else 0.0


def _call_of(entry: _Entry) -> tuple[object, ...]:
    return entry.row.op, entry.row.size, entry.row.parameters, entry.row.variant


def bill_answers(bill: Sequence[Charge]) -> list[Answer]:
    """For each workload what it pays, what another side saves, and which calls decide that."""
    found = []
    for workload, lines in grouped(bill, attrgetter("workload")).items():
        sides = grouped(lines, lambda line: (line.other, line.node, *_axes_of(line)))
        sentences = chain.from_iterable(map(_said, sides.values()))
        question = Sentence("bill", {"workload": workload})
        found.append(Answer("bill", question, tuple(sentences)))
    return found


_axes_of = values_of(*OF_SIDES)


def _said(lines: Sequence[Charge]) -> list[Sentence]:
    """The sentences of one side."""
    total, *others = lines
    calls = [line for line in others if line.part == "call"]
    model = next((line for line in others if line.part == "model"), None)
    side = {"side": f"{total.axis}={total.other}", "baseline": f"{total.axis}={total.baseline}"}
    said = []
    if total.speedup is not None:
        ratio = Estimate(total.speedup, total.low, total.high)
        times = {"before": total.baseline_total_s, "after": total.total_s}
        said.append(Sentence("bill_moves", {**side, **times, "ratio": ratio}))
        said += _deciding(calls)
    else:
        dearest = _fewest(calls, lambda line: line.total_s or 0.0)
        share = sum(line.share or 0.0 for line in dearest)
        counts = {"count": len(dearest), "of": len(calls), "share": share, "after": total.total_s}
        said.append(
            Sentence("bill_most", {**side, **counts, "named": _named(dearest)}, _cells(dearest))
        )
    if total.of_model is not None and model is not None:
        share = Estimate(total.of_model, total.of_model_low, total.of_model_high)
        values = {**side, "share": share, "measured": model.call_s, "after": total.total_s}
        said.append(Sentence("bill_model", values, _cells([model])))
    if total.missing:
        left = [line for line in calls if line.total_s is None]
        values = {"count": total.missing, "named": _named(left)}
        said.append(Sentence("bill_missing", {**side, **values}, _cells(left)))
    return said


def _deciding(calls: Sequence[Charge]) -> list[Sentence]:
    """Which calls make nearly all of the difference, and which lose."""
    found = []
    deciding = _fewest(calls, lambda line: abs(line.saved_s or 0.0))
    every_s = sum(abs(line.saved_s or 0.0) for line in calls)
    if every_s:
        share = sum(abs(line.saved_s or 0.0) for line in deciding) / every_s
        counts = {"count": len(deciding), "of": len(calls), "share": share}
        found.append(
            Sentence("bill_decide", {**counts, "named": _named(deciding)}, _cells(deciding))
        )
    losing = [line for line in calls if line.verdict == "slower"]
    if losing:
        found.append(Sentence("bill_lose", {"named": _named(losing)}, _cells(losing)))
    return found


def _fewest(calls: Sequence[Charge], size: Any) -> list[Charge]:
    """The fewest calls that make nearly all of a sum, the largest first."""
    chosen: list[Charge] = []
    so_far, wanted = 0.0, DECIDING * sum(map(size, calls))
    for line in sorted(calls, key=size, reverse=True):
        if so_far >= wanted:
            break
        chosen.append(line)
        so_far += size(line)
    return chosen


def _named(lines: Sequence[Charge]) -> str:
    names = [f"{line.op.removeprefix(f'{line.workload}.')} x {line.count}" for line in lines]
    more = [f"and {len(names) - NAMED_AT_MOST} more"] if len(names) > NAMED_AT_MOST else []
    return ", ".join([*names[:NAMED_AT_MOST], *more])


def _cells(lines: Sequence[Charge]) -> tuple[str, ...]:
    return tuple(line.cell for line in lines[:NAMED_AT_MOST] if line.cell)
