"""A line through points.

Recovered exactly where there is one, and held by its intervals where there is noise.
"""

import math
import random

import pytest

from runner.stats.line_fit import FEWEST_POINTS, fit_line

X = [4.0**power for power in range(5, 16)]


def test_a_line_without_noise_is_recovered() -> None:
    line = fit_line(X, [5e-6 + value / 2e10 for value in X])
    assert line is not None
    assert line.at_zero == pytest.approx(5e-6, rel=1e-9)
    assert 1 / line.slope == pytest.approx(2e10, rel=1e-9)
    assert line.max_relative_residual < 1e-9


def test_few_points_give_no_line() -> None:
    few = X[: FEWEST_POINTS - 1]
    assert fit_line(few, few) is None
    assert fit_line([1.0] * FEWEST_POINTS, [1.0] * FEWEST_POINTS) is None
    assert fit_line(X[:FEWEST_POINTS], X[:FEWEST_POINTS]) is not None


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Within four standard errors of 95 %.

    For errors in proportion to the value, as times have them.
    """
    draw = random.Random(4)
    trials, at_zero, slope = 2_000, 0, 0
    for _ in range(trials):
        line = fit_line(X, [(5e-6 + value / 2e10) * (1 + draw.gauss(0, 0.02)) for value in X])
        assert line is not None
        at_zero += line.at_zero_interval[0] <= 5e-6 <= line.at_zero_interval[1]
        slope += line.slope_interval[0] <= 1 / 2e10 <= line.slope_interval[1]
    allowed = 4 * math.sqrt(0.95 * 0.05 / trials)
    assert at_zero / trials == pytest.approx(0.95, abs=allowed)
    assert slope / trials == pytest.approx(0.95, abs=allowed)


def test_points_off_the_line_are_told() -> None:
    values = [5e-6 + value / 2e10 for value in X]
    values[4] *= 1.5
    line = fit_line(X, values)
    assert line is not None
    assert line.max_relative_residual > 0.2
