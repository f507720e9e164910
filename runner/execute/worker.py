"""The parent's side of the supervised process in which cells run.

The process imports torch once and serves one cell after another, see
:mod:`runner.execute.worker_process`. What a cell does to its process (a crash, a hang, memory that
runs out) ends the worker with all that it has started, never the sweep. While a cell runs the
parent only waits, so that it takes no time from what is measured.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, ClassVar

from runner.cells.cell import Cell
from runner.config.cases import Case
from runner.config.implementation import BUILDING
from runner.config.operation import Operation
from runner.errors import one_line, tell
from runner.execute.channel import Inbox
from runner.execute.interpreter import Interpreter, Program
from runner.execute.turns import ALL_SIDES, Plan, TurnsOutcome
from runner.execute.worker_process import Preflight, serve
from runner.files import open_log, trim_log
from runner.measure.gate import WAITING
from runner.measure.noise_sources import PAIR
from runner.measure.process_tree import adopt_orphans, children_of, end_descendants
from runner.rows.columns import problem_of, unpacked
from runner.rows.rows import ROW_OF_JOB, PairVisit, Row, Sample, row_for, with_kept, with_values

START_LIMIT_S = 300.0  # importing torch from a cold, slow disk has been seen to take a minute
GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What is raised by what is no answer."""
DEATH_LIMIT_S = 5.0  # until a process that no longer answers has an exit code


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


def _show(step: str) -> None:
    """A sweep that stands still says why."""
    if step.startswith((WAITING, PAIR)):
        tell(step)


