"""Confidence intervals of medians and of their ratios, whatever the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from statistics import NormalDist, fmean, stdev
from typing import Any

CONFIDENCE = 0.95
NORMAL = NormalDist()
MOST_TRIALS = 10_000  # of which mpmath knows a rate


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """A quantile of sorted values, interpolated linearly (Hyndman and Fan's type 7)."""
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def spread_of(ordered: Sequence[float]) -> dict[str, Any]:
    """Ends, quartiles, mean and tail of sorted times, by the row's columns."""
    quantiles = {"q1_s": 0.25, "q3_s": 0.75, "p90_s": 0.9, "p99_s": 0.99}
    found = {name: quantile(ordered, fraction) for name, fraction in quantiles.items()}
    return {"min_s": ordered[0], "max_s": ordered[-1], "mean_s": fmean(ordered), **found}


def median_interval(
    ordered: Sequence[float], error: float = 1 - CONFIDENCE
) -> tuple[float, float] | None:
    """The 95 % interval of the median of sorted values, or one with another ``error``.

    The number of values below the median is binomial(n, 1/2) whatever the distribution, so that the
    d-th smallest and the d-th largest value enclose it with a known probability (Conover, Practical
    Nonparametric Statistics, 3.2). No d gives the confidence exactly; between the two nearest ones
    the ends are interpolated (Hettmansperger and Sheather, Statistics & Probability Letters 4,
    1986), which holds it to about a percent for distributions of one mode; with fewer than 20
    values and two modes of equal weight 95 % may fall to 88 %. It is None where there are too few
    values (fewer than 6) for any interval of 95 %.
    """
    depth, weight = _depth(len(ordered), error / 2)
    if depth == 0:
        return None
    low = (1 - weight) * ordered[depth - 1] + weight * ordered[depth]
    high = (1 - weight) * ordered[-depth] + weight * ordered[-depth - 1]
    return low, high


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the typical one of a few values, such as the medians of some processes.

    It is Student's, of the mean of their logarithms: with fewer than 6 values there is no
    distribution-free one. It is None for a single value or where one is 0.
    """
    count = len(values)
    if count < 2 or min(values) <= 0:  # a view takes an accelerator no time at all
        return None
    logs = [math.log(value) for value in values]
    half = student_quantile(count - 1) * stdev(logs) / math.sqrt(count)
    center = fmean(logs)
    return math.exp(center - half), math.exp(center + half)


def mean_beyond(values: Sequence[float], margin: float) -> float:
    """The two-sided p value of the hypothesis that the typical one lies within the margin of 1.

    It is Student's, as :func:`mean_interval`.
    """
    logs = [math.log(value) for value in values]
    beyond, error = abs(fmean(logs)) - math.log1p(margin), stdev(logs) / math.sqrt(len(logs))
    if beyond <= 0:
        return 1.0
    if error == 0:
        return 0.0
    return student_tails(beyond / error, len(logs) - 1)


def rate_high(events: int, trials: int) -> float:
    """What a rate is below with 95 % confidence (Clopper and Pearson, Biometrika 26, 1934)."""
    if events >= trials:
        return 1.0
    if trials <= MOST_TRIALS:
        with suppress(Exception):  # mpmath's own, of a series that converges too slowly
            return _beta_quantile(events + 1, trials - events, CONFIDENCE)
    return rate_high(-(-events // 10), trials // 10)  # of fewer it is a little higher


def student_tails(errors: float, freedom: int) -> float:
    """How likely Student's t lies so many standard errors from 0 or farther, to either side."""
    return float(_beta(freedom / 2, 0.5, freedom / (freedom + errors**2)))


@cache
def student_quantile(freedom: int, error: float = 1 - CONFIDENCE) -> float:
    """How many standard errors an interval of 95 %, or with this error, reaches to each side.

    It is that of Student's t: with n degrees of freedom ``n / (n + t**2)`` has a beta distribution.
    """
    x = _beta_quantile(freedom / 2, 0.5, error)
    return math.sqrt(freedom * (1 - x) / x)


def _beta_quantile(a: float, b: float, probability: float) -> float:
    """What a number of a beta distribution is below with such a probability."""
    import mpmath

    halves = {"solver": "bisect", "maxsteps": 60, "verify": False}
    return float(mpmath.findroot(lambda x: _beta(a, b, x) - probability, (0, 1), **halves))


def _beta(a: float, b: float, x: float) -> Any:
    """The probability that a number of a beta distribution is below ``x``."""
    import mpmath  # takes long, and most runs need it not

    return mpmath.betainc(a, b, 0, x, regularized=True)


def ratio_interval(
    numerator: tuple[float, float, float], denominator: tuple[float, float, float]
) -> tuple[float, float]:
    """The 95 % interval of a ratio of two independent medians.

    Each comes with the ends of its interval, all positive. On logarithms the half-widths add in
    quadrature, each side with its own (MOVER: Zou and Donner, Statistics in Medicine 27, 2008).
    """
    (a, a_low, a_high), (b, b_low, b_high) = numerator, denominator
    center = math.log(a / b)
    low = center - math.hypot(math.log(a / a_low), math.log(b_high / b))
    high = center + math.hypot(math.log(a_high / a), math.log(b / b_low))
    return math.exp(low), math.exp(high)


@cache
def _depth(count: int, tail: float) -> tuple[int, float]:
    """How deep the interval's ends lie among values (0: nowhere), and the next one's weight.

    ``tail`` is the probability that the median lies beyond one of the ends.
    """
    if count > 1_000:  # the normal approximation is good to a rank, and powers of 2 grow large
        exact = count / 2 + NORMAL.inv_cdf(tail) * math.sqrt(count) / 2 + 0.5
        return math.floor(exact), exact - math.floor(exact)

    # one rank deeper at a time, as long as no more than the tail's probability is left outside:
    # below is the probability that fewer than depth values lie below the median
    depth, below, deeper = 0, 0.0, 0.5**count
    while deeper <= tail:
        depth, below = depth + 1, deeper
        deeper = below + math.comb(count, depth) / 2**count

    # of 6 values the ends are the extremes, which hold 97 %; interpolated it is 91 % with two modes
    if depth == 0 or count == 6:
        return depth, 0.0

    # this depth holds more than 95 %, and the next holds less
    missed = (tail - below) / (deeper - below)
    return depth, (count - depth) * missed / (depth + (count - 2 * depth) * missed)
