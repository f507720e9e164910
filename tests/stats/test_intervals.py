"""Quantiles and confidence intervals, against numpy, exact binomials and simulation."""

import math
from statistics import NormalDist, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, sem, t

from runner.stats.intervals import (
    mean_interval,
    median_interval,
    quantile,
    rate_high,
    ratio_interval,
)

POSITIVE = st.floats(1e-9, 1e9)


def estimates():
    """A median and the ends of an interval round it."""
    return st.lists(POSITIVE, min_size=3, max_size=3).map(sorted).map(lambda v: (v[1], v[0], v[2]))


def skewed(random, shape):
    """Lognormal, of median 1."""
    return np.exp(random.normal(0, 1, shape))


def bimodal(random, shape):
    """Two humps, the lower one a little the larger: the median lies in its upper part."""
    lower = random.random(shape) < 0.6
    median_of_lower = NormalDist(0, 0.05).inv_cdf(0.5 / 0.6)
    return 1 - median_of_lower + random.normal(0, 0.05, shape) + np.where(lower, 0, 1)


def heavy_tailed(random, shape):
    """Pareto of exponent 1, which has no mean, of median 1."""
    return (random.pareto(1, shape) + 1) / 2


DISTRIBUTIONS = [skewed, bimodal, heavy_tailed]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).map(sorted), st.floats(0, 1))
def test_quantile_agrees_with_numpy(ordered, fraction):
    expected = float(np.quantile(ordered, fraction))
    assert quantile(ordered, fraction) == pytest.approx(
        expected, rel=1e-12, abs=1e-12 * max(map(abs, ordered))
    )


def test_quantile_of_one_half_is_the_median():
    assert quantile([1.0, 2.0, 4.0, 9.0], 0.5) == 3.0


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_6_values_have_no_interval(count):
    assert median_interval([float(n) for n in range(count)]) is None


@pytest.mark.parametrize("count", [*range(6, 61), 1_000, 1_001, 2_500])
def test_the_ends_lie_between_the_ranks_next_to_95_percent(count):
    def missed(rank):
        """How often the median lies beyond the rank-th smallest or the rank-th largest value.

        Times 2**count.
        """
        return 2 * sum(math.comb(count, below) for below in range(rank))

    low, high = median_interval(range(1, count + 1))
    outer, inner = math.floor(low), math.floor(low) + 1
    assert missed(outer) * 20 <= 2**count < missed(inner) * 20 or count > 1_000
    assert missed(outer - 1) * 20 <= 2**count < missed(inner + 1) * 20
    assert low + high == pytest.approx(count + 1)


@pytest.mark.parametrize(
    ("count", "draws"), [(7, 10_000), (8, 10_000), (30, 10_000), (100, 10_000), (1_100, 1_000)]
)
@pytest.mark.parametrize("draw", DISTRIBUTIONS, ids=lambda draw: draw.__name__)
def test_interval_holds_the_true_median_95_times_in_100(draw, count, draws):
    samples = np.sort(draw(np.random.default_rng(20260101), (draws, count)), axis=1)
    held = sum(low <= 1 <= high for low, high in map(median_interval, samples))
    assert 0.93 <= held / draws <= 0.97


def test_mean_interval_is_students_of_the_logarithms():
    values = [1.0, 1.1, 0.9, 1.05, 1.02]
    logs = np.log(values)
    expected = np.exp(t.interval(0.95, 4, loc=logs.mean(), scale=sem(logs)))
    assert mean_interval(values) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize(("events", "trials"), [(0, 96), (3, 40), (39, 40)])
def test_a_rate_at_its_upper_end_gives_so_few_events_in_5_of_100(events, trials):
    rate = rate_high(events, trials)
    assert events / trials < rate < 1
    assert binom.cdf(events, trials, rate) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("events", "trials"), [(3, 100_000), (5_000, 10_000), (0, 10**9), (10**98, 10**99)]
)
def test_a_rate_of_very_many_trials_is_no_lower_than_it_may_be(events, trials):
    rate = rate_high(events, trials)
    assert events / trials < rate < 1
    if trials < 10**12:
        assert binom.cdf(events, trials, rate) <= 0.0501


def test_a_rate_of_what_always_happens_has_no_upper_end():
    assert rate_high(8, 8) == 1


def test_a_single_value_has_no_mean_interval():
    assert mean_interval([1.0]) is None


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
    assert ratio_interval(a, (exact, exact, exact)) == pytest.approx(
        (a[1] / exact, a[2] / exact), rel=1e-9
    )


def test_ratio_interval_adds_half_widths_in_quadrature_side_by_side():
    e = math.e
    low, high = ratio_interval((1.0, e**-3, e**5), (1.0, e**-12, e**4))
    assert math.log(low) == pytest.approx(-5.0)
    assert math.log(high) == pytest.approx(13.0)
