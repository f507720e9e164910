"""``job=benchmark`` for the sides of a comparison: they are timed in turn, in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.direction import inputs_of
from runner.calls.placement import Pools
from runner.measure.engine import (
    Measurement,
    Opening,
    Sampled,
    measurement,
    most_calls_of,
    open_call,
)
from runner.measure.visits import (
    SURE,
    Shape,
    Side,
    Visit,
    Visits,
    blocks_of,
    turn_of,
    visit_all,
    visit_until_clear,
)
from runner.rows.columns import packed
from runner.tasks.benchmark import Ready
from runner.tasks.calm import gate_for

CONTENT_BYTES = 256 * 2**20  # of drawn inputs that a side keeps
MOST_CONTENTS = 4  # that it keeps
LAUNCHES_IN_A_VISIT = 5


@dataclass(frozen=True)
class Opened:
    """A side whose first calls have been made, alone."""

    ready: Ready  # its call
    opening: Opening  # what the first calls gave


def open_side(ready: Ready) -> Opened:
    """Make a side's first calls, while no other one runs: what they take is its own."""
    timing = ready.task.cell.timing
    return Opened(ready, open_call(ready.call, ready.clock, timing, ready.on_first_result))


def visit_sides(
    opened: Sequence[Opened], *, same_within: float, processes: int = 1, process: int = 1
) -> Visits:
    """Time the sides, the baseline first, until all verdicts are clear and all times precise.

    Up to a relative difference of ``same_within`` two sides count as the same; the time is shared
    between so many ``processes``, of which this is one.
    """
    cells = [side.ready.task.cell for side in opened]
    pools = Pools(cells[0].seed + process - 1)
    sides = [_Placed(side, pools).side() for side in opened]
    gate = gate_for([side.ready.task for side in opened], processes)
    return visit_until_clear(sides, cells, {same_within: SURE}, processes, gate, process=process)


def visit_calls(opened: Sequence[Opened]) -> Visits:
    """Time all calls of a workload, each on tensors of its own, as those of a model are."""
    cells = [side.ready.task.cell for side in opened]
    sides = []
    for one in opened:
        side = _Placed(one, Pools(cells[0].seed)).side()
        own = partial(_own_call, one.ready.call)
        sides.append(replace(side, contents_kept=1, call_on=own))
    return visit_all(sides, cells, gate_for([side.ready.task for side in opened]))


def _own_call(call: Thunk, contents: int, memory: int) -> Thunk:
    return call


def take_turns(
    opened: Opened,
    process: int,
    hear: Callable[[], Sequence[Any]],
    tell: Callable[[tuple[Any, ...]], None],
) -> Visits:
    """Take the turns that another process asks for (:mod:`runner.execute.two_sides`).

    It asks for contents and a set of memory, then for the turn; at last it says why it has ended,
    at once where the other side takes no turns.
    """
    task = opened.ready.task
    side = _Placed(opened, Pools(task.cell.seed + process - 1)).side()
    gate = gate_for([task])
    gate.patience_s = 0.0  # the other side would be charged for waiting
    visits: list[Visit] = []
    tell(("opened", tuple(side.shape), side.most_calls, side.contents_kept))
    while len(asked := hear()) > 1:
        moment = gate.pass_by()
        side.enter()
        call = side.call_on(*asked)
        tell(("placed",))
        shape, *place = hear()
        if Shape(*shape) != side.shape:  # the blocks so far were of another number of calls
            side, visits = replace(side, shape=Shape(*shape)), []
        turn = turn_of(side, call, *place)
        gate.pass_by()  # which looks again, if it is time
        around = gate.around(moment)
        visits.append(Visit((turn,), **around))
        blocks = packed([replace(block, **around) for block in turn.blocks])
        tell(("turn", blocks, turn.seconds, turn.spent_s))
    return Visits(visits, (side.shape.calls,), *asked)


def measured_in_turn(opened: Opened, visits: Visits, side: int) -> Measurement:
    """A side's times, from its turns."""
    opening = opened.opening
    blocks = blocks_of(visits.visits, side)
    spent_s = sum(visit.turns[side].spent_s for visit in visits.visits)
    sampled = Sampled(blocks, visits.calls[side], visits.stop)
    return measurement(sampled, opening.first_call_s, spent_s, visited=True)


class _Placed:
    """A side's calls on tensors that hold other values, and lie elsewhere, at each visit."""

    def __init__(self, opened: Opened, pools: Pools) -> None:
        self._ready, self._opening, self._pools = opened.ready, opened.opening, pools
        self._contents: dict[int, list[torch.Tensor]] = {0: self._ready.tensors}
        size = sum(tensor.nbytes for tensor in self._ready.tensors)
        self._most = max(1, min(MOST_CONTENTS, CONTENT_BYTES // max(1, size)))
        pools.reserve(self._ready.tensors)

    def side(self) -> Side:
        ready, opening = self._ready, self._opening
        task = ready.task
        enter = partial(task.state.switches.enter, task.cell, task.device.torch)
        most_calls = most_calls_of(ready.clock)
        shape = Shape.of(opening, task.cell.timing, most_calls)
        kept = (most_calls, self._most)
        return Side(ready.clock, shape, *kept, self._call_on, enter, self._cost)

    def _call_on(self, contents: int, memory: int) -> Thunk:
        if contents not in self._contents:
            while len(self._contents) >= self._most:
                del self._contents[min(self._contents)]
            bound, task = self._ready.bound, self._ready.task
            seeded = replace(bound, seed=bound.seed + contents)
            drawn = inputs_of(seeded, task.cell.direction, task.device.torch)
            self._contents[contents] = drawn
        return self._ready.call_with(self._pools.place(self._contents[contents], memory))

    def _cost(self, call: Thunk, seconds: float) -> float:
        """What a call costs in a row of them: its time, or its launch where that is longer."""
        device = self._ready.task.device
        launches = device.launch_and_wall(call, LAUNCHES_IN_A_VISIT)
        launch_s: float = launches.get("launch_s", 0.0)
        return max(seconds, launch_s)
