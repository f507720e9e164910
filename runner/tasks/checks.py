"""How right a call is, once its times are known: its values and its gradient.

A check never costs the measurement: what ends it, or takes too long, leaves its own columns blank.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import compress
from typing import Any

import torch

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.calls.compiled import by_its_reference
from runner.calls.direction import inputs_of
from runner.config.operation import Implemented
from runner.config.size import Size, parse_size
from runner.errors import is_out_of_memory, is_unsupported, one_line
from runner.measure.precision import full_precision
from runner.rows.flags import merged
from runner.rows.rows import BAD, BenchmarkRow, GradientCheck, with_values
from runner.tasks.task import Task, Verdict
from runner.verify.blocks import WHOLE
from runner.verify.gradients.at_size import gradient_is_off
from runner.verify.gradients.finding import verdict_with_reason
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import (
    DEPENDS_ON_DTYPE,
    FREE_SIGN,
    Called,
    ValueCheck,
    alone,
    block_to_check,
    check_values,
    constants_of,
    large,
    small,
    to_check,
)

NO_NUMBER = "no value is finite, and so no gradient is known here"
GRADIENT_SHARE = 0.3  # of limit.time_s, for a quick verification


class BudgetSpent(BaseException):
    """No time is left for a check; no handler of an operation's errors may take it for one."""


@dataclass(frozen=True)
class Checked:
    """How right an operation is; by default nothing is known."""

    values: ValueCheck = field(default_factory=ValueCheck)
    extent: str | None = None  # what was compared, see BenchmarkRow.checked
    gradient: Verdict = field(default_factory=Verdict)
    reference: str | None = None  # what they were compared with, see BenchmarkRow.reference

    def put_into(self, row: BenchmarkRow) -> BenchmarkRow:
        """A row with what was found, and its flags before those that it has."""
        values, gradient = self.values, self.gradient
        # it is that of the operation's own size, which says nothing where nothing is a number
        if gradient.verdict == "pass" and row.finite_fraction == 0:
            gradient = Verdict("inconclusive", NO_NUMBER)
        found = {
            "wrong_values": values.wrong,
            "unchecked": not values.compared,
            "mutates_input": values.mutated,
            "wrong_gradient": gradient.verdict in BAD,
        }
        # what changes its inputs does work, where its result lies in them too
        flags = [flag for flag in row.flags if flag != "view" or not values.mutated]
        return with_values(
            row,
            max_relative_error=values.relative_error,
            allowed_relative_error=values.allowed,
            error_roundoffs=values.roundoffs,
            checked=self.extent,
            checked_size=values.size,
            reference=self.reference,
            undecided_elements=values.undecided,
            gradient=gradient.verdict,
            reason="; ".join(filter(None, {values.reason: 0, gradient.reason: 0})) or None,
            flags=merged(compress(found, found.values()), flags),
        )


def check(
    task: Task,
    bound: BoundOperation,
    keep: Callable[[Checked], None],
    called: Called = alone,
    *,
    coarser: float = 1.0,
) -> Checked:
    """Check what was timed: the callable as it is called, compiled where the cell compiles it.

    What is known before the gradient's check, which may end the process, is kept. Values may be
    off by ``coarser`` times what is allowed elsewhere.
    """
    cell, device = task.cell, task.device.torch
    task.report_step("checking values")
    extent = None
    try:
        # what is compiled, or has a reference, may be another kernel at another size
        checked, block = bound, WHOLE
        if cell.is_compiled or bound.op.reference:
            block = block_to_check(bound, cell.requested_size)
        else:
            checked = to_check(bound, cell.requested_size)
        captured = task.device.captured if cell.graph else None
        values = check_values(checked, device, captured, block, called, coarser=coarser)
        if values.compared:
            extent = "full" if checked.dimensions == bound.dimensions else "smaller"
            extent = "blocks" if block else extent
        if values.moments_differ is not None:
            extent = "moments"
    except Exception as error:
        traceback.print_exc()
        values = ValueCheck(reason=f"the values' check ended with {_named(error)}")
    if values.reason == FREE_SIGN:  # so that the gradient is not accused of it either
        bound = replace(bound, op=replace(bound.op, compare="up_to_sign"))
    if values.reason == DEPENDS_ON_DTYPE and not values.wrong:
        bound = replace(bound, function=_with_constants(bound.function, bound.dtype))
    known = Checked(values, extent, reference=bound.op.reference or None)
    return replace(
        known, gradient=_gradient(task, bound, lambda v: keep(replace(known, gradient=v)))
    )


