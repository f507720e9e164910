"""What a task is: what a job does with one cell, in the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from runner.cells.cell import Cell
from runner.measure.device import Device
from runner.rows.rows import Row, Sample
from runner.tasks.worker_state import WorkerState

Function = Callable[..., Any]
ReportStep = Callable[[str], None]


class TaskResult(NamedTuple):
    """A cell's rows, and the blocks that its times were taken from."""

    rows: Sequence[Row]
    samples: Sequence[Sample] = ()


class Task(Protocol):
    """A module of this package that does one job."""

    def run(
        self,
        cell: Cell,
        device: Device,
        function: Function | None,
        state: WorkerState,
        report_step: ReportStep,
    ) -> TaskResult:
        """Do it.

        Args:
            cell: what it is done with; its dimensions are known.
            device: where.
            function: what the operation or case calls; None: its code is in its file.
            state: what earlier cells of this worker have found out.
            report_step: is called as each step begins, for the reason of a cell that ends in it.

        Raises:
            Exception: whatever the operation raises; it becomes the cell's status and reason.
        """
