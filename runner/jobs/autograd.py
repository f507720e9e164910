"""``job=autograd``: a row for each gradient and oracle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from runner.cell import Cell
from runner.device import Device
from runner.gradients import check_gradients
from runner.numerics import small
from runner.results import AutogradRow, Sample, identified
from runner.tensors import BoundOperation


def run(
    cell: Cell, device: Device, function: Callable[..., Any], tell: Callable[[str], None]
) -> tuple[list[AutogradRow], list[Sample]]:
    """Check the gradients of one cell.

    Raises:
        RuntimeError: autograd cannot differentiate the operation in this dtype or on this device.
    """
    tell("checking gradients")
    start = time.perf_counter()
    assert cell.dimensions is not None
    bound = BoundOperation(cell.op, function, cell.dimensions, getattr(torch, cell.dtype), cell.seed)
    bound = small(bound, cell.asked)
    checks = check_gradients(bound, device.torch)
    seconds = (time.perf_counter() - start) / max(1, len(checks))
    rows = []
    for check in checks:
        failed = check.verdict == "fail"
        rows.append(
            replace(
                identified(AutogradRow, cell),
                **asdict(check),
                device_name=device.name,
                threads=torch.get_num_threads(),
                verdict=check.verdict,
                checked_size=cell.op.size_text(bound.dimensions),
                status="failed" if failed else "ok",
                reason=f"the gradient of input {check.argument} is off by {check.max_relative_error:.3g} of its scale; "
                f"{check.tolerance:.3g} is allowed"
                if failed
                else None,
                seconds=seconds,
            )
        )
    return rows, []
