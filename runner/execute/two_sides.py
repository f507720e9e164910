"""The cells of a sweep in two environments: a worker's process in each, which take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from runner.analysis.changes import GATE_ERROR
from runner.calls import Thunk
from runner.cells.cell import Cell
from runner.cells.comparison import process_count
from runner.config.implementation import BUILDING
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, printable, tell
from runner.execute.cell_runner import CellGroup, CellRun, CellRunner, Run
from runner.execute.interpreter import Interpreter
from runner.execute.turns import Plan, TurnsOutcome, pairs_of
from runner.execute.worker import Worker, WorkerDied, outcome_of
from runner.files import make_folder
from runner.measure.host_clock import Block, HostClock
from runner.measure.visits import SURE, Shape, Side, Turn, visit_until_clear
from runner.report.compare import IN_TURN, compare_runs, environment_changes
from runner.rows.columns import unpacked
from runner.rows.rows import Row

BEFORE = "a"  # the folder of that side's run, in the run's own


class TwoSides(CellRunner):
    """Runs cells in an environment, and in that ``before``, whose rows are those of a run too."""

    def __init__(self, on_begin: Callable[[], None], a: Interpreter, b: Interpreter) -> None:
        self._before, self._root = CellRunner(on_begin, Worker(a)), Path()
        super().__init__(on_begin, WorkerPair(self._before.worker, b))
        self._compare, self._cells = Compare(), 1
        self._runs_before: dict[str, CellRun] = {}  # by the names of their folders

    def prepare(self, cells: Sequence[Cell], *, require_devices: bool) -> None:
        """As :meth:`CellRunner.prepare`, on both sides; the error says whose it is."""
        for name, prepare in {"a": self._before.prepare, "b": super().prepare}.items():
            try:
                prepare(cells, require_devices=require_devices)
            except ConfigError as error:
                raise ConfigError(f"ab.{name}: {error}") from error
        changes = environment_changes(self._before.environment, self.environment)
        tell(printable(f"what differs between a and b: {'; '.join(changes) or 'nothing'}"))

    def record_environment(self, root: Path, cells: int, report: Report, **settings: Any) -> None:
        """As :meth:`CellRunner.record_environment`, on both sides."""
        self._root, self._cells = root, cells
        make_folder(root / BEFORE)
        self._before.record_environment(root / BEFORE, cells, report, **settings)
        super().record_environment(root, cells, report, **settings)

    def groups(self, runs: Sequence[Run], report: Report, compare: Compare) -> list[CellGroup[Run]]:
        """Each cell alone, on both sides."""
        self._compare = compare
        return [CellGroup([run], process_count([run.cell, run.cell], compare)) for run in runs]

    def run_group(
        self, group: CellGroup[Run], process: int, same_within: float = Report.same_within
    ) -> None:
        """Run a cell in one of its processes on both sides in turn, or on each alone."""
        (run,) = group.runs
        cell, folder = run.cell, self._root / BEFORE / run.folder.name
        make_folder(folder)
        before = self._runs_before.setdefault(folder.name, CellRun(cell, folder))
        sides: list[tuple[CellRunner, CellRun]] = [(self._before, before), (self, run)]
        going = [(side, of) for side, of in sides if of.did_well]
        gate = {self._compare.slower_than: GATE_ERROR / self._cells}
        plan = Plan(same_within, group.processes, process, process > cell.processes, gate)
        can = group.can_take_turns and going == sides and all(s.can_run(cell) for s, _ in sides)
        rows = self.run_in_turn([cell] * 2, [folder, run.folder], plan, process) if can else None
        group.can_take_turns = rows is not None and all(rows)
        # alone, where it has no row of this process, if it is to have one; none that failed before
        for (side, of), written in zip_longest(going, rows or []):
            if written:
                of.rows = written
            elif process <= cell.processes:
                of.rows = side.run_once(cell, of.folder, process)

    def write(self, cell: Cell, folder: Path, *written: Any) -> list[Row]:
        """As :meth:`CellRunner.write`, of the side whose folder it is."""
        if folder.parent == self._root / BEFORE:
            return self._before.write(cell, folder, *written)
        return super().write(cell, folder, *written)

    def close(self) -> None:
        """As :meth:`CellRunner.close`, on both sides."""
        self._before.close()
        super().close()

    def judged(self, exit_code: int, report: Report, *, quiet: bool = False) -> int:
        """The exit code of a comparison of both sides, see :func:`compare_runs`, or of the rows."""
        if not any(self._root.glob("*/results.csv")):
            return exit_code
        sides = [str(self._root)], [str(self._root / BEFORE)]
        found = compare_runs(self._root / IN_TURN, *sides, report, self._compare, quiet=quiet)
        return found or exit_code  # where nothing differs, strict=true may still want more


class WorkerPair(Worker):
    """A worker, and the one ``before`` of the other environment."""

    def __init__(self, before: Worker, interpreter: Interpreter) -> None:
        super().__init__(interpreter)
        self._before = before

    def run_in_turn(
        self, cells: Sequence[Cell], logs: Sequence[Path], plan: Plan
    ) -> TurnsOutcome | None:
        """As :meth:`Worker.run_in_turn`, each side in its own worker; also None where one fails."""
        sides = zip((self._before, self), cells, logs, strict=True)
        with suppress(WorkerDied), self._before.refusing_garbage(), self.refusing_garbage():
            talks = [_Talk(*side, plan) for side in sides]
            opened = [talk.side() for talk in talks]  # each alone makes its first calls
            claims = {plan.same_within: SURE, **plan.gate}
            visits = visit_until_clear(opened, cells, claims, plan.processes, process=plan.process)
            ended: list[Any] = [outcome_of(cells[:1], t.ask("done", visits.stop)) for t in talks]
            rows = list(chain.from_iterable(outcome.rows for outcome in ended))
            samples = list(chain.from_iterable(outcome.samples for outcome in ended))
            return TurnsOutcome(rows, samples, pairs_of(cells, visits, 1))
        self.close()
        return None

    def close(self) -> None:
        """End both."""
        self._before.close()
        super().close()


class _Talk:
    """What is said with a side's worker, see :func:`runner.tasks.in_turn.take_turns`."""

    def __init__(self, worker: Worker, cell: Cell, log: Path, plan: Plan) -> None:
        self._worker, self._build_s = worker, cell.limit.build_time_s
        # they share the time of both, of which a side may take nearly all
        self._left_s = 2 * (cell.limit.time_s + cell.timing.patience_s)
        self._step, self._since = "starting", 0.0
        request = ("run in turn", [cell], [str(log)], plan)
        self._messages = worker.talk(request, [log], self._time_left_s)

    def _time_left_s(self) -> float:
        limit_s = self._build_s if self._step == BUILDING else self._left_s
        return self._since + limit_s - time.monotonic()

    def ask(self, expected: str, *asked: object) -> list[Any]:
        """The answer, the wait for which is all that is charged; WorkerDied where there is none."""
        if asked:
            self._worker.tell(*asked)
        self._since = time.monotonic()
        for kind, *said in self._messages:
            now = time.monotonic()
            if kind != "begun" and self._step != BUILDING:  # nor while the worker imports torch
                self._left_s -= now - self._since
            self._since = now
            if kind == "side":
                _, self._step = said
            elif kind == expected:
                return said
            elif kind != "begun":
                break
        raise WorkerDied(f"it gave no answer of the kind {expected}")

    def side(self) -> Side:
        """The side, once it is open; one whose calls are too long for visits gives no answer."""
        shape, *sizes = self.ask("opened")

        def call_on(contents: int, memory: int) -> Thunk:
            self.ask("placed", contents, memory)
            return lambda: None

        def take(side: Side, call: Thunk, position: int, memory: int) -> Turn:
            packed, *seconds = self.ask("turn", tuple(side.shape), position, memory)
            return Turn(position, memory, tuple(unpacked(Block, packed)), *map(float, seconds))

        clock = HostClock(single_threaded=False)
        most_calls, kept = map(int, sizes)
        return Side(clock, Shape(*shape), most_calls, kept, call_on, take=take)
