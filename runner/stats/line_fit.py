"""A straight line through measured points, with intervals."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.stats.intervals import student_quantile

FEWEST_POINTS = 5  # three to spare beside the line's two numbers, from which the intervals follow


@dataclass(frozen=True)
class Line:
    """``y = at_zero + slope * x``, with 95 % intervals."""

    at_zero: float
    at_zero_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]
    # the largest distance of a point from the line, relative to the point
    max_relative_residual: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Weighted least squares for points whose errors are in proportion to ``y``.

    The weights are ``1 / y**2``, so that what is made small is the sum of the squared relative
    distances: points of a microsecond and of a second count alike. The intervals are from the fit's
    covariance, scaled by those distances, with Student's t (Draper and Smith, Applied Regression
    Analysis, 3rd ed., 9.2); they hold for a line: ``max_relative_residual`` says how good it is.
    All of ``y`` is positive. None where there are too few points, or all at one ``x``.
    """
    if len(x) < FEWEST_POINTS or len(set(x)) < 2:
        return None
    weights = [1 / value**2 for value in y]
    total = math.fsum(weights)

    def weighted(values: Iterable[float]) -> float:
        return math.fsum(map(operator.mul, weights, values))

    # the line of least relative distances goes through the weighted means
    x_mean, y_mean = weighted(x) / total, weighted(y) / total
    away = [value - x_mean for value in x]
    spread = weighted(a**2 for a in away)
    products = (w * a * (b - y_mean) for w, a, b in zip(weights, away, y, strict=True))
    slope = math.fsum(products) / spread
    at_zero = y_mean - slope * x_mean

    # how far the points lie from it is the only measure of their errors, and so of the intervals
    distances = [(b - at_zero - slope * a) / b for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    variance = math.fsum(d**2 for d in distances) / freedom
    t = student_quantile(freedom)
    slope_half = t * math.sqrt(variance / spread)
    zero_half = t * math.sqrt(variance * (1 / total + x_mean**2 / spread))

    zero_interval = (at_zero - zero_half, at_zero + zero_half)
    slope_interval = (slope - slope_half, slope + slope_half)
    return Line(at_zero, zero_interval, slope, slope_interval, max(map(abs, distances)))
