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


@pytest.mark.parametrize("count", [40, 100])
def test_the_shortest_calls_may_be_few_of_all_that_vary(count: int) -> None:
    random = Random(0)
    short = [Difference(2e-6, random.gauss(0, 0.05)) for _ in range(count)]
    long = [Difference(10 ** random.uniform(-4, -2), random.gauss(0, 0.01)) for _ in range(500)]
    spread = spread_of([*short, *long])
    assert spread.at(2e-6) == pytest.approx(0.05, rel=0.4)
    assert spread.at(1e-3) == pytest.approx(0.01, rel=0.3)


def test_calls_of_about_one_length_are_alike() -> None:
    random = Random(0)
    ones, others = (
        [Difference(seconds, random.gauss(0, deviation)) for _ in range(100)]
        for seconds, deviation in ((1.0e-3, 0.02), (1.1e-3, 0.01))
    )
    spread = spread_of([*ones, *others])
    assert spread.at(1e-3) == spread.at(1.1e-3) < 0.02


@pytest.mark.parametrize(("own", "total"), [(0.0, 0.05), (0.03, 0.05), (0.05, 0.064), (1.0, 1.0)])
def test_what_a_cell_varies_by_more_within_its_runs_than_others_is_added(
    own: float, total: float
) -> None:
    spread = Spread(0.05 / 2**0.5, 0.0, own=0.03)
    assert spread.of_means(1e-3, ([0.0], [0.1]), own) == pytest.approx(total, rel=0.01)
    assert Spread(0.0, 0.0, own=0.03).of_means(1e-3, ([0.0], [0.1]), own) == pytest.approx(own)


def test_several_times_of_each_of_a_few_cells_tell_too() -> None:
    sides = [[random.gauss(-7, 0.03) for _ in range(10)] for random in map(Random, range(4))]
    spread = Spread.between_runs([sides[:2], sides[2:]])
    assert spread is not None and 0.03 < spread.at(1e-3) < 0.06
    assert Spread.between_runs([sides[:2]]) is None  # 18 degrees of freedom
    assert Spread.between_processes([(1e-3, side[:5]) for side in sides]) is not None
    assert Spread.between_processes([(1e-3, side[:4]) for side in sides]) is None


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
