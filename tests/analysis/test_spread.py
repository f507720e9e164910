"""What equal cells vary by between runs, by how long their calls take."""

from random import Random

import pytest

from runner.analysis.spread import Difference, Spread


def spread_of(differences: list[Difference]) -> Spread:
    return Spread.of(differences, len(differences))


def differences(random: Random, relative: float, seconds: float, count: int) -> list[Difference]:
    """Those of calls of 1 us to 10 ms, which vary by a share and by a time."""
    calls = [10 ** random.uniform(-6, -2) for _ in range(count)]
    return [
        Difference(call_s, random.gauss(0, relative) + random.gauss(0, seconds / call_s))
        for call_s in calls
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_time_that_any_call_varies_by_is_much_of_a_short_one(seed: int) -> None:
    spread = spread_of(differences(Random(seed), 0.004, 8e-8, 2000))
    assert spread.at(1e-6) == pytest.approx(0.08, rel=0.3)
    assert spread.at(1e-3) == pytest.approx(0.004, rel=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_where_all_calls_vary_by_the_same_share_short_ones_have_it_too(seed: int) -> None:
    spread = spread_of(differences(Random(seed), 0.02, 0.0, 200))
    assert spread.at(1e-6) == spread.at(1e-2) == pytest.approx(0.02, rel=0.4)


def test_what_changed_itself_does_not_hide_in_the_deviation() -> None:
    equal = differences(Random(0), 0.004, 8e-8, 190)
    changed = [Difference(5e-3, 0.3)] * 10
    assert spread_of([*equal, *changed]).at(5e-3) < 0.01


def test_of_few_cells_the_deviation_is_taken_to_be_larger() -> None:
    alike = [Difference(1e-3, 0.01 * sign) for sign in (-1, 1)]
    few, many = (spread_of(alike * count).at(1e-3) for count in (10, 1000))
    assert few > 1.3 * many


def test_times_that_never_vary_have_none() -> None:
    assert spread_of([Difference(1e-3, 0.0)] * 30).at(1e-6) == 0.0
