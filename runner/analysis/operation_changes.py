"""An operation in two runs, over all of its cells: ``compare_operations.csv``. Is it slower?

A few percent may be too little to be sure of in any one cell. Together an operation's cells tell
more: the mean of their changes, each weighted by how surely it is known. Something that moves all
cells of an operation in one process or one run moves their mean too. So what equal runs differ by
is read from the means themselves, those of all operations. Normal distributions on natural
logarithms; pure functions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter, mul
from statistics import fmean, median
from typing import Any, NamedTuple

from runner.analysis.spread import Spread
from runner.config.axes import AXES, CellKey, values_of
from runner.rows.rows import grouped
from runner.stats.log_estimate import REACH, LogEstimate
from runner.stats.sequential import smallest_difference, verdict_of

NAMES = ("op", "impl", "device")
"""What names an operation here: its cells differ in anything else."""
LEAST_DEVIATION = 0.5  # of an operation's median one: no cell weighs as if it were surer

names_of = values_of(*NAMES)


class LogTimes(NamedTuple):
    """What is known of a cell's times on both sides, or of an operation's."""

    names: tuple[Any, ...]  # those of its operation, in the order of :data:`NAMES`
    # natural logarithms of seconds a call, by the number of the run; those of turns count as one
    before: Mapping[int, float]
    after: Mapping[int, float]  # the same of the other side; of turns by the number of the process
    # standard deviation of the difference of their means, without what all cells have in common
    deviation: float

    @property
    def runs(self) -> tuple[frozenset[int], frozenset[int]]:
        """The numbers of the runs, before and after."""
        return frozenset(self.before), frozenset(self.after)

    @property
    def seconds(self) -> float:
        """Seconds of a call, the geometric mean before."""
        return math.exp(fmean(self.before.values()))

    @property
    def sides(self) -> tuple[list[float], list[float]]:
        """The logarithms, before and after."""
        return list(self.before.values()), list(self.after.values())


@dataclass(frozen=True, kw_only=True)
class OperationChange:
    """A row of ``compare_operations.csv``: all cells of an operation, before and after.

    Intervals are of 95 %.
    """

    op: str
    impl: str | None
    device: str
    cells: int  # number of its cells that the mean is of
    all_cells: int  # number of its cells that both sides have
    # mean of the speed-ups of ``cells`` cells, of logarithms, each weighted by how surely it is
    # known: below 1 the operation became slower
    speedup: float
    low: float  # lower end of its interval
    high: float  # upper end of its interval
    # the smallest relative difference that the runs would have shown of the mean
    smallest_difference: float
    # p value of the hypothesis that the operation did not change, adjusted for all operations
    adjusted_p: float
    verdict: str  # faster, slower, same or unclear
    is_slower: bool = False  # whether it is surely slower by more than the gate allows
    estimate: LogEstimate = field(metadata={"column": False})

    @property
    def names(self) -> tuple[Any, ...]:
        """The operation, implementation and device."""
        return names_of(self)

    @property
    def of_cells(self) -> str:
        """The number of cells, and of how many where the mean is not of all."""
        return f"{self.cells}" if self.cells == self.all_cells else f"{self.cells}/{self.all_cells}"

    @property
    def label(self) -> str:
        """The operation in a few words."""
        usual = (None, AXES["impl"].default)
        words = [self.op, self.device]
        if self.impl not in usual:
            words.insert(1, f"impl={self.impl}")
        return " ".join(words)


def hypotheses(cells: Iterable[CellKey]) -> int:
    """How many claims a gate makes of cells at most: of each, and of operations with several."""
    of_operations = Counter(map(names_of, cells))
    return of_operations.total() + sum(count > 1 for count in of_operations.values())


def operation_changes(
    cells: Sequence[LogTimes],
    all_cells: Mapping[tuple[Any, ...], int],
    margin: float,
    *,
    in_turn: bool,
) -> list[OperationChange]:
    """Each operation of which several cells tell; none where too few operations do.

    Args:
        cells: those that have a time on both sides.
        all_cells: how many cells both sides have of each operation.
        margin: the smallest relative difference that counts.
        in_turn: whether both sides took turns.
    """
    complete = map(_complete, grouped(cells, attrgetter("names")).values())
    several = [of for of in complete if of[1:]]
    means = list(map(_mean, several))
    spread = _spread(means, in_turn=in_turn)
    if spread is None:
        return []

    found = []
    for mean, of in zip(means, several, strict=True):
        estimate = _estimate(mean, spread, in_turn=in_turn)
        speedup, low, high = math.exp(estimate.value), estimate.low, estimate.high
        op, impl, device = mean.names
        found.append(
            OperationChange(
                op=op,
                impl=impl,
                device=device,
                cells=len(of),
                all_cells=all_cells[mean.names],
                speedup=speedup,
                low=low,
                high=high,
                smallest_difference=smallest_difference(speedup, low, high, margin),
                adjusted_p=estimate.p_value(margin),
                verdict=verdict_of(low, high, margin),
                estimate=estimate,
            )
        )
    return found


def _complete(cells: Sequence[LogTimes]) -> list[LogTimes]:
    """The cells that have all the runs which most of an operation's cells have, and these alone."""
    count_of = Counter(cell.runs for cell in cells)
    before, after = min(count_of, key=lambda runs: (-count_of[runs], sum(map(len, runs))))
    return [
        cell._replace(
            before={number: cell.before[number] for number in sorted(before)},
            after={number: cell.after[number] for number in sorted(after)},
        )
        for cell in cells
        if cell.before.keys() >= before and cell.after.keys() >= after
    ]


def _mean(cells: Sequence[LogTimes]) -> LogTimes:
    """The weighted mean of an operation's cells in each run, or process."""
    positive = [cell.deviation for cell in cells if cell.deviation] or [1.0]
    least = max(min(positive), LEAST_DEVIATION * median(positive))
    deviations = [max(cell.deviation, least) for cell in cells]
    weights = [deviation**-2 for deviation in deviations]
    total = sum(weights)

    def of_each(runs: Sequence[Mapping[int, float]]) -> dict[int, float]:
        return {
            number: sum(map(mul, weights, map(itemgetter(number), runs))) / total
            for number in runs[0]
        }

    before, after = of_each([cell.before for cell in cells]), of_each([c.after for c in cells])
    deviation = 1 / math.sqrt(total) if any(cell.deviation for cell in cells) else 0.0
    return LogTimes(cells[0].names, before, after, deviation)


def _spread(means: Sequence[LogTimes], *, in_turn: bool) -> Spread | None:
    """What the means of equal operations vary by."""
    own = median([mean.deviation for mean in means] or [0.0])
    if not in_turn:
        return Spread.between_runs([mean.sides for mean in means], own)
    return Spread.between_processes([(mean.seconds, mean.sides[1]) for mean in means], own)


def _estimate(mean: LogTimes, spread: Spread, *, in_turn: bool) -> LogEstimate:
    """The speed-up's logarithm; it is no surer than if its cells varied each on its own."""
    before, after = mean.sides
    varying = [after] if in_turn else [before, after]
    deviation = spread.of_means(mean.seconds, varying, mean.deviation) + spread.common / REACH
    return LogEstimate(fmean(before) - fmean(after), deviation)
