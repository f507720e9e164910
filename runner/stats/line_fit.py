"""A straight line through measured points, with intervals. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.stats.intervals import CONFIDENCE

FEWEST_POINTS = 5  # three to spare beside the line's two numbers, from which the intervals follow


@dataclass(frozen=True)
class Line:
    """``y = at_zero + slope * x``, with 95 % intervals.

    Attributes:
        max_relative_residual: the largest distance of a point from the line, relative to the point.
    """

    at_zero: float
    at_zero_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]
    max_relative_residual: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Weighted least squares for points whose errors are in proportion to ``y``.

    The weights are ``1 / y**2``, so that what is made small is the sum of the squared relative distances: points of a
    microsecond and of a second count alike. The intervals are from the fit's covariance, scaled by those distances,
    with Student's t (Draper and Smith, Applied Regression Analysis, 3rd ed., 9.2); they hold for a line, and
    ``max_relative_residual`` says how good a line it is.

    Args:
        x: where; not all the same.
        y: what was measured there; all positive.

    Returns:
        the line, or None where there are too few points for its intervals.
    """
    if len(x) < FEWEST_POINTS or len(set(x)) < 2:
        return None
    from scipy.special import (
        stdtrit,
    )  # Student's quantile; imported where it is used, since it takes a while

    # the line of least relative distances goes through the weighted means
    weights = [1 / value**2 for value in y]
    total = math.fsum(weights)
    x_mean = math.fsum(w * a for w, a in zip(weights, x, strict=True)) / total
    y_mean = math.fsum(w * b for w, b in zip(weights, y, strict=True)) / total
    spread = math.fsum(w * (a - x_mean) ** 2 for w, a in zip(weights, x, strict=True))
    slope = (
        math.fsum(w * (a - x_mean) * (b - y_mean) for w, a, b in zip(weights, x, y, strict=True))
        / spread
    )
    at_zero = y_mean - slope * x_mean

    # how far the points lie from it is the only measure of their errors, which the intervals follow from
    distances = [(b - at_zero - slope * a) / b for a, b in zip(x, y, strict=True)]
    free = len(x) - 2  # degrees of freedom
    variance = math.fsum(d**2 for d in distances) / free
    t = float(stdtrit(free, (1 + CONFIDENCE) / 2))
    slope_half = t * math.sqrt(variance / spread)
    zero_half = t * math.sqrt(variance * (1 / total + x_mean**2 / spread))

    return Line(
        at_zero,
        (at_zero - zero_half, at_zero + zero_half),
        slope,
        (slope - slope_half, slope + slope_half),
        max(map(abs, distances)),
    )
