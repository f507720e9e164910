"""Claims that all hold together."""

import pytest

from runner.stats.holm import holding_together


@pytest.mark.parametrize(
    ("p_values", "count", "held"),
    [
        ([0.001, 0.04, 0.009], 3, {0, 1, 2}),
        ([0.001, 0.04, 0.009], 4, {0, 2}),
        ([0.02, 0.03, 0.04], 3, set()),  # the least is no claim, so none is
        ([0.01], 100, set()),
        ([], 0, set()),
    ],
)
def test_the_least_is_held_to_all_of_them(p_values, count, held):
    assert holding_together(dict(enumerate(p_values)), 0.05, count) == held
