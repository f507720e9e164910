"""A cell, run in this process: its task's rows, or a row that says what became of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from runner.cells.cell import Cell
from runner.errors import is_unsupported, one_line
from runner.measure.device import Device, DeviceUnavailable, find_device
from runner.measure.host_memory import free_memory_bytes, limit_memory
from runner.rows.rows import Row, Sample, row_for
from runner.tasks import autograd, benchmark, roof, tensors, transfer
from runner.tasks.task import ReportStep, Task, TaskResult
from runner.tasks.worker_state import WorkerState

TASKS: dict[str, Task] = {
    "benchmark": benchmark,
    "autograd": autograd,
    "tensors": tensors,
    "transfer": transfer,
    "roof": roof,
}
DEVICE_LOST = "the device did not recover, so the worker was replaced"
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


def run_cell(
    cell: Cell, state: WorkerState, report_step: ReportStep = lambda step: None
) -> TaskResult:
    """Run a cell in this process; what an operation raises becomes its status and reason.

    Args:
        cell: what to run.
        state: what earlier cells of this process have found out.
        report_step: is called with each step as it begins.
    """
    begun = time.perf_counter()
    default_threads = torch.get_num_threads()
    device = None
    try:
        device = find_device(cell.device, cell.backend_module, state.busy_work)
        function = cell.definition.load()
        torch.set_num_threads(cell.threads or default_threads)
        if device.is_cpu:
            limit_memory(cell.limit.memory_bytes or free_memory_bytes())
        rows, samples = TASKS[cell.job].run(cell, device, function, state, report_step)
        seconds = time.perf_counter() - begun
        return TaskResult(
            [row if row.seconds else replace(row, seconds=seconds) for row in rows], samples
        )
    except DeviceUnavailable as error:
        status, reason = "unavailable", str(error)
    except Exception as error:
        traceback.print_exc()
        status, reason = _status_of(error), f"{type(error).__name__}: {one_line(error)}"
    finally:
        # the next cell must not find this one's limits, threads or memory
        limit_memory(None)
        torch.set_num_threads(default_threads)
        _release(device)
    name = None if device is None else device.name
    return TaskResult(
        [row_for(cell, status, reason, device_name=name, seconds=time.perf_counter() - begun)]
    )


def run_and_log(
    cell: Cell, state: WorkerState, report_step: ReportStep
) -> tuple[Sequence[Row], Sequence[Sample], bool]:
    """Run a cell and print what came of it.

    Returns:
        the rows, the samples, and whether the worker has to be replaced.
    """
    rows, samples = run_cell(cell, state, report_step)
    device_lost = _is_device_lost(cell, rows)
    if device_lost:
        rows = [replace(row, reason=f"{row.reason}; {DEVICE_LOST}") for row in rows]
    for row in rows:
        print(f"{cell.label}: {row.status}{f': {row.reason}' if row.reason else ''}")
    return rows, samples, device_lost


def _is_device_lost(cell: Cell, rows: Sequence[Row]) -> bool:
    """Whether the error took the device's context: nothing works on it any more in this process."""
    if {row.status for row in rows} <= {"ok", "unavailable"}:
        return False
    try:
        return not find_device(cell.device, cell.backend_module).is_well()
    except DeviceUnavailable:
        return True


def _release(device: Device | None) -> None:
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
