"""What times of the same cells vary by between runs though nothing else differs.

Some of it is settled when a process starts, as where its code and data lie (Mytkowicz and others,
"Producing wrong data without doing anything obviously wrong", ASPLOS 2009). That is about the same
time of any call, so that it changes one of a microsecond by several percent and one of a
millisecond hardly. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist, fmean, median
from typing import NamedTuple

FEWEST = 20  # differences that say something
USUAL = NormalDist().inv_cdf(0.75)  # standard deviations, beyond which is half of what is drawn
CLEARLY = 1.5  # times what is usual: short calls vary more than others
HALVINGS = 40
CAUTION = 2.0  # standard errors of a deviation's estimate that are added to it
MOST_IN_COMMON = 0.05  # that all cells of two runs may differ by together, though nothing changed


class Difference(NamedTuple):
    """What one time of a cell differs by from another, or from the mean of several."""

    seconds: float  # of a call
    value: float  # of logarithms


def about_mean(seconds: float, logs: Sequence[float]) -> list[Difference]:
    """What several log times of a cell differ by from their mean, as from one that is known."""
    scale, mean = math.sqrt(len(logs) / (len(logs) - 1)), fmean(logs)
    return [Difference(seconds, scale * (value - mean)) for value in logs]


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a log time between runs, by how long the call takes."""

    relative: float  # of a long call
    seconds: float  # of any call
    common: float = 0.0  # what all cells may differ by together, as from one day to the next

    @classmethod
    def between_runs(
        cls, sides: Sequence[tuple[Sequence[float], Sequence[float]]]
    ) -> Spread | None:
        """That of cells whose log times are given, before and after; None: too few to tell."""
        repeated = [logs for logs in chain.from_iterable(sides) if len(logs) > 1]
        if len(repeated) >= FEWEST:
            found = [about_mean(math.exp(fmean(logs)), logs) for logs in repeated]
            return cls.of(list(chain.from_iterable(found)))

        # a difference of two runs varies by twice the variance of one; what little it is for all
        # cells may be another process's
        changed = [(fmean(before), fmean(after)) for before, after in sides if before and after]
        if len(changed) < FEWEST:
            return None
        middle = median(after - before for before, after in changed)
        differences = [
            Difference(math.exp(before), (after - before - middle) / math.sqrt(2))
            for before, after in changed
        ]
        return cls.of(differences, common=min(abs(middle), MOST_IN_COMMON))

    @classmethod
    def between_processes(cls, ratios: Sequence[tuple[float, Sequence[float]]]) -> Spread | None:
        """That of log ratios, for each cell the seconds of a call and those of its processes."""
        found = [about_mean(seconds, logs) for seconds, logs in ratios if len(logs) > 1]
        differences = list(chain.from_iterable(found))
        return cls.of(differences) if len(differences) >= FEWEST else None

    @classmethod
    def of(cls, differences: Sequence[Difference], common: float = 0.0) -> Spread:
        """That of equal cells, which are at least :data:`FEWEST`; some of them may have changed."""
        values = [abs(difference.value) for difference in differences]
        caution = 1 + CAUTION / math.sqrt(len(differences))
        alike = cls(median(values) / USUAL, 0.0)
        ordered = sorted(differences)
        short, long = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
        if alike.typical(short) <= CLEARLY * USUAL:
            return cls(caution * alike.relative, 0.0, common)

        # the long calls tell what is relative, and the short ones what is not
        relative = median(abs(difference.value) for difference in long) / USUAL
        low, high = 0.0, max(abs(of.value) * of.seconds for of in short) / USUAL
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_enough = cls(relative, middle).typical(short) <= USUAL
            low, high = (low, middle) if is_enough else (middle, high)
        return cls(caution * relative, caution * high, common)

    def at(self, seconds: float) -> float:
        """The standard deviation of a call of so long."""
        return math.hypot(self.relative, self.seconds / seconds)

    def typical(self, differences: Sequence[Difference]) -> float:
        """The median of how many standard deviations they are."""
        return median(abs(of.value) / (self.at(of.seconds) or math.inf) for of in differences)
