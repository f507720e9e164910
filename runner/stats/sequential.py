"""The typical ratio of a pair that is looked at again and again, with an interval that still holds.

Each look at growing data is one more chance of a false claim, so that the looks share one error
(alpha spending: Lan and DeMets, Biometrika 70, 1983; here by the union bound, which holds however
the looks depend on each other). Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median

from runner.stats.intervals import median_interval

ERROR = 0.05  # of all looks together
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


def paired_ratio(
    log_ratios: Sequence[Sequence[float]], margin: float, *, is_last: bool = True
) -> PairedRatio:
    """The typical ratio of visits, of which logarithms are given, in one process or in several.

    The interval is that of the sign test, which asks nothing of the visits' distribution but that
    each is as likely above the true ratio as below. What differs between processes makes the visits
    of each alike, so that where the processes' own intervals exclude each other's medians, the
    interval reaches over all of theirs. ``margin`` is the relative difference up to which two sides
    count as the same; after the last visits what is left of the error may be spent.
    """
    processes = [sorted(process) for process in log_ratios]
    pooled = sorted(chain.from_iterable(processes))
    share, remaining = errors_at(len(pooled))
    low, high = _interval(pooled, processes, share)
    error = share
    if is_last and verdict_of(low, high, margin) == "unclear":
        error = remaining
        low, high = _interval(pooled, processes, error)
    p_value = min(1.0, _sign_test(pooled, math.log1p(margin)) * ERROR / error)
    value = math.exp(median(pooled))
    return PairedRatio(value, low, high, p_value, len(pooled), len(processes))


def _interval(
    pooled: Sequence[float], processes: Sequence[Sequence[float]], error: float
) -> tuple[float | None, float | None]:
    ends = median_interval(pooled, error)
    if ends is None:
        return None, None
    if len(processes) > 1:
        ends = _over_processes(ends, processes, error)
    return math.exp(ends[0]), math.exp(ends[1])


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


def _over_processes(
    ends: tuple[float, float], processes: Sequence[Sequence[float]], error: float
) -> tuple[float, float]:
    """The pooled interval, or one over all processes' own where they contradict each other."""
    own = [median_interval(process, error) for process in processes]
    middles = [median(process) for process in processes]
    known = [interval for interval in own if interval is not None]
    lows, highs = [low for low, _ in known], [high for _, high in known]
    if not known or (max(lows) <= min(middles) and max(middles) <= min(highs)):
        return ends
    return min(ends[0], *lows), max(ends[1], *highs)


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
