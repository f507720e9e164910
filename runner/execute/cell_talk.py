"""The parent's side of one cell in the worker, from its request to its rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.cells.cell import Cell
from runner.errors import one_line
from runner.files import open_log
from runner.measure.gate import WAITING
from runner.rows.columns import unpacked
from runner.rows.rows import ROW_OF_JOB, Row, Sample, row_for

if TYPE_CHECKING:
    from runner.execute.worker import Worker

Answer = TypeVar("Answer")


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


class CellEnded(Exception):
    """The cell has its rows, and answers no more."""


class CellTalk:
    """A cell's request; whatever ends the process is a row too.

    Where a check ends it, the row that was made before is kept, and says so. The cell's time passes
    while it is asked for something, and not between.

    Args:
        worker: where it runs.
        kind: of the request.
        cell: the cell.
        log: where its prints go.
    """

    def __init__(self, worker: Worker, kind: str, cell: Cell, log: Path) -> None:
        self._worker, self._cell, self._log = worker, cell, log
        self._left_s = cell.limit.time_s + cell.timing.patience_s  # waiting counts in no limit
        self._spent_s, self._begun = 0.0, time.monotonic()
        self._step = "starting"
        self._kept: tuple[list[Row], list[Sample]] = [], []
        self._messages = worker.talk((kind, cell, str(log)), [log], self._time_left_s)
        self._result: tuple[list[Row], list[Sample]] | None = None

    def result(self, *asked: Any) -> tuple[list[Row], list[Sample]]:
        """The cell's rows and samples, which what is asked brings about."""

        def refuse(*said: Any) -> None:
            raise ValueError("it is no row")

        with suppress(CellEnded):
            self.ask(refuse, *asked)
        assert self._result is not None
        return self._result

    def ask(self, read: Callable[..., Answer], *asked: Any) -> Answer:
        """What is read of the next answer, which is not a step's.

        Raises:
            CellEnded: there is none.
        """
        if self._result is not None:
            raise CellEnded
        self._begun = time.monotonic()
        try:
            with self._worker.refusing_garbage():
                if asked:
                    self._worker.tell(*asked)
                for kind, *said in self._messages:
                    if self._is_answer(kind, said):
                        return read(*said)
            self._failed("timeout", f"stopped after limit.time_s={self._cell.limit.time_s:g} s")
        except WorkerDied as death:
            self._failed("crashed", str(death))
        finally:
            self._spent_s, self._left_s = self._seconds(), self._time_left_s()
            self._begun = time.monotonic()
        raise CellEnded

    def _is_answer(self, kind: str, said: list[Any]) -> bool:
        """Take what the worker says by itself; CellEnded where these are the rows."""
        if kind == "begun":
            self._begun = time.monotonic()
        elif kind == "step":
            (self._step,) = map(one_line, said)
            show_wait(self._step)
        elif kind == "kept":
            self._kept = own_rows(self._cell, said[0]), unpacked(Sample, said[1])
        elif kind == "done":
            rows, samples = own_rows(self._cell, said[0]), unpacked(Sample, said[1])
            rows = [replace(row, seconds=row.seconds or self._seconds()) for row in rows]
            self._result = rows, self._kept[1] or samples
            raise CellEnded
        else:
            return True
        return False

    def _failed(self, status: str, what: str) -> None:
        """Make the row of a cell whose process has ended."""
        seconds, reason = self._seconds(), f"{what}, while {self._step}"
        with suppress(OSError), open(open_log(str(self._log)), "a", encoding="utf-8") as file:
            print(f"{self._cell.label}: {status}: {reason}", file=file)
        kept, samples = self._kept
        reason = f"{reason}: what that would have found is blank" if kept else reason
        rows = [replace(row, reason=reason, seconds=seconds) for row in kept]
        self._result = rows or [row_for(self._cell, status, reason, seconds=seconds)], samples

    def _seconds(self) -> float:
        return self._spent_s + time.monotonic() - self._begun

    def _time_left_s(self) -> float:
        return self._left_s - (time.monotonic() - self._begun)


def show_wait(step: str) -> None:
    """A sweep that stands still says why."""
    if step.startswith(WAITING):
        print(step, file=sys.stderr, flush=True)


def own_rows(cell: Cell, lists: Any) -> list[Row]:
    """The rows of a cell, and of no other; ValueError where they are none."""
    rows = unpacked(ROW_OF_JOB[cell.job], lists)
    if not rows or any((row.cell, row.job) != (cell.identity, cell.job) for row in rows):
        raise ValueError("it is of another cell")
    return rows
