"""Confidence intervals of medians and of their ratios, without an assumption on the distribution. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

CONFIDENCE = 0.95


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """A quantile of sorted values, interpolated linearly between neighbours (Hyndman and Fan's type 7)."""
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median_interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median from order statistics.

    The number of values below the median is binomial(n, 1/2) whatever the distribution, so that the r-th smallest and
    the r-th largest value enclose it with a known probability (Conover, Practical Nonparametric Statistics, 3.2).

    Args:
        ordered: sorted values.

    Returns:
        the ends, or None where there are too few values (fewer than 6) for any interval of 95 %.
    """
    rank = _rank(len(ordered))
    return None if rank == 0 else (ordered[rank - 1], ordered[-rank])


def ratio_interval(
    numerator: tuple[float, float, float], denominator: tuple[float, float, float]
) -> tuple[float, float]:
    """The 95 % interval of a ratio of two independent medians.

    On logarithms the half-widths add in quadrature, each side with its own (MOVER: Zou and Donner, Statistics in
    Medicine 27, 2008).

    Args:
        numerator: a median and the ends of its interval, all positive.
        denominator: likewise.
    """
    (a, a_low, a_high), (b, b_low, b_high) = numerator, denominator
    center = math.log(a / b)
    low = center - math.hypot(math.log(a / a_low), math.log(b_high / b))
    high = center + math.hypot(math.log(a_high / a), math.log(b / b_low))
    return math.exp(low), math.exp(high)


@cache
def _rank(count: int) -> int:
    """The largest r for which [r-th smallest, r-th largest] holds the median with 95 %; 0 where there is none."""
    tail = (1 - CONFIDENCE) / 2
    if count > 1_000:  # the normal approximation is good to a rank here, and exact powers of 2 grow large
        return max(0, math.floor(count / 2 + NormalDist().inv_cdf(tail) * math.sqrt(count) / 2))
    cumulative, rank = 0.0, 0
    for below in range(count // 2 + 1):
        cumulative += math.comb(count, below) / 2**count
        if cumulative > tail:
            break
        rank = below + 1
    return rank
