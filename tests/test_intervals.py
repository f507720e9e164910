"""Quantiles and confidence intervals, against numpy, exact binomials and simulation."""

import math
from fractions import Fraction
from random import Random
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.intervals import median_interval, quantile, ratio_interval

POSITIVE = st.floats(1e-9, 1e9)


def estimates():
    """A median and the ends of an interval round it."""
    return st.lists(POSITIVE, min_size=3, max_size=3).map(sorted).map(lambda v: (v[1], v[0], v[2]))


def skewed(random):
    """A draw from an exponential distribution of median 1."""
    return random.expovariate(math.log(2))


def bimodal(random):
    """A draw from two humps round 1, of which neither is the wider."""
    return 1 + random.choice((-1, 1)) * (0.5 + abs(random.gauss(0, 0.1)))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).map(sorted), st.floats(0, 1))
def test_quantile_agrees_with_numpy(ordered, fraction):
    expected = float(np.quantile(ordered, fraction))
    assert quantile(ordered, fraction) == pytest.approx(expected, rel=1e-12, abs=1e-12 * max(map(abs, ordered)))


def test_quantile_of_one_half_is_the_median():
    assert quantile([1.0, 2.0, 4.0, 9.0], 0.5) == 3.0


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_6_values_have_no_interval(count):
    assert median_interval([float(n) for n in range(count)]) is None


@pytest.mark.parametrize("count", range(6, 61))
def test_ranks_are_the_innermost_that_hold_95_percent(count):
    def coverage(rank):
        """The probability that the median lies between the rank-th smallest and the rank-th largest value."""
        return 1 - 2 * Fraction(sum(math.comb(count, below) for below in range(rank)), 2**count)

    low, high = median_interval(range(1, count + 1))
    assert coverage(low) >= Fraction(95, 100) > coverage(low + 1)
    assert low + high == count + 1


@pytest.mark.parametrize("count", [61, 1_000, 1_001, 1_002, 2_500])
def test_ranks_of_many_values_hold_95_percent_and_are_within_1_of_the_innermost(count):
    low, high = median_interval(range(1, count + 1))
    beyond = [2 * sum(math.comb(count, below) for below in range(rank)) for rank in (low, low + 2)]
    assert beyond[0] * 20 <= 2**count < beyond[1] * 20
    assert low + high == count + 1


@pytest.mark.parametrize("draw", [skewed, bimodal])
def test_interval_holds_the_true_median_95_times_in_100(draw):
    random = Random(20260101)
    held = 0
    for _ in range(2_000):
        low, high = median_interval(sorted(draw(random) for _ in range(30)))
        held += low <= 1 <= high
    assert 0.93 <= held / 2_000 <= 0.99


@given(st.lists(st.floats(-1e9, 1e9), min_size=6, max_size=60).map(sorted))
def test_interval_encloses_the_sample_median(ordered):
    low, high = median_interval(ordered)
    assert low <= median(ordered) <= high


@given(estimates(), estimates())
def test_ratio_interval_contains_the_ratio(a, b):
    low, high = ratio_interval(a, b)
    assert low <= a[0] / b[0] * (1 + 1e-9)
    assert high >= a[0] / b[0] * (1 - 1e-9)


@given(estimates(), estimates())
def test_ratio_interval_is_inverted_by_exchange(a, b):
    low, high = ratio_interval(a, b)
    assert ratio_interval(b, a) == pytest.approx((1 / high, 1 / low), rel=1e-9)


@given(estimates(), estimates(), st.floats(1e-3, 1e3))
def test_ratio_interval_scales_with_the_numerator(a, b, factor):
    low, high = ratio_interval(a, b)
    scaled = ratio_interval(tuple(factor * value for value in a), b)
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-9)


@given(estimates(), POSITIVE)
def test_ratio_interval_by_an_exact_denominator_is_the_numerators(a, exact):
    assert ratio_interval(a, (exact, exact, exact)) == pytest.approx((a[1] / exact, a[2] / exact), rel=1e-9)


def test_ratio_interval_adds_half_widths_in_quadrature_side_by_side():
    e = math.e
    low, high = ratio_interval((1.0, e**-3, e**5), (1.0, e**-12, e**4))
    assert math.log(low) == pytest.approx(-5.0)
    assert math.log(high) == pytest.approx(13.0)
