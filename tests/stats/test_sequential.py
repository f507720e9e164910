"""Intervals of pairs.

Right though they are looked at again and again, and verdicts that hold together.
"""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp

from runner.stats.intervals import median_interval
from runner.stats.sequential import (
    ERROR,
    LOOKS,
    adjusted,
    errors_at,
    log_ratios,
    paired_ratio,
    smallest_difference,
    verdict_of,
)
from tests.support.at_the_stop import MARGIN, at_the_stop


def phases(random, visits, share_kept):
    """Log ratios about 0 whose spread changes from moment to moment.

    Each like the one before it, with heavy tails.
    """
    values, before, slow = [], 0.0, False
    for _ in range(visits):
        slow = slow != (random.random() < 0.1)
        noise = random.gauss(0, 0.03 if slow else 0.01) * (10 if random.random() < 0.05 else 1)
        before = share_kept * before + noise
        values.append(before)
    return values


@pytest.mark.parametrize("most", [40, 120, 400])
@pytest.mark.parametrize("share_kept", [0.0, 0.15])
def test_intervals_hold_the_truth_where_visiting_stops(most, share_kept):
    random = Random(most)
    ratios = [at_the_stop(phases(random, most, share_kept)) for _ in range(600)]
    held = [ratio.low <= 1 <= ratio.high for ratio in ratios]
    assert sum(held) / len(held) >= 0.93
    claimed = [verdict_of(r.low, r.high, MARGIN) in ("faster", "slower") for r in ratios]
    assert sum(claimed) / len(claimed) <= 0.01


