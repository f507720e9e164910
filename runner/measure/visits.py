"""Sides of a comparison, timed in turn: what slows the machine for a while slows all of them alike.

A visit times each side once, for some milliseconds: first calls that are not timed, until the side
is as fast as when it runs alone (its data are in the cache again, the allocator has its memory, the
threads are awake), then some blocks. The order of the sides and their memory are drawn at random,
each order and each set of tensors as often as the others (a Williams square: Australian Journal of
Scientific Research A 2, 1949). One visit gives one ratio for each pair of sides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from statistics import median
from typing import NamedTuple

from runner.calls import Thunk
from runner.cells.cell import Cell
from runner.config.schema import Timing
from runner.garbage import uncollected
from runner.measure.engine import (
    LONGEST_REALLOCATED_S,
    OVERESTIMATED,
    Opening,
    had_its_cores,
    is_precise,
)
from runner.measure.gate import Gate
from runner.measure.host_clock import Block, Clock
from runner.stats.sequential import LOOKS, log_ratios, paired_ratio, verdict_of

MOST_SETTLING = 24  # blocks before those that are timed
FALLING = 0.02  # a block faster than the best before by more than this: the side has not settled
SETTLED = 2  # blocks in a row that are no faster
SETTLING_CALLS = 15  # at least, before those that are timed, unless they take too long:
SETTLING_S = 0.01
OVERTIME = 5  # times the time allowed, for the fewest visits
FEWEST_VISITS = 12  # that end by the time: they have an interval of some use
FEWEST_OF_PROCESS = 6  # where several processes share them
DRAWING_SHARE = 0.2  # of a visit may go to drawing new inputs; otherwise earlier ones serve again
SURE = 0.001  # p value of a claim that stays one among the many of its run
MOST_BALANCED = 16  # sides whose orders are balanced: there are as many squared
ROUNDS = 40  # visits to all calls of a workload, at most
BLOCKS = 3  # of a short call, in a visit, at least; of calls that need settling twice as many and
TURN_S = 0.005  # more, up to so many seconds: beyond them more visits tell more than longer ones
SHARE_OF_LIMITS = 0.5  # of limit.time_s of all sides, for visits; a process past them is ended


class Shape(NamedTuple):
    """How a side's turns are timed."""

    call_s: float  # seconds of a call that it is made for
    calls: int  # in a block
    untimed: int  # before each block that is timed
    # whether one call is enough before those that are timed, as a long one fills the caches within
    # itself, and a cold one finds them empty anyway
    settles_at_once: bool
    blocks: int  # timed in a turn, at least, of which the median counts
    most: int = Timing.max_samples  # of them

    @classmethod
    def of(cls, opening: Opening, timing: Timing, most_calls: int) -> Shape:
        """That of a side with these first calls, and with at most so many calls in a block."""
        at_once = opening.call_s > LONGEST_REALLOCATED_S or most_calls == 1
        blocks = 1 if at_once else min(BLOCKS, timing.max_samples)
        most = timing.max_samples
        return cls(opening.call_s, opening.calls, opening.untimed, at_once, blocks, most)

    def fitted(self, call_s: float, timing: Timing, most_calls: int) -> Shape:
        """The same, or where a call is far faster than it is made for that of such a call."""
        opening = Opening(self.call_s, self.call_s, self.calls)
        fitted = opening.fitted(call_s, timing, most_calls)
        return self if fitted is opening else Shape.of(fitted, timing, most_calls)


@dataclass(frozen=True)
class Side:
    """One of the sides."""

    clock: Clock
    shape: Shape  # of its turns
    most_calls: int  # in a block
    contents_kept: int  # sets of values that it keeps in memory
    # its call on tensors that hold the numbered contents and lie in the numbered set of memory
    call_on: Callable[[int, int], Thunk]
    # makes the process this side's (threads, modes), before its call is made and before each turn
    enter: Callable[[], None] = lambda: None
    # of a call, given it and its seconds
    cost: Callable[[Thunk, float], float] = lambda call, seconds: seconds
    # takes its turn elsewhere, given it, its call, its place in the order and the set of memory
    take: Callable[[Side, Thunk, int, int], Turn] | None = None


@dataclass(frozen=True)
class Turn:
    """One side's part of a visit."""

    position: int  # in the visit's order, from 0
    allocation: int  # the set of memory that its tensors lay in
    blocks: tuple[Block, ...]  # as the clock saw them
    seconds: float  # that a call costs: by the median of its undisturbed blocks
    spent_s: float  # that the turn took, settling included


