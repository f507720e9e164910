"""A straight line through measured points, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
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
    import numpy  # takes long, and few runs need it

    values = numpy.asarray(y)
    (slope, at_zero), covariance = numpy.polyfit(x, values, 1, w=1 / values, cov=True)
    slope_half, zero_half = student_quantile(len(x) - 2) * numpy.sqrt(covariance.diagonal())
    distances = (values - at_zero - slope * numpy.asarray(x)) / values
    return Line(
        at_zero=float(at_zero),
        at_zero_interval=(float(at_zero - zero_half), float(at_zero + zero_half)),
        slope=float(slope),
        slope_interval=(float(slope - slope_half), float(slope + slope_half)),
        max_relative_residual=float(abs(distances).max()),
    )