@pytest.mark.parametrize("visits", [40, 120, 320])
def test_looking_costs_little_of_the_width(visits):
    random = Random(visits)
    series = [sorted(phases(random, visits, 0.0)) for _ in range(200)]

    def median_width(error):
        widths = [high - low for low, high in (median_interval(s, error) for s in series)]
        return sorted(widths)[len(widths) // 2]

    assert median_width(errors_at(visits)[1]) <= 1.4 * median_width(ERROR)


def test_the_looks_share_one_error():
    spent = 0.0
    for look in LOOKS:
        share, remaining = errors_at(look)
        assert spent + remaining == pytest.approx(ERROR)
        assert share <= remaining
        assert errors_at(look - 1)[0] == errors_at(look - 1)[1] == pytest.approx(remaining)
        spent += share
    assert spent == pytest.approx(ERROR)


def test_two_percent_are_found():
    random = Random(0)
    ratio = paired_ratio([[random.gauss(math.log(1.02), 0.02) for _ in range(160)]], MARGIN)
    assert verdict_of(ratio.low, ratio.high, 0.0) == "faster"
    assert ratio.value == pytest.approx(1.02, abs=0.005)


def of_process(ratio, visits, spread=0.005, seed=1):
    random = Random(seed)
    return [random.gauss(math.log(ratio), spread) for _ in range(visits)]


def test_an_interval_reaches_over_processes_that_contradict_each_other():
    first, second = of_process(0.7, 40), of_process(1.2, 40)
    ratio = paired_ratio([first, second], MARGIN)
    assert ratio.low < 0.71
    assert ratio.high > 1.19
    assert verdict_of(ratio.low, ratio.high, MARGIN) == "unclear"
    assert paired_ratio([first], MARGIN).high < 0.71


def test_processes_that_contradict_each_other_claim_nothing_though_both_are_faster():
    """The next one may differ from these as they do from each other."""
    ratio = paired_ratio([of_process(1.08, 40), of_process(1.2, 40)], MARGIN)
    assert verdict_of(ratio.low, ratio.high, MARGIN) == "unclear"
    assert ratio.p_value == 1.0
    alike = paired_ratio([of_process(1.08, 40, seed=2), of_process(1.082, 40, seed=3)], MARGIN)
    assert verdict_of(alike.low, alike.high, MARGIN) == "faster"
    assert alike.p_value < 1e-6


def test_two_processes_that_differ_claim_what_is_far_beyond_it_as_surely_as_they_can():
    """Of 4 times as fast a difference of a percent leaves no doubt; it is not one claim in 20."""
    centers = [3.98, 4.02]
    processes = [of_process(center, 40, seed=n) for n, center in enumerate(centers)]
    ratio = paired_ratio(processes, MARGIN)
    assert verdict_of(ratio.low, ratio.high, MARGIN) == "faster"
    expected = ttest_1samp([math.log(center / (1 + MARGIN)) for center in centers], 0).pvalue
    assert ratio.p_value == pytest.approx(expected, rel=0.5)


def test_several_processes_that_differ_show_what_they_have_in_common():
    centers = [1.16, 1.2, 1.24, 1.18, 1.22]
    processes = [of_process(center, 6, seed=n) for n, center in enumerate(centers)]
    ratio = paired_ratio(processes, MARGIN)
    assert verdict_of(ratio.low, ratio.high, MARGIN) == "faster"
    assert ratio.low < 1.18
    expected = ttest_1samp([math.log(1.2 / 1.01 * c / 1.2) for c in centers], 0).pvalue
    assert ratio.p_value == pytest.approx(expected, rel=0.5)


def test_a_process_with_few_visits_is_within_the_interval():
    ratio = paired_ratio([of_process(0.7, 40), of_process(1.2, 5)], MARGIN)
    assert ratio.low < 0.71
    assert ratio.high > 1.19
    assert ratio.p_value > ERROR


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_what_processes_differ_by_is_rarely_claimed_of_equal_sides(processes):
    """Each process has a ratio of its own, about 1, that no number of visits tells."""
    random, claims, held = Random(5), 0, 0
    for _ in range(400):
        centers = [random.gauss(0, 0.1) for _ in range(processes)]
        visits = [[random.gauss(center, 0.01) for _ in range(40)] for center in centers]
        ratio = paired_ratio(visits, MARGIN)
        claims += verdict_of(ratio.low, ratio.high, MARGIN) in ("faster", "slower")
        held += ratio.low <= 1 <= ratio.high
    assert held / 400 >= 0.93
    assert claims / 400 <= 0.05


def test_too_few_visits_have_a_ratio_and_no_interval():
    ratio = paired_ratio([[0.1, 0.1, 0.1]], MARGIN)
    assert ratio.value == pytest.approx(math.exp(0.1))
    assert ratio.low is None
    assert verdict_of(ratio.low, ratio.high, MARGIN) == "unclear"


def test_the_baseline_is_the_numerator():
    assert log_ratios([(2.0, 1.0, 4.0)], 1) == [pytest.approx(math.log(2))]
    assert log_ratios([(2.0, 1.0, 4.0)], 2) == [pytest.approx(-math.log(2))]


def test_p_values_within_the_margin_are_no_evidence():
    assert paired_ratio([[0.005] * 40], MARGIN).p_value == 1.0
    assert paired_ratio([[0.02] * 40], MARGIN).p_value < 1e-9


@given(st.lists(st.floats(1e-12, 1.0), max_size=50))
def test_verdicts_hold_together_as_benjamini_and_hochberg_say(p_values):
    expected = false_discovery_control(p_values) if p_values else []
    assert adjusted(p_values) == pytest.approx(list(expected))


@given(st.floats(0.3, 3.0), st.floats(0.0, 0.2), st.floats(0.0, 0.2))
def test_the_smallest_difference_is_told_and_nothing_smaller(value, below, above):
    """By an interval of the same width about a ratio that differs by it from 1."""
    least = smallest_difference(value, value / (1 + below), value * (1 + above), MARGIN)
    assert least is not None

    def verdict(ratio, below, above):
        return verdict_of(ratio / (1 + below), ratio * (1 + above), MARGIN)

    assert verdict((1 + least) * 1.001, below, above) == "faster"
    assert verdict(1 / (1 + least) / 1.001, below, above) == "slower"
    wider = max(below, above)
    assert verdict((1 + least) * 0.999, wider, wider) != "faster"
    assert smallest_difference(value, None, None, MARGIN) is None


@pytest.mark.parametrize("margin", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("times", [1.005, 1.4, 1.8, 3.5, 200.0])
def test_a_verdict_is_the_same_the_other_way_round(margin, times):
    other = {"faster": "slower", "same": "same", "unclear": "unclear"}
    for low, high in ((times, 1.05 * times), (1 / 1.02, times)):
        assert verdict_of(1 / high, 1 / low, margin) == other[verdict_of(low, high, margin)]
