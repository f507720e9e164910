"""The cells of a sweep in two environments: a worker's process in each, which take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from runner.analysis.changes import GATE_ERROR
from runner.analysis.operation_changes import hypotheses
from runner.calls import Thunk
from runner.cells.cell import Cell
from runner.config.implementation import BUILDING
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, printable, tell
from runner.execute.cell_runner import CellGroup, CellRun, CellRunner, Run
from runner.execute.interpreter import Interpreter
from runner.execute.turns import Plan, TurnsOutcome, pairs_of
from runner.execute.user_code import edited
from runner.execute.worker import Worker, WorkerDied, outcome_of
from runner.files import IN_TURN, make_folder
from runner.measure.host_clock import Block, HostClock
from runner.measure.visits import SURE, Shape, Side, Turn, Visits, visit_until_clear
from runner.report.compare import BEFORE, NAMED_AT_MOST, compare_runs
from runner.report.environments import environment_changes
from runner.report.language import ENGLISH, first_of
from runner.rows.columns import unpacked
from runner.rows.rows import PAIRS_FILE, Row

PROCESSES = 5  # that take each cell: a gate asks for a certainty that fewer cannot give


class SideRunner(CellRunner):
    """Runs cells by an interpreter whose packages are not known here."""

    def _edited(self) -> list[str]:
        return edited(self.environment.get("code", {}), elsewhere=True)

    def _refuse_edited(self) -> None:
        if changed := self._edited():  # what takes turns is not resumed
            since = f"{', '.join(changed)} has changed since this run began"
            raise ConfigError(f"{since}; run all again")


class TwoSides(SideRunner):
    """Runs cells in an environment, and in that ``before``, whose rows are those of a run too."""

    def __init__(self, on_begin: Callable[[], None], a: Interpreter, b: Interpreter) -> None:
        self._before, self._root = SideRunner(on_begin, Worker(a)), Path()
        super().__init__(on_begin, WorkerPair(self._before.worker, b))
        self._compare, self._hypotheses = Compare(), 1
        self._runs_before: dict[str, CellRun] = {}  # by the names of their folders

    def prepare(self, cells: Sequence[Cell], *, require_devices: bool) -> None:
        """As :meth:`CellRunner.prepare`, on both sides; the error says whose it is."""
        self._hypotheses = hypotheses(cells)
        for name, prepare in {"a": self._before.prepare, "b": super().prepare}.items():
            try:
                prepare(cells, require_devices=require_devices)
            except ConfigError as error:
                raise ConfigError(f"ab.{name}: {error}") from error
        for name, side in {"a": self._before, "b": self}.items():
            _refuse_unused_path(name, side.worker.interpreter, side.environment.get("code") or {})
        changes = environment_changes([self._before.environment], [self.environment])
        named = first_of(list(map(str, changes)), NAMED_AT_MOST, ENGLISH) or ["nothing"]
        tell(printable(f"what differs between a and b: {'; '.join(named)}"))

    def _edited(self) -> list[str]:
        return list(dict.fromkeys([*self._before._edited(), *super()._edited()]))

    def record_environment(self, root: Path, cells: int, report: Report, **settings: Any) -> None:
        """As :meth:`CellRunner.record_environment`, on both sides."""
        self._root = root
        make_folder(root / BEFORE)
        self._before.record_environment(root / BEFORE, cells, report, **settings)
        super().record_environment(root, cells, report, **settings)

    def groups(self, runs: Sequence[Run], report: Report, compare: Compare) -> list[CellGroup[Run]]:
        """Each cell alone, on both sides, in several processes.

        What settles when a process starts makes short calls some percent slower in it or faster,
        and here it would be taken for the environment's doing.
        """
        self._compare = compare
        count = compare.processes or PROCESSES
        return [CellGroup([run], max(count, run.cell.processes)) for run in runs]

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
        gate = {self._compare.slower_than: GATE_ERROR / self._hypotheses}
        plan = Plan(same_within, group.processes, process, process > cell.processes, gate)
        can = group.can_take_turns and going == sides and all(s.can_run(cell) for s, _ in sides)
        rows = self.run_in_turn([cell] * 2, [folder, run.folder], plan, process) if can else None
        # one that takes too long for turns has its rows and no visits, in each process
        has_visits = (run.folder / PAIRS_FILE).is_file()
        group.can_take_turns = rows is not None and all(rows) and has_visits
        # alone, where it has no row of this process, if it is to have one; none that failed before
        for (side, of), written in zip_longest(going, rows or []):
            if written:
                of.rows = written
            elif process <= cell.processes:
                of.rows = side.run_once(cell, of.folder, process)

    def runs_of(self, group: CellGroup[Run]) -> list[CellRun]:
        """As :meth:`CellRunner.runs_of`, of both sides."""
        before = (self._runs_before.get(run.folder.name) for run in group.runs)
        return [*group.runs, *filter(None, before)]

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


def _refuse_unused_path(name: str, side: Interpreter | None, code: Mapping[str, Any]) -> None:
    """Refuse a folder in which nothing of what the cells call was found, nor a torch."""
    if side is None or side.path is None or Path(side.path, "torch").is_dir():
        return
    folders = {package: Path(described["folder"]).resolve() for package, described in code.items()}
    if not any(folder.is_relative_to(Path(side.path).resolve()) for folder in folders.values()):
        found = [f"{package} was found in {folder}" for package, folder in folders.items()]
        said = "; ".join(found) or "they call nothing but torch's own functions"
        advice = f"give the folder that holds it, such as {side.path}/src"
        nothing = f"ab.{name}.path={side.path} holds nothing that the cells call"
        raise ConfigError(f"{nothing}: {said}; {advice}")


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
            # each alone makes its first calls; of one that takes no turns this is all
            opened = [side for talk in talks if (side := talk.side())]
            visits = Visits([], (), "time")
            if len(opened) == len(talks):
                claims = {plan.same_within: SURE, **plan.gate}
                visits = visit_until_clear(
                    opened, cells, claims, plan.processes, process=plan.process
                )
            ended: list[Any] = [outcome_of(cells[:1], talk.end(visits.stop)) for talk in talks]
            rows = list(chain.from_iterable(outcome.rows for outcome in ended))
            samples = list(chain.from_iterable(outcome.samples for outcome in ended))
            return TurnsOutcome(rows, samples, pairs_of(cells, visits, 1))
        self.close()
        return None

    @property
    def is_running(self) -> bool:
        """As :attr:`Worker.is_running`, of both."""
        return super().is_running and self._before.is_running

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
        self._ended: list[Any] = []  # the answer, where it came before any turn
        request = ("run in turn", [cell], [str(log)], plan)
        self._messages = worker.talk(request, [log], self._time_left_s)

    def _time_left_s(self) -> float:
        limit_s = self._build_s if self._step == BUILDING else self._left_s
        return self._since + limit_s - time.monotonic()

    def ask(self, *asked: object) -> tuple[str, list[Any]]:
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
            elif kind != "begun":
                return kind, said
        raise WorkerDied("it gave no answer")

    def hear(self, expected: str, *asked: object) -> list[Any]:
        """The answer of a kind; WorkerDied where it is another."""
        kind, said = self.ask(*asked)
        if kind != expected:
            raise WorkerDied(f"it gave no answer of the kind {expected}")
        return said

    def end(self, stop: str) -> list[Any]:
        """What came of the side, which is told why it has no more turns."""
        return self._ended or self.hear("done", stop)

    def side(self) -> Side | None:
        """The side, once it is open; None where it failed, or its calls are too long for visits."""
        kind, said = self.ask()
        if kind == "done":
            self._ended = said
            return None
        shape, *sizes = said

        def call_on(contents: int, memory: int) -> Thunk:
            self.hear("placed", contents, memory)
            return lambda: None

        def take(side: Side, call: Thunk, position: int, memory: int) -> Turn:
            packed, *seconds = self.hear("turn", tuple(side.shape), position, memory)
            return Turn(position, memory, tuple(unpacked(Block, packed)), *map(float, seconds))

        clock = HostClock(single_threaded=False)
        most_calls, kept = map(int, sizes)
        return Side(clock, Shape(*shape), most_calls, kept, call_on, take=take)
