"""Runs cells through the worker, and writes what each gave to its folder."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from runner.cells.cell import CUBLAS, Cell
from runner.cells.comparison import in_turn, process_count, rounds_of
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, tell
from runner.execute.counting_worker import CountingWorker
from runner.execute.device_lock import DeviceLock
from runner.execute.environment import describe_process, identity_of
from runner.execute.turns import Plan, TurnsOutcome
from runner.execute.user_code import edited
from runner.execute.worker import Worker, WorkerDied
from runner.execute.worker_process import Preflight
from runner.files import write_atomically
from runner.measure.host_memory import free_memory_bytes
from runner.measure.processes import combined
from runner.rows import csv_store
from runner.rows.environment_file import check_same_environment, read_environment
from runner.rows.rows import (
    FILE_OF_JOB,
    PAIRS_FILE,
    ROUNDS_FILE,
    SAMPLES_FILE,
    SCRIPT_FILE,
    AutogradRow,
    BenchmarkRow,
    PairVisit,
    Row,
    Sample,
    marked,
    row_for,
    with_values,
)

LOG, ROUNDS_LOG = "run.log", "rounds.log"
MOST_BEHIND = 2  # writes that may be under way while the next cell is: its own files, a row


@dataclass
class CellRun:
    """A cell on its way through its processes."""

    cell: Cell
    folder: Path = Path()  # its own
    rows: list[Row] = field(default_factory=list)  # what came of it so far

    @property
    def did_well(self) -> bool:
        """Whether all of its processes so far did; otherwise it has no further one."""
        return all(row.status == "ok" for row in self.rows)


Run = TypeVar("Run", bound=CellRun)


@dataclass
class CellGroup(Generic[Run]):
    """Cells that are measured in turn with each other, the baseline first, or a single one."""

    runs: list[Run]
    processes: int  # that measure it, one after another
    can_take_turns: bool = True  # whether its process has survived that so far
    spent_s: float = 0.0  # that its processes took together, when it was last measured
    # the baseline with each side that found no memory beside all others
    apart: list[CellGroup[Run]] = field(default_factory=list)


def in_rounds(groups: Sequence[CellGroup[Run]]) -> Iterator[tuple[int, CellGroup[Run]]]:
    """Each group in its first process, then each in its second one, and so on.

    So slow drifts of the machine hit all cells alike.
    """
    for process in range(1, max((group.processes for group in groups), default=0) + 1):
        for group in groups:
            if process <= group.processes:
                yield process, group


class CellRunner:
    """Runs cells, in one process or in several after another; calls ``on_begin`` before each."""

    def __init__(self, on_begin: Callable[[], None], worker: Worker | None = None) -> None:
        self._on_begin = on_begin
        self.worker = worker or Worker()
        self._counting = CountingWorker(self.worker.interpreter)
        self._preflight: Preflight | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[None]] = deque()
        self._process = 1  # the number of the running one, of those that a cell is to have

    @property
    def _prepared(self) -> Preflight:
        assert self._preflight is not None
        return self._preflight

    @property
    def environment(self) -> dict[str, Any]:
        """What cells are run with, as it was in :meth:`prepare`; ``id`` is a hash of it."""
        return self._prepared.environment

    @property
    def unavailable(self) -> dict[str, str]:
        """The devices that were asked for and are not here, with the reason."""
        return self._prepared.unavailable

    @property
    def has_accelerator(self) -> bool:
        """Whether one of the devices that were asked for is here and is not the CPU."""
        return any(device != "cpu" for device in self._prepared.devices.values())

    def prepare(self, cells: Sequence[Cell], *, require_devices: bool) -> None:
        """Check all that needs torch or the machine, before anything is measured.

        ConfigError where a callable cannot be had, or with ``require_devices`` a device; in a sweep
        its cells become rows.
        """
        if not self.worker.is_running:  # it takes seconds
            tell("importing torch and looking at the machine ...")
        asking = any(cell.deterministic and cell.device != "cpu" for cell in cells)
        if asking and CUBLAS[0] not in os.environ:
            os.environ.update([CUBLAS])  # before the first product of a process that has it
            self.worker.close()
        of_cells = {id(cell.definition): cell.definition for cell in cells}  # which many share
        definitions = list({repr(of_cell): of_cell for of_cell in of_cells.values()}.values())
        devices = list(dict.fromkeys(cell.device for cell in cells))
        try:
            said = self.worker.prepare(definitions, devices, cells[0].backend_module)
        except WorkerDied as death:
            advice = "try `python -c 'import torch'`"
            raise ConfigError(f"the worker did not start: {death}; {advice}") from death
        if said.problems:
            raise ConfigError("; ".join(said.problems))
        side = {"side": asdict(self.worker.interpreter)} if self.worker.interpreter else {}
        environment = {**side, **describe_process(), **said.environment}
        environment["id"] = identity_of(environment)
        self._preflight = replace(said, environment=environment)

        # A sweep without any of its devices would have no times at all. With "gpu" among them it
        # was meant to run wherever it is started.
        missing = self._preflight.unavailable.values()
        nothing_runs = len(missing) == len(devices) and "gpu" not in devices
        if missing and (require_devices or nothing_runs):
            reasons = "; ".join(f"device={reason}" for reason in missing)
            raise ConfigError(f"{reasons}; use device=cpu, or device=gpu in a sweep")

    def record_environment(
        self,
        root: Path,
        cells: int,
        report: Report,
        *,
        resuming: bool = False,
        force: bool = False,
        **settings: object,
    ) -> None:
        """Write down what a run of so many cells is made with, before its first one.

        Where it is ``resuming``, it holds what was measured before, by ``force`` with something
        else, which is a ConfigError otherwise; further ``settings`` are written down too: the
        cluster, the cells left out.
        """
        environment = {"cluster": None, **self.environment, **settings}
        environment |= {"cells": cells, "report": vars(report)}
        # A resumed run keeps what it was first made with, and lists what it was continued with.
        path = root / "environment.json"
        if resuming and path.is_file():
            if not force:
                check_same_environment(root, environment)
            first = read_environment(root)
            resumed = [*(first.get("resumed") or []), environment]
            cells, excluded = max(first.get("cells") or 0, cells), environment.get("excluded")
            environment = {**first, "cells": cells, "excluded": excluded, "resumed": resumed}
        text = json.dumps(environment, indent=2, default=str)
        write_atomically(path, text + "\n")

    def run(self, cell: Cell, folder: Path) -> list[Row]:
        """Run a cell in ``timing.processes`` processes in a row, and write what came of it."""
        run = CellRun(cell, folder)
        for process, group in in_rounds([CellGroup([run], cell.processes)]):
            self.run_group(group, process)
        return run.rows

    def run_once(self, cell: Cell, folder: Path, process: int = 1) -> list[Row]:
        """Run a cell in one of its processes, and write what is known by then to its folder.

        A fresh worker is started whenever the number of the process changes.
        """
        if self._preflight is None:  # a stock launcher's own process, which no sweeper has prepared
            self.prepare([cell], require_devices=False)
        self._begin(process)
        rows, samples = self._measure(cell, folder / LOG)
        if process == 1:
            (folder / PAIRS_FILE).unlink(missing_ok=True)
        return self.write(cell, folder, rows, samples, process)

    def run_in_turn(
        self, cells: Sequence[Cell], folders: Sequence[Path], plan: Plan, process: int = 1
    ) -> list[list[Row]] | None:
        """Run the sides of a comparison, the baseline first, in turn, as :meth:`run_once` does one.

        It gives the rows of each, none of a side that had no memory beside the others; None, and
        nothing is written, where the process or a device died, or a side took too long.
        """
        outcome, concurrent = self._in_turn(
            cells, [folder / LOG for folder in folders], plan, process
        )
        if outcome is None:
            return None

        # the visits come first: a row without them would look as if it had been measured alone
        for cell, folder in zip(cells, folders, strict=True):
            path = folder / PAIRS_FILE
            visits = [visit for visit in outcome.pairs if visit.other_cell == cell.identity]
            latest = [replace(visit, process=process) for visit in visits]
            if process > 1 and path.is_file():
                latest = csv_store.read_records(path, PairVisit) + latest
            if visits:
                csv_store.write_records(path, latest)
            elif process == 1:  # visits of a resumed sweep are not of the row that is to be written
                path.unlink(missing_ok=True)
        if plan.visits_only:
            return []
        beside = any(concurrent) if None not in concurrent else None
        sides = zip(cells, folders, outcome.rows, outcome.samples, strict=True)
        written: list[list[Row]] = []
        for cell, folder, rows, samples in sides:
            of_side = [marked(row, beside) for row in rows]
            if of_side:
                of_side = self.write(cell, folder, of_side, list(samples), process)
            written.append(of_side)
        return written

    def _in_turn(
        self, cells: Sequence[Cell], logs: Sequence[Path], plan: Plan, process: int
    ) -> tuple[TurnsOutcome | None, list[bool | None]]:
        """What came of sides in turn, and whether another sweep ran on each of their devices."""
        self._begin(process)
        with self._holding(cells) as concurrent:
            outcome = self.worker.run_in_turn(cells, logs, plan)
        return outcome, concurrent

    def visit_workloads(self, cells: Sequence[Cell], root: Path, report: Report) -> None:
        """Go through all calls of each workload again and again, on all sides that are compared.

        The visits go to ``rounds.csv``. A workload that does not fit into memory, or whose process
        dies, has none.
        """
        visits: list[PairVisit] = []
        for group in rounds_of(cells, report, self.can_run, memory_bytes=self._memory_bytes()):
            name = group[0].call.workload if group[0].call else ""
            tell(f"going through {name} again and again, {len(group)} calls ...")
            plan = Plan(report.same_within, visits_only=True, is_round=True)
            outcome, _ = self._in_turn(group, [root / ROUNDS_LOG for _ in group], plan, 1)
            visits += outcome.pairs if outcome else []
        if visits:
            csv_store.write_records(root / ROUNDS_FILE, visits)

    def groups(self, runs: Sequence[Run], report: Report, compare: Compare) -> list[CellGroup[Run]]:
        """The cells that are measured in turn with each other, and the others by themselves."""
        cells = [run.cell for run in runs]
        positions = [[position] for position in range(len(runs))]
        if compare.in_turn:
            memory_bytes = self._memory_bytes()
            positions = in_turn(cells, report, self.can_run, memory_bytes=memory_bytes)
        groups = []
        for members in positions:
            count = process_count([cells[member] for member in members], compare)
            groups.append(CellGroup([runs[member] for member in members], count))
        return groups

    def run_group(
        self, group: CellGroup[Run], process: int, same_within: float = Report.same_within
    ) -> None:
        """Run a group in one of its processes: in turn, or each cell alone where that fails."""
        if process == 1:
            group.apart = []
        apart = [pair.runs[1] for pair in group.apart]
        sides = [run for run in group.runs if run.did_well and run not in apart]
        if group.can_take_turns and len(sides) > 1 and sides[0] is group.runs[0]:
            cells, folders = [run.cell for run in sides], [run.folder for run in sides]
            visits_only = process > max(cell.processes for cell in cells)
            plan = Plan(same_within, group.processes, process, visits_only)
            rows = self.run_in_turn(cells, folders, plan, process)
            group.can_take_turns = rows is not None
            for run, of_run in zip(sides, rows or [], strict=False):
                run.rows = of_run or run.rows
            if rows is not None:
                # of one that had no memory beside the others this process has no row yet
                left = [run for run, of_run in zip(sides, rows, strict=False) if not of_run]
                if process == 1 and len(sides) > 2 and sides[0] not in left:
                    # it may have some beside the baseline alone
                    group.apart = [CellGroup([sides[0], run], group.processes) for run in left]
                    left = []
                sides = left

        # alone, in its next process, if it is to have one
        for run in sides:
            if process <= run.cell.processes:
                run.rows = self.run_once(run.cell, run.folder, process)
        for pair in group.apart:
            self.run_group(pair, process, same_within)

    @contextmanager
    def writing_behind(self) -> Iterator[None]:
        """Write files while the next cell is on its way already; in the end all are written."""
        with ThreadPoolExecutor(1) as writer:
            self._writer = writer
            try:
                yield
            finally:
                self._writer = None
                self.wait_for_files()

    def save(self, write: Callable[[], None]) -> None:
        """Write files in the order in which this is called; an error may come with a later call."""
        if self._writer is None:
            write()
            return
        self._under_way.append(self._writer.submit(write))
        self.wait_for_files(MOST_BEHIND)

    def wait_for_files(self, but: int = 0) -> None:
        """Wait until all is written, but for so many of the latest."""
        while len(self._under_way) > but:
            self._under_way.popleft().result()

    def _memory_bytes(self) -> dict[str, int]:
        """What may be taken of each device: an accelerator's own, or else what the host has."""
        described = self.environment.get("devices") or ()
        own = {device.get("device"): device.get("total_memory") for device in described}
        free = free_memory_bytes()
        of_each = {name: own.get(here) or free for name, here in self._prepared.devices.items()}
        return {name: size for name, size in of_each.items() if size is not None}

    def runs_of(self, group: CellGroup[Run]) -> list[CellRun]:
        """All that a group's visits give rows of."""
        return list(group.runs)

    def can_run(self, cell: Cell) -> bool:
        """Whether a cell can be a side: its device is here."""
        return not cell.infeasible_reason and cell.device not in self._prepared.unavailable

    def judged(self, exit_code: int, report: Report, *, quiet: bool = False) -> int:
        """The run's exit code, given that of its rows; ``quiet``: no table is printed."""
        return exit_code

    def close(self) -> None:
        """End its processes."""
        self.worker.close()
        self._counting.close()

    def _begin(self, process: int) -> None:
        """End the worker where the next cell is to have another process than the last."""
        self._on_begin()
        if process != self._process:
            self.worker.close()
        self._process = process

    @contextmanager
    def _same_code(self, worker: Worker) -> Iterator[None]:
        """Refuse a cell's rows where its worker may have begun with other code than the run did.

        A worker that runs keeps the code that it has imported, whatever becomes of the files.
        """
        begins = not worker.is_running
        if begins:
            self._refuse_edited()
        yield
        if begins:  # it has imported it by now
            self._refuse_edited()

    def _refuse_edited(self) -> None:
        if changed := self._edited():
            since = f"{', '.join(changed)} has changed since this run began"
            raise ConfigError(f"{since}; restore it and resume, or run all again")

    def _edited(self) -> list[str]:
        """What is not as it was; nothing of another Python's, whose packages are not known here."""
        return [] if self.worker.interpreter else edited(self.environment.get("code", {}))

    def warn_of_edits(self) -> None:
        """Say that the code is not any more what the rows were measured with."""
        if self._preflight and (changed := self._edited()):
            note = "has changed since this run began; every row is of the code before"
            tell(f"{', '.join(changed)} {note}")

    def _measure(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        unavailable = self._prepared.unavailable
        if cell.infeasible_reason:
            return [row_for(cell, "unsupported", cell.infeasible_reason)], []
        if cell.device in unavailable:
            return [row_for(cell, "unavailable", unavailable[cell.device])], []
        with self._holding([cell]) as concurrent:
            rows, samples = self.worker.run(cell, log)
        return [marked(row, *concurrent) for row in rows], samples

    @contextmanager
    def _holding(
        self, cells: Sequence[Cell], worker: Worker | None = None
    ) -> Iterator[list[bool | None]]:
        """Hold the devices of cells that run code as it was; at the end: who else ran on each."""
        # each device once, in an order that all sweeps share: none waits for another that waits
        on_device = {self._prepared.devices.get(cell.device, cell.device): cell for cell in cells}
        locks = [self._lock(device, cell) for device, cell in sorted(on_device.items())]
        concurrent: list[bool | None] = []
        try:
            with self._same_code(worker or self.worker):
                yield concurrent
        finally:
            concurrent += [lock.release() for lock in locks]

    def _lock(self, device: str, cell: Cell) -> DeviceLock:
        """Hold a cell's device, or wait for it where the cell wants it for itself."""

        def on_wait(longest_s: float) -> None:
            tell(f"waiting for another sweep's cell on {device}, for {longest_s:g} s at most ...")

        return DeviceLock(device, exclusive=cell.on_contention == "wait", on_wait=on_wait)

    def write(
        self, cell: Cell, folder: Path, rows: list[Row], samples: list[Sample], process: int
    ) -> list[Row]:
        """Write a cell's rows and samples to its folder, with those of its earlier processes."""
        # A row names its threads even where the cell leaves them to torch, which the worker knows.
        threads = cell.threads or self.environment["torch"]["threads"]
        made = {"node": self.environment["node"], "environment": self.environment["id"]}
        rows = [with_values(row, threads=row.threads or threads, **made) for row in rows]
        table = folder / FILE_OF_JOB[cell.job]
        if cell.timing.counts and process == 1 and self._counting.may_count(rows, folder / LOG):
            self.save(partial(_write, table, rows, samples))  # what may end meanwhile keeps these
            with self._holding([cell], self._counting):
                rows = self._counting.with_counts(cell, rows, folder / LOG)
        if process > 1:
            self.wait_for_files()
            rows, samples = _with_earlier(table, rows, samples, process)
        self.save(partial(_write, table, rows, samples))
        return rows


def _write(table: Path, rows: Sequence[Row], samples: Sequence[Sample]) -> None:
    if samples:
        csv_store.write_records(table.with_name(SAMPLES_FILE), samples)
    csv_store.write_rows(table, rows)
    for row in rows:
        if isinstance(row, AutogradRow) and row.script:
            write_atomically(table.with_name(SCRIPT_FILE), row.script)


def _with_earlier(
    table: Path, rows: list[Row], samples: list[Sample], process: int
) -> tuple[list[Row], list[Sample]]:
    """What a cell's latest process gave, with what its earlier ones left in its folder."""
    all_samples = csv_store.read_records(table.with_name(SAMPLES_FILE), Sample)
    all_samples += [replace(sample, process=process) for sample in samples]
    latest = rows[0]
    if latest.status == "ok" and isinstance(latest, BenchmarkRow):
        (earlier,) = csv_store.read_rows(table, BenchmarkRow)
        return [combined(earlier, latest, all_samples)], all_samples
    reasoned = [replace(row, reason=f"in process {process}: {row.reason}") for row in rows]
    return reasoned, all_samples
