"""The visits of a run's pairs: their ratios, and what this machine varies between moments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import compress
from operator import attrgetter
from statistics import median
from typing import Any

from runner.config.size import first_input_shape
from runner.rows.rows import PairVisit, grouped
from runner.stats.estimate import Estimate
from runner.stats.intervals import mean_beyond, mean_interval, quantile
from runner.stats.sequential import PairedRatio, log_ratios, paired_ratio

BEST = 0.05  # quantile of a side's times that stands for the machine at its best
SLOWDOWNS_WITHIN = 0.95  # of all visits' slowdowns
FEWEST_CALM = 10  # visits of a pair: fewer tell too little
FEWEST_AGREEING = 3  # calm visits: fewer say nothing of whether slow ones agree with them
FEWEST_VISITS = 40  # of all pairs together, before anything is said of moments
WIDEST = 4.0  # slowdown that a paired ratio's interval may hold: with more it would say nothing
WIDEST_OF_MOMENTS = 10.0  # that of a ratio of two moments, which cannot be measured better
DEVICE = ("device_name", "threads")  # what a calibration holds for
SIDES = attrgetter("baseline_s"), attrgetter("other_s")
BUSY = "something kept the machine busy nearly all the time"
SLOW = "the machine was slow nearly all the time, and calm moments do not agree"


def elements_of(size: str) -> int | None:
    """How many elements a first input of this size has; None where the size is none.

    >>> elements_of("64x1024x1024 n=8")
    67108864
    """
    shape = first_input_shape(size)
    return None if shape is None else math.prod(shape)


def _ratio(visits: Sequence[PairVisit], margin: float) -> PairedRatio:
    times_of = attrgetter("baseline_s", "other_s")
    by_process = grouped(visits, attrgetter("process"))
    logs = [log_ratios(list(map(times_of, of)), 1) for of in by_process.values()]
    return replace(paired_ratio(logs, margin), numbers=tuple(by_process))


def _of_few(calm: Sequence[PairVisit], margin: float) -> tuple[float, float, float] | None:
    """The interval of a few calm visits and its p value; None: they are too few to say anything.

    It is that of the sign test, or where they are too few for one Student's.
    """
    if len(calm) < FEWEST_AGREEING:
        return None
    ratios, own = [visit.baseline_s / visit.other_s for visit in calm], _ratio(calm, margin)
    ends = (own.low, own.high) if own.low and own.high else mean_interval(ratios)
    return ends and (*ends, mean_beyond(ratios, margin))


def _slowdown(visits: Sequence[PairVisit]) -> float:
    """How many times slower than at its best the machine was in half of these visits.

    What disturbed one is in its times too, and need not have been there when the machine was read.
    """
    best = {side: quantile(sorted(map(side, visits)), BEST) for side in SIDES}
    told = [
        max(visit.machine_slowdown, *(side(visit) / best[side] for side in SIDES))
        if not visit.undisturbed
        else visit.machine_slowdown
        for visit in visits
        if visit.machine_slowdown is not None
    ]
    return median(told) if told else math.inf


class Pairs:
    """The visits of all of a run's pairs.

    ``calibration`` is what equal sides differed by on this machine, as ``environment.json`` has it.
    """

    def __init__(
        self, visits: Iterable[PairVisit], calibration: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._equal = [line for line in calibration if elements_of(line.get("size") or "")]
        sides_of = attrgetter("baseline_cell", "other_cell")
        self._visits: dict[tuple[str, str], list[PairVisit]] = grouped(visits, sides_of)

    def ratio(self, baseline_cell: str, other_cell: str, margin: float) -> PairedRatio | None:
        """The baseline's time over the other side's; None where they were not measured in turn.

        It is that of undisturbed visits in calm moments. Where these were few, it is that of all
        undisturbed ones, or where these were few too of all, and its interval also holds that of
        the calm ones. Unless they agree, it also holds what slowness changes: a slow machine may
        slow one side alone by as much as it is slow. Where that is too much, it is withheld.
        """
        visits = self._visits.get((baseline_cell, other_cell))
        if not visits:
            return None
        undisturbed = [visit for visit in visits if visit.undisturbed]
        calm = [visit for visit in undisturbed if visit.calm]
        if len(calm) >= FEWEST_CALM:
            return _ratio(calm, margin)
        is_busy = len(undisturbed) < min(FEWEST_CALM, len(visits))
        counted = visits if is_busy else undisturbed
        ratio = _ratio(counted, margin)
        if is_busy and len(visits) < FEWEST_CALM:
            return ratio.without_interval()
        if ratio.low is None or ratio.high is None or len(calm) == len(counted):
            return ratio
        few = _of_few(calm, margin)
        do_agree = few is not None and few[0] <= ratio.high and ratio.low <= few[1]
        slowdown = 1.0 if do_agree else _slowdown(counted)
        if slowdown > WIDEST:
            return replace(ratio.without_interval(), withheld=BUSY if is_busy else SLOW)
        low, high = ratio.low / slowdown, ratio.high * slowdown
        p_value = _ratio(counted, (1 + margin) * slowdown - 1).p_value
        if few is not None:
            low, high, p_value = min(low, few[0]), max(high, few[1]), max(p_value, few[2])
        is_widened = (low, high) != (ratio.low, ratio.high)
        wider = replace(ratio, low=low, high=high, p_value=p_value, is_widened=is_widened)
        if is_busy and not do_agree:
            return replace(wider, p_value=1.0, withheld=BUSY)
        return wider

    def as_it_came(self, baseline_cell: str, other_cell: str) -> PairedRatio | None:
        """The ratio of all visits, of slow moments too."""
        visits = self._visits.get((baseline_cell, other_cell))
        return _ratio(visits, 0.0) if visits else None

    def floor(self, where: tuple[str | None, int | None], op: str, size: str) -> float:
        """What even equal sides differ by on that device with so many threads; 0: not known.

        It is that of the nearest size; where the operation was not calibrated, the most of others.
        """
        here = [line for line in self._equal if tuple(map(line.get, DEVICE)) == where]
        here = [line for line in here if line.get("op") == op] or here
        elements = math.log(elements_of(size) or 1)
        distances = [abs(math.log(elements_of(line["size"]) or 1) - elements) for line in here]
        nearest = min(distances, default=0.0)
        like = compress(here, map(nearest.__eq__, distances))
        return max((line.get("largest_difference") or 0.0 for line in like), default=0.0)

    @cached_property
    def slowdown(self) -> float | None:
        """How many times slower than at its best this machine was in most visits; None: too few."""
        slowdowns: list[float] = []
        told: list[float] = []  # from one pair to the next, where all of a pair's are alike
        for visits in self._visits.values():
            calm = [visit for visit in visits if visit.calm and visit.undisturbed] or visits
            told += [v.machine_slowdown for v in calm if v.machine_slowdown is not None]
            for side in SIDES:
                times = sorted(map(side, calm))
                best = quantile(times, BEST)
                slowdowns += [seconds / best for seconds in times if best > 0]
        if len(slowdowns) < 2 * FEWEST_VISITS:
            return None
        most = max(quantile(sorted(of), SLOWDOWNS_WITHIN) for of in (slowdowns, told or [1.0]))
        return max(1.0, most) if most <= WIDEST_OF_MOMENTS else None

    def of_two_moments(self, ratio: Estimate, known: float = 1.0) -> Estimate:
        """A ratio of times not taken in turn, its interval widened by what moments may change.

        ``known`` is the slowdown that is in these times already. Beyond
        :data:`WIDEST_OF_MOMENTS` there is no interval.
        """
        if self.slowdown is None or ratio.low is None or ratio.high is None:
            return Estimate(ratio.value)
        slowdown = self.slowdown * known
        if slowdown > WIDEST_OF_MOMENTS:
            return Estimate(ratio.value)
        return Estimate(ratio.value, ratio.low / slowdown, ratio.high * slowdown)
