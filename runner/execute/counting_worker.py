"""Counts the instructions of cells' calls in a process that Valgrind runs, one for a whole run."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeGuard

from runner.cells.cell import Cell
from runner.errors import one_line, tell
from runner.execute.interpreter import Interpreter
from runner.execute.worker import Worker, WorkerDied
from runner.files import open_log
from runner.measure.instructions import CALLGRIND, FOLDER, under_callgrind
from runner.rows.rows import BenchmarkRow, Row

MOST_CELLS = 100  # of a process, which keeps some 10 MB of each
SLOWER = 5  # times ``limit.time_s`` that a count may take, in which all is some 50 times slower


@dataclass(frozen=True)
class UnderCallgrind(Interpreter):
    """How such a process is started."""

    folder: str = ""  # where it leaves what it counts

    @property
    def command(self) -> list[str]:
        """As :attr:`Interpreter.command`."""
        return [*under_callgrind(self.folder), self.python]


class CountingWorker(Worker):
    """Such a process, which begins with the first cell that needs it and takes a minute to."""

    def __init__(self, beside: Interpreter | None) -> None:
        super().__init__()
        # what it imports is what the cells' own worker does, and Python's hashes are always alike
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._of = beside or Interpreter(sys.executable, None, path)
        self._folder: TemporaryDirectory[str] | None = None
        self._said: set[str] = set()  # why there is no count, each once a run
        self._cells = 0  # of the running process

    def may_count(self, rows: Sequence[Row], log: Path) -> bool:
        """Whether it is to count for one of the rows; says why not, where none has a count."""
        lacking = [row for row in rows if _lacks_count(row)]
        obstacles = list(filter(None, map(_obstacle, lacking)))
        for obstacle in obstacles:
            self._say(obstacle, log)
        return len(lacking) > len(obstacles)

    def with_counts(self, cell: Cell, rows: Sequence[Row], log: Path) -> list[Row]:
        """The rows of a cell, with the instructions of its call where they can be counted."""
        return [self._with_count(cell, row, log) for row in rows]

    def _with_count(self, cell: Cell, row: Row, log: Path) -> Row:
        if not _lacks_count(row) or _obstacle(row):
            return row
        count, reason = self._count(cell, log)
        if count is not None:
            return replace(row, instructions=count, instructions_by=CALLGRIND)
        self._say(reason, log)
        return row

    def _say(self, reason: str, log: Path) -> None:
        """Say why there is no count: in the cell's log, and once a run on the screen."""
        said = f"no instructions are counted: {reason}"
        with suppress(OSError), open(open_log(str(log)), "a", encoding="utf-8") as file:
            print(said, file=file)
        if reason not in self._said:
            tell(said)
        self._said.add(reason)

    def _count(self, cell: Cell, log: Path) -> tuple[int | None, str]:
        """The instructions of a call; None, and why there are none."""
        if self._cells == MOST_CELLS:
            self.close()
        if not self.is_running:
            tell("starting Valgrind, which counts instructions ...")
        limit_s, end_s = SLOWER * cell.limit.time_s, math.inf

        def time_left_s() -> float:
            return end_s - time.monotonic()

        try:
            with self.refusing_garbage():
                for kind, *said in self.talk(("count", cell, str(log)), [log], time_left_s):
                    if kind == "begun":
                        end_s = time.monotonic() + limit_s
                    elif kind == "done":
                        self._cells += 1
                        count, reason = said
                        return None if count is None else int(count), one_line(reason)
        except (WorkerDied, OSError) as error:  # it died, or could not be started
            return None, one_line(error)
        return None, f"it took more than {limit_s:g} s, {SLOWER} times limit.time_s"

    def _start(self) -> None:
        self._folder = TemporaryDirectory(prefix="opsweep-counts-")
        of, folder = self._of, self._folder.name
        own = {"PYTHONHASHSEED": "0", FOLDER: folder}
        self.interpreter = UnderCallgrind(of.python, of.path, {**of.env, **own}, folder)
        self._cells = 0
        super()._start()

    def close(self) -> None:
        """As :meth:`Worker.close`, and take away what Valgrind has left."""
        super().close()
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None


def _lacks_count(row: Row) -> TypeGuard[BenchmarkRow]:
    return isinstance(row, BenchmarkRow) and row.status == "ok" and row.instructions is None


def _obstacle(row: BenchmarkRow) -> str:
    """Why the cell of a row that has no count has none; blank where Valgrind may count."""
    if row.device != "cpu":
        return f"device={row.device}, and those of the CPU alone can be"
    if row.threads != 1:
        return f"threads={row.threads}, and those of one thread alone can be"
    if not all(map(shutil.which, ("valgrind", "vgdb"))):
        return "the system hands out no counter of the processor's, and there is no valgrind"
    return ""
