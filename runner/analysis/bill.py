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

from runner.analysis.charge import Charge
from runner.analysis.comparison import Speedup, cost_of, is_disturbed
from runner.analysis.model_time import UNEXPLAINED, ModelTime
from runner.analysis.pairs import Pairs
from runner.analysis.questions import Answer, Sentence, first_of
from runner.analysis.transfer_model import Models, both_ways
from runner.config.axes import AXES, values_of
from runner.config.schema import Report
from runner.config.workload.call import PARTS
from runner.rows.other_schemas import own_columns
from runner.rows.rows import BenchmarkRow, PairVisit, grouped
from runner.stats.estimate import Estimate
from runner.stats.sequential import PairedRatio

DECIDING = 0.9  # of all that the calls take, or save and lose: the fewest with so much are named
NAMED_AT_MOST = 5
OF_CALL = ("op", "size", "parameters")  # what tells the calls of one side apart
OF_SIDES = tuple(name for name in AXES if name not in OF_CALL)
PLANS = ("all_moved", "best_plan")  # with the transfers that they need
NO_ROUNDS = "no visit went through all calls, so that the sum has no interval"


@dataclass(frozen=True)
class _Entry:
    """A row of a workload."""

    row: BenchmarkRow
    cost: Estimate | None  # of one call; None: it was not timed
    workload: str
    count: int
    modules: str | None
    passes: str | None  # of the model itself
    within: ModelTime  # of the model itself: what its time is made of
    flow: str | None  # of the model itself: what its calls hand on

    @property
    def total_s(self) -> float:
        return self.count * self.cost.value if self.cost is not None else 0.0

    @property
    def name(self) -> str:
        """Its name in the workload."""
        return self.row.op.removeprefix(f"{self.workload}.")

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

    def ratio(
        self, before: Sequence[_Entry], after: Sequence[_Entry], further_s: float = 0.0
    ) -> PairedRatio | None:
        """The time of some calls, as often as they are made, over that of others, if visited.

        The others take ``further_s`` seconds more.
        """
        cells = {entry.row.cell for entry in (*before, *after)}
        pairs = []
        for first, seconds in self._rounds:
            if cells <= seconds.keys():
                sums = [sum(e.count * seconds[e.row.cell] for e in of) for of in (before, after)]
                both = replace(first, baseline_cell="before", other_cell="after")
                pairs.append(replace(both, baseline_s=sums[0], other_s=sums[1] + further_s))
        return Pairs(pairs).ratio("before", "after", self._margin)


def charges(
    rows: Iterable[BenchmarkRow],
    speedups: Iterable[Speedup],
    visits: Iterable[PairVisit],
    report: Report,
    models: Models,
) -> list[Charge]:
    """The bill of each workload on each side: the sum, the model itself, and the dearest first.

    ``models`` are of what moving data costs.
    """
    rounds = Rounds(visits, report.same_within)
    writer = _Writer({speedup.other_cell: speedup for speedup in speedups}, rounds, report, models)
    entries = [entry for row in rows if (entry := _entry(row)) is not None]
    shared = values_of(*(name for name in OF_SIDES if name != report.axis), "node")
    found: list[Charge] = []
    for of_all in grouped(entries, lambda e: (e.workload, shared(e.row))).values():
        sides = grouped(of_all, lambda entry: str(getattr(entry.row, report.axis)))
        for value in sorted(sides, key=lambda value: value != report.value):
            found += writer.of_side(sides[value], sides.get(report.value, []), value)
    return found


def _entry(row: BenchmarkRow) -> _Entry | None:
    own = own_columns(row)
    if "workload" not in own:
        return None
    try:
        of_row = str(own["workload"]), int(own["count"]), own.get("modules"), own.get("passes")
        of_model = ModelTime.of(own), own.get("flow")
    except (ValueError, TypeError, KeyError, OverflowError):  # none of a workload
        return None
    if of_row[1] < 1:
        return None
    return _Entry(row, cost_of(row) if row.status == "ok" else None, *of_row, *of_model)