class Worker:
    """One process at a time, of this interpreter or another; it is replaced when it has died."""

    _running: ClassVar[set[int]] = set()  # the processes of all workers

    def __init__(self, interpreter: Interpreter | None = None) -> None:
        self.interpreter = interpreter
        self._process: SpawnProcess | Program | None = None
        self._connection: Connection | None = None
        self._inbox: Inbox | None = None
        self._number = 0  # of the last request, which each of its answers names
        self._known_children: set[int] = set()  # of this process, beside those of the worker

    def prepare(
        self, definitions: list[Operation | Case], devices: list[str], backend_module: str | None
    ) -> Preflight:
        """Look at the machine and import what the operations and cases call, before any cell runs.

        WorkerDied where that ended the process.
        """
        self._send("prepare", definitions, devices, backend_module)
        with self.refusing_garbage():
            _, *said = self._await("importing torch and the operations")
            preflight = Preflight.of(*said)
        if preflight.is_spoiled:
            self.close()
        return preflight

    def run(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """Run a cell to its rows, its prints to a log; whatever ends the process is a row too.

        Where a check ends it, what was known before is kept, and says so.
        """
        step, start, limit = "starting", time.monotonic(), cell.limit
        begun, patience_s = start, cell.timing.patience_s  # waiting counts in no limit
        kept: Sequence[Any] = ([], [])  # rows and samples, as they were said

        def time_left_s() -> float:
            if step == BUILDING:
                return begun + limit.build_time_s - time.monotonic()
            return start + limit.time_s + patience_s - time.monotonic()

        try:
            with self.refusing_garbage():
                for kind, *said in self.talk(("run", cell, str(log)), [log], time_left_s):
                    if kind == "begun":
                        start = time.monotonic()
                    elif kind == "step":
                        now = time.monotonic()
                        start += now - begun if step == BUILDING else 0.0
                        (step,), begun = map(one_line, said), now
                        _show(step)
                    elif kind == "kept":
                        kept = said
                    else:
                        rows = rows_said(cell, said[0])
                        taken_s = time.monotonic() - start
                        rows = [r if r.seconds else with_values(r, seconds=taken_s) for r in rows]
                        return rows, unpacked(Sample, kept[1] or said[1])
            what = f"stopped after limit.time_s={limit.time_s:g} s"
            if step == BUILDING:
                what = f"stopped after limit.build_time_s={limit.build_time_s:g} s"
            status = "timeout"
        except WorkerDied as death:
            status, what = "crashed", str(death)
        if step.startswith(WAITING) and time.monotonic() - begun > patience_s:
            step = "timing"  # which follows when patience is over, without a word
        seconds, reason = time.monotonic() - start, f"{what}, while {step}"
        with suppress(OSError), open(open_log(str(log)), "a", encoding="utf-8") as file:
            print(f"{cell.label}: {status}: {reason}", file=file)
        ended, rows, samples = row_for(cell, status, reason, seconds=seconds), [], []
        blank = f"{reason}: what that would have found is blank"
        with suppress(*GARBAGE):  # what is no rows is not kept, nor is what nothing was said of
            rows, samples = rows_said(cell, kept[0]), unpacked(Sample, kept[1])
        return with_kept(rows, ended, blank), samples

    def run_in_turn(
        self, cells: Sequence[Cell], logs: Sequence[Path], plan: Plan
    ) -> TurnsOutcome | None:
        """Run the sides of a comparison, the baseline first, in turn.

        None where the process or a device died, or a side took too long.
        """
        left_s = [cell.limit.time_s + cell.timing.patience_s for cell in cells]
        side, step, begun = 0, "starting", time.monotonic()

        def time_left_s() -> float:
            if step == BUILDING:
                return begun + cells[side].limit.build_time_s - time.monotonic()
            # while they take turns, no side is charged for the others
            waited_for = sum(left_s) if side == ALL_SIDES else left_s[side]
            return begun + waited_for - time.monotonic()

        with suppress(WorkerDied), self.refusing_garbage():
            request = ("run in turn", list(cells), list(map(str, logs)), plan)
            for kind, *said in self.talk(request, logs, time_left_s):
                now = time.monotonic()
                if kind == "side":
                    if side != ALL_SIDES and step != BUILDING:
                        left_s[side] -= now - begun
                    side, step = said[0], one_line(said[1])
                    _show(step)
                elif kind == "done":
                    return outcome_of(cells, said)
                begun = now
        return None

    @property
    def is_running(self) -> bool:
        """Whether the next request finds a process."""
        return self._connection is not None

    def close(self) -> None:
        """End the process at once, wherever it is, with all that was started there."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
        self._connection = self._inbox = None
        if process is not None:
            if process.pid is not None:  # else its start was interrupted
                self._running.discard(process.pid)
                if process.exitcode is None:
                    end_descendants(process.pid)
                process.kill()
                process.join()
                process.close()
            end_descendants(os.getpid(), but=self._known_children | self._running)  # of the dead

    def talk(
        self, request: tuple[Any, ...], logs: Sequence[Path], time_left_s: Callable[[], float]
    ) -> Iterator[tuple[Any, ...]]:
        """What the worker says to a request, to the answer, or until no time is left for it.

        The cell's time begins with ``begun``: a process that was replaced imports torch first. An
        answer says whether the next request needs a process of its own.
        """
        try:
            self._send(*request)
            yield self._await("starting the worker")
            while (message := self._receive(time_left_s())) is not None:
                kind, *said = message
                if kind == "side" and said[0] not in range(ALL_SIDES, len(logs)):
                    raise ValueError("it is of no side")
                if kind == "done":
                    is_spoiled, *answer = said
                    if is_spoiled:
                        self.close()
                    yield kind, *answer
                    return
                yield message
            self.close()
        except KeyboardInterrupt:
            self.close()
            raise
        finally:
            for log in logs:
                trim_log(log)

    def _send(self, kind: str, *request: object) -> None:
        if self._connection is None:
            self._start()
        self._number += 1
        self.tell(self._number, kind, *request)

    def tell(self, *said: object) -> None:
        """Say something to the worker, perhaps within the request that it is at."""
        assert self._connection is not None
        try:
            self._connection.send(said)
        except OSError as error:
            raise self._death() from error

    def _start(self) -> None:
        adopt_orphans()  # what a process that has died had started
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        death: tuple[int, ...] = ()  # of another interpreter's it is the end of the pipe
        if self.interpreter is not None:
            self._process = self.interpreter.start(child)
        else:
            name = "opsweep-worker"
            self._process = context.Process(target=serve, args=(child,), name=name, daemon=True)
            self._process.start()
            death = (self._process.sentinel,)
        child.close()
        self._running.add(self._process.pid or 0)
        self._known_children = set(children_of("self")) - {self._process.pid or 0}
        self._inbox = Inbox(self._connection, *death)

    def _await(self, what: str) -> tuple[Any, ...]:
        """The next message of a process that may have to import torch first."""
        message = self._receive(START_LIMIT_S)
        if message is None:
            self.close()
            raise WorkerDied(f"{what} took more than {START_LIMIT_S:g} s")
        return message

    def _receive(self, limit_s: float) -> tuple[Any, ...] | None:
        """The next message, a tuple that begins with its kind; None when ``limit_s`` is over."""
        assert self._inbox is not None
        try:
            message = self._inbox.receive(limit_s)
        except (EOFError, OSError) as error:
            raise self._death() from error
        if message is None:
            return None
        number, kind, *said = message
        if number != self._number:
            raise ValueError("it is the answer to another request")
        return (kind, *said)

    @contextmanager
    def refusing_garbage(self) -> Iterator[None]:
        """Have what is no answer end the process that gave it."""
        try:
            yield
        except GARBAGE as error:
            self.close()
            problem = f"the process gave what is no answer ({one_line(error, 100)})"
            raise WorkerDied(problem) from error

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


def rows_said(cell: Cell, lists: Sequence[Any]) -> list[Row]:
    """The rows of a cell, and of no other; ValueError where they are none."""
    rows = unpacked(ROW_OF_JOB[cell.job], lists)
    if not rows or any((row.cell, row.job) != (cell.identity, cell.job) for row in rows):
        raise ValueError("it is of another cell")
    return [_readable(cell, row) for row in rows]


def _readable(cell: Cell, row: Row) -> Row:
    """The row, or one that says what in it no reader of its file would believe, and has no more."""
    problem = problem_of(row, cell.job)
    if not problem:
        return row
    reason = f"{problem}, which cannot be and is a fault of opsweep: please report it"
    return row_for(cell, "failed", reason)


def outcome_of(cells: Sequence[Cell], said: Sequence[Any]) -> TurnsOutcome | None:
    """What came of the sides; None where the worker says that nothing did."""
    if said[0] is None:
        return None
    rows_of, samples_of, pairs = said
    visits = unpacked(PairVisit, pairs)
    of_baseline = {visit.baseline_cell for visit in visits} <= {cells[0].identity}
    if not of_baseline or not len(rows_of) == len(samples_of) in (0, len(cells)):
        raise ValueError("it is of other cells")
    # none of a side that had no memory, and of no side where only visits were wanted
    rows = [rows_said(cell, of) if of else [] for cell, of in zip(cells, rows_of, strict=False)]
    return TurnsOutcome(rows, [unpacked(Sample, samples) for samples in samples_of], visits)
