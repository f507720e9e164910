"""What the worker does at the parent's request, once it has torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from runner.cells.cell import Cell
from runner.execute.cell_run import is_device_lost, log_rows, run_cell
from runner.execute.turns import ALL_SIDES, Plan
from runner.execute.turns_run import run_in_turn
from runner.measure.switches import of_this_worker
from runner.tasks.calm import keep_best
from runner.tasks.task import TaskResult, WorkerState

Message = tuple[Any, ...]
DEVICE_LOST = "the device did not recover, so the worker was replaced"


class Service:
    """Runs cells, and keeps what they find out about the machine.

    It may send messages to the parent, and what is printed to another log. An answer is ``done``,
    whether the worker has to be replaced, and what came of the request.
    """

    def __init__(self, send: Callable[[Message], None], log_to: Callable[[str], None]) -> None:
        self._send, self._log_to = send, log_to
        self._state = WorkerState(switches=of_this_worker())

    def run(self, cell: Cell, log: str) -> Message:
        """Run one cell; the answer to the parent."""
        kept: list[TaskResult] = []

        def keep(known: TaskResult) -> None:
            kept.append(known)
            self._send(("kept", *known))

        rows, samples = run_cell(cell, self._state, lambda step: self._send(("step", step)), keep)
        is_lost = is_device_lost(cell, rows)
        is_spoiled = is_lost or self._state.switches.is_spoiled
        if is_lost:
            rows = [replace(row, reason=f"{row.reason}; {DEVICE_LOST}") for row in rows]
        log_rows(cell, rows)
        keep_best(self._state)
        return "done", is_spoiled, rows, [] if kept else samples  # which are sent once

    def run_in_turn(self, cells: Sequence[Cell], logs: Sequence[str], plan: Plan) -> Message:
        """Run the sides of a comparison; the answer to the parent."""
        current = 0

        def begin_step(side: int, step: str) -> None:
            nonlocal current
            if side not in (current, ALL_SIDES):
                self._log_to(logs[side])
            current = side
            self._send(("side", side, step))

        outcome = run_in_turn(cells, self._state, plan, begin_step)
        keep_best(self._state)
        return "done", *outcome
