"""What the worker does at the parent's request, once it has torch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from runner.cells.cell import Cell
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.execute.cell_run import LocalRun, is_device_lost, log_rows, run_cell
from runner.execute.preflight import preflight
from runner.execute.turns import ALL_SIDES, Plan
from runner.execute.turns_run import run_in_turn
from runner.measure.process_tree import children_of
from runner.measure.switches import Switches
from runner.rows.columns import packed
from runner.rows.rows import with_values
from runner.tasks.benchmark import count
from runner.tasks.calm import keep_best
from runner.tasks.in_turn import take_turns
from runner.tasks.task import TaskResult, WorkerState

Message = tuple[Any, ...]
DEVICE_LOST = "the device did not recover, so the worker was replaced"


class Service:
    """Runs cells, and keeps what they find out about the machine.

    It may send messages to the parent, and what is printed to another log. An answer is ``done``,
    whether the worker has to be replaced, and what came of the request, as lists.
    """

    def __init__(self, log_to: Callable[[str], None], *, shares_best: bool = True) -> None:
        self._log_to = log_to
        self._state = WorkerState(switches=Switches(of_worker=True), shares_best=shares_best)
        self._before = Traces()

    def prepare(
        self, definitions: Sequence[Operation | Case], devices: Sequence[str], backend: str | None
    ) -> Message:
        """What the machine, the devices and the callables are; the answer to the parent."""
        return "prepared", *astuple(preflight(self._state, definitions, devices, backend))

    def run(self, send: Callable[[Message], None], cell: Cell, log: str) -> Message:
        """Run one cell; the answer to the parent."""
        has_sent = False

        def keep(known: TaskResult) -> None:
            nonlocal has_sent
            has_sent = True
            send(("kept", packed(known.rows), packed(known.samples)))

        folder = Path(log).parent
        rows, samples = run_cell(cell, self._state, lambda step: send(("step", step)), keep, folder)
        is_lost = is_device_lost(cell, rows)
        is_spoiled = is_lost or self._state.switches.is_spoiled
        if is_lost:
            rows = [
                row
                if row.status == "ok"
                else with_values(row, reason=f"{row.reason}; {DEVICE_LOST}")
                for row in rows
            ]
        log_rows(cell, rows)
        is_spoiled |= self._before.are_other([cell])
        keep_best(self._state)
        return "done", is_spoiled, packed(rows), [] if has_sent else packed(samples)  # sent once

    def count(self, send: Callable[[Message], None], cell: Cell, log: str) -> Message:
        """Count the instructions of a call; the answer to the parent, with why there are none."""
        run = LocalRun(cell, self._state, lambda step: send(("step", step)))
        counted = run.attempt(count)
        is_spoiled = self._state.switches.is_spoiled or self._before.are_other([cell])
        return "done", is_spoiled, counted, "; ".join(str(row.reason) for row in run.failure)

    def run_in_turn(
        self,
        send: Callable[[Message], None],
        cells: Sequence[Cell],
        logs: Sequence[str],
        plan: Plan,
        hear: Callable[[], Message],
    ) -> Message:
        """Run the sides of a comparison, or one of those; the answer to the parent."""
        current = 0

        def begin_step(side: int, step: str) -> None:
            nonlocal current
            if side not in (current, ALL_SIDES):
                self._log_to(logs[side])
            current = side
            send(("side", side, step))

        asked = partial(take_turns, hear=hear, tell=send)
        told = self._state, plan, begin_step, asked
        folders = [Path(log).parent for log in logs]
        is_lost, outcome = run_in_turn(cells, *told, folders=folders)
        keep_best(self._state)
        is_spoiled = self._before.are_other(cells) or is_lost
        if outcome is None:
            return "done", is_spoiled, None
        rows, samples = (list(map(packed, of)) for of in (outcome.rows, outcome.samples))
        return "done", is_spoiled, rows, samples, packed(outcome.pairs)


class Traces:
    """What cells may leave in the process that nobody can take back: it is replaced then."""

    def __init__(self) -> None:
        self._look()

    def _look(self) -> None:
        self._limit, self._children = sys.getrecursionlimit(), set(children_of("self"))
        self._threads = set(threading.enumerate())

    def are_other(self, cells: Sequence[Cell]) -> bool:
        """Whether there are another limit, or other children or threads of Python than before."""
        if any(cell.is_compiled for cell in cells):
            self._look()  # the compiler keeps children and threads
        other_limit = sys.getrecursionlimit() != self._limit
        other_threads = not set(threading.enumerate()) <= self._threads
        return other_limit or other_threads or not set(children_of("self")) <= self._children
