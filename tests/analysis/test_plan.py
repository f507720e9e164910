"""Which calls of a model to move: the best of all choices, as counting all of them finds it."""

from collections.abc import Mapping
from itertools import chain, combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.analysis.plan import HOST, Handed, best_plan, flow_of, transfers_s
from runner.analysis.transfer_model import BothWays, TransferModel
from runner.stats.estimate import Estimate

NAMES = ("a", "b", "c", "d")
SECONDS = st.floats(0.0, 1.0)
PEOPLE = st.sampled_from((HOST, *NAMES))
FLOW = st.lists(
    st.builds(
        Handed,
        maker=PEOPLE,
        users=st.lists(PEOPLE, min_size=1, max_size=3, unique=True).map(tuple),
        count=st.integers(1, 3),
        size=st.integers(0, 1_000),
    ),
    max_size=6,
)


def exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def ways(latency_s: float, bandwidth: float) -> BothWays:
    """To the device as given, and back in half the time."""
    there = TransferModel(exact(latency_s), exact(bandwidth))
    return BothWays(there, TransferModel(exact(latency_s / 2), exact(2 * bandwidth)))


def pass_s(
    here: Mapping[str, float],
    there: Mapping[str, float],
    moved: frozenset[str],
    flow: list[Handed],
    link: BothWays,
) -> float:
    """Seconds of a pass in which some calls are made on the device."""
    calls = sum(there[name] if name in moved else here[name] for name in here)
    return calls + transfers_s(flow, moved, link)


@settings(max_examples=150, deadline=None)
@given(
    here=st.dictionaries(st.sampled_from(NAMES), SECONDS, min_size=1),
    there=st.dictionaries(st.sampled_from(NAMES), SECONDS),
    flow=FLOW,
    latency_s=st.floats(0.0, 0.3),
    bandwidth=st.floats(100.0, 1e6),
)
@example(  # of whose flow in floating-point numbers a rest stayed behind
    here={"a": 0.0, "b": 0.6791902115802794, "c": 0.0, "d": 1.0},
    there={"b": 1e-12},
    flow=[Handed("b", (HOST,), 1, 0), Handed("d", (HOST, "b"), 3, 0)],
    latency_s=0.25520275375368767,
    bandwidth=100.0,
)
def test_no_choice_takes_less(
    here: dict[str, float],
    there: dict[str, float],
    flow: list[Handed],
    latency_s: float,
    bandwidth: float,
) -> None:
    link = ways(latency_s, bandwidth)
    flowing = chain.from_iterable((value.maker, *value.users) for value in flow)
    movable = here.keys() & there.keys() & set(flowing)
    counts = range(len(movable) + 1)
    choices = map(frozenset, chain.from_iterable(combinations(movable, n) for n in counts))
    least_s = min(pass_s(here, there, moved, flow, link) for moved in choices)
    found = best_plan(here, there, flow, link)
    assert found <= movable
    assert pass_s(here, there, found, flow, link) == pytest.approx(least_s, abs=1e-9)


def test_a_value_that_several_calls_use_moves_once() -> None:
    flow = [Handed("a", ("b", "c"), 1, 0)]
    assert transfers_s(flow, {"b", "c"}, ways(1.0, 1.0)) == 1.0
    assert transfers_s(flow, {"a"}, ways(1.0, 1.0)) == 0.5


def test_calls_between_two_that_move_move_with_them() -> None:
    # b is slower there, but coming back for it would cost more
    here, there = dict.fromkeys("abc", 1.0) | {"b": 0.1}, dict.fromkeys("abc", 0.2)
    flow = [
        Handed(HOST, ("a",), 1, 0),
        Handed("a", ("b",), 1, 0),
        Handed("b", ("c",), 1, 0),
        Handed("c", (HOST,), 1, 0),
    ]
    assert best_plan(here, there, flow, ways(0.2, 1.0)) == {"a", "b", "c"}
    assert best_plan(here, there, flow, ways(0.04, 1.0)) == {"a", "c"}
    assert best_plan(here, there, flow, ways(9.0, 1.0)) == frozenset()


@pytest.mark.parametrize(
    "text", [None, "", "x", "[1]", '[["a", ["b"], 1]]', '[["a", "b", "c", 1]]']
)
def test_what_a_row_does_not_say_is_no_flow(text: str | None) -> None:
    assert flow_of(text) == []
