"""Sides that take turns on a scripted machine.

Phases cancel, carry-over does not count, all is balanced.
"""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random
from types import SimpleNamespace

import pytest

from runner.config.schema import Limit, Timing
from runner.measure.engine import MOST_CALLS
from runner.measure.gate import Gate
from runner.measure.host_clock import Block
from runner.measure.visits import (
    BLOCKS,
    ROUNDS,
    Shape,
    Side,
    Turn,
    Visit,
    blocks_of,
    turn_of,
    visit_all,
    visit_in_turn,
    visit_until_clear,
    williams_square,
)
from runner.stats.intervals import median_interval
from runner.stats.sequential import LOOKS, log_ratios, paired_ratio

TIMING = Timing(max_time_s=1.0, block_s=0.0005)


class Machine:
    """Time that passes as its sides call.

    In slow phases more of it, and after a change of sides too.

    Attributes:
        slow: how many times as long everything takes, at a moment.
        cold_calls: calls after another side's that take longer, each less than the one before.
    """

    def __init__(self, slow=lambda now: 1.0, cold_calls=0):
        self.seconds, self._slow, self._cold_calls = 0.0, slow, cold_calls
        self._last, self._calls_in_a_row = None, 0
        self.placed = []

    def side(self, name, call_s, calls=5, draw_s=0.0, kept=4):
        """A side whose calls take so long where nothing disturbs it."""

        def time(call, count, untimed=0):
            begun = self.seconds
            for _ in range(count):
                self._call(name, call_s)
            return Block(self.seconds - begun)

        def call_on(contents, memory):
            self.placed.append((name, contents, memory))
            self.seconds += draw_s
            return lambda: None

        clock = type("Clock", (), {"now": lambda _: self.seconds, "time": lambda _, *a: time(*a)})()
        is_long = call_s > 0.005
        shape = Shape(call_s, calls, 0, is_long, 1 if is_long else 3)
        return Side(clock, shape, MOST_CALLS, kept, call_on)

    def _call(self, name, call_s):
        if name != self._last:
            self._last, self._calls_in_a_row = name, 0
        cold = 1 + 2 * 0.8**self._calls_in_a_row if self._calls_in_a_row < self._cold_calls else 1
        self._calls_in_a_row += 1
        self.seconds += call_s * cold * self._slow(self.seconds)


def visited(sides, budget_s=2.0, timing=TIMING, enough=lambda visits: False, seed=0):
    return visit_in_turn(sides, timing, enough, budget_s=budget_s, seed=seed)


def seconds(visits):
    return [[turn.seconds for turn in visit.turns] for visit in visits.visits]


def test_phases_of_the_machine_cancel():
    random = Random(3)
    factors = [random.choice([1.0, 1.8, 3.0]) for _ in range(1_000)]
    machine = Machine(slow=lambda now: factors[int(now / 0.05)])
    visits = visited([machine.side("a", 1e-4), machine.side("b", 1.25e-4)])
    times = seconds(visits)
    ratio = paired_ratio([log_ratios(times, 1)], 0.01)
    assert ratio.value == pytest.approx(0.8, rel=0.01)
    assert ratio.high < 0.85
    one_side = sorted(side[0] for side in times)
    assert one_side[-1] > 2.5 * one_side[0]  # which no interval of one side alone would survive


class Phases:
    """A sentinel that knows how slow the simulated machine is."""

    calm_within, reading_s, latest = 1.15, 0.002, ()

    def __init__(self, machine, slow):
        self._machine, self._slow, self._last_s = machine, slow, -math.inf

    @property
    def rested_s(self):
        return self._machine.seconds - self._last_s

    def read(self):
        self._machine.seconds += self.reading_s
        self._last_s = self._machine.seconds
        self.latest = (self._slow(self._last_s),)
        return self.latest

    def slowdown(self, reading):
        return reading[0]


@pytest.mark.parametrize(("patience_s", "least", "most"), [(10.0, 0.85, 1.1), (0.0, 0.2, 0.6)])
def test_calm_visits_get_the_time_for_measuring_where_patience_pays_for_slow_ones(
    patience_s, least, most, monkeypatch
):
    def slow(now):
        return 2.0 if now % 0.6 < 0.3 else 1.0

    machine = Machine(slow)

    def sleep(seconds):
        machine.seconds += seconds

    told = SimpleNamespace(sleep=sleep, monotonic=lambda: machine.seconds)
    monkeypatch.setattr("runner.measure.gate.time", told)
    gate = Gate([(Phases(machine, slow), lambda: None)], patience_s)
    sides = [machine.side("a", 1e-4), machine.side("b", 1e-4)]
    visits = visit_in_turn(sides, TIMING, lambda seen: False, budget_s=2.0, seed=0, gate=gate)
    calm_s = sum(turn.spent_s for v in visits.visits if v.calm for turn in v.turns)
    assert least * 2.0 <= calm_s <= most * 2.0
    assert machine.seconds <= 2.0 + gate.lost_s + 0.1
    assert (gate.set_aside_s > 0) == (patience_s > 0)