class _Writer:
    """Writes the lines of a bill."""

    def __init__(
        self, speedup_of: Mapping[str, Speedup], rounds: Rounds, report: Report, models: Models
    ) -> None:
        self._speedup_of, self._rounds, self._report = speedup_of, rounds, report
        self._models = models

    def of_side(self, side: Sequence[_Entry], base: Sequence[_Entry], value: str) -> list[Charge]:
        """The lines of one side, with what each saves against the baseline's."""
        base_of = {entry.call: entry for entry in base if entry.cost is not None}
        calls = [entry for entry in side if not entry.passes]
        whole = [entry for entry in side if entry.passes]
        if not calls:
            return []
        timed_whole = [entry for entry in whole if entry.cost]
        total = self._sum(calls, timed_whole, base_of, value)
        lines = [self._line(entry, base_of, value, total.total_s) for entry in calls]
        parts: list[Charge] = []
        if len(timed_whole) == 1:
            (model,) = timed_whole
            pairs = zip(lines, calls, strict=True)
            lines = [_within(line, entry, model) for line, entry in pairs]
            parts = self._parts(total, model, calls)
        lines.sort(key=lambda line: -(line.total_s or 0.0))
        of_model = [self._line(entry, base_of, value) for entry in whole]
        return [total, *of_model, *parts, *self._plans(total, side, base), *lines]

    def _plans(self, total: Charge, side: Sequence[_Entry], base: Sequence[_Entry]) -> list[Charge]:
        """What a pass takes with its transfers, all calls on this device or the best choice."""
        flows = [entry.flow for entry in base if entry.passes and entry.flow]
        here = {entry.name: entry for entry in base if not entry.passes and entry.cost}
        there = {entry.name: entry for entry in side if not entry.passes and entry.cost}
        is_baseline = total.other == self._report.value
        if self._report.axis != "device" or len(flows) != 1 or not (here and there) or is_baseline:
            return []
        ways = both_ways(next(iter(there.values())).row, self._models)
        if ways is None:
            return []
        from runner.analysis.plan import (  # which loads a library of graphs
            best_plan,
            flow_of,
            transfers_s,
        )

        flow = flow_of(flows[0])
        here_s = {name: entry.total_s for name, entry in here.items()}
        there_s = {name: entry.total_s for name, entry in there.items()}
        best = best_plan(here_s, there_s, flow, ways)
        plans = zip(PLANS, (there.keys() & here.keys(), best), strict=True)
        lines = []
        for part, moved in plans:
            after = [there[name] if name in moved else here[name] for name in here]
            moving_s = transfers_s(flow, moved, ways)
            line = self._blank(side[0], total.other, part)
            line = replace(
                line,
                op=total.op,
                size=total.size,
                moved=" ".join(sorted(moved)),
                count=sum(entry.count for entry in after),
                total_s=sum(entry.total_s for entry in after) + moving_s,
                transfers_s=moving_s,
            )
            lines.append(self._against(line, list(here.values()), after, moving_s))
        return lines

    def _parts(self, total: Charge, whole: _Entry, calls: Sequence[_Entry]) -> list[Charge]:
        """What the model's time is made of beside the sum, the unexplained rest as the last.

        None of these where its own time says little.
        """
        if is_disturbed(whole.row) or total.of_model is None:
            return []
        timed = frozenset(entry.name for entry in calls if entry.cost is not None)
        shares = whole.within.shares(whole.total_s, total.of_model, timed)
        blank = self._blank(whole, total.other, "")
        blank = replace(blank, op=total.op, size=total.size)
        return [
            replace(blank, part=part, of_model=share, total_s=share * whole.total_s)
            for part, share in shares.items()
        ]

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
            # their times on their own are of other moments, and would say something else
            of_model = self._rounds.ratio(timed, whole)
            if of_model is not None:
                line = replace(line, of_model=of_model.value, of_model_low=of_model.low)
                line = replace(line, of_model_high=of_model.high)

        # against the baseline, of the calls that both sides have
        both = [entry for entry in timed if entry.call in base_of]
        if value == self._report.value or not both:
            return line
        return self._against(line, [base_of[entry.call] for entry in both], both)

    def _against(
        self,
        line: Charge,
        before: Sequence[_Entry],
        after: Sequence[_Entry],
        further_s: float = 0.0,
    ) -> Charge:
        """A line with the ratio of some calls to others, which take so many seconds more."""
        line = replace(line, **_saved(before, after, further_s))
        ratio = self._rounds.ratio(before, after, further_s)
        if ratio is None:
            after_s = (line.baseline_total_s or 0.0) - (line.saved_s or 0.0)
            speedup = (line.baseline_total_s or 0.0) / after_s
            return replace(line, speedup=speedup, reason=NO_ROUNDS)
        return replace(
            line,
            speedup=ratio.value,
            low=ratio.low,
            high=ratio.high,
            visits=ratio.visits,
            verdict=ratio.verdict(self._report.same_within),
            reason=ratio.withheld,
        )

    def _blank(self, entry: _Entry, value: str, part: str) -> Charge:
        known: dict[str, Any] = {name: getattr(entry.row, name) for name in AXES}
        known |= {"workload": entry.workload, "part": part, "node": entry.row.node, "other": value}
        return Charge(**known, axis=self._report.axis, baseline=self._report.value)


