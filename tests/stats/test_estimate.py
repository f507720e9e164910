"""Estimates are added, subtracted and divided with their intervals."""

from random import Random

import numpy as np
import pytest

from runner.stats.estimate import Estimate


def test_sums_differences_and_ratios_of_estimates_have_the_intervals_of_a_simulation() -> None:
    random = Random(1)
    a, b = (10.0, 0.4), (4.0, 0.3)
    draws = [(random.gauss(*a), random.gauss(*b)) for _ in range(40_000)]
    one, another = (Estimate(mean, mean - 1.96 * sd, mean + 1.96 * sd) for mean, sd in (a, b))
    for found, values in (
        (one.plus(another), [x + y for x, y in draws]),
        (one.minus(another), [x - y for x, y in draws]),
        (one.over(another), [x / y for x, y in draws]),
        (one.times(3), [3 * x for x, _ in draws]),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        assert found.low == pytest.approx(low, abs=0.03 * (high - low))
        assert found.high == pytest.approx(high, abs=0.03 * (high - low))
    assert not one.over(Estimate(4.0)).has_interval
    assert not one.over(Estimate(4.0, -1.0, 9.0)).has_interval