@pytest.mark.parametrize(("patience_s", "seconds"), [(10.0, 4.0), (0.5, 3.0), (0.0, 2.0)])
def test_slow_visits_elsewhere_are_paid_by_patience_but_no_longer_than_calm_ones(
    patience_s, seconds
):
    """As those of two environments, whose workers say how slow the machine was."""
    machine = Machine()

    def take(side, call, position, memory):
        turn = turn_of(side, call, position, memory)
        return replace(turn, blocks=tuple(replace(block, calm=False) for block in turn.blocks))

    timing = replace(TIMING, patience_s=patience_s)
    of_both = [SimpleNamespace(timing=timing, limit=Limit(), seed=0)] * 2
    sides = [replace(machine.side(name, 1e-4), take=take) for name in "ab"]
    visits = visit_until_clear(sides, of_both, {0.01: 0.001}, 1)
    assert visits.stop == "time" and not any(visit.calm for visit in visits.visits)
    assert machine.seconds == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("call_s", "calls", "cold_calls", "blocks"),
    [
        (1e-4, 5, 0, {6}),  # settled at once
        (1e-4, 1, 0, {15}),  # as many as that took
        (4e-4, 1, 0, {12}),  # but no more than 5 ms
        (3e-3, 1, 0, {3}),  # more visits tell more than longer ones
    ],
)
def test_a_turn_is_as_long_as_its_settling_was(call_s, calls, cold_calls, blocks):
    machine = Machine(cold_calls=cold_calls)
    visits = visited([machine.side(name, call_s, calls) for name in "ab"])
    assert {len(turn.blocks) for visit in visits.visits for turn in visit.turns} == blocks


def test_what_another_side_left_behind_is_not_timed():
    machine = Machine(cold_calls=20)
    times = seconds(visited([machine.side("a", 1e-4), machine.side("b", 1e-4, calls=2)]))
    for first, second in times:
        assert first == pytest.approx(1e-4, rel=0.02)
        assert second == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_each_order_and_each_set_of_memory_comes_as_often(count):
    machine = Machine()
    sides = [machine.side(str(number), 1e-4) for number in range(count)]
    cycle = len(williams_square(count)) * count
    timing = Timing(max_samples=2 * cycle)
    visits = visited(sides, 1e9, timing).visits[:cycle]
    each = Counter(
        (side, turn.position, turn.allocation)
        for visit in visits
        for side, turn in enumerate(visit.turns)
    )
    assert len(each) == count**3
    assert len(set(each.values())) == 1
    for visit in visits:
        assert sorted(turn.position for turn in visit.turns) == list(range(count))
        assert sorted(turn.allocation for turn in visit.turns) == list(range(count))


@pytest.mark.parametrize("count", range(2, 8))
def test_each_side_follows_each_other_one_as_often(count):
    square = williams_square(count)
    follows = Counter(pair for order in square for pair in pairwise(order))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) == 1
    assert all(sorted(order) == list(range(count)) for order in square)


def test_both_sides_of_a_visit_hold_the_same_values_and_each_visit_others():
    machine = Machine()
    visits = visited([machine.side("a", 1e-4), machine.side("b", 1e-4)], 0.2)
    contents = [contents for _, contents, _ in machine.placed]
    assert contents[0::2] == contents[1::2] == list(range(len(visits.visits)))


def test_where_drawing_takes_long_a_few_values_serve_again_but_never_twice_in_a_row():
    machine = Machine()
    visited([machine.side("a", 1e-4, draw_s=0.1), machine.side("b", 1e-4)], 3.0)
    contents = [contents for side, contents, _ in machine.placed if side == "a"]
    assert max(contents) < 4
    assert len(contents) > 10
    assert all(before != after for before, after in pairwise(contents))


def test_values_that_fill_the_memory_stay():
    machine = Machine()
    visited([machine.side("a", 1e-4, kept=1), machine.side("b", 1e-4)], 0.1)
    assert {contents for _, contents, _ in machine.placed} == {0}


def test_visits_end_where_they_say_enough():
    machine = Machine()
    sides = [machine.side("a", 1e-4), machine.side("b", 2e-4)]
    asked = []

    def enough(visits):
        asked.append(len(visits))
        return len(visits) >= 40

    visits = visited(sides, 1e9, enough=enough)
    assert asked == list(LOOKS[: LOOKS.index(40) + 1])
    assert (len(visits.visits), visits.stop) == (40, "precision")
    assert visited(sides, 1e9).stop == "samples"


def test_the_fewest_visits_are_worth_more_time_than_was_allowed():
    machine = Machine()
    visits = visited([machine.side("a", 0.1, calls=1), machine.side("b", 0.1, calls=1)], 1.0)
    assert visits.stop == "time"
    assert median_interval(sorted(log_ratios(seconds(visits), 1))) is not None
    assert machine.seconds < 6