@dataclass(frozen=True)
class Visit:
    """A turn of each side, in the order of the sides."""

    turns: tuple[Turn, ...]
    machine_slowdown: float | None = None  # over its best, around the visit
    calm: bool = True  # whether that was little

    def is_undisturbed(self, sides: Iterable[int]) -> bool:
        """Whether each of these sides had undisturbed blocks."""
        return all(any(map(had_its_cores, self.turns[side].blocks)) for side in sides)


@dataclass(frozen=True)
class Visits:
    """What visiting gave, the calls in a block of each side, and why it ended.

    It ends for precision, time or samples.
    """

    visits: list[Visit]
    calls: tuple[int, ...]
    stop: str


def visit_until_clear(
    sides: Sequence[Side],
    cells: Sequence[Cell],
    claims: Mapping[float, float],
    processes: int,
    gate: Gate | None = None,
    *,
    process: int = 1,
) -> Visits:
    """Visit the cells' sides, the baseline first, until all is clear and all times are precise.

    Of each relative difference in ``claims`` it is clear, up to the p value that stands there, that
    it is passed or not; the time is shared between the ``processes``, of which this is one.
    """
    timing = cells[0].timing

    def is_enough(visits: Sequence[Visit]) -> bool:
        seconds = [[turn.seconds for turn in visit.turns] for visit in visits]
        for other, margin in product(range(1, len(sides)), claims):
            ratio = paired_ratio([log_ratios(seconds, other)], margin, is_last=False)
            verdict = verdict_of(ratio.low, ratio.high, margin)
            if verdict == "unclear" or (verdict != "same" and ratio.p_value > claims[margin]):
                return False
        return all(is_precise(blocks_of(visits, side), timing) for side in range(len(sides)))

    shared = {"processes": processes, "process": process}
    return _visit_cells(sides, cells, timing, is_enough, gate=gate, **shared)


def visit_all(sides: Sequence[Side], cells: Sequence[Cell], gate: Gate | None = None) -> Visits:
    """Visit all calls of a workload, on all its sides, again and again: each visit is one sum."""
    timing = replace(cells[0].timing, max_samples=min(ROUNDS, cells[0].timing.max_samples))
    return _visit_cells(sides, cells, timing, lambda visits: False, gate=gate)


