"""The sides of a comparison, run in turn in this process: each one's row, and the visits of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch

from runner.cells.cell import Cell
from runner.execute.cell_run import CellRun, is_device_lost, log_rows, release
from runner.execute.turns import ALL_SIDES, Plan, TurnsOutcome
from runner.measure.device import Device
from runner.measure.visits import Visits
from runner.rows.rows import PairVisit, Row, Sample
from runner.tasks.benchmark import finish, prepare
from runner.tasks.in_turn import (
    Opened,
    measure_alone,
    measured_in_turn,
    open_side,
    visit_sides,
)
from runner.tasks.task import Function, TaskResult
from runner.tasks.worker_state import WorkerState

SideStep = Callable[[int, str], None]


def run_in_turn(
    cells: Sequence[Cell], state: WorkerState, plan: Plan, report_step: SideStep
) -> TurnsOutcome:
    """Run the sides of a comparison in turn in this process.

    A side that fails, or is too slow to be visited, has its row all the same; the others go on
    without it.

    Args:
        cells: the baseline's and those to compare with it.
        state: what earlier cells of this process have found out.
        plan: what is asked for.
        report_step: is called with a side's position and its step as it begins.
    """
    sides = [_Side(cell, state, partial(report_step, side)) for side, cell in enumerate(cells)]
    default_threads = torch.get_num_threads()
    try:
        for side in sides:
            side.open(check=not plan.visits_only)
        pairs = _visit(sides, plan, report_step)
        torch.set_num_threads(default_threads)
        results = [] if plan.visits_only else [side.finish() for side in sides]
    finally:
        torch.set_num_threads(default_threads)
        for side in sides:
            release(side.run.device)

    # a lost device spoils the process, and what the other sides had there too
    rows: list[Sequence[Row]] = [result.rows for result in results]
    samples: list[Sequence[Sample]] = [result.samples for result in results]
    lost = any(is_device_lost(*pair) for pair in zip(cells, rows, strict=False))
    for cell, its_rows in zip(cells, rows, strict=False):
        log_rows(cell, its_rows)
    return TurnsOutcome(rows, samples, pairs, lost)


class _Side:
    """A side's way from its cell to its row."""

    def __init__(self, cell: Cell, state: WorkerState, report_step: Callable[[str], None]) -> None:
        self.run = CellRun(cell, state)
        self._state, self._report_step = state, report_step
        self.opened: Opened | None = None
        self._visits: Visits | None = None
        self._position = 0

    def open(self, *, check: bool) -> None:
        """Do all that comes before the first visit."""

        def step(device: Device, function: Function | None) -> Opened:
            cell, report_step = self.run.cell, self._report_step
            ready = prepare(cell, device, function, self._state, report_step, check=check)
            report_step("timing")
            return open_side(ready)

        self.opened = self.run.attempt(step)

    def was_visited(self, visits: Visits, position: int) -> None:
        """Take the times from the turns at this position."""
        self._visits, self._position = visits, position

    def finish(self) -> TaskResult:
        """Its row, from its turns, or from its own blocks where it had none."""
        result = self.run.attempt(self._finish) if self.opened is not None else None
        if result is not None:
            return self.run.timed(result)
        assert self.run.failure is not None
        return self.run.failure

    def _finish(self, device: Device, function: Function | None) -> TaskResult:
        assert self.opened is not None
        if self._visits is None:
            measured = measure_alone(self.opened)
        else:
            measured = measured_in_turn(self.opened, self._visits, self._position)
        return finish(self.opened.ready, measured, self._state, self._report_step)


def _visit(sides: Sequence[_Side], plan: Plan, report_step: SideStep) -> list[PairVisit]:
    """Visit the sides that can be, if the baseline, which is the first, is among them."""
    visited = [side for side in sides if side.opened is not None and side.opened.can_be_visited]
    opened = [side.opened for side in visited if side.opened is not None]
    if len(visited) < 2 or visited[0] is not sides[0]:
        return []
    report_step(ALL_SIDES, "timing in turn")
    visits = visit_sides(opened, same_within=plan.same_within, processes=plan.processes)
    for position, side in enumerate(visited):
        side.was_visited(visits, position)
    cells = [side.run.cell for side in visited]
    pairs = [_pairs(cells, visits, other) for other in range(1, len(cells))]
    return list(chain.from_iterable(pairs))


def _pairs(cells: Sequence[Cell], visits: Visits, other: int) -> list[PairVisit]:
    """The visits of a side with those of the baseline."""
    return [
        PairVisit(
            baseline_cell=cells[0].identity,
            other_cell=cells[other].identity,
            visit=number,
            baseline_turn=visit[0].position,
            other_turn=visit[other].position,
            baseline_allocation=visit[0].allocation,
            other_allocation=visit[other].allocation,
            baseline_s=visit[0].seconds,
            other_s=visit[other].seconds,
        )
        for number, visit in enumerate(visits.visits)
    ]
