"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from runner.calls.compiled import by_its_reference
from runner.rows.rows import BAD, AutogradRow
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
    device = task.device.torch
    bound = by_its_reference(task.bound(), device)
    checks = check_gradients(small(bound, cell.requested_size), device)

    blank = task.blank(AutogradRow)
    rows = [
        replace(blank, **asdict(check), status="failed" if check.verdict in BAD else "ok")
        for check in checks
    ]
    task.report_step(f"checked {len(rows)} gradients in {time.perf_counter() - begun:.2f} s")
    return TaskResult(rows)
