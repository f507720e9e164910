"""The cells of a sweep in two environments, a worker's process in each, which take turns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from runner.analysis.changes import gate_is_decided
from runner.calls import Thunk
from runner.cells.cell import Cell
from runner.cells.comparison import process_count
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, printable
from runner.execute.cell_runner import LOG, CellGroup, CellRunner, Run, write_visits
from runner.execute.cell_talk import CellEnded, CellTalk
from runner.execute.interpreter import Interpreter
from runner.execute.turns import pairs_of
from runner.files import make_folder
from runner.measure.host_clock import Block, HostClock
from runner.measure.visits import (
    Side,
    Turn,
    Visit,
    Visits,
    is_clear,
    limits_of,
    ratio_so_far,
    visit_in_turn,
)
from runner.report.compare import compare_runs, environment_changes
from runner.rows.columns import unpacked
from runner.rows.rows import marked

BEFORE = "a"  # the folder of the other side's run, in the run's own


class TwoSides(CellRunner):
    """Runs cells in this side's environment, and in the one ``before``, with which it is compared.

    That side's rows are those of a run of its own, in a folder of the run's.
    """

    def __init__(
        self, on_begin: Callable[[], None], before: Interpreter, after: Interpreter
    ) -> None:
        super().__init__(on_begin, after)
        self._before, self._root = CellRunner(on_begin, before), Path()
        self._compare, self._cells = Compare(), 1

    @property
    def in_words(self) -> str:
        """Both environments, a line each."""
        return f"a: {self._before.interpreter}\nb: {self.interpreter}"

    def compared(self, report: Report) -> int:
        """Compare the two sides of the run; the exit code, see :func:`compare_runs`."""
        sides = [str(self._root)], [str(self._root / BEFORE)]
        return compare_runs(self._root, *sides, report, self._compare, name="ab")

    def prepare(self, cells: Sequence[Cell], *, require_devices: bool) -> None:
        """As :meth:`CellRunner.prepare`, on both sides; the error says whose it is."""
        for name, prepare in {"a": self._before.prepare, "b": super().prepare}.items():
            try:
                prepare(cells, require_devices=require_devices)
            except ConfigError as error:
                raise ConfigError(f"ab.{name}: {error}") from error
        changes = environment_changes(self._before.environment, self.environment)
        said = f"what differs between a and b: {'; '.join(changes) or 'nothing'}"
        print(printable(said), file=sys.stderr, flush=True)

    def record_environment(self, root: Path, cells: int, report: Report, **settings: Any) -> None:
        """As :meth:`CellRunner.record_environment`, on both sides."""
        self._root, self._cells = root, cells
        make_folder(root / BEFORE)
        self._before.record_environment(root / BEFORE, cells, report)
        super().record_environment(root, cells, report, **settings)

    def groups(self, runs: Sequence[Run], report: Report, compare: Compare) -> list[CellGroup[Run]]:
        """Each cell by itself, with its other side."""
        self._compare = compare
        return [CellGroup([run], process_count([run.cell, run.cell], compare)) for run in runs]

    def run_group(
        self, group: CellGroup[Run], process: int, same_within: float = Report.same_within
    ) -> None:
        """Run a cell in one of its processes on each side, and write what came of it."""
        (run,) = group.runs
        cell, folders = run.cell, (self._root / BEFORE / run.folder.name, run.folder)
        make_folder(folders[0])
        if not run.did_well or not group.can_take_turns:
            return
        if not (self.can_run(cell) and self._before.can_run(cell)):
            self._before.run_once(cell, folders[0], process)
            run.rows = self.run_once(cell, folders[1], process)
            return

        is_wanted = process <= cell.processes  # otherwise for its visits alone
        lock = self.lock(cell)
        concurrent = None
        try:
            talks = []
            for runner, folder in zip((self._before, self), folders, strict=True):
                runner.begin(process)
                talks.append(CellTalk(runner.worker, "be a side", cell, folder / LOG))
            visits = self._visits(cell, talks, group.processes, same_within)
            stop = visits.stop if visits else ""
            results = [talk.result("end", is_wanted, stop) for talk in talks]
        finally:
            concurrent = lock.release()
        write_visits(run.folder, pairs_of([cell, cell], visits, 1) if visits else [], process)
        for runner, folder, (rows, samples) in zip(
            (self._before, self), folders, results, strict=True
        ):
            # one that failed has no further process
            group.can_take_turns &= rows[0].status == "ok"
            if is_wanted or rows[0].status != "ok":
                found = [marked(row, concurrent) for row in rows]
                found = runner.write(cell, folder, found, samples, process)
                run.rows = found if runner is self else run.rows

    def _visits(
        self, cell: Cell, talks: Sequence[CellTalk], processes: int, same_within: float
    ) -> Visits | None:
        """Have both sides open the cell, and visit them in turn; None where that cannot be done."""
        sides = []
        for talk in talks:  # each by itself: what first calls take is the side's own
            with suppress(CellEnded):
                sides.append(talk.ask(partial(_side, talk)))
        visited = [side for side in sides if side is not None]
        if len(visited) < len(talks):
            return None

        def is_enough(visits: Sequence[Visit]) -> bool:
            ratio = ratio_so_far(visits, 1, same_within)
            decided = gate_is_decided(ratio, self._compare.slower_than, self._cells)
            return decided and is_clear(ratio, same_within)

        limits = limits_of([cell, cell], processes)
        with suppress(CellEnded):
            return visit_in_turn(visited, cell.timing, is_enough, **limits, seed=cell.seed)
        return None

    def close(self) -> None:
        """End both workers."""
        self._before.close()
        super().close()


def _side(talk: CellTalk, can_be_visited: bool, calls: int, contents_kept: int) -> Side | None:
    """A side that takes its turns in a worker's process (:func:`runner.tasks.in_turn.take_turns`).

    It is None where its calls are too long. Each use of it raises CellEnded where its row has come.
    """

    def call_on(contents: int, memory: int) -> Thunk:
        talk.ask(lambda: None, "place", contents, memory)
        return lambda: None

    def take(side: Side, call: Thunk, position: int, memory: int) -> Turn:
        def turn(blocks: Any, seconds: float, spent_s: float) -> Turn:
            taken = tuple(unpacked(Block, blocks))
            if not taken or not float(seconds) > 0:
                raise ValueError("it is no turn")
            return Turn(position, memory, taken, float(seconds), float(spent_s))

        return talk.ask(turn, "turn", side.calls, position, memory)

    clock, sizes = HostClock(single_threaded=False), (int(calls), 0, True, 1, int(contents_kept))
    return Side(clock, *sizes, call_on, take=take) if can_be_visited else None
