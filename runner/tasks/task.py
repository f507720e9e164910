"""A task: one cell, and what is needed to do its job in the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from runner.calls.bound_operation import BoundOperation
from runner.cells.cell import Cell
from runner.config.signature import Dimensions
from runner.measure.device import Device
from runner.rows.rows import AnyRow, Row, Sample, identified
from runner.tasks.worker_state import WorkerState

Function = Callable[..., Any]
ReportStep = Callable[[str], None]


class TaskResult(NamedTuple):
    """A cell's rows, and the blocks that its times were taken from."""

    rows: Sequence[Row]
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class Task:
    """What a job gets; whatever it raises becomes the cell's status and reason."""

    cell: Cell  # its dimensions are known
    device: Device
    function: Function | None  # what the operation or case calls; None: its code is in its file
    state: WorkerState  # what earlier cells of this worker have found out
    report_step: ReportStep  # is called as each step begins, for a cell that ends in it

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's, by the cell's name of it."""
        dtype: torch.dtype = getattr(torch, self.cell.dtype)
        return dtype

    def bound(self, dimensions: Dimensions | None = None, **drawn: Any) -> BoundOperation:
        """The cell's operation, at its own dimensions or at others."""
        cell, sizes = self.cell, dimensions or self.cell.dimensions
        assert self.function is not None and sizes is not None
        return BoundOperation(cell.operation, self.function, sizes, self.dtype, cell.seed, **drawn)

    def blank(self, row_type: type[AnyRow]) -> AnyRow:
        """A row of the cell, with what it ran on."""
        threads = torch.get_num_threads()
        row = identified(row_type, self.cell)
        return replace(row, device_name=self.device.name, threads=threads)