def _with_constants(function: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """A function that has one dtype's constants in all of them."""

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        with constants_of(dtype):
            return function(*args, **kwargs)

    return call


def _gradient(task: Task, bound: BoundOperation, keep: Callable[[Verdict], None]) -> Verdict:
    """The gradient's verdict at the operation's own size: it holds for every size.

    Of a compiled one at the size that was timed, where that is small. What a graph replays has no
    gradient that autograd could follow.
    """
    cell, device, verdicts = task.cell, task.device.torch, task.state.gradient_verdicts
    has_gradient = bound.op.has_gradient and is_differentiable(bound.dtype)
    if cell.graph or cell.grad_mode != "enabled" or not has_gradient:
        is_own = isinstance(bound.op, Implemented)
        return Verdict(None, "its gradient was not compared" if is_own else "")
    plain = replace(bound, seed=0, fill="normal", layout="contiguous")
    if bound.is_compiled:  # for these strides
        plain = replace(plain, layout=bound.layout)
    is_small = bound.is_compiled and to_check(plain, cell.requested_size) is plain
    at_own_size = is_small or bound.has_one_size
    size = bound.op.size_text(bound.dimensions) if at_own_size else ""
    compiled = f"{cell.compile} {cell.dynamic}" if bound.is_compiled else ""
    how = f"{compiled} {plain.layout} {cell.autocast} {cell.deterministic} {size}"
    key = repr(bound.op), bound.dtype, device, how
    if key not in verdicts:
        task.report_step("checking the gradient")
        keep(Verdict())
        budget_s = GRADIENT_SHARE * cell.limit.time_s
        checked = plain if at_own_size else small(plain, parse_size(bound.op.size))
        verdicts[key] = _verdict(by_its_reference(checked, device), device, budget_s, keep)

    # an implementation may be another kernel at another size
    verdict, is_own = verdicts[key], isinstance(bound.op, Implemented) and not at_own_size
    if not is_own or verdict.verdict != "pass" or bound.is_compiled or cell.autocast != "off":
        return verdict
    key = f"{key}", bound.dtype, device, bound.op.size_text(bound.dimensions)
    if key not in verdicts:
        verdicts[key] = _verdict_at(cell.requested_size, plain, device)
    return verdicts[key]


def _verdict_at(size: Size, bound: BoundOperation, device: torch.device) -> Verdict:
    """Whether a gradient is far off at a size that is too large for a verification."""
    try:
        bound = large(bound, size)
        with products_for_gradients(bound, device):
            if not gradient_is_off(bound, device):
                return Verdict("pass")
    except Exception as error:
        traceback.print_exc()
        # it is the implementation's, or the check's own, and a smaller size has passed
        excused = Verdict() if is_out_of_memory(error) else _excused(bound, device, error)
        return excused if excused.verdict else Verdict("pass")
    return Verdict("fail", f"its gradient is wrong at {bound.op.size_text(bound.dimensions)}")


def products_for_gradients(
    bound: BoundOperation, device: torch.device
) -> AbstractContextManager[None]:
    """Products in full precision: rounded ones are no wrong formula. What is compiled stays so."""
    return nullcontext() if bound.is_compiled else full_precision(device)


def _verdict(
    bound: BoundOperation, device: torch.device, budget_s: float, keep: Callable[[Verdict], None]
) -> Verdict:
    """A quick verification's verdict, and what it found; a failure is kept before the rest ends."""
    failed = Verdict()

    def keep_failure(checks: Sequence[GradientCheck]) -> None:
        nonlocal failed
        if not failed.verdict and any(check.verdict in BAD for check in checks):
            failed = Verdict(*verdict_with_reason(checks))
            keep(failed)

    try:
        with products_for_gradients(bound, device):
            checked = _until(bound, budget_s)
            checks = check_gradients(checked, device, quick=True, keep=keep_failure)
    except BudgetSpent:
        if failed.verdict:
            return failed
        return Verdict(None, f"the gradient's check was left after {budget_s:.3g} s")
    except Exception as error:
        traceback.print_exc()
        return _excused(bound, device, error)
    return Verdict(*verdict_with_reason(checks))


def _excused(bound: BoundOperation, device: torch.device, of_check: Exception) -> Verdict:
    """The verdict after a check has raised: the operation's own, or none where the check failed."""
    try:
        tensors = [t.clone() for t in inputs_of(bound, "both", device)]
        outputs = [t for t in bound.outputs(tensors) if t.requires_grad]
    except Exception as error:  # it has times, and so it runs without a gradient
        return Verdict("unsupported", f"with a gradient the call raised {_named(error)}")
    try:
        torch.autograd.backward(outputs, [torch.ones_like(t) for t in outputs])
    except Exception as error:
        verdict = "unsupported" if is_unsupported(error) else "error"
        return Verdict(verdict, f"the backward pass raised {_named(error)}")
    return Verdict(None, f"the gradient's check ended with {_named(of_check)}")


def _until(bound: BoundOperation, budget_s: float) -> BoundOperation:
    """An operation that can be called until the budget is spent."""
    function, end = bound.function, time.perf_counter() + budget_s

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        if time.perf_counter() > end:
            raise BudgetSpent
        return function(*args, **kwargs)

    return replace(bound, function=call)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 160)}"
