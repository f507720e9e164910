"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from runner.calls.bound_operation import BoundOperation
from runner.calls.compiled import by_its_reference, compiled
from runner.calls.direction import inputs_of, make_call
from runner.rows.rows import BAD, AutogradRow
from runner.tasks import case_autograd
from runner.tasks.task import Task, TaskResult
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import FREE_SIGN, check_values, small


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
    device = task.device.torch
    bound = small(task.bound(), cell.requested_size)
    if check_values(bound, device).reason == FREE_SIGN:
        bound = replace(bound, op=replace(bound.op, compare="up_to_sign"))
    if cell.compile:
        task.report_step("compiling")

        def run_both(given: BoundOperation) -> Any:
            return make_call("both", given, inputs_of(given, "both", device))()

        bound, _ = compiled(bound, device, run_both, task.state.compilers)
        task.report_step("checking gradients")
    checks = check_gradients(by_its_reference(bound, device), device)

    blank = task.blank(AutogradRow)
    rows = [
        replace(blank, **asdict(check), status="failed" if check.verdict in BAD else "ok")
        for check in checks
    ]
    task.report_step(f"checked {len(rows)} gradients in {time.perf_counter() - begun:.2f} s")
    return TaskResult(rows)
