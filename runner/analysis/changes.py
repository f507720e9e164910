"""A cell in two runs: ``compare.csv``. Did it become slower, and did what was checked change?

The two runs are of two moments, so that a cell's interval also holds what times vary between runs
though nothing else differs. That is read from the runs themselves: from the spread of cells' times
over several runs of one side, or with one run a side from the spread of all cells' changes, most
cells being as they were. Normal distributions on natural logarithms; pure functions.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from statistics import fmean, median
from typing import NamedTuple

from runner.analysis.comparison import (
    FORBIDDING,
    OF_MOMENTS,
    claimed_together,
    cost_of,
    objection,
)
from runner.analysis.operation_changes import (
    LogTimes,
    OperationChange,
    hypotheses,
    names_of,
    operation_changes,
)
from runner.analysis.pairs import Pairs
from runner.analysis.spread import Spread
from runner.config.axes import AXES, CellKey, label, values_of
from runner.config.schema import Compare
from runner.rows.flags import has_failed_check
from runner.rows.other_schemas import json_object
from runner.rows.rows import NON_FAILURES, STATUSES, BenchmarkRow, grouped
from runner.stats.estimate import Estimate
from runner.stats.log_estimate import REACH, LogEstimate
from runner.stats.sequential import PairedRatio, smallest_difference, verdict_of

GATE_ERROR = 0.01  # of all claims of a comparison together, see :func:`hypotheses`
ENOUGH = 0.9  # of the cells, which have to be able to show what the gate is for
WORSE = ("timeout", "out_of_memory")  # statuses that a cell which was ok has become worse by
NOTABLE = {
    "max_relative_error": (1e-12, 4.0),
    "peak_memory_bytes": (2**20, 1.5),
    "saved_bytes": (1, 1.0),
    "page_faults": (256, 1.5),
    "instructions": (1, 1.01),
}
"""Columns whose change is named, from which value on, and from which factor on."""

PASSING = {
    *("contended", "slow_machine", "slow_memory", "single_call", "throttled", "uneven"),
    *("multimodal", "placement"),
}
"""Flags that depend on the moment."""

LASTING = {*STATUSES[1:], *FORBIDDING}.difference(PASSING)
"""Statuses and flags without a time to compare, which other moments would not change."""

key_of = values_of(*AXES, "variant")


@dataclass(frozen=True, kw_only=True)
class Change(CellKey):
    """A row of ``compare.csv``: a cell before and after. Intervals are of 95 %."""

    size: str
    variant: str | None
    node: str | None  # the machine that the later rows name
    before_cell: str | None  # identity of the earlier cell; blank where there is none
    after_cell: str | None  # identity of the later cell; blank where there is none
    before_runs: int = 0  # number of earlier runs with a time that can be trusted
    after_runs: int = 0  # number of later runs with such a time
    before_s: float | None = None  # seconds of a call, the geometric mean over the earlier runs
    after_s: float | None = None  # seconds of a call, the geometric mean over the later runs
    speedup: float | None = None  # before_s / after_s: below 1 it became slower
    # lower end of its interval; blank where it is unknown how much equal runs differ
    low: float | None = None
    high: float | None = None  # upper end of its interval
    # the smallest relative difference that these runs would have shown
    smallest_difference: float | None = None
    # p value of the hypothesis that the cell did not change, adjusted for all cells
    adjusted_p: float | None = None
    # faster, slower, same or unclear; blank where nothing can be compared
    verdict: str | None = None
    reason: str | None = None  # why nothing can be compared, or a ratio has no interval
    # what else changed, such as ``status ok to crashed; gradient pass to fail``
    changed: str | None = None
    became_wrong: bool = False  # whether the cell, or a check of it, fails and did not before
    # why it can no longer be compared, or its gradient be told right, as it could before
    lost: str | None = None
    is_slower: bool = False  # whether it is surely slower by more than the gate allows
    # machine instructions of a call, the fewest of the earlier runs
    before_instructions: int | None = None
    after_instructions: int | None = None  # the same of the later runs
    # after_instructions / before_instructions: above 1 it became more; blank where they were not
    # counted on both sides, and by the same
    instructions_ratio: float | None = None
    has_more_instructions: bool = False  # whether they became more by more than the gate allows
    # whether any two runs of it could have a ratio
    is_comparable: bool = field(default=True, metadata={"column": False})
    # the speed-up's logarithm with its standard deviation; None: that is not known
    estimate: LogEstimate | None = field(default=None, metadata={"column": False})

    @property
    def is_on_both_sides(self) -> bool:
        """Whether both sides have the cell."""
        return self.before_cell is not None and self.after_cell is not None

    @property
    def label(self) -> str:
        """The cell in a few words."""
        return label("benchmark", self)


Runs = Sequence[Sequence[BenchmarkRow]]


class Changes(NamedTuple):
    """What two sides differ in."""

    cells: list[Change]  # in the order of the later runs; those that are gone come last
    operations: list[OperationChange]


def changes(
    before: Runs,
    after: Runs,
    *,
    margin: float,
    slower_than: float,
    more_instructions: float = Compare.more_instructions,
    pairs: Pairs | None = None,
) -> Changes:
    """Each cell of either side, and each operation that several cells tell of.

    Args:
        before: the rows of each run of the earlier side.
        after: the same of the later side.
        margin: the smallest relative difference that counts.
        slower_than: the relative difference that the gate allows: what is surely slower is named.
        more_instructions: the same of counted instructions.
        pairs: the visits of cells that both sides took in turn: of one command, so that a cell's
            identity is the same on both, while the threads that it leaves to torch may differ.
    """
    key: Callable[[BenchmarkRow], object] = key_of if pairs is None else attrgetter("cell")
    earlier, later = ([grouped(run, key) for run in runs] for runs in (before, after))
    sides: list[tuple[_Side, _Side]] = []
    ratios: list[PairedRatio | None] = []  # of those that took turns
    for name in dict.fromkeys(chain.from_iterable([*later, *earlier])):
        cell = next((run[name][0].cell for run in earlier if name in run), "")
        ratio = pairs.ratio(cell, cell, margin) if pairs is not None else None
        if ratio is not None and ratio.withheld:  # it names nothing, whatever its interval
            ratio = ratio.without_interval()
        ratios.append(ratio)
        but = OF_MOMENTS if ratios[-1] is not None else ()
        old, new = (_Side.of([run.get(name, []) for run in runs], but) for runs in (earlier, later))
        sides.append((old, new))

    # in two environments what took no turns has no verdict: the others tell nothing of two moments
    spread = _between_runs(sides) if pairs is None else None
    between = _between_processes(sides, ratios)
    found, of_operations = [], []
    for pair, ratio in zip(sides, ratios, strict=True):
        change = _change(*pair, spread, margin)
        if ratio is not None:
            change = _paired(change, ratio, between, margin)
        found.append(_counted(change, *pair, more_instructions))
        of_operations += _log_times(change, *pair, ratio, spread)
    all_cells = Counter(names_of(change) for change in found if change.is_on_both_sides)
    operations = operation_changes(of_operations, all_cells, margin, in_turn=pairs is not None)
    return _gated(claimed_together(found), claimed_together(operations), slower_than)


class _Side(NamedTuple):
    """A cell's rows on one side, and the estimates and logarithms of its trusted times."""

    rows: Sequence[BenchmarkRow]
    costs: Sequence[Estimate]
    runs: Sequence[int]  # the number of the run that each time is of
    logs: Sequence[float]  # natural logarithms of seconds a call

    @classmethod
    def of(cls, runs: Runs, but: Sequence[str] = ()) -> _Side:
        rows, costs, numbers = list[BenchmarkRow](), list[Estimate](), list[int]()
        for number, run in enumerate(runs):
            rows += run
            trusted = (row for row in run if not objection(row, but))
            costs += [cost for row in trusted if (cost := cost_of(row)) is not None]
            numbers += [number] * (len(costs) - len(numbers))
        return cls(rows, costs, numbers, [math.log(cost.value) for cost in costs])

    @property
    def mean(self) -> float:
        return fmean(self.logs)

    @property
    def within(self) -> float:
        """The standard deviation of the mean of the logarithms, by the times' own intervals."""
        known = [cost for cost in self.costs if cost.low and cost.high]
        halves = [math.log(cost.high / cost.low) / (2 * REACH) for cost in known]  # type: ignore[operator]
        return math.sqrt(fmean(half**2 for half in halves) / len(self.logs)) if halves else 0.0


