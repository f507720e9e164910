"""The parent's side of the supervised process in which cells run.

The process imports torch once and serves one cell after another, see
:mod:`runner.execute.worker_process`. What a cell does to its process (a crash, a hang, memory that
runs out) ends the worker, never the sweep. While a cell runs the parent only waits, so that it
takes no time from what is measured.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from runner.cells.cell import Cell
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.execute.turns import ALL_SIDES, Plan, TurnsOutcome
from runner.execute.worker_process import Preflight, serve
from runner.rows.rows import Row, Sample, row_for

START_LIMIT_S = 300.0  # importing torch from a cold, slow disk has been seen to take a minute
DEATH_LIMIT_S = 5.0  # until a process that no longer answers has an exit code


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


class Worker:
    """One process at a time, replaced when it has died."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def prepare(
        self,
        definitions: Sequence[Operation | Case],
        devices: list[str],
        backend_module: str | None,
    ) -> Preflight:
        """Look at the machine and import what the operations and cases call, before any cell runs.

        Raises:
            WorkerDied: importing torch or the operations ended the process.
        """
        self._send(("prepare", list(definitions), devices, backend_module))
        answer = self._receive(START_LIMIT_S)
        if answer is None:
            self.close()
            raise WorkerDied(
                f"importing torch and the operations took more than {START_LIMIT_S:g} s"
            )
        preflight: Preflight = answer[1]
        return preflight

    def run(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """Run a cell to its rows; whatever happens to the process becomes a row too.

        Args:
            cell: what to run.
            log: takes what the operation prints.
        """
        step = "starting"
        start = time.monotonic()
        try:
            self._send(("run", cell, str(log)))
            self._await_start()
            # The cell's own time begins when the process has torch, which a replaced one has to
            # import again.
            start = time.monotonic()
            while True:
                answer = self._receive(start + cell.limit.time_s - time.monotonic())
                if answer is None:
                    self.close()
                    reason = f"stopped after limit.time_s={cell.limit.time_s:g} s, while {step}"
                    return [row_for(cell, "timeout", reason, seconds=time.monotonic() - start)], []
                if answer[0] == "step":
                    step = answer[1]
                    continue
                rows, samples, spoiled = answer[1:]
                if spoiled:  # the next cell gets a process of its own
                    self.close()
                return [
                    replace(row, seconds=row.seconds or time.monotonic() - start) for row in rows
                ], samples
        except KeyboardInterrupt:
            self.close()
            raise
        except WorkerDied as death:
            return [
                row_for(cell, "crashed", f"{death}, while {step}", seconds=time.monotonic() - start)
            ], []

    def run_in_turn(
        self, cells: Sequence[Cell], logs: Sequence[Path], plan: Plan
    ) -> TurnsOutcome | None:
        """Run the sides of a comparison in turn.

        Args:
            cells: the baseline's and those to compare with it.
            logs: take what each one's operation prints.
            plan: how.

        Returns:
            what came of it; None where the process died, or a side's share of the time passed its
            limit.
        """
        used_s = [0.0 for _ in cells]
        try:
            self._send(("run in turn", list(cells), list(map(str, logs)), plan))
            self._await_start()
            side, begun = 0, time.monotonic()
            while True:
                # while they take turns, no side is charged for the others
                waited_for = range(len(cells)) if side == ALL_SIDES else [side]
                left_s = sum(cells[each].limit.time_s - used_s[each] for each in waited_for)
                answer = self._receive(begun + left_s - time.monotonic())
                if answer is None:
                    self.close()
                    return None
                if answer[0] == "side":
                    now = time.monotonic()
                    if side != ALL_SIDES:
                        used_s[side] += now - begun
                    side, begun = answer[1], now
                    continue
                outcome: TurnsOutcome = answer[1]
                if outcome.spoiled:
                    self.close()
                return outcome
        except KeyboardInterrupt:
            self.close()
            raise
        except WorkerDied:
            return None

    def close(self) -> None:
        """End the process at once, wherever it is."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def _send(self, message: tuple[Any, ...]) -> None:
        connection = self._connection or self._start()
        try:
            connection.send(message)
        except OSError as error:
            raise self._death() from error

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(
            target=serve, args=(child,), name="opsweep-worker", daemon=True
        )
        self._process.start()
        child.close()
        return self._connection

    def _await_start(self) -> None:
        if self._receive(START_LIMIT_S) is None:
            self.close()
            raise WorkerDied(f"starting the worker took more than {START_LIMIT_S:g} s")

    def _receive(self, limit_s: float) -> tuple[Any, ...] | None:
        """The next message, a tuple that begins with its kind; None when ``limit_s`` is over."""
        assert self._connection is not None
        try:
            if not self._connection.poll(max(0.0, limit_s)):
                return None
            message: tuple[Any, ...] = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        return message

    def _death(self) -> WorkerDied:
        """How the process ended, and the end of what is left of it."""
        assert self._process is not None
        self._process.join(timeout=DEATH_LIMIT_S)
        code = self._process.exitcode
        self.close()
        if code is not None and code < 0:
            with suppress(ValueError):  # a signal that Python has no name for
                name = signal.Signals(-code).name
                guess = " (possibly out of memory)" if name == "SIGKILL" else ""
                return WorkerDied(f"the process was ended by {name}{guess}")
        return WorkerDied(f"the process ended with exit code {code}")
