"""One call of the runner, from its last check to its exit code: the worker, the cells' rows, and what is made of them.

The command line makes one session and binds it to Hydra's task function, through which the sweeper and the launcher,
which Hydra makes, come by it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import TaskFunction

from runner.config.schema import Report
from runner.errors import ConfigError

if (
    TYPE_CHECKING
):  # the rest is imported where it is used: a typing error on the command line needs none of it
    from runner.cells.cell import Cell
    from runner.execute.worker import Worker
    from runner.execute.worker_process import Preflight
    from runner.rows.rows import Row, Sample


class Session:
    """Runs cells and remembers what came of them.

    Attributes:
        exit_code: what the process should end with.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._measuring = False
        self._worker: Worker | None = None
        self._preflight: Preflight | None = None
        self._process = 1  # the number of the running one, of those that a cell is to have

    @property
    def measuring(self) -> bool:
        """Whether a cell has begun, here or on a cluster: before that an error is the configuration's."""
        return self._measuring

    @property
    def environment(self) -> dict[str, Any]:
        """The machine and torch, as the worker saw them in :meth:`prepare`."""
        assert self._preflight is not None
        return self._preflight.environment

    def prepare(self, cells: Sequence[Cell], *, require_devices: bool) -> None:
        """Check all that needs torch or the machine, before anything is measured.

        Args:
            cells: those to be run.
            require_devices: whether a device that is not here is an error; inside a sweep its cells become rows.

        Raises:
            ConfigError: a callable or a device cannot be had.
        """
        from runner.execute.worker import Worker, WorkerDied

        self._worker = self._worker or Worker()
        print(
            "importing torch and looking at the machine ...", file=sys.stderr, flush=True
        )  # it takes seconds
        definitions = list({repr(cell.definition): cell.definition for cell in cells}.values())
        devices = list(dict.fromkeys(cell.device for cell in cells))
        try:
            self._preflight = self._worker.prepare(definitions, devices, cells[0].backend_module)
        except WorkerDied as death:
            raise ConfigError(
                f"the worker did not start: {death}; try `python -c 'import torch'`"
            ) from death
        if self._preflight.problems:
            raise ConfigError("; ".join(self._preflight.problems))

        # A sweep without any of its devices would have no times at all. With "gpu" among them it was meant to run
        # wherever it is started.
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
        cluster: str | None = None,
    ) -> None:
        """Write down what the run is made with, before its first cell.

        Args:
            root: the folder of the run or sweep.
            cells: how many it is to hold in the end.
            report: what its report will compare.
            resuming: whether it holds what was measured before.
            force: whether that may have been with something else.
            cluster: what runs the cells, where it is not this machine.

        Raises:
            ConfigError: it was made with something else.
            OSError: the folder cannot be written.
        """
        from runner.execute.environment import describe_process
        from runner.rows.csv_store import write_atomically
        from runner.rows.environment_file import check_same_environment, read_environment

        environment = {
            **describe_process(),
            **self.environment,
            "cluster": cluster,
            "cells": cells,
            "report": vars(report),
        }
        # A resumed run keeps what it was first made with, and lists what it was continued with.
        path = root / "environment.json"
        if resuming and path.is_file():
            if not force:
                check_same_environment(root, environment)
            first = read_environment(root)
            resumed = [*first.get("resumed", []), environment]
            environment = {**first, "cells": max(first.get("cells", 0), cells), "resumed": resumed}
        write_atomically(path, json.dumps(environment, indent=2, default=str) + "\n")

    def begin_measuring(self) -> None:
        """From here on what goes wrong is no longer the configuration's error."""
        self._measuring = True

    def run(self, cell: Cell, folder: Path) -> list[Row]:
        """Run a cell in ``timing.processes`` consecutive processes and write its rows to its folder.

        Raises:
            OSError: the folder cannot be written.
        """
        rows = self.run_once(cell, folder)
        for process in range(2, cell.processes + 1):
            if all(row.status == "ok" for row in rows):
                rows = self.run_once(cell, folder, process)
        return rows

    def run_once(self, cell: Cell, folder: Path, process: int = 1) -> list[Row]:
        """Run a cell in one of its processes and write what is known of it by then to its folder.

        Args:
            cell: what to run.
            folder: its own.
            process: the number of the process; a fresh worker is started whenever it changes.

        Raises:
            OSError: the folder cannot be written.
        """
        from runner.execute.environment import node_identity
        from runner.rows.csv_store import write_rows, write_samples
        from runner.rows.rows import FILE_OF_JOB

        if self._preflight is None:  # a stock launcher's own process, which no sweeper has prepared
            self.prepare([cell], require_devices=False)
        self.begin_measuring()
        self._use_process(process)
        rows, samples = self._measure(cell, folder / "run.log")

        # A row names its threads even where the cell leaves them to torch, which the worker knows.
        threads = self.environment["torch"]["threads"]
        rows = [
            replace(row, threads=row.threads or cell.threads or threads, node=node_identity())
            for row in rows
        ]

        table = folder / FILE_OF_JOB[cell.job]
        if process > 1:
            rows, samples = _with_earlier(table, rows, samples, process)
        if samples:
            write_samples(folder / "samples.csv", samples)
        write_rows(table, rows)
        return rows

    def finish(self, root: Path, report: Report, *, strict: bool) -> None:
        """Put a run together from what its cells left, show it, and settle the exit code.

        Args:
            root: the folder of the run or sweep.
            report: what to compare with what.
            strict: whether findings such as ``timeout`` count as failures.

        Raises:
            OSError: the folder cannot be written.
        """
        from runner.report.conclude import conclude

        self.exit_code = conclude(root, report, strict=strict)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()

    def _use_process(self, process: int) -> None:
        """End the worker where the next cell is to have another process than the last."""
        if process != self._process:
            self.close()
        self._process = process

    def _measure(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """A cell's rows and samples, or the row that says why it cannot run here."""
        from runner.rows.rows import row_for

        assert self._preflight is not None
        if cell.infeasible_reason:
            return [row_for(cell, "unsupported", cell.infeasible_reason)], []
        if cell.device in self._preflight.unavailable:
            return [row_for(cell, "unavailable", self._preflight.unavailable[cell.device])], []
        return self._run_on_device(cell, self._preflight.devices.get(cell.device, cell.device), log)

    def _run_on_device(self, cell: Cell, device: str, log: Path) -> tuple[list[Row], list[Sample]]:
        from runner.execute.device_lock import DeviceLock
        from runner.rows.rows import marked

        assert self._worker is not None
        note = f"waiting for another sweep's cell on {device} ..."
        exclusive = cell.on_contention == "wait"
        lock = DeviceLock(device, exclusive=exclusive, on_wait=lambda: print(note, file=sys.stderr))
        concurrent = None
        try:
            rows, samples = self._worker.run(cell, log)
        finally:
            concurrent = lock.release()
        return [marked(row, concurrent) for row in rows], samples


def session_of(task_function: TaskFunction) -> Session:
    """The session that is bound to a task function, see :class:`runner.cli.main.CellTask`."""
    session = getattr(task_function, "session", None)
    if not isinstance(session, Session):
        raise TypeError(f"{task_function} has no session in which cells could run")
    return session


def _with_earlier(
    table: Path, rows: list[Row], samples: list[Sample], process: int
) -> tuple[list[Row], list[Sample]]:
    """What a cell's latest process gave, with what its earlier ones left in its folder."""
    from runner.measure.processes import combined
    from runner.rows.csv_store import read_rows, read_samples
    from runner.rows.rows import BenchmarkRow

    latest_samples = [replace(sample, process=process) for sample in samples]
    all_samples = read_samples(table.with_name("samples.csv")) + latest_samples
    latest = rows[0]
    if latest.status != "ok" or not isinstance(latest, BenchmarkRow):
        return [
            replace(row, reason=f"in process {process}: {row.reason}") for row in rows
        ], all_samples
    return [combined(read_rows(table, BenchmarkRow)[0], latest, all_samples)], all_samples
