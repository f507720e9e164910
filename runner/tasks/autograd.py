"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial

import torch
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload, OpOverloadPacket
from torch.library import opcheck

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.errors import one_line
from runner.rows.rows import BAD, AutogradRow, GradientCheck
from runner.tasks import case_autograd
from runner.tasks.task import Task, TaskResult
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import small


def run(task: Task) -> TaskResult:
    """Verify the gradients of one cell's operation, or of its case.

    Raises:
        RuntimeError: autograd cannot differentiate the operation in this dtype or on this device.
    """
    cell = task.cell
    if cell.case is not None:
        return case_autograd.run(task)

    # at a small size, since differences call the operation hundreds of times
    task.report_step("checking gradients")
    begun = time.perf_counter()
    bound, device = small(task.bound(), cell.requested_size), task.device.torch
    checks = [*check_gradients(bound, device), *by_opcheck(bound, device)]

    blank = task.blank(AutogradRow)
    rows = [
        replace(blank, **asdict(check), status="failed" if check.verdict in BAD else "ok")
        for check in checks
    ]
    task.report_step(f"checked {len(rows)} gradients in {time.perf_counter() - begun:.2f} s")
    return TaskResult(rows)


def by_opcheck(bound: BoundOperation, device: torch.device) -> list[GradientCheck]:
    """What ``torch.library.opcheck`` says of a registered operator; nothing of other functions."""
    if not isinstance(bound.function, OpOverload | OpOverloadPacket | CustomOpDef):
        return []
    inputs = [t.to(device) for t in bound.draw()]
    for tensor, name in zip(inputs, bound.names, strict=True):
        fixed = name in bound.op.nondifferentiable_inputs or not bound.op.differentiable
        tensor.requires_grad_(is_differentiable(tensor.dtype) and not fixed)
    call = partial(bound.call_with(inputs))
    found = opcheck(bound.function, call.args, call.keywords, raise_exception=False)
    checks = []
    for name, error in found.items():
        blank = GradientCheck(name, "opcheck", verdict="pass")
        wrong = replace(blank, verdict="fail", reason=one_line(error, 300))
        checks.append(blank if error == "SUCCESS" else wrong)
    return checks
