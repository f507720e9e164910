"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from runner.calls.bound_operation import BoundOperation
from runner.cells.cell import Cell
from runner.measure.device import Device
from runner.rows.rows import BAD, AutogradRow, Sample, identified
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import small


def run(
    cell: Cell, device: Device, function: Callable[..., Any], report_step: Callable[[str], None]
) -> tuple[list[AutogradRow], list[Sample]]:
    """Verify the gradients of one cell.

    Raises:
        RuntimeError: autograd cannot differentiate the operation in this dtype or on this device.
    """
    report_step("checking gradients")
    begun = time.perf_counter()
    assert cell.dimensions is not None
    bound = BoundOperation(cell.operation, function, cell.dimensions, getattr(torch, cell.dtype), cell.seed)
    checks = check_gradients(small(bound, cell.requested_size), device.torch)
    here = identified(AutogradRow, cell)
    rows = [
        replace(
            here,
            **asdict(check),
            device_name=device.name,
            threads=torch.get_num_threads(),
            status="failed" if check.verdict in BAD else "ok",
        )
        for check in checks
    ]
    report_step(f"checked {len(rows)} gradients in {time.perf_counter() - begun:.2f} s")
    return rows, []