def _visit_cells(
    sides: Sequence[Side],
    cells: Sequence[Cell],
    timing: Timing,
    is_enough: Callable[[Sequence[Visit]], bool],
    *,
    gate: Gate | None,
    processes: int = 1,
    process: int = 1,
) -> Visits:
    """Visit the cells' sides for as long as all of them may take, shared by these processes."""
    seed = cells[0].seed + process - 1  # each has orders and places of its own
    fewest = max(FEWEST_OF_PROCESS, -(-FEWEST_VISITS // processes))
    budget_s = sum(cell.timing.max_time_s for cell in cells) / processes
    longest_s = SHARE_OF_LIMITS * sum(cell.limit.time_s for cell in cells)
    # of what is timed elsewhere slow visits are paid too, but never by more than what counts takes
    patience_s = sum(cell.timing.patience_s for cell in cells) / processes
    gate = gate or Gate((), min(patience_s, budget_s))
    limits = {"budget_s": budget_s, "longest_s": longest_s}
    return visit_in_turn(sides, timing, is_enough, **limits, seed=seed, gate=gate, fewest=fewest)


def visit_in_turn(
    sides: Sequence[Side],
    timing: Timing,
    is_enough: Callable[[Sequence[Visit]], bool],
    *,
    budget_s: float,
    longest_s: float = math.inf,
    seed: int,
    gate: Gate | None = None,
    fewest: int = FEWEST_VISITS,
) -> Visits:
    """Visit two or more warm sides until what was seen is enough, or the time is over.

    ``is_enough`` is asked of the calm visits, when they are as many as one of :data:`LOOKS`;
    ``seed`` is that of orders, sets of memory and contents. The ``fewest`` visits may take longer
    than ``budget_s`` seconds; no visit begins that would end after ``longest_s``.
    ``gate`` waits for calm moments, which is in neither time, and tells them from the others; nor
    is what had to be set aside, as far as its patience goes.
    """
    gate = gate or Gate(())
    draw = random.Random(seed)
    sides = _with_like_shapes(sides)
    now = sides[0].clock.now
    contents = _Contents(draw, now, min(side.contents_kept for side in sides))
    seen = _Seen(gate)
    looks = iter((*LOOKS, math.inf))
    next_look, start = next(looks), now()

    def ended(stop: str) -> Visits:
        return Visits(seen.all(), tuple(side.shape.calls for side in sides), stop)

    with uncollected():
        for order, allocations in _designs(len(sides), draw):
            moment = gate.pass_by()
            turns = _turns(sides, order, allocations, contents)
            fitted = _fitted(sides, turns, timing)
            if fitted != sides:  # the blocks so far were too short
                sides, seen = fitted, _Seen(gate)
                looks = iter((*LOOKS, math.inf))
                next_look = next(looks)
                continue
            seen.add(turns, moment)
            if len(seen.calm) >= next_look:
                if is_enough(seen.calm[: int(next_look)]):
                    return ended("precision")
                next_look = next(looks)
            if next_look > LOOKS[-1] or seen.count >= timing.max_samples:
                return ended("samples")
            allowed_s = budget_s if seen.count >= fewest else OVERTIME * budget_s
            elapsed_s = now() - start - gate.waited_s
            next_s = elapsed_s / seen.count
            if elapsed_s - gate.set_aside_s >= allowed_s or elapsed_s + next_s > longest_s:
                return ended("time")
    raise AssertionError("designs have no end")


class _Seen:
    """The visits so far; what their moments were like is known when the gate has looked again."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._told: list[Visit] = []
        self._latest: list[tuple[tuple[Turn, ...], int]] = []
        self.calm: list[Visit] = []

    @property
    def count(self) -> int:
        """How many, whatever their moments."""
        return len(self._told) + len(self._latest)

    def add(self, turns: tuple[Turn, ...], moment: int) -> None:
        """One more."""
        if self._latest and self._latest[0][1] != moment:
            self._tell()
        self._latest.append((turns, moment))
        if not self._gate.sentinels:
            self._tell()

    def all(self) -> list[Visit]:
        """Each, with how slow the machine was around it."""
        self._gate.look()
        self._tell()
        return self._told

    def _tell(self) -> None:
        for turns, moment in self._latest:
            around = self._gate.around(moment)
            # what is known of a turn elsewhere came with its blocks
            blocks = list(chain.from_iterable(turn.blocks for turn in turns))
            around["calm"] &= all(block.calm for block in blocks)
            slowdowns = [around["machine_slowdown"], *(block.machine_slowdown for block in blocks)]
            around["machine_slowdown"] = max(filter(None, slowdowns), default=None)
            visit = Visit(turns, **around)
            self._told.append(visit)
            if not (visit.calm or self._gate.sentinels):
                self._gate.slow_s += sum(turn.spent_s for turn in turns)
            if visit.calm and visit.is_undisturbed(range(len(turns))):
                self.calm.append(visit)
        self._latest = []


def _with_like_shapes(sides: Sequence[Side]) -> list[Side]:
    """Sides whose calls take about as long take like turns: what a block costs is alike."""

    def like(side: Side) -> Side:
        least_s = side.shape.call_s / OVERESTIMATED
        of_its_clock = [other.shape for other in sides if other.most_calls == side.most_calls]
        shape = min(shape for shape in of_its_clock if shape.call_s >= least_s)
        return replace(side, shape=shape)

    return list(map(like, sides))


def _fitted(sides: list[Side], turns: Sequence[Turn], timing: Timing) -> list[Side]:
    """The sides, with other shapes where calls are far faster than these are made for."""
    shapes = [
        side.shape.fitted(turn.seconds, timing, side.most_calls)
        for side, turn in zip(sides, turns, strict=True)
    ]
    if shapes == [side.shape for side in sides]:
        return sides
    resized = [replace(side, shape=shape) for side, shape in zip(sides, shapes, strict=True)]
    return _with_like_shapes(resized)


def _designs(sides: int, draw: random.Random) -> Iterator[tuple[list[int], list[int]]]:
    """Orders of the sides and their sets of memory, without end; each run through all balances.

    Of very many sides the orders are drawn at random.
    """
    while sides > MOST_BALANCED:
        yield draw.sample(range(sides), sides), draw.sample(range(sides), sides)
    rotations = [[(side + shift) % sides for side in range(sides)] for shift in range(sides)]
    designs = list(product(williams_square(sides), rotations))
    while True:
        draw.shuffle(designs)
        yield from designs


def williams_square(sides: int) -> list[list[int]]:
    """Orders in which each side has each place, and follows each other side, as often.

    >>> williams_square(2)
    [[0, 1], [1, 0]]
    """
    # 0, 1, last, 2, last but one, ...: all distances between neighbours differ
    zigzag = [0]
    for step in range(1, sides):
        zigzag.append((step + 1) // 2 if step % 2 else sides - step // 2)
    square = [[(side + shift) % sides for side in zigzag] for shift in range(sides)]
    return square if sides % 2 == 0 else square + [order[::-1] for order in square]


def _turns(
    sides: Sequence[Side], order: Sequence[int], allocations: Sequence[int], contents: _Contents
) -> tuple[Turn, ...]:
    """One turn of each side, all on the same contents."""
    number = contents.next()
    begun = contents.now()
    calls: dict[int, Thunk] = {}
    # in the order of the memory, of which an accelerator's allocator gives the first that is free
    for allocation, index in sorted(zip(allocations, range(len(sides)), strict=True)):
        sides[index].enter()  # making a call runs some of it: a forward pass, or what is captured
        calls[index] = sides[index].call_on(number, allocation)
    contents.took(contents.now() - begun)

    turns: dict[int, Turn] = {}
    for position, index in enumerate(order):
        take = sides[index].take or turn_of
        turns[index] = take(sides[index], calls[index], position, allocations[index])
    contents.visit_s = sum(turn.spent_s for turn in turns.values())
    return tuple(turns[index] for index in range(len(sides)))


def turn_of(side: Side, call: Thunk, position: int, allocation: int) -> Turn:
    """A turn in this process."""
    side.enter()
    clock = side.clock
    start, wanted = clock.now(), side.shape.blocks
    if side.shape.settles_at_once:
        clock.time(call, 1)
    else:
        settling = _settle(call, side)
        wanted = _worth(side.shape, settling, clock.now() - start)
    blocks = _timed(call, side, wanted)
    undisturbed = [block for block in blocks if had_its_cores(block)]
    seconds = median(block.wall_s for block in undisturbed or blocks) / side.shape.calls
    cost = side.cost(call, seconds)
    return Turn(position, allocation, tuple(blocks), cost, clock.now() - start)


def _worth(shape: Shape, settling: int, settling_s: float) -> int:
    """How many blocks a turn times that took so many, and seconds, to settle: as many, it pays.

    The seconds are those that pass: an accelerator's calls may take longer to launch than to run.
    """
    most = int(TURN_S * settling / settling_s) if settling_s > 0 else settling
    return min(shape.most, max(BLOCKS, min(most, max(2 * BLOCKS, settling))))


def _timed(call: Thunk, side: Side, wanted: int) -> list[Block]:
    """So many undisturbed blocks and those disturbed meanwhile, but twice as many at most."""
    blocks: list[Block] = []
    undisturbed = 0
    while undisturbed < wanted and len(blocks) < 2 * wanted:
        blocks.append(side.clock.time(call, side.shape.calls, side.shape.untimed))
        undisturbed += had_its_cores(blocks[-1])
    return blocks


def _settle(call: Thunk, side: Side) -> int:
    """Call until blocks no longer become faster; how many blocks that took.

    By then a pool of threads has settled too whose number differs from the other side's: it starts
    its threads at the first of these calls, which takes milliseconds, and is steady after eight.
    """
    least, not_faster, calls, spent_s = math.inf, 0, 0, 0.0
    for blocks in range(1, MOST_SETTLING + 1):
        block_s = side.clock.time(call, side.shape.calls).wall_s
        calls, spent_s = calls + side.shape.calls, spent_s + block_s
        not_faster = not_faster + 1 if block_s > (1 - FALLING) * least else 0
        least = min(least, block_s)
        has_called = calls >= SETTLING_CALLS or spent_s >= SETTLING_S
        if has_called and not_faster >= SETTLED:
            return blocks
    return MOST_SETTLING


class _Contents:
    """Which values the sides get at each visit: others than before, so that none is remembered.

    New ones are drawn where that takes little of a visit's time; where it takes more, one of a few
    at random. Those that fill the memory stay.
    """

    def __init__(self, draw: random.Random, now: Callable[[], float], kept: int) -> None:
        self._draw, self.now, self._kept = draw, now, kept
        self._drawn, self._last, self._is_new = 0, -1, False
        self._drawing_s = 0.0
        self.visit_s = 0.0  # what a visit's turns took

    def next(self) -> int:
        """The number of a visit's contents; 0, 1, 2, ... are new ones."""
        affordable = self._drawing_s <= DRAWING_SHARE * self.visit_s
        self._is_new = self._drawn < min(2, self._kept) or (affordable and self._kept > 1)
        if self._is_new:
            self._last, self._drawn = self._drawn, self._drawn + 1
            return self._last
        kept = range(max(0, self._drawn - self._kept), self._drawn)
        others = [number for number in kept if number != self._last]
        self._last = self._draw.choice(others or [self._last])
        return self._last

    def took(self, seconds: float) -> None:
        """What making a visit's tensors took."""
        if self._is_new:
            self._drawing_s = seconds


def blocks_of(visits: Sequence[Visit], side: int) -> list[Block]:
    """All blocks of a side; those of a visit are one observation, as those of an allocation are."""
    blocks: list[Block] = []
    for number, visit in enumerate(visits):
        around = partial(
            replace,
            allocation=number,
            machine_slowdown=visit.machine_slowdown,
            calm=visit.calm,
        )
        blocks += map(around, visit.turns[side].blocks)
    return blocks
