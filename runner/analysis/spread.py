"""What times of the same cells vary by between runs though nothing else differs.

Some of it is settled when a process starts, as where its code and data lie (Mytkowicz and others,
"Producing wrong data without doing anything obviously wrong", ASPLOS 2009). That is about the same
time of any call, so that it changes one of a microsecond by several percent and one of a
millisecond hardly. Pure functions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter, itemgetter
from statistics import fmean, median
from typing import NamedTuple

from runner.rows.rows import grouped
from runner.stats.intervals import NORMAL, quantile

FEWEST = 20  # degrees of freedom, or ratios of processes, that say something
USUAL = NORMAL.inv_cdf(0.75)  # standard deviations, beyond which is half of what is drawn
CLEARLY = 3.0  # standard errors of a median: short calls vary more than others
SHORTER = 2.0  # times as long are calls that may vary less for that
HALVINGS = 40
CAUTION = 2.0  # standard errors of a deviation's estimate that are added to it
TAILS = (0.9, 0.95, 0.975, 0.99)  # shares of the differences, beyond which are the largest
FEWEST_BEYOND = 3  # of them
MOST_IN_COMMON = 0.05  # that all cells of two runs may differ by together, though nothing changed


class Difference(NamedTuple):
    """What one time of a cell differs by from another, or from the mean of several."""

    seconds: float  # of a call
    value: float  # of natural logarithms
    group: object = None  # as its operation, which may have changed
    run: object = None  # those of a group may differ alike in it


Sides = Sequence[Sequence[float]]
"""Natural logarithms of a cell's seconds a call in the runs of each side, or in processes."""


def about_mean(seconds: float, logs: Sequence[float]) -> list[Difference]:
    """What several log times of a cell differ by from their mean, as from one that is known."""
    scale, mean = math.sqrt(len(logs) / (len(logs) - 1)), fmean(logs)
    return [Difference(seconds, scale * (value - mean)) for value in logs]


def freedom_of(sides: Sides) -> int:
    """How many degrees of freedom the standard deviation within sides has."""
    return sum(len(logs) - 1 for logs in sides if logs)


def within(sides: Sides) -> float:
    """The standard deviation of a log time within sides; 0 where none has several."""
    squares = chain.from_iterable(_squares(logs) for logs in sides)
    return math.sqrt(sum(squares) / (freedom_of(sides) or math.inf))