def test_blocks_are_fitted_to_calls_that_were_slow_when_they_were_first_seen():
    """As beside programs that keep every core busy: one side would have blocks of a single call."""
    machine = Machine()
    slow, other = machine.side("a", 1e-5, calls=50), machine.side("b", 1e-5, calls=50)
    slow = replace(slow, shape=Shape(0.008, 1, 0, True, 1))
    visits = visited([slow, other], 0.5)
    assert visits.calls == (50, 50)
    assert {len(turn.blocks) for visit in visits.visits for turn in visit.turns} == {2 * BLOCKS}
    for blocks in (blocks_of(visits.visits, side) for side in range(2)):
        assert all(block.wall_s == pytest.approx(50 * 1e-5) for block in blocks)


def test_a_cold_sides_turns_are_no_model_for_a_warm_one():
    machine = Machine()
    cold = replace(machine.side("a", 1e-4), shape=Shape(1e-4, 1, 0, True, 1), most_calls=1)
    visits = visited([cold, machine.side("b", 1.5e-4)], 0.1)
    assert visits.calls == (1, 5)


def test_no_visit_passes_the_longest_time():
    machine = Machine()
    sides = [machine.side("a", 0.1, calls=1), machine.side("b", 0.1, calls=1)]
    visits = visit_in_turn(sides, TIMING, lambda _: False, budget_s=1.0, longest_s=1.7, seed=0)
    assert (len(visits.visits), visits.stop) == (4, "time")  # of two calls a side, 0.4 s each
    assert machine.seconds < 1.7


def test_a_sides_blocks_count_by_visits():
    machine = Machine()
    visits = visited([machine.side("a", 1e-4), machine.side("b", 3e-4)], 0.1)
    blocks = blocks_of(visits.visits, 1)
    assert {block.allocation for block in blocks} == set(range(len(visits.visits)))
    assert all(block.wall_s == pytest.approx(5 * 3e-4) for block in blocks)
    assert math.isclose(visits.visits[0].turns[1].seconds, 3e-4)


def test_many_calls_are_visited_in_orders_of_their_own_each_once_a_round():
    machine = Machine()
    sides = [machine.side(name, 0.001, kept=1) for name in range(20)]
    cells = [SimpleNamespace(timing=TIMING, limit=Limit(), seed=0) for _ in sides]
    visits = visit_all(sides, cells).visits
    orders = {tuple(turn.position for turn in visit.turns) for visit in visits}
    assert 12 <= len(visits) == len(orders) <= ROUNDS
    assert all(sorted(order) == list(range(20)) for order in orders)
    places = {tuple(turn.allocation for turn in visit.turns) for visit in visits}
    assert len(places) == len(visits)  # where its memory lies is no part of a side either


def test_each_process_has_orders_of_its_own():
    def orders(process):
        machine = Machine()
        sides = [machine.side("a", 1e-4), machine.side("b", 1e-4)]
        cells = [SimpleNamespace(timing=TIMING, limit=Limit(), seed=3) for _ in sides]
        claims = {0.01: 0.0}  # never clear
        visits = visit_until_clear(sides, cells, claims, 2, process=process).visits
        return [[turn.position for turn in visit.turns] for visit in visits]

    assert orders(1) == orders(1) != orders(2)


def test_a_visit_is_disturbed_for_the_sides_that_were():
    calm, interrupted = Block(1e-3), Block(1e-3, preemptions=1)
    turns = [Turn(n, n, (block,), 1e-3, 1e-3) for n, block in enumerate((calm, interrupted, calm))]
    visit = Visit(tuple(turns))
    assert visit.is_undisturbed((0, 2))
    assert not visit.is_undisturbed((0, 1))
    assert not visit.is_undisturbed(range(3))


def test_how_slow_the_machine_was_for_a_turn_elsewhere_came_with_its_blocks():
    machine = Machine()
    elsewhere = Turn(0, 0, (Block(5e-4, machine_slowdown=1.4, calm=False),), 1e-4, 1e-3)
    side = replace(machine.side("a", 1e-4), take=lambda *turn: elsewhere)
    visits = visit_in_turn(
        [side, machine.side("b", 1e-4)], TIMING, lambda _: False, budget_s=0.01, seed=0
    ).visits
    assert {(visit.machine_slowdown, visit.calm) for visit in visits} == {(1.4, False)}


def test_the_call_of_a_side_is_made_as_the_side_is():
    """Making it runs some of it, such as the forward pass of a backward one."""
    machine, entered, made = Machine(), [""], []

    def side(name):
        def call_on(contents, memory):
            made.append((name, entered[-1]))
            return lambda: None

        return replace(
            machine.side(name, 1e-4), enter=lambda: entered.append(name), call_on=call_on
        )

    visited([side("a"), side("b")], budget_s=0.1)
    assert {name for name, _ in made} == {"a", "b"}
    assert all(name == mode for name, mode in made)
