"""A straight line through measured points, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from operator import mul

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
    total = fsum(weights)
    x_mean, y_mean = (sumprod(weights, values) / total for values in (x, y))
    apart = [value - x_mean for value in x]
    squares = sumprod(weights, [value**2 for value in apart])
    slope = sumprod(weights, [a * (value - y_mean) for a, value in zip(apart, y, strict=True)])
    slope /= squares
    at_zero = y_mean - slope * x_mean

    # the line's own uncertainty, from how far the points are from it
    residuals = [1 - (at_zero + slope * a) / value for a, value in zip(x, y, strict=True)]
    variance = fsum(residual**2 for residual in residuals) / (len(x) - 2)
    reach = student_quantile(len(x) - 2) * sqrt(variance)
    slope_half = reach / sqrt(squares)
    zero_half = reach * sqrt(1 / total + x_mean**2 / squares)
    return Line(
        at_zero=at_zero,
        at_zero_interval=(at_zero - zero_half, at_zero + zero_half),
        slope=slope,
        slope_interval=(slope - slope_half, slope + slope_half),
        max_relative_residual=max(map(abs, residuals)),
    )


def sumprod(left: Sequence[float], right: Sequence[float]) -> float:
    """The sum of the products, as Python has it from 3.12 on."""
    return fsum(map(mul, left, right))