def _change(before: _Side, after: _Side, spread: Spread | None, margin: float) -> Change:
    """A cell's change, without what the other cells say of it."""
    one = (after.rows or before.rows)[-1]
    first, latest = next(iter(before.rows), None), next(iter(after.rows), None)
    last = next(filter(_is_wrong, after.rows), latest)  # whichever of the runs it was
    differences = what_changed(first, last) if first and last else []
    change = Change(
        **{name: getattr(one, name) for name in AXES},
        variant=one.variant,
        node=one.node,
        before_cell=first.cell if first else None,
        after_cell=last.cell if last else None,
        before_runs=len(before.logs),
        after_runs=len(after.logs),
        before_s=math.exp(before.mean) if before.logs else None,
        after_s=math.exp(after.mean) if after.logs else None,
        reason=_reason(before, after),
        changed="; ".join(differences) or None,
        became_wrong=bool(
            first and last and _is_wrong(last) and not any(map(_is_wrong, before.rows))
        ),
        is_comparable=not _is_never_timed(before.rows, after.rows),
    )
    change = replace(change, lost=None if change.became_wrong else _lost(before, after))
    if change.reason is not None:
        return change

    speedup = before.mean - after.mean
    change = replace(change, speedup=math.exp(speedup), verdict="unclear")
    if spread is None:
        return change
    own = math.hypot(before.within, after.within)
    deviation = spread.of_means(math.exp(before.mean), (before.logs, after.logs), own)
    estimate = LogEstimate(speedup, deviation + spread.common / REACH)
    low, high = estimate.low, estimate.high
    return replace(
        change,
        low=low,
        high=high,
        smallest_difference=smallest_difference(math.exp(speedup), low, high, margin),
        adjusted_p=estimate.p_value(margin),
        verdict=verdict_of(low, high, margin),
        estimate=estimate,
    )