def _squares(logs: Sequence[float]) -> list[float]:
    mean = fmean(logs) if logs else 0.0
    return [(value - mean) ** 2 for value in logs]


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a log time between runs, by how long the call takes."""

    relative: float  # of a long call
    seconds: float  # of any call
    common: float = 0.0  # what all cells may differ by together, as from one day to the next
    # what the difference of both sides usually varies by within the runs, which is in the others
    own: float = 0.0

    @classmethod
    def between_runs(
        cls, cells: Sequence[Sides], own: float = 0.0, groups: Sequence[object] = ()
    ) -> Spread | None:
        """That of cells whose log times are given, before and after; None: too few to tell.

        Cells of one of the ``groups`` may change alike, as those of an operation; without them
        nothing is known of how far the largest differences go that are no change.
        """
        group_of = list(groups) or [None] * len(cells)
        changed = _between_sides(cells, group_of)
        middle = median([of.value for of in changed] or [0.0])
        differences, freedom = _within_sides(cells, group_of), sum(map(freedom_of, cells))

        # a difference of two runs varies by twice the variance of one; what little it is for all
        # cells may be another process's
        if freedom < FEWEST:
            of_one = [of._replace(value=(of.value - middle) / math.sqrt(2)) for of in changed]
            differences, freedom = of_one, len(changed)
        if freedom < FEWEST:
            return None
        spread = cls.of(differences, freedom)
        spread = spread.with_tails(_about_medians(differences)) if groups else spread
        return replace(spread, common=min(abs(middle), MOST_IN_COMMON), own=own)

    @classmethod
    def between_processes(
        cls, ratios: Sequence[tuple[float, Sequence[float]]], own: float = 0.0
    ) -> Spread | None:
        """That of log ratios, for each cell the seconds of a call and those of its processes."""
        found = [about_mean(seconds, logs) for seconds, logs in ratios if len(logs) > 1]
        differences = list(chain.from_iterable(found))
        if len(differences) < FEWEST:
            return None
        return replace(cls.of(differences, len(differences) - len(found)), own=own)

    @classmethod
    def of(cls, differences: Sequence[Difference], freedom: int) -> Spread:
        """That of equal cells; some of them may have changed."""
        values = [abs(difference.value) for difference in differences]
        caution = 1 + CAUTION / math.sqrt(freedom)
        alike = cls(median(values) / USUAL, 0.0)
        short, long = _by_length(differences)
        most = max(short, key=alike.excess, default=[])
        if alike.excess(most) <= CLEARLY:
            return cls(caution * alike.relative, 0.0)

        # the long calls tell what is relative, and the short ones what is not
        relative = median(abs(difference.value) for difference in long) / USUAL
        low, high = 0.0, max(abs(of.value) * of.seconds for of in most) / USUAL
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_enough = cls(relative, middle).excess(most) <= 0
            low, high = (low, middle) if is_enough else (middle, high)
        return cls(caution * relative, caution * high)

    def with_tails(self, differences: Sequence[Difference]) -> Spread:
        """The same, or wider where more of the differences are large than are of a normal one.

        Some cells vary by far more than most, as calls that are bound by memory do where a
        machine's caches have two states. What the group has that stands out most, as cells of one
        operation at some sizes, may be a change, and does not count.
        """
        told = [(abs(of.value) / (self.at(of.seconds) or math.inf), of.group) for of in differences]
        largest = sorted(told, key=itemgetter(0))[int(TAILS[0] * len(told)) :]
        ((standing_out, _),) = Counter(map(itemgetter(1), largest)).most_common(1)
        ordered = sorted(deviation for deviation, group in told if group != standing_out)
        shares = [share for share in TAILS if (1 - share) * len(ordered) >= FEWEST_BEYOND]
        factors = [quantile(ordered, share) / NORMAL.inv_cdf((1 + share) / 2) for share in shares]
        factor = max([1.0, *factors])
        return replace(self, relative=factor * self.relative, seconds=factor * self.seconds)

    def at(self, seconds: float) -> float:
        """The standard deviation of a call of so long."""
        return math.hypot(self.relative, self.seconds / seconds)

    def of_means(self, seconds: float, sides: Sides, own: float = 0.0) -> float:
        """The standard deviation of the difference of sides' means, of a call of so long.

        It is no less than the cell's ``own`` within its runs, nor than its times vary by between
        them. What it is more than others within its runs comes on top of what these vary by.
        """
        at = max(self.at(seconds), within(sides))
        between = at * math.sqrt(sum(1 / len(logs) for logs in sides))
        return max(own, math.hypot(between, math.sqrt(max(0.0, own**2 - self.own**2))))

    def excess(self, differences: Sequence[Difference]) -> float:
        """By how many standard errors more they typically are than this; 0 where there are none."""
        deviations = [abs(of.value) / (self.at(of.seconds) or math.inf) for of in differences]
        return (median(deviations or [USUAL]) / USUAL - 1) * math.sqrt(len(deviations))


def _within_sides(cells: Sequence[Sides], groups: Sequence[object]) -> list[Difference]:
    """What each time differs by from the mean of its cell's on its side, of several."""
    found = list[Difference]()
    for group, sides in zip(groups, cells, strict=True):
        for side, logs in enumerate(sides):
            if len(logs) > 1:
                of_side = enumerate(about_mean(math.exp(fmean(logs)), logs))
                found += [of._replace(group=group, run=(side, number)) for number, of in of_side]
    return found


def _between_sides(cells: Sequence[Sides], groups: Sequence[object]) -> list[Difference]:
    """What the means of each cell's two sides differ by, where it has both."""
    return [
        Difference(math.exp(fmean(before)), fmean(after) - fmean(before), group)
        for group, (before, after) in zip(groups, cells, strict=True)
        if before and after
    ]


def _about_medians(differences: Sequence[Difference]) -> list[Difference]:
    """What differences differ by from their group's median in a run, as from one that is known."""
    found = []
    for of_run in grouped(differences, attrgetter("group", "run")).values():
        scale = math.sqrt(len(of_run) / max(1, len(of_run) - 1))
        middle = median(of.value for of in of_run)
        found += [of._replace(value=scale * (of.value - middle)) for of in of_run]
    return found


def _by_length(
    differences: Sequence[Difference],
) -> tuple[list[Sequence[Difference]], Sequence[Difference]]:
    """Those of short calls, of the shorter half of these and so on, and those of long ones.

    The shortest calls, which vary most, may be few. What is not much shorter is not among them.
    """
    ordered = sorted(differences, key=attrgetter("seconds"))
    long = ordered[len(ordered) // 2 :]
    usual_s, short, count = long[len(long) // 2].seconds, list[Sequence[Difference]](), len(ordered)
    while (count := count // 2) >= FEWEST or not short:
        short.append(ordered[:count])
    return [of for of in short if SHORTER * of[-1].seconds <= usual_s], long
