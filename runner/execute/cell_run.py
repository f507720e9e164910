"""A cell, run in this process: its task's rows, or a row that says what became of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch

from runner.cells.cell import Cell
from runner.errors import is_unsupported, one_line
from runner.measure.device import Device, DeviceUnavailable, find_device
from runner.measure.host_memory import free_memory_bytes, limit_memory
from runner.rows.rows import Row, Sample, row_for
from runner.tasks import autograd, benchmark, roof, tensors, transfer
from runner.tasks.task import Function, ReportStep, Task, TaskResult
from runner.tasks.worker_state import WorkerState

TASKS: dict[str, Task] = {
    "benchmark": benchmark,
    "autograd": autograd,
    "tensors": tensors,
    "transfer": transfer,
    "roof": roof,
}
DEVICE_LOST = "the device did not recover, so the worker was replaced"
T = TypeVar("T")
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class CellRun:
    """One cell's part of the process: its device, threads and memory; what its operation raises becomes its row.

    Attributes:
        device: where it runs, once that was found.
        failure: the row, where something was raised.
    """

    def __init__(self, cell: Cell, state: WorkerState) -> None:
        self.cell, self._state = cell, state
        self.device: Device | None = None
        self.failure: TaskResult | None = None
        self._seconds = 0.0

    def attempt(self, step: Callable[[Device, Function | None], T]) -> T | None:
        """Do a step of the cell; None where it raised something."""
        begun = time.perf_counter()
        default_threads = torch.get_num_threads()
        try:
            if self.device is None:
                self.device = find_device(
                    self.cell.device, self.cell.backend_module, self._state.busy_work
                )
            function = self.cell.definition.load()
            torch.set_num_threads(self.cell.threads or default_threads)
            if self.device.is_cpu:
                limit_memory(self.cell.limit.memory_bytes or free_memory_bytes())
            return step(self.device, function)
        except DeviceUnavailable as error:
            status, reason = "unavailable", str(error)
        except Exception as error:
            traceback.print_exc()
            status, reason = _status_of(error), f"{type(error).__name__}: {one_line(error)}"
        finally:
            # the next step, or cell, must not find this one's limits or threads
            limit_memory(None)
            torch.set_num_threads(default_threads)
            self._seconds += time.perf_counter() - begun
        name = None if self.device is None else self.device.name
        row = row_for(self.cell, status, reason, device_name=name, seconds=self._seconds)
        self.failure = TaskResult([row])
        return None

    def timed(self, result: TaskResult) -> TaskResult:
        """The result with the seconds that the cell took."""
        rows = [row if row.seconds else replace(row, seconds=self._seconds) for row in result.rows]
        return TaskResult(rows, result.samples)


def run_cell(
    cell: Cell, state: WorkerState, report_step: ReportStep = lambda step: None
) -> TaskResult:
    """Run a cell in this process; what an operation raises becomes its status and reason.

    Args:
        cell: what to run.
        state: what earlier cells of this process have found out.
        report_step: is called with each step as it begins.
    """
    run = CellRun(cell, state)
    task = TASKS[cell.job]
    result = run.attempt(
        lambda device, function: task.run(cell, device, function, state, report_step)
    )
    release(run.device)
    if result is None:
        assert run.failure is not None
        return run.failure
    return run.timed(result)


def run_and_log(
    cell: Cell, state: WorkerState, report_step: ReportStep
) -> tuple[Sequence[Row], Sequence[Sample], bool]:
    """Run a cell and print what came of it.

    Returns:
        the rows, the samples, and whether the worker has to be replaced.
    """
    rows, samples = run_cell(cell, state, report_step)
    device_lost = is_device_lost(cell, rows)
    if device_lost:
        rows = [replace(row, reason=f"{row.reason}; {DEVICE_LOST}") for row in rows]
    log_rows(cell, rows)
    return rows, samples, device_lost


def log_rows(cell: Cell, rows: Sequence[Row]) -> None:
    """Print what came of a cell, into its log."""
    for row in rows:
        print(f"{cell.label}: {row.status}{f': {row.reason}' if row.reason else ''}")


def is_device_lost(cell: Cell, rows: Sequence[Row]) -> bool:
    """Whether the error took the device's context: nothing works on it any more in this process."""
    if {row.status for row in rows} <= {"ok", "unavailable"}:
        return False
    try:
        return not find_device(cell.device, cell.backend_module).is_well()
    except DeviceUnavailable:
        return True


def release(device: Device | None) -> None:
    """Give back what a device keeps for later calls."""
    if device is not None and not device.is_cpu:
        with suppress(RuntimeError):  # of a device that has been lost
            device.release()


def _status_of(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in text for words in NO_MEMORY
    ):
        return "out_of_memory"
    return "unsupported" if is_unsupported(error) else "failed"
