"""The sides of a comparison, run in turn in this process: each one's row, and the visits of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from runner.cells.cell import Cell
from runner.execute.cell_run import LocalRun, is_device_lost, log_rows
from runner.execute.turns import ALL_SIDES, Plan, TurnsOutcome, pairs_of
from runner.measure.engine import Measurement
from runner.measure.visits import Visits
from runner.rows.rows import PairVisit
from runner.tasks.benchmark import finish, prepare, time_alone
from runner.tasks.in_turn import (
    Opened,
    measured_in_turn,
    open_side,
    visit_calls,
    visit_sides,
)
from runner.tasks.task import Task, TaskResult, WorkerState


def run_in_turn(
    cells: Sequence[Cell],
    state: WorkerState,
    plan: Plan,
    report_step: Callable[[int, str], None],
    take_turns: Callable[[Opened, int], Visits],
    *,
    folders: Sequence[Path],
) -> tuple[bool, TurnsOutcome | None]:
    """Run the sides of a comparison, the baseline first, in turn in this process.

    A side that fails, or is too slow to be visited, has its row all the same; the others go on
    without it. ``report_step`` is called with a side's position and its step as it begins,
    ``take_turns`` where a single side has its others elsewhere.

    Returns:
        whether the process has to be replaced, as one that lost a device, and what came of it; None
        where it has: what the other sides had there is gone too, or they were disturbed.
    """
    in_turns = False

    def told(side: int, step: str) -> None:
        # what one says while they take turns, as that it waits, is charged to none of them
        report_step(ALL_SIDES if in_turns else side, step)

    sides = [
        _Side(cell, state, partial(told, side), folder=folder)
        for side, (cell, folder) in enumerate(zip(cells, folders, strict=True))
    ]
    try:
        for side in sides:
            side.open()
        # what a side does to the process would be in the others' times too
        if state.switches.is_spoiled:
            return True, None
        in_turns = True
        pairs = _visit(sides, plan, report_step, take_turns)
        in_turns = False
        results = [] if plan.visits_only else [side.finish() for side in sides]
    finally:
        for side in sides:
            side.release()

    if state.switches.is_spoiled:  # by a later call
        return True, None
    for side in sides:
        if is_device_lost(side.cell, side.failure):
            log_rows(side.cell, side.failure)
            return True, None

    # memory that does not suffice beside the others says nothing of a side alone
    rows = [[row for row in result.rows if row.status != "out_of_memory"] for result in results]
    for cell, of_cell in zip(cells, rows, strict=False):
        log_rows(cell, of_cell)
    return False, TurnsOutcome(rows, [result.samples for result in results], pairs)


class _Side(LocalRun):
    opened: Opened | None = None
    measured: Measurement | None = None  # by its turns; None: it had none

    def open(self) -> None:
        def step(task: Task) -> Opened:
            ready = prepare(task)
            task.report_step("timing")
            return open_side(ready)

        self.opened = self.attempt(step)

    def finish(self) -> TaskResult:
        """Its row, from its turns, or from its own blocks where it had none."""
        opened = self.opened
        if opened is None:
            return self.outcome(None)

        def step(task: Task) -> TaskResult:
            task.report_step("timing")  # the log and the time are this side's again
            alone = partial(time_alone, opened.ready, opening=opened.opening)
            return finish(opened.ready, self.measured or alone())

        return self.outcome(self.attempt(step))


def _visit(
    sides: Sequence[_Side],
    plan: Plan,
    report_step: Callable[[int, str], None],
    take_turns: Callable[[Opened, int], Visits],
) -> list[PairVisit]:
    """Visit the sides that can be, if the baseline, which is the first, is among them."""
    # those whose calls are short enough for several visits
    visited = [side for side in sides if side.opened and side.opened.opening.sampled is None]
    opened = [side.opened for side in visited if side.opened]
    if len(visited) < min(2, len(sides)) or visited[0] is not sides[0]:
        return []
    report_step(ALL_SIDES, "timing in turn")
    if len(sides) == 1:
        visits = take_turns(opened[0], plan.process)
        if not visits.visits:  # the other side took none
            return []
    elif plan.is_round:
        visits = visit_calls(opened)
    else:
        shared = {"processes": plan.processes, "process": plan.process}
        visits = visit_sides(opened, same_within=plan.same_within, **shared)
    for position, side in enumerate(visited):
        side.measured = measured_in_turn(opened[position], visits, position)
        side.seconds += side.measured.timing_s
    cells = [side.cell for side in visited]
    pairs = [pairs_of(cells, visits, other) for other in range(1, len(cells))]
    return list(chain.from_iterable(pairs))
