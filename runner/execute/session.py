"""One call of the runner, from its last check to its exit code: the worker, the cells' rows, and what is made of them.

Hydra owns the way from the command line to a job and back, so what one job leaves for the next, and for the exit
code, is kept in the process's one session.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema import Report
from runner.errors import ConfigError

if TYPE_CHECKING:  # the rest is imported where it is used: a typing error on the command line needs none of it
    from runner.cells.cell import Cell
    from runner.execute.worker import Worker
    from runner.execute.worker_process import Preflight
    from runner.rows.rows import Row, Sample


class Session:
    """Runs cells and remembers what came of them.

    Attributes:
        measuring: whether a cell has begun; before that an error is the configuration's.
        exit_code: what the process should end with.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self.measuring = False
        self.exit_code = 0
        self._prepared: Preflight | None = None
        self._process = 1  # the number of the running one, of those that a cell is to have

    @property
    def environment(self) -> dict[str, Any]:
        """The machine and torch, as the worker saw them in :meth:`prepare`."""
        assert self._prepared is not None
        return self._prepared.environment

    def prepare(self, cells: Sequence[Cell], *, alone: bool) -> None:
        """Check all that needs torch or the machine, before anything is measured.

        Args:
            cells: those to be run.
            alone: whether the devices asked for have to be here; inside a sweep their cells become rows.

        Raises:
            ConfigError: a callable or a device cannot be had.
        """
        from runner.execute.worker import Worker, WorkerDied

        self._worker = self._worker or Worker()
        print("importing torch and looking at the machine ...", file=sys.stderr, flush=True)  # it takes seconds
        subjects = list({repr(cell.definition): cell.definition for cell in cells}.values())
        devices = list(dict.fromkeys(cell.device for cell in cells))
        try:
            self._prepared = self._worker.prepare(subjects, devices, cells[0].backend_module)
        except WorkerDied as death:
            raise ConfigError(f"the worker did not start: {death}; try `python -c 'import torch'`") from death
        problems = self._prepared.problems
        missing = list(self._prepared.unavailable.values())
        if problems:
            raise ConfigError("; ".join(problems))
        if missing and (alone or (len(missing) == len(devices) and "gpu" not in devices)):
            raise ConfigError(
                "; ".join(f"device={reason}" for reason in missing) + "; use device=cpu, or device=gpu in a sweep"
            )

    def begin(
        self,
        root: Path,
        cells: Sequence[Cell],
        report: Report,
        *,
        resuming: bool = False,
        anyway: bool = False,
        cluster: str | None = None,
    ) -> None:
        """Write down what the run is made with, before its first cell.

        Args:
            root: the folder of the run or sweep.
            cells: all that it is to hold in the end.
            report: what its report will compare.
            resuming: whether it holds what was measured before.
            anyway: whether that may have been with something else.
            cluster: what runs the cells, where it is not this machine.

        Raises:
            ConfigError: it was made with something else.
            OSError: the folder cannot be written.
        """
        from runner.execute.environment import describe_process
        from runner.rows.csv_store import write_atomically
        from runner.rows.environment_file import check_same_environment, read_environment

        assert self._prepared is not None
        environment: dict[str, Any] = {
            **describe_process(),
            **self._prepared.environment,
            "cluster": cluster,
            "cells": len(cells),
            "report": vars(report),
        }
        path = root / "environment.json"
        if resuming and path.is_file():
            if not anyway:
                check_same_environment(root, environment)
            first = read_environment(root)
            resumed = [*first.get("resumed", []), environment]
            environment = {**first, "cells": max(first.get("cells", 0), len(cells)), "resumed": resumed}
        write_atomically(path, json.dumps(environment, indent=2, default=str) + "\n")

    def run(self, cell: Cell, folder: Path) -> list[Row]:
        """Run a cell, in one process after another where it is to have several, and leave its rows in its folder.

        Raises:
            OSError: the folder cannot be written.
        """
        rows = self.run_once(cell, folder)
        for process in range(2, cell.processes + 1):
            if all(row.status == "ok" for row in rows):
                rows = self.run_once(cell, folder, process)
        return rows

    def run_once(self, cell: Cell, folder: Path, process: int = 1) -> list[Row]:
        """Run a cell in one of its processes and leave what is known of it by then in its folder.

        Args:
            cell: what to run.
            folder: its own.
            process: the number of the process; each begins afresh where the number is another than the last cell's.

        Raises:
            OSError: the folder cannot be written.
        """
        from runner.execute.environment import node_identity
        from runner.rows.csv_store import write_rows, write_samples
        from runner.rows.rows import FILE_OF_JOB, row_for

        if self._prepared is None:  # a stock launcher's own process, which no sweeper has prepared
            self.prepare([cell], alone=False)
        assert self._prepared is not None
        self.measuring = True
        if process != self._process and self._worker is not None:
            self._worker.close()
        self._process = process
        samples: list[Sample] = []
        if cell.infeasible_reason:
            rows = [row_for(cell, "unsupported", cell.infeasible_reason)]
        elif cell.device in self._prepared.unavailable:
            rows = [row_for(cell, "unavailable", self._prepared.unavailable[cell.device])]
        else:
            rows, samples = self._run_on_device(cell, folder / "run.log")
        threads = self._prepared.environment["torch"]["threads"]
        rows = [replace(row, threads=row.threads or cell.threads or threads, node=node_identity()) for row in rows]
        if process > 1:
            rows, samples = _with_earlier(folder / FILE_OF_JOB[cell.job], rows, samples, process)
        if samples:
            write_samples(folder / "samples.csv", samples)
        write_rows(folder / FILE_OF_JOB[cell.job], rows)
        return rows

    def _run_on_device(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        from runner.execute.device_lock import DeviceLock
        from runner.rows.rows import marked

        assert self._prepared is not None and self._worker is not None
        device = self._prepared.devices.get(cell.device, cell.device)
        note = f"waiting for another sweep's cell on {device} ..."
        lock = DeviceLock(device, alone=cell.on_contention == "wait", waiting=lambda: print(note, file=sys.stderr))
        beside = None
        try:
            rows, samples = self._worker.run(cell, log)
        finally:
            beside = lock.release()
        return [marked(row, beside) for row in rows], samples

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


@lru_cache(maxsize=1)
def session() -> Session:
    """The process's session."""
    return Session()


def _with_earlier(
    written: Path, rows: list[Row], samples: list[Sample], process: int
) -> tuple[list[Row], list[Sample]]:
    """What a cell's latest process gave, with what its earlier ones left in its folder."""
    from runner.measure.processes import combined
    from runner.rows.csv_store import read_rows, read_samples
    from runner.rows.rows import BenchmarkRow

    both = read_samples(written.with_name("samples.csv")) + [replace(sample, process=process) for sample in samples]
    latest = rows[0]
    if latest.status != "ok" or not isinstance(latest, BenchmarkRow):
        return [replace(row, reason=f"in process {process}: {row.reason}") for row in rows], both
    return [combined(read_rows(written, BenchmarkRow)[0], latest, both)], both
