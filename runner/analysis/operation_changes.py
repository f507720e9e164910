"""An operation in two runs, over all of its cells: ``compare_operations.csv``. Is it slower?

A few percent may be too little to be sure of in any one cell. Together an operation's cells tell
more: the mean of their changes, each weighted by how surely it is known. Something that moves all
cells of an operation in one process or one run moves their mean too. So what equal runs differ by
is read from the means themselves, those of all operations. Normal distributions on logarithms; pure
functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter, mul
from statistics import fmean, stdev
from typing import Any, NamedTuple

from runner.analysis.spread import Spread
from runner.config.axes import AXES, values_of
from runner.rows.rows import grouped
from runner.stats.log_estimate import REACH, LogEstimate
from runner.stats.sequential import verdict_of

names_of = values_of("op", "impl", "device")
"""What names an operation here: its cells differ in anything else."""


class LogTimes(NamedTuple):
    """What is known of a cell's times on both sides, or of an operation's."""

    names: tuple[Any, ...]  # its operation, implementation and device
    before: Sequence[float]  # log seconds of each run; those of turns count as one
    after: Sequence[float]  # the same of the other side; of turns one for each process
    deviation: float  # standard deviation of the speed-up's logarithm

    @property
    def counts(self) -> tuple[int, int]:
        """How many there are, before and after."""
        return len(self.before), len(self.after)


@dataclass(frozen=True, kw_only=True)
class OperationChange:
    """A row of ``compare_operations.csv``: all cells of an operation, before and after.

    Intervals are of 95 %.
    """

    op: str
    impl: str | None
    device: str
    cells: int  # number of its cells that the mean is of
    # mean of their speed-ups, of logarithms, each weighted by how surely it is known: below 1 the
    # operation became slower
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
    def label(self) -> str:
        """The operation in a few words."""
        usual = (None, AXES["impl"].default)
        words = [self.op, self.device]
        if self.impl not in usual:
            words.insert(1, f"impl={self.impl}")
        return " ".join(words)


def operation_changes(
    cells: Sequence[LogTimes], margin: float, *, in_turn: bool
) -> list[OperationChange]:
    """Each operation of which several cells tell; none where too few operations do.

    Args:
        cells: those that have a time on both sides.
        margin: the smallest relative difference that counts.
        in_turn: whether both sides took turns.
    """
    counts = max((cell.counts for cell in cells), default=(0, 0))
    complete = [cell for cell in cells if cell.counts == counts and cell.deviation > 0]
    of_names = {names: of for names, of in grouped(complete, attrgetter("names")).items() if of[1:]}
    means = list(map(_mean, of_names.values()))
    spread = _spread(means, in_turn=in_turn)
    if spread is None:
        return []

    found = []
    for mean, of in zip(means, of_names.values(), strict=True):
        estimate = _estimate(mean, spread, in_turn=in_turn)
        op, impl, device = mean.names
        found.append(
            OperationChange(
                op=op,
                impl=impl,
                device=device,
                cells=len(of),
                speedup=math.exp(estimate.value),
                low=estimate.low,
                high=estimate.high,
                smallest_difference=estimate.smallest_difference(margin),
                adjusted_p=estimate.p_value(margin),
                verdict=verdict_of(estimate.low, estimate.high, margin),
                estimate=estimate,
            )
        )
    return found


def _mean(cells: Sequence[LogTimes]) -> LogTimes:
    """The weighted mean of an operation's cells in each run, or process."""
    weights = [1 / cell.deviation**2 for cell in cells]
    total = sum(weights)

    def of_each(runs: Sequence[Sequence[float]]) -> list[float]:
        return [sum(map(mul, weights, logs)) / total for logs in zip(*runs, strict=True)]

    before, after = (
        of_each([getattr(cell, side) for cell in cells]) for side in ("before", "after")
    )
    return LogTimes(cells[0].names, before, after, 1 / math.sqrt(total))


def _spread(means: Sequence[LogTimes], *, in_turn: bool) -> Spread | None:
    """What the means of equal operations vary by."""
    if in_turn:
        return Spread.between_processes([(math.exp(m.before[0]), m.after) for m in means])
    return Spread.between_runs([(mean.before, mean.after) for mean in means])


def _estimate(mean: LogTimes, spread: Spread, *, in_turn: bool) -> LogEstimate:
    """The speed-up's logarithm; it is no surer than if its cells varied each on its own."""
    seconds = math.exp(fmean(mean.before))
    if in_turn:
        between = max(spread.at(seconds), stdev(mean.after)) / math.sqrt(len(mean.after))
    else:
        between = spread.at(seconds) * math.sqrt(sum(1 / count for count in mean.counts))
    deviation = max(between, mean.deviation) + spread.common / REACH
    return LogEstimate(fmean(mean.before) - fmean(mean.after), deviation)