def _between_runs(sides: Sequence[tuple[_Side, _Side]]) -> Spread | None:
    """What times of equal sides vary by from run to run; None: too few to tell."""
    both = [pair for pair in sides if pair[0].logs and pair[1].logs]
    own = median([math.hypot(before.within, after.within) for before, after in both] or [0.0])
    logs = [(before.logs, after.logs) for before, after in sides]
    firsts = [(after.rows or before.rows)[0] for before, after in sides]
    return Spread.between_runs(logs, own, [(row.op, row.impl, row.device) for row in firsts])


def _between_processes(
    sides: Sequence[tuple[_Side, _Side]], ratios: Sequence[PairedRatio | None]
) -> Spread | None:
    """What ratios of equal sides vary by from process to process; None: too few to tell."""
    return Spread.between_processes(
        [
            (math.exp(before.mean), list(map(math.log, ratio.middles)))
            for (before, _), ratio in zip(sides, ratios, strict=True)
            if before.logs and ratio is not None and _is_of_visits(ratio)
        ]
    )


def _is_of_visits(ratio: PairedRatio) -> bool:
    """Whether it has an interval, which is of its visits alone."""
    return ratio.low is not None and not ratio.is_widened


def _paired(change: Change, ratio: PairedRatio, between: Spread | None, margin: float) -> Change:
    """A change with what its visits say: a row of ``ab.csv``."""
    if change.speedup is None or change.before_s is None:
        return change
    low, high = ratio.low, ratio.high
    return replace(
        change,
        speedup=ratio.value,
        low=low,
        high=high,
        smallest_difference=smallest_difference(ratio.value, low, high, margin),
        adjusted_p=None if low is None else ratio.p_value,
        verdict=verdict_of(low, high, margin),
        reason=ratio.withheld,
        estimate=_of_turns(ratio, change.before_s, between),
    )


def _of_turns(ratio: PairedRatio, seconds: float, between: Spread | None) -> LogEstimate | None:
    """What a gate takes a cell's ratio for; None where it has no interval.

    A gate asks for a certainty that the few processes of one cell cannot give: what they vary by is
    taken from all cells, and from its own where that is more. Of too few cells it is not known.
    """
    if ratio.low is None or ratio.high is None:
        return None
    of_visits = LogEstimate.of_interval(ratio.value, ratio.low, ratio.high)
    if not ratio.middles:
        return of_visits
    logs = list(map(math.log, ratio.middles))
    if between is None:
        mean = math.exp(fmean(logs))
        return LogEstimate.of_interval(mean, ratio.low, ratio.high, ratio.freedom)
    deviation = between.of_means(seconds, [logs])
    if ratio.is_widened:
        deviation = max(deviation, of_visits.deviation)
    return LogEstimate(fmean(logs), deviation)


