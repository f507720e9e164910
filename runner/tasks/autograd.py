"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import torch

from runner.calls.bound_operation import BoundOperation
from runner.cells.cell import Cell
from runner.measure.device import Device
from runner.rows.rows import BAD, AutogradRow, identified
from runner.tasks import case_autograd
from runner.tasks.task import Function, ReportStep, TaskResult
from runner.tasks.worker_state import WorkerState
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import small


def run(
    cell: Cell,
    device: Device,
    function: Function | None,
    state: WorkerState,
    report_step: ReportStep,
) -> TaskResult:
    """Verify the gradients of one cell's operation, or of its case.

    Raises:
        RuntimeError: autograd cannot differentiate the operation in this dtype or on this device.
    """
    if cell.case is not None:
        return case_autograd.run(cell, device, function, state, report_step)

    # at a small size, since differences call the operation hundreds of times
    report_step("checking gradients")
    begun = time.perf_counter()
    assert cell.dimensions is not None and function is not None
    bound = BoundOperation(
        cell.operation, function, cell.dimensions, getattr(torch, cell.dtype), cell.seed
    )
    checks = check_gradients(small(bound, cell.requested_size), device.torch)

    blank = identified(AutogradRow, cell)
    rows = [
        replace(
            blank,
            **asdict(check),
            device_name=device.name,
            threads=torch.get_num_threads(),
            status="failed" if check.verdict in BAD else "ok",
        )
        for check in checks
    ]
    report_step(f"checked {len(rows)} gradients in {time.perf_counter() - begun:.2f} s")
    return TaskResult(rows)
