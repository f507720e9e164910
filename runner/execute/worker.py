"""The parent's side of the supervised process in which cells run.

The process imports torch once and serves one cell after another, see
:mod:`runner.execute.worker_process`. What a cell does to its process (a crash, a hang, memory that
runs out) ends the worker, never the sweep. While a cell runs the parent only waits, so that it
takes no time from what is measured.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from runner.measure.gate import WAITING
from runner.rows.rows import Row, Sample, row_for

START_LIMIT_S = 300.0  # importing torch from a cold, slow disk has been seen to take a minute
DEATH_LIMIT_S = 5.0  # until a process that no longer answers has an exit code


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


def _show_wait(step: str) -> None:
    """A sweep that stands still says why."""
    if step.startswith(WAITING):
        print(step, file=sys.stderr, flush=True)


class Worker:
    """One process at a time, replaced when it has died."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def prepare(
        self, definitions: list[Operation | Case], devices: list[str], backend_module: str | None
    ) -> Preflight:
        """Look at the machine and import what the operations and cases call, before any cell runs.

        Raises:
            WorkerDied: importing torch or the operations ended the process.
        """
        self._send(("prepare", definitions, devices, backend_module))
        preflight: Preflight = self._await("importing torch and the operations")[1]
        if preflight.is_spoiled:
            self.close()
        return preflight

    def run(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """Run a cell to its rows, its prints to a log; whatever ends the process is a row too.

        Where a check ends it, the row that was made before is kept, and says so.
        """
        step, start, limit_s = "starting", time.monotonic(), cell.limit.time_s
        patience_s = cell.timing.patience_s  # waiting counts in no limit
        kept: list[Row] = []
        kept_samples: list[Sample] = []

        def time_left_s() -> float:
            return start + limit_s + patience_s - time.monotonic()

        try:
            for kind, *said in self._talk(("run", cell, str(log)), time_left_s):
                if kind == "begun":
                    start = time.monotonic()
                elif kind == "step":
                    (step,) = said
                    _show_wait(step)
                elif kind == "kept":
                    kept, kept_samples = said
                else:
                    rows, samples = said
                    taken_s = time.monotonic() - start
                    rows = [replace(row, seconds=row.seconds or taken_s) for row in rows]
                    return rows, kept_samples or samples
            status, what = "timeout", f"stopped after limit.time_s={limit_s:g} s"
        except WorkerDied as death:
            status, what = "crashed", str(death)
        seconds, reason = time.monotonic() - start, f"{what}, while {step}"
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            print(f"{cell.label}: {status}: {reason}", file=file)
        if kept:
            reason = f"{reason}: what that would have found is blank"
            return [replace(row, reason=reason, seconds=seconds) for row in kept], kept_samples
        return [row_for(cell, status, reason, seconds=seconds)], []

    def run_in_turn(
        self, cells: Sequence[Cell], logs: Sequence[Path], plan: Plan
    ) -> TurnsOutcome | None:
        """Run the sides of a comparison, the baseline first, in turn.

        Returns:
            what came of it; None where the process or a device died, or a side took too long.
        """
        left_s = [cell.limit.time_s + cell.timing.patience_s for cell in cells]
        side, begun = 0, time.monotonic()

        def time_left_s() -> float:
            # while they take turns, no side is charged for the others
            waited_for = sum(left_s) if side == ALL_SIDES else left_s[side]
            return begun + waited_for - time.monotonic()

        with suppress(WorkerDied):
            request = ("run in turn", list(cells), list(map(str, logs)), plan)
            for kind, *said in self._talk(request, time_left_s):
                now = time.monotonic()
                if kind == "side":
                    if side != ALL_SIDES:
                        left_s[side] -= now - begun
                    side, step = said
                    _show_wait(step)
                elif kind == "done":
                    outcome: TurnsOutcome | None = said[0]
                    return outcome
                begun = now
        return None

    @property
    def is_running(self) -> bool:
        """Whether the next request finds a process."""
        return self._connection is not None

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

    def _talk(
        self, request: tuple[Any, ...], time_left_s: Callable[[], float]
    ) -> Iterator[tuple[Any, ...]]:
        """What the worker says to a request, to the answer, or until no time is left for it.

        The cell's time begins with ``begun``: a process that was replaced imports torch first. An
        answer says whether the next request needs a process of its own.
        """
        try:
            self._send(request)
            yield self._await("starting the worker")
            while (message := self._receive(time_left_s())) is not None:
                if message[0] == "done":
                    kind, is_spoiled, *answer = message
                    if is_spoiled:
                        self.close()
                    yield kind, *answer
                    return
                yield message
            self.close()
        except KeyboardInterrupt:
            self.close()
            raise

    def _send(self, message: tuple[Any, ...]) -> None:
        connection = self._connection or self._start()
        try:
            connection.send(message)
        except OSError as error:
            raise self._death() from error

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        name = "opsweep-worker"
        self._process = context.Process(target=serve, args=(child,), name=name, daemon=True)
        self._process.start()
        child.close()
        return self._connection

    def _await(self, what: str) -> tuple[Any, ...]:
        """The next message of a process that may have to import torch first."""
        message = self._receive(START_LIMIT_S)
        if message is None:
            self.close()
            raise WorkerDied(f"{what} took more than {START_LIMIT_S:g} s")
        return message

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
