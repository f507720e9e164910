"""Ratios as bars on one logarithmic scale."""

import pytest

from runner.report.page.bars import Bar, Bars
from runner.stats.estimate import Estimate


def test_a_bar_ends_where_its_ratio_lies_on_the_scale_of_all() -> None:
    ratios = [Estimate(2.0, 1.0, 4.0), None, Estimate(16.0), Estimate(1.0, 0.5, 2.0)]
    bars = Bars(ratios)
    assert (bars.are_any, bars.most) == (True, 16.0)
    assert bars.of(Estimate(2.0, 1.0, 4.0)) == Bar(25.0, 0.0, 50.0)
    assert bars.of(Estimate(16.0)) == Bar(100.0, None, None)
    assert bars.of(Estimate(1.0, 0.5, 2.0)) == Bar(0.0, 0.0, 25.0)  # nothing lies left of 1


@pytest.mark.parametrize("ratio", [1.0, 1.03, float("inf")])
def test_a_small_difference_looks_small_and_no_ratio_leaves_the_scale(ratio: float) -> None:
    bars = Bars([Estimate(ratio)])
    assert bars.most == 2.0
    assert bars.of(Estimate(ratio)).value == (100.0 if ratio > 2 else pytest.approx(0, abs=5))


def test_without_ratios_there_is_no_scale_to_explain() -> None:
    assert not Bars([None]).are_any
