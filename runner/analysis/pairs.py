"""The visits of a run's pairs: their ratios, and what this machine varies between moments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from statistics import median

from runner.rows.rows import PairVisit, grouped
from runner.stats.estimate import Estimate
from runner.stats.intervals import quantile
from runner.stats.sequential import PairedRatio, log_ratios, paired_ratio

BEST = 0.05  # quantile of a side's times that stands for the machine at its best
SLOWDOWNS_WITHIN = 0.95  # of all visits' slowdowns
FEWEST_CALM = 10  # visits of a pair: fewer tell too little
FEWEST_VISITS = 40  # of all pairs together, before anything is said of moments


def _ratio(visits: Sequence[PairVisit], margin: float) -> PairedRatio:
    times_of = attrgetter("baseline_s", "other_s")
    by_process = grouped(visits, attrgetter("process")).values()
    return paired_ratio([log_ratios(list(map(times_of, of)), 1) for of in by_process], margin)


class Pairs:
    """The visits of all of a run's pairs."""

    def __init__(self, visits: Iterable[PairVisit]) -> None:
        sides_of = attrgetter("baseline_cell", "other_cell")
        self._visits: dict[tuple[str, str], list[PairVisit]] = grouped(visits, sides_of)

    def ratio(self, baseline_cell: str, other_cell: str, margin: float) -> PairedRatio | None:
        """The baseline's time over the other side's; None where they were not measured in turn.

        It is that of undisturbed visits in calm moments. Where these were few, it is that of all
        undisturbed ones, and unless the calm ones agree, its interval holds what slowness changes:
        a slow machine may slow one side alone by as much as it is slow.
        """
        visits = self._visits.get((baseline_cell, other_cell))
        if not visits:
            return None
        undisturbed = [visit for visit in visits if visit.undisturbed]
        calm = [visit for visit in undisturbed if visit.calm]
        if len(calm) >= FEWEST_CALM:
            return _ratio(calm, margin)
        if len(undisturbed) < min(FEWEST_CALM, len(visits)):
            return replace(_ratio(visits, margin), low=None, high=None)
        ratio = _ratio(undisturbed, margin)
        if ratio.low is None or ratio.high is None:
            return ratio
        if calm and ratio.low <= _ratio(calm, margin).value <= ratio.high:
            return ratio
        slowdowns = [v.machine_slowdown for v in undisturbed if v.machine_slowdown is not None]
        if not slowdowns:
            return replace(ratio, low=None, high=None)
        slowdown = median(slowdowns)
        return replace(ratio, low=ratio.low / slowdown, high=ratio.high * slowdown)

    def as_it_came(self, baseline_cell: str, other_cell: str) -> tuple[float, int] | None:
        """The median ratio of all visits, of slow moments too, and their number."""
        visits = self._visits.get((baseline_cell, other_cell))
        return (_ratio(visits, 0.0).value, len(visits)) if visits else None

    @cached_property
    def slowdown(self) -> float | None:
        """How many times slower than at its best this machine was in most visits; None: too few."""
        slowdowns: list[float] = []
        for visits in self._visits.values():
            calm = [visit for visit in visits if visit.calm and visit.undisturbed] or visits
            for side in ("baseline_s", "other_s"):
                times = sorted(map(attrgetter(side), calm))
                best = quantile(times, BEST)
                slowdowns += [seconds / best for seconds in times if best > 0]
        if len(slowdowns) < 2 * FEWEST_VISITS:
            return None
        return max(1.0, quantile(sorted(slowdowns), SLOWDOWNS_WITHIN))

    def of_two_moments(self, ratio: Estimate) -> Estimate:
        """A ratio of times not taken in turn, its interval widened by what moments may change."""
        if self.slowdown is None or ratio.low is None or ratio.high is None:
            return Estimate(ratio.value)
        return Estimate(ratio.value, ratio.low / self.slowdown, ratio.high * self.slowdown)
