"""A cell, run in this process: its task's rows, or a row that says what became of it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch

from runner.cells.cell import Cell
from runner.errors import LONGEST_TEXT, is_out_of_memory, is_unsupported, one_line, text_of
from runner.measure.device import Device, DeviceUnavailable, find_device
from runner.measure.host_memory import free_memory_bytes, limit_memory
from runner.rows.rows import Row, row_for, with_changed_switches, with_kept, with_values
from runner.tasks import autograd, benchmark, noise, roof, tensors, trace, transfer
from runner.tasks.task import Keep, ReportStep, Task, TaskResult, WorkerState

TASKS: dict[str, Callable[[Task], TaskResult]] = {
    "benchmark": benchmark.run,
    "autograd": autograd.run,
    "tensors": tensors.run,
    "transfer": transfer.run,
    "roof": roof.run,
    "noise": noise.run,
    "trace": trace.run,
}
T = TypeVar("T")


class LocalRun:
    """One cell's part of the process: its device, threads and memory."""

    def __init__(
        self,
        cell: Cell,
        state: WorkerState,
        report_step: ReportStep,
        keep: Keep = lambda result: None,
        folder: Path | None = None,
    ) -> None:
        self.cell, self._state, self._report_step = cell, state, report_step
        self._folder = folder
        self._keep, self._kept = keep, TaskResult(())  # what is known before a check
        self.device: Device | None = None  # once it was found
        self.failure: list[Row] = []  # the row, where something was raised
        self.seconds = 0.0  # that it took in all
        self.changed: dict[str, None] = {}  # the switches that the user's code has changed

    def attempt(self, step: Callable[[Task], T]) -> T | None:
        """Do a step of the cell; None where it raised something."""
        begun = time.monotonic()
        switches = self._state.switches
        try:
            if self.device is None:
                names = self.cell.device, self.cell.backend_module
                with switches.importing(names[1] or "", of_device=True):
                    self.device = find_device(*names, self._state.devices)
            with switches.importing(self.cell.definition.package):
                function = self.cell.definition.load()
            switches.enter(self.cell, self.device.torch)
            memory_bytes = self.cell.limit.memory_bytes or free_memory_bytes()
            if self.device.is_cpu:
                limit_memory(memory_bytes)
            known = self.cell, self.device, function, self._state, self._report_step
            return step(Task(*known, self._keep_known, self._folder, memory_bytes))
        except DeviceUnavailable as error:
            status, reason = "unavailable", str(error)
        except BaseException as error:  # whatever a function raises, and says of it
            _print_trace(error)
            status = _status_of(error)
            reason = f"{type(error).__name__}: {one_line(error)}{_advice(self.cell, error)}"
        finally:
            # the next step, or cell, must not find this one's limits or switches
            limit_memory(None)
            self.changed |= dict.fromkeys(switches.leave())
            self.seconds += time.monotonic() - begun
        name = None if self.device is None else self.device.name
        row = row_for(self.cell, status, reason, device_name=name, seconds=self.seconds)
        self.failure = [row]
        return None

    def _keep_known(self, known: TaskResult) -> None:
        self._kept = known
        self._keep(known)

    def outcome(self, result: TaskResult | None) -> TaskResult:
        """The rows with the seconds that the cell took; the failure where there are none."""
        if result is None:
            (failed,) = self.failure
            reason = f"a check ended with {failed.reason}"
            result = self._kept._replace(rows=with_kept(self._kept.rows, failed, reason))
        packages = (self.cell.backend_module or "", self.cell.definition.package)
        imported = chain.from_iterable(map(self._state.switches.changed_by_import, packages))
        changed = list(imported), list(self.changed)
        rows = [r if r.seconds else with_values(r, seconds=self.seconds) for r in result.rows]
        return TaskResult([with_changed_switches(row, *changed) for row in rows], result.samples)

    def release(self) -> None:
        """Give back what the device keeps for later calls."""
        if self.device is not None and not self.device.is_cpu:
            with suppress(RuntimeError):  # of a device that has been lost
                self.device.release()


def run_cell(
    cell: Cell,
    state: WorkerState,
    report_step: ReportStep = lambda step: None,
    keep: Keep = lambda result: None,
    folder: Path | None = None,
) -> TaskResult:
    """Run a cell in this process; what an operation raises becomes its status and reason."""
    run = LocalRun(cell, state, report_step, keep, folder)
    result = run.attempt(TASKS[cell.job])
    run.release()
    return run.outcome(result)


def log_rows(cell: Cell, rows: Sequence[Row]) -> None:
    """Print what came of a cell, into its log."""
    with suppress(Exception):  # the streams are whatever the cell has made of them
        for row in rows:
            print(f"{cell.label}: {row.status}{f': {row.reason}' if row.reason else ''}")


def is_device_lost(cell: Cell, rows: Sequence[Row]) -> bool:
    """Whether the error took the device's context: nothing works on it any more in this process."""
    if {row.status for row in rows} <= {"ok", "unavailable"}:
        return False
    try:
        return not find_device(cell.device, cell.backend_module).is_well()
    except Exception:  # whatever a device says that is no more
        return True


def _print_trace(error: BaseException) -> None:
    """Where an error came from, for the cell's log; a text of a gigabyte is not."""
    with suppress(BaseException):
        if len(str(error)) <= LONGEST_TEXT:
            traceback.print_exception(error)
            return
    with suppress(BaseException):
        traceback.print_tb(error.__traceback__)
        print(f"{type(error).__name__}: {text_of(error)}", file=sys.stderr)


def _advice(cell: Cell, error: BaseException) -> str:
    """What to write where ``op.call=`` names a function that does not take what the op gives."""
    words = (cell.parameters or "").split()
    if not isinstance(error, TypeError) or not any(word.startswith("op.call=") for word in words):
        return ""
    own = f"op=... '+op.implementations.mine={cell.operation.call}' impl=all"
    return (
        f"; op.call= leaves the rest of {cell.op} as it is: write {own} with the op that this "
        "computes, or drop the constants with '~op.kwargs', or add a file, mine/op/mine.yaml"
    )


def _status_of(error: BaseException) -> str:
    if is_out_of_memory(error) or isinstance(error, torch.OutOfMemoryError):
        return "out_of_memory"
    return "unsupported" if is_unsupported(error) else "failed"
