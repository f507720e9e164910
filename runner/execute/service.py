"""What the worker does at the parent's request, once it has torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner.cells.cell import Cell
from runner.execute.cell_run import run_and_log
from runner.execute.turns import ALL_SIDES, Plan
from runner.execute.turns_run import run_in_turn
from runner.tasks.worker_state import WorkerState


class Service:
    """Runs cells, and keeps what they find out about the machine.

    Args:
        send: a message to the parent.
        log_to: sends what is printed from here on to another log.
    """

    def __init__(
        self, send: Callable[[tuple[Any, ...]], None], log_to: Callable[[str], None]
    ) -> None:
        self._send, self._log_to = send, log_to
        self._state = WorkerState()

    def run(self, cell: Cell, log: str) -> tuple[Any, ...]:
        """Run one cell; the answer to the parent."""
        outcome = run_and_log(cell, self._state, lambda step: self._send(("step", step)))
        return "done", *outcome

    def run_in_turn(
        self, cells: Sequence[Cell], logs: Sequence[str], plan: Plan
    ) -> tuple[Any, ...]:
        """Run the sides of a comparison; the answer to the parent."""
        current = 0

        def begin_step(side: int, step: str) -> None:
            nonlocal current
            if side not in (current, ALL_SIDES):
                self._log_to(logs[side])
            current = side
            self._send(("side", side, step))

        return "done", run_in_turn(cells, self._state, plan, begin_step)
