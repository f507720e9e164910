"""``job=autograd``: a row for each probe, oracle and argument."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload, OpOverloadPacket
from torch.library import opcheck

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.calls.compiled import by_its_reference, compiled
from runner.calls.direction import inputs_of, make_call
from runner.config.implementation import BUILDING
from runner.errors import one_line
from runner.rows.rows import AutogradRow, GradientCheck, row_of_check
from runner.tasks import case_autograd
from runner.tasks.checks import products_for_gradients
from runner.tasks.task import Task, TaskResult
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import FREE_SIGN, check_values, small


def run(task: Task) -> TaskResult:
    """Verify the gradients of one cell's operation, or of its case."""
    cell = task.cell
    if cell.case is not None:
        return case_autograd.run(task)

    # at a small size, since differences call the operation hundreds of times
    task.report_step("checking gradients")
    begun = time.perf_counter()
    device = task.device.torch
    bound = plain = small(task.bound(), cell.requested_size)
    if check_values(bound, device).reason == FREE_SIGN:
        bound = replace(bound, op=replace(bound.op, compare="up_to_sign"))
    if cell.is_compiled:
        task.report_step(BUILDING)

        def run_both(given: BoundOperation) -> object:
            return make_call("both", given, inputs_of(given, "both", device))()

        bound, _ = compiled(bound, device, run_both, task.state.compilers, **cell.compiling)
        task.report_step("checking gradients")

    def result(checks: Sequence[GradientCheck]) -> TaskResult:
        blank = task.blank(AutogradRow)
        return TaskResult([row_of_check(blank, check) for check in checks])

    with products_for_gradients(bound, device):
        checked, keep = by_its_reference(bound, device), lambda known: task.keep(result(known))
        checks = check_gradients(checked, device, keep=keep)
    checks += by_opcheck(plain, device)
    task.report_step(f"checked {len(checks)} gradients in {time.perf_counter() - begun:.2f} s")
    return result(checks)


def by_opcheck(bound: BoundOperation, device: torch.device) -> list[GradientCheck]:
    """What ``torch.library.opcheck`` says of a registered operator; nothing of other functions."""
    if not isinstance(bound.function, OpOverload | OpOverloadPacket | CustomOpDef):
        return []
    inputs = [t.to(device) for t in bound.draw()]
    for tensor, name in zip(inputs, bound.names, strict=True):
        fixed = name in bound.op.nondifferentiable_inputs or not bound.op.differentiable
        tensor.requires_grad_(is_differentiable(tensor.dtype) and not fixed)
    call = partial(bound.call_with(inputs))
    found: Mapping[str, object]
    try:
        found = opcheck(bound.function, call.args, call.keywords, raise_exception=False)
    except Exception as error:  # whatever the operator raises is a finding, too
        found = {"opcheck": error}
    checks = []
    for name, said in found.items():
        blank = GradientCheck(name, "opcheck", verdict="pass")
        wrong = replace(blank, verdict="fail", reason=one_line(said, 300))
        checks.append(blank if said == "SUCCESS" else wrong)
    return checks
