"""What the worker does at the parent's request, once it has torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from runner.cells.cell import Cell
from runner.execute.cell_run import is_device_lost, log_rows, run_cell
from runner.execute.leftovers import Leftovers
from runner.execute.turns import Plan
from runner.execute.turns_run import run_in_turn
from runner.rows.packed import packed
from runner.tasks.task import WorkerState

DEVICE_LOST = "the device did not recover, so the worker was replaced"
Answer = tuple[Any, ...]


class Service:
    """Runs cells, and keeps what they find out about the machine.

    An answer is whether the worker has to be replaced, and what came of the request, as lists.
    """

    def __init__(self) -> None:
        self._state = WorkerState()
        self._leftovers = Leftovers()

    def run(self, send: Callable[..., None], cell: Cell) -> Answer:
        """Run one cell; ``send`` tells the parent of its steps."""
        rows, samples = run_cell(cell, self._state, lambda step: send("step", step))
        is_lost = is_device_lost(cell, rows)
        if is_lost:
            rows = [replace(row, reason=f"{row.reason}; {DEVICE_LOST}") for row in rows]
        log_rows(cell, rows)
        is_spoiled = self._leftovers.found([cell]) or is_lost
        return is_spoiled, packed(rows), packed(samples)

    def in_turn(self, send: Callable[..., None], cells: Sequence[Cell], plan: Plan) -> Answer:
        """Run the sides of a comparison; ``send`` tells the parent whose step begins."""
        is_lost, outcome = run_in_turn(
            cells, self._state, plan, lambda side, step: send("side", side, step)
        )
        is_spoiled = self._leftovers.found(cells) or is_lost
        if outcome is None:
            return is_spoiled, None
        rows, samples = map(list, (map(packed, outcome.rows), map(packed, outcome.samples)))
        return is_spoiled, rows, samples, packed(outcome.pairs)