def _log_times(
    change: Change,
    before: _Side,
    after: _Side,
    ratio: PairedRatio | None,
    spread: Spread | None,
) -> list[LogTimes]:
    """What a cell tells of its operation; nothing of a slow machine, or of turns in one process."""
    if change.estimate is None or change.before_s is None:
        return []
    names, deviation = names_of(change), change.estimate.deviation
    if spread is not None:
        old, new = (dict(zip(side.runs, side.logs, strict=True)) for side in (before, after))
        return [LogTimes(names, old, new, deviation - spread.common / REACH)]
    if ratio is None or not ratio.middles or not _is_of_visits(ratio):
        return []
    seconds = math.log(change.before_s)
    numbered = zip(ratio.numbers, ratio.middles, strict=True)
    of_processes = {number: seconds - math.log(middle) for number, middle in numbered}
    return [LogTimes(names, {0: seconds}, of_processes, deviation)]


def _counted(change: Change, before: _Side, after: _Side, allowed: float) -> Change:
    """A change with the fewest instructions of each side, which hardly vary between moments."""
    old, new = _fewest(before.rows), _fewest(after.rows)
    shared = next((counter for counter in new if counter in old), "")  # they count differently
    was, now = (counts.get(shared) or next(iter(counts.values()), None) for counts in (old, new))
    said = replace(change, before_instructions=was, after_instructions=now)
    if not (shared and was and now):
        return said
    ratio = now / was
    return replace(said, instructions_ratio=ratio, has_more_instructions=ratio > 1 + allowed)


def _fewest(rows: Sequence[BenchmarkRow]) -> dict[str, int]:
    """The fewest instructions of rows by what counted them, that of the last row first."""
    counted = [row for row in reversed(rows) if row.instructions]
    of_counter = grouped(counted, lambda row: str(row.instructions_by))
    return {by: min(row.instructions or 0 for row in of) for by, of in of_counter.items()}


def _reason(before: _Side, after: _Side) -> str | None:
    """Why a cell's times cannot be compared."""
    for side, name in ((before, "before"), (after, "after")):
        if not side.rows:
            return f"it was not measured {name}"
        if not side.logs:
            return f"{name}: {objection(side.rows[-1]) or 'was not timed'}"
    return None


def _lost(before: _Side, after: _Side) -> str | None:
    """Why a cell tells less than before, for a reason that no other moment would change."""
    lacking = [row for row in after.rows if {row.status, *row.flags} & LASTING]
    if before.logs and lacking and not after.logs:
        return objection(lacking[-1], tuple(PASSING))
    old, new = ({row.gradient for row in side.rows} for side in (before, after))
    untold = [word for word in ("inconclusive", "unsupported") if new == {word}]
    return f"its gradient is {untold[0]}" if untold and old == {"pass"} else None


def _is_never_timed(before: Sequence[BenchmarkRow], after: Sequence[BenchmarkRow]) -> bool:
    """Whether what forbids a ratio is the same in all rows, or there was nothing right before."""
    words = [{row.status, *row.flags} & LASTING for row in (*before, *after)]
    return bool(set.intersection(*words)) or (bool(before) and all(map(_is_wrong, before)))