def _within(line: Charge, entry: _Entry, whole: _Entry) -> Charge:
    """The line of a call, with what it takes where the model makes it."""
    seconds = whole.within.calls_s.get(entry.name)
    return line if seconds is None else replace(line, in_model_s=seconds / entry.count)


def _saved(
    before: Sequence[_Entry], after: Sequence[_Entry], further_s: float = 0.0
) -> dict[str, Any]:
    before_s, after_s = (sum(entry.total_s for entry in of) for of in (before, after))
    return {"baseline_total_s": before_s, "saved_s": before_s - after_s - further_s}


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
    said: list[Sentence] = []
    if total.speedup is not None:
        both = [line for line in calls if line.saved_s is not None]
        before_s, saved_s = total.baseline_total_s or 0.0, total.saved_s or 0.0
        values: dict[str, object] = {"before": before_s, "after": before_s - saved_s}
        values |= {**sides, "ratio": Estimate(total.speedup, total.low, total.high)}
        values |= {"count": len(both), "of": len(calls)}
        said.append(
            Sentence("bill_moves" if len(both) == len(calls) else "bill_moves_some", values)
        )
        said.append(_fewest("bill_decide", calls, lambda line: abs(line.saved_s or 0.0), {}))
        losing = [line for line in calls if line.verdict == "slower"]
        said += [_naming("bill_lose", losing, {})] if losing else []
        said += _planned(lines, sides)
    else:
        values = {**sides, "after": total.total_s}
        said.append(_fewest("bill_most", calls, lambda line: line.total_s or 0.0, values))
    for model in (line for line in lines if line.part == "model"):
        share = Estimate(total.of_model or 0.0, total.of_model_low, total.of_model_high)
        values = {**sides, "share": share}
        parts = {line.part: line.of_model for line in lines if line.part in (*PARTS, UNEXPLAINED)}
        key = "bill_parts" if UNEXPLAINED in parts else "bill_model"
        values |= parts
        said += [Sentence(key, values, (model.cell or "",))] if total.of_model else []
        if parts.get("page_faults") is not None:  # blank where the platform does not count them
            said.append(Sentence("bill_pages", values))
    left = [line for line in calls if line.total_s is None]
    said += [_naming("bill_missing", left, {**sides, "count": total.missing})] if left else []
    return said


def _planned(lines: Sequence[Charge], values: Mapping[str, object]) -> list[Sentence]:
    """What is best to be moved, with the transfers counted."""
    said = []
    for line in (line for line in lines if line.part in PLANS):
        ratio = Estimate(line.speedup or 0.0, line.low, line.high)
        moved = (line.moved or "").split()
        told = {**values, "before": line.baseline_total_s, "after": line.total_s}
        told |= {"ratio": ratio, "transfers": line.transfers_s}
        told |= {"count": len(moved), "named": first_of(moved, NAMED_AT_MOST)}
        key = f"bill_{line.part}" if moved else "bill_none_moved"
        said.append(Sentence(key, told))
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
