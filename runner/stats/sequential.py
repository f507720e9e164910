"""The typical ratio of a pair that is looked at again and again, with an interval that still holds.

Each look at growing data is one more chance of a false claim, so that the looks share one error
(alpha spending: Lan and DeMets, Biometrika 70, 1983; here by the union bound, which holds however
the looks depend on each other). Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import overload

from runner.stats.intervals import mean_beyond, mean_interval, median_interval

ERROR = 0.05  # of all looks together
SEVERAL = 3  # processes, of which the interval holds that of their mean
LOOKS = (10, 20, 40, 80, 160, 320)
"""The numbers of visits at which a pair is looked at."""
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.25)
"""What each look may spend of the error: little at first, when few visits can be alike by luck."""


@dataclass(frozen=True)
class PairedRatio:
    """A ratio of two times from visits to both sides."""

    value: float  # the median of the visits' ratios
    # low, high: its 95 % interval, whatever the number of looks; None with too few visits for one
    low: float | None
    high: float | None
    p_value: float  # of the hypothesis that the ratio lies within the margin; 1 where it is in it
    visits: int  # how many
    processes: int  # that shared them
    withheld: str | None = None  # why it may not be claimed
    middles: tuple[float, ...] = ()  # each process's own ratio, where there are several
    numbers: tuple[int, ...] = ()  # of the processes, in the same order
    freedom: int | None = None  # of an interval by Student's t its degrees of freedom
    # whether its interval also holds what a slow machine may change, or what calm visits say
    is_widened: bool = False

    def verdict(self, margin: float) -> str:
        """What may be said of the side that it divides by, as :func:`verdict_of`."""
        return "unclear" if self.withheld else verdict_of(self.low, self.high, margin)

    def without_interval(self) -> PairedRatio:
        """The ratio alone, of which nothing is claimed."""
        return replace(self, low=None, high=None, p_value=1.0)


def paired_ratio(
    log_ratios: Sequence[Sequence[float]], margin: float, *, is_last: bool = True
) -> PairedRatio:
    """The typical ratio of visits, of which logarithms are given, in one process or in several.

    The interval is that of the sign test, which asks nothing of the visits' distribution but that
    each is as likely above the true ratio as below. What differs between processes makes the visits
    of each alike, so that the interval also holds what processes differ by (Student's, of three or
    more; of two, their own where they contradict each other). ``margin`` is the
    relative difference up to which two sides count as the same; after the last visits what is left
    of the error may be spent.
    """
    processes = [sorted(process) for process in log_ratios]
    pooled = sorted(chain.from_iterable(processes))
    share, remaining = errors_at(len(pooled))
    found = _tested(pooled, processes, margin, share)
    if is_last and verdict_of(found.low, found.high, margin) == "unclear":
        found = _tested(pooled, processes, margin, remaining)
    return found


def _tested(
    pooled: Sequence[float], processes: Sequence[Sequence[float]], margin: float, error: float
) -> PairedRatio:
    """The ratio where its interval may err by so much."""

    def p_of(ordered: Sequence[float]) -> float:
        return min(1.0, _sign_test(ordered, math.log1p(margin)) * ERROR / error)

    found = PairedRatio(
        math.exp(median(pooled)), None, None, p_of(pooled), len(pooled), len(processes)
    )
    ends = median_interval(pooled, error)
    if ends is None:
        return found
    low, high = map(math.exp, ends)
    if len(processes) == 1:
        return replace(found, low=low, high=high)

    # several processes count, and not their visits
    middles = [math.exp(median(process)) for process in processes]
    found = replace(found, middles=tuple(middles))
    if len(processes) >= SEVERAL:
        ends = mean_interval(middles) or (low, high)
        p_value = max(found.p_value, mean_beyond(middles, margin))
        low, high = min(low, ends[0]), max(high, ends[1])
        return replace(found, low=low, high=high, p_value=p_value, freedom=len(middles) - 1)

    # each of two holds what the other says: their visits are of one ratio
    own = [interval for process in processes if (interval := median_interval(process, error))]
    lows, highs = [math.exp(least) for least, _ in own], [math.exp(most) for _, most in own]
    bottom, top = max(lows, default=0.0), min(highs, default=math.inf)
    if bottom <= min(middles) and max(middles) <= top:
        return replace(found, low=low, high=high)

    # they differ: what is claimed has to hold in each
    low, high = min([low, *lows, *middles]), max([high, *highs, *middles])
    if bottom <= top:
        p_value = max(map(p_of, processes))
        return replace(found, low=low, high=high, p_value=p_value)

    # by so much that they count, and not their visits: those to come may differ as much again
    reached = mean_interval(middles) or (low, high)
    low, high = min(low, reached[0]), max(high, reached[1])
    claimed = verdict_of(low, high, margin) in ("faster", "slower")
    p_value = mean_beyond(middles, margin) if claimed else 1.0
    return replace(found, low=low, high=high, p_value=p_value, freedom=len(middles) - 1)


def log_ratios(seconds: Sequence[Sequence[float]], other: int) -> list[float]:
    """Natural logarithms of the first side's seconds over another one's, for each visit."""
    return [math.log(sides[0] / sides[other]) for sides in seconds]


def verdict_of(low: float | None, high: float | None, margin: float) -> str:
    """Faster, slower, same or unclear: what a ratio's interval says of the side it divides by."""
    if low is None or high is None:
        return "unclear"
    if low > 1 + margin:
        return "faster"
    if high < 1 / (1 + margin):  # the other way round it is as much faster
        return "slower"
    return "same" if low >= 1 / (1 + margin) and high <= 1 + margin else "unclear"


@overload
def smallest_difference(value: float, low: float, high: float, margin: float) -> float: ...


@overload
def smallest_difference(
    value: float, low: float | None, high: float | None, margin: float
) -> float | None: ...


def smallest_difference(
    value: float, low: float | None, high: float | None, margin: float
) -> float | None:
    """The least relative difference that so wide an interval tells from none."""
    if low is None or high is None:
        return None
    return (1 + margin) * max(value / low, high / value) - 1


def errors_at(visits: int) -> tuple[float, float]:
    """What an interval after so many visits may err by, and what it may where it is the last one.

    A look may spend its share, and the last one whatever those before it left.
    """
    before = sum(share for look, share in zip(LOOKS, SHARES, strict=True) if look < visits)
    remaining = ERROR * max(1 - before, SHARES[-1])
    if visits in LOOKS:
        return ERROR * SHARES[LOOKS.index(visits)], remaining
    return remaining, remaining


def _sign_test(ordered: Sequence[float], margin: float) -> float:
    """The two-sided p value of the hypothesis that the median lies within the margin."""
    count = len(ordered)
    above = sum(value > margin for value in ordered)
    below = sum(value < -margin for value in ordered)
    at_least = sum(math.comb(count, heads) for heads in range(max(above, below), count + 1))
    return min(1.0, 2 * at_least / (1 << count))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """P values of claims made together: claimed up to 0.05, at most 5 % of them are chance.

    Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995.
    """
    ranked = sorted(range(len(p_values)), key=lambda position: p_values[position])
    values, least = [0.0] * len(p_values), 1.0
    for rank in range(len(ranked), 0, -1):
        position = ranked[rank - 1]
        least = min(least, p_values[position] * len(p_values) / rank)
        values[position] = least
    return values