def _gated(
    cells: Sequence[Change], operations: Sequence[OperationChange], slower_than: float
) -> Changes:
    """With those marked that are surely slower than allowed, all claims together at 1 %.

    Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    estimates = [change.estimate for change in cells]
    estimates += [change.estimate for change in operations]
    p_values = {
        position: estimate.p_slower(slower_than)
        for position, estimate in enumerate(estimates)
        if estimate is not None
    }
    is_slower = [False] * len(estimates)
    count = hypotheses(change for change in cells if change.estimate)
    ranked = sorted(p_values, key=p_values.__getitem__)
    for rank, position in enumerate(ranked):
        if p_values[position] > GATE_ERROR / (count - rank):
            break
        is_slower[position] = True
    flags = iter(is_slower)
    return Changes(
        [replace(change, is_slower=next(flags)) for change in cells],
        [replace(change, is_slower=next(flags)) for change in operations],
    )


def _is_wrong(row: BenchmarkRow) -> bool:
    """Whether the cell failed, or a check of it, or whether it takes more than it may."""
    return has_failed_check(row.flags) or row.status in WORSE or row.status not in NON_FAILURES


def what_changed(before: BenchmarkRow, after: BenchmarkRow) -> list[str]:
    """What of two rows of a cell differs beside its time."""
    said = []
    for name in ("status", "threads", "gradient", "checked"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            said.append(f"{name} {old or 'blank'} to {new or 'blank'}")

    notable = dict(NOTABLE)
    if (old := before.instructions_by) and (new := after.instructions_by) and old != new:
        said.append(f"instructions_by {old} to {new}")
        del notable["instructions"]

    # numbers that are never twice the same have to differ by more than they do for no reason
    for name, (least, factor) in notable.items():
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None or max(old, new) < least:
            continue
        if max(old, new) > factor * min(old, new):
            said.append(f"{name} {old:.4g} to {new:.4g}")

    for column in ("aten_calls", "kernels"):
        said += _ran_otherwise(column, getattr(before, column), getattr(after, column))

    # what flags a moment is no change
    for words, more, fewer in (("flagged", after, before), ("no longer flagged", before, after)):
        flags = [flag for flag in more.flags if flag not in PASSING.union(fewer.flags)]
        said += [f"{words} {flag}" for flag in flags]
    return said


def _ran_otherwise(column: str, before: str | None, after: str | None) -> list[str]:
    """The first kernel that one of two calls runs more often, and the first that is new."""
    old, new = _counts(before), _counts(after)
    if not old or not new:  # which says that it was not looked at
        return []
    differing = [name for name in {**old, **new} if old.get(name, 0) != new.get(name, 0)]
    added = [name for name in differing if name not in old]
    return [
        f"{column} {name} {old.get(name, 0)} to {new.get(name, 0)}"
        for name in dict.fromkeys(differing[:1] + added[:1])
    ]


def _counts(text: str | None) -> dict[str, int]:
    """How often a call runs each kernel; nothing where the column is blank or has been altered."""
    counts: dict[str, float] = {}
    with suppress(ValueError, TypeError, OverflowError, KeyError, RecursionError):
        # of ``kernels`` the number is a mean over calls, and seconds follow it; of long names only
        # the beginning is there, which several may share
        listed = json_object(text).items() or (line[:2] for line in json.loads(text or "[]"))
        for name, number in listed:
            counts[name] = counts.get(name, 0) + number
        return {name: round(number) for name, number in counts.items()}
    return {}


class Summary(NamedTuple):
    """What a comparison of two runs comes to."""

    both: int  # cells that both sides have
    left_out: int  # of these, those that no two runs could compare
    verdicts: Mapping[str, int]  # how many of those whose times could be compared have each
    geometric_mean: float | None  # of their speed-ups; None where none was compared
    # for each relative difference the share of the others of ``both`` that could have shown it
    could_show: Mapping[float, float]
    compared: float  # the share of these whose times could be compared
    # measured as so much slower, enough of the cells would be named; None: fewer would be
    named_from: float | None


def summary_of(
    found: Changes, differences: Sequence[float], slower_than: float, *, is_cut_short: bool = False
) -> Summary:
    """What the cells say together.

    Args:
        found: the changes of all cells and operations.
        differences: relative ones, of which it is asked how many cells could have shown them.
        slower_than: the relative difference that the gate allows.
        is_cut_short: whether a later run lacks cells that it was to have: those that the earlier
            side alone has are asked too.
    """
    both = [change for change in found.cells if change.is_on_both_sides]
    logs = [math.log(change.speedup) for change in both if change.speedup]
    asked = [change for change in both if change.is_comparable]
    left_out = len(both) - len(asked)
    if is_cut_short:
        asked += [c for c in found.cells if c.is_comparable and not c.after_cell]
    smallest = [change.smallest_difference or math.inf for change in asked]
    shares = {
        difference: sum(least <= difference for least in smallest) / len(asked) if asked else 0.0
        for difference in differences
    }
    verdicts = Counter(change.verdict for change in both if change.verdict)
    mean = math.exp(fmean(logs)) if logs else None
    named_from = _named_from(asked, slower_than)
    compared = sum(change.verdict is not None for change in asked) / len(asked) if asked else 0.0
    return Summary(len(both), left_out, verdicts, mean, shares, compared, named_from)


def _named_from(asked: Sequence[Change], slower_than: float) -> float | None:
    """The least slowdown that would be named in enough of the cells, by Holm's first step."""
    known = [change for change in asked if change.estimate]
    enough = math.ceil(ENOUGH * len(asked))
    if not 0 < enough <= len(known):
        return None
    error = GATE_ERROR / hypotheses(known)
    reaches = sorted(change.estimate.reach(error) for change in known if change.estimate)
    return math.expm1(math.log1p(slower_than) + reaches[enough - 1])
