"""The supervised process in which cells run: it imports torch once and serves one cell after another.

The door keeps a :class:`Worker`; the process itself runs :func:`serve`. What a cell does to its process (a crash,
a hang, memory that runs out) ends the worker, never the sweep. While a cell runs the door only waits, so that it
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
from pathlib import Path
from typing import Any

from runner.cells.cell import Cell
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.execute.worker_process import Preflight, serve
from runner.rows.rows import Row, Sample, row_for

START_LIMIT_S = 300.0  # importing torch from a cold, slow disk has been seen to take a minute


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


class Worker:
    """The door's side: one process at a time, replaced when it has died."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Connection | None = None

    def prepare(
        self, subjects: Sequence[Operation | Case], devices: list[str], backend_module: str | None
    ) -> Preflight:
        """Look at the machine and import what the operations and cases call, before any cell runs.

        Raises:
            WorkerDied: importing torch or the operations ended the process.
        """
        self._send(("prepare", list(subjects), devices, backend_module))
        answer = self._receive(START_LIMIT_S)
        if answer is None:
            self.close()
            raise WorkerDied(f"importing torch and the operations took more than {START_LIMIT_S:g} s")
        return answer[1]  # type: ignore[no-any-return]  # serve() answers a prepare with ("prepared", Preflight)

    def run(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """Run a cell to its rows; whatever happens to the process becomes a row too.

        Args:
            cell: what to run.
            log: takes what the operation prints.
        """
        step = "starting"
        begun = time.monotonic()
        try:
            self._send(("run", cell, str(log)))
            self._awaited(START_LIMIT_S, "starting the worker")
            begun = time.monotonic()
            while True:
                answer = self._receive(begun + cell.limit.time_s - time.monotonic())
                if answer is None:
                    self.close()
                    reason = f"stopped after limit.time_s={cell.limit.time_s:g} s, while {step}"
                    return [row_for(cell, "timeout", reason, seconds=time.monotonic() - begun)], []
                if answer[0] == "step":
                    step = answer[1]
                    continue
                rows, samples, spoiled = answer[1:]
                if spoiled:  # the next cell gets a process of its own
                    self.close()
                return [replace(row, seconds=row.seconds or time.monotonic() - begun) for row in rows], samples
        except KeyboardInterrupt:
            self.close()
            raise
        except WorkerDied as death:
            return [row_for(cell, "crashed", f"{death}, while {step}", seconds=time.monotonic() - begun)], []

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
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._death() from error

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child,), name="opsweep-worker", daemon=True)
        self._process.start()
        child.close()

    def _awaited(self, limit_s: float, what: str) -> None:
        if self._receive(limit_s) is None:
            self.close()
            raise WorkerDied(f"{what} took more than {limit_s:g} s")

    def _receive(self, limit_s: float) -> tuple[Any, ...] | None:
        """The next message; None when ``limit_s`` is over."""
        assert self._connection is not None
        try:
            if not self._connection.poll(max(0.0, limit_s)):
                return None
            return self._connection.recv()  # type: ignore[no-any-return]  # messages are tuples, see serve()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> WorkerDied:
        process = self._process
        process.join(timeout=5)
        code = process.exitcode
        self.close()
        if code is not None and code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                guess = " (for want of memory, perhaps)" if name == "SIGKILL" else ""
                return WorkerDied(f"the process was ended by {name}{guess}")
        return WorkerDied(f"the process ended with exit code {code}")
