"""``job=autograd`` of a case: its gradient three ways, and by finite differences."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch

from runner.calls.bound_case import BoundCase, bind_case, reduced
from runner.calls.bound_operation import dense
from runner.config.cases import ExpressionCase, GradientCase
from runner.config.size import shape_text
from runner.errors import is_unsupported, one_line
from runner.rows.rows import BAD, AutogradRow, GradientCheck, row_of_check
from runner.tasks.task import MOST_SHOWN, Task, TaskResult
from runner.verify.exact import ExactGradient
from runner.verify.gradients.finding import Worst
from runner.verify.gradients.problem import reseed
from runner.verify.gradients.vectors import max_abs
from runner.verify.gradients.verifier import REPEATABLE, check_gradients
from runner.verify.rounding import BOUND_TEXT, FACTOR, rounding_bound, unit_roundoff

ATTEMPTS = 8  # at inputs near the declared ones where the function and its derivatives exist
# relative; what is compared more loosely than this, and than 64 roundoffs, says nothing
USEFUL_TOLERANCE = 1e-3
PLUMBING = f"{FACTOR} unit roundoffs; one engine is asked twice, so that agreement is no evidence"
ROUNDING = f"{BOUND_TEXT}, d by 16 draws of a rounding error at each step"
Gradients = dict[str, torch.Tensor]


def run(task: Task) -> TaskResult:
    """Check the gradients of one case, a row an argument and oracle."""
    case, device = task.cell.case, task.device.torch
    assert isinstance(case, GradientCase)
    task.report_step("checking gradients")
    begun = time.perf_counter()
    bound = bind_case(case, task.function, task.dtype, task.cell.seed)
    blank = replace(task.blank(AutogradRow), probe="example")

    rows: list[AutogradRow] = []

    def result(more: Iterable[AutogradRow] = ()) -> TaskResult:
        known = [*rows, *more]
        each_s = (time.perf_counter() - begun) / len(known)
        return TaskResult(
            [row if row.seconds is not None else replace(row, seconds=each_s) for row in known]
        )

    def add(found: Iterable[AutogradRow]) -> None:
        for row in found:
            rows.append(row)
            task.keep(result())

    # the declared inputs may be special, so that a formula is tried at others too
    add(_rows_at(case, bound, device, blank))
    without_formula = partial(_without_formula, bound, device, blank)
    checks = check_gradients(
        bound, device, keep=lambda known: task.keep(result(without_formula(known)))
    )
    rows += without_formula(checks)
    if isinstance(case, ExpressionCase):
        task.report_step("checking gradients at other inputs")
        fresh = fresh_inputs(case, bound)
        add(_rows_at(case, fresh, device, replace(blank, probe="fresh")))
    return result()


def _rows_at(
    case: GradientCase, bound: BoundCase, device: torch.device, blank: AutogradRow
) -> Iterator[AutogradRow]:
    """The rows of one set of inputs: against SymPy's derivative, and one way against the other."""
    try:
        value, by_backward = _gradients(case, bound, device, by_grad=False)
    except RuntimeError as error:
        if is_unsupported(error) or "allocate" in str(error):
            raise
        yield _raised(blank, "error", error)
        return
    exact = ExactGradient(case, bound) if isinstance(case, ExpressionCase) else None
    if exact is not None:
        yield _analytic(blank, value, exact.value, exact.allowed[""], "")
        for name, gradient in by_backward.items():
            row, allowed = replace(blank, argument=name), exact.allowed[name]
            row = replace(row, derivation=exact.derivation(name))
            yield _analytic(row, gradient, exact.gradient(name), allowed, f" by {name}")

    # one way against the other, where the values do not differ from call to call anyway
    try:
        again, by_grad = _gradients(case, bound, device, by_grad=True)
    except RuntimeError as error:
        yield _raised(blank, "unsupported" if is_unsupported(error) else "error", error)
        return
    if torch.allclose(value, again, rtol=REPEATABLE, atol=0.0, equal_nan=True):
        for name, gradient in by_backward.items():
            yield _plumbing(replace(blank, argument=name), gradient, by_grad[name])


def _gradients(
    case: GradientCase, bound: BoundCase, device: torch.device, *, by_grad: bool
) -> tuple[torch.Tensor, Gradients]:
    """The value, and each input's gradient, which is 0 where the function does not depend on it."""
    leaves = [tensor.to(device).requires_grad_() for tensor in bound.draw()]
    reseed(leaves)  # what is drawn at random is the same in each call
    value = reduced(case, bound.outputs(leaves)[0])
    if by_grad:
        gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
    else:
        value.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        gradients = tuple(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)
    found = (dense(gradient).cpu() for gradient in gradients)
    return value.detach().cpu(), dict(zip(bound.names, found, strict=True))


def _raised(blank: AutogradRow, verdict: str, error: RuntimeError) -> AutogradRow:
    reason = f"{type(error).__name__}: {one_line(error, 200)}"
    status = "failed" if verdict in BAD else "ok"
    return replace(blank, oracle="autograd_grad", verdict=verdict, status=status, reason=reason)


def _analytic(
    blank: AutogradRow, computed: torch.Tensor, exact: torch.Tensor, allowed: torch.Tensor, of: str
) -> AutogradRow:
    """The element that is nearest to its bound, or farthest beyond it."""
    wide = computed.to(torch.float64)
    known = exact.isfinite()
    errors = (wide - exact).abs().nan_to_num(float("inf"), float("inf")).masked_fill(~known, 0.0)
    allowed = allowed.nan_to_num(float("inf"))
    worst = int((errors / allowed).nan_to_num(float("inf")).argmax()) if errors.numel() else 0
    error, bound = errors.flatten()[worst].item(), allowed.flatten()[worst].item()
    got, expected = wide.flatten()[worst].item(), exact.flatten()[worst].item()
    scale = exact.abs().nan_to_num(0.0).max().item() or 1.0
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), exact.shape)]
    is_same = bool(exact.any()) and torch.equal(wide, exact)
    is_loose = bound / scale > max(USEFUL_TOLERANCE, 64 * torch.finfo(computed.dtype).eps)

    # a loose bound says nothing where it is kept but by the same number, and something where not
    verdict, reason = "pass", None
    if error > bound or math.isinf(error):
        what = f"the gradient{of}" if of else "the function's value"
        verdict, reason = "fail", f"{what} at {index} is {got!r}, not {expected!r}"
    elif not bool(known.all()):
        kind = "not a real number" if exact.isnan().any() else "beyond what float64 holds"
        what = f"the {'derivative' if of else 'function'}{of}"
        count = f"{int((~known).sum())} of {known.numel()}"
        verdict, reason = "inconclusive", f"{what} is {kind} at {count} of these inputs"
    elif is_loose and not is_same:
        by = f"rounding may move it by {bound / scale:.2g} of its scale here"
        verdict, reason = "inconclusive", f"{by}, so that the comparison says nothing"
    return replace(
        blank,
        oracle="analytic",
        shape=shape_text(tuple(computed.shape)),
        max_abs_error=error,
        max_relative_error=error / scale,
        worst_index=str(index),
        got=got,
        expected=expected,
        tolerance=bound / scale,
        tolerance_source=ROUNDING,
        verdict=verdict,
        status="failed" if verdict == "fail" else "ok",
        reason=reason,
        got_values=_text(wide),
        expected_values=_text(exact),
    )


def _plumbing(blank: AutogradRow, by_backward: torch.Tensor, by_grad: torch.Tensor) -> AutogradRow:
    """The two entrances to autograd, which agree but for the order in which a device adds up."""
    wide, other = by_backward.to(torch.float64), by_grad.to(torch.float64)
    worst, scale = Worst(wide, other), max_abs(other) or 1.0

    # one engine adds up in two orders at most: a few roundoffs are all that may be between them
    allowed = rounding_bound(unit_roundoff(by_grad.dtype), scale)
    verdict, reason = "pass", None
    if worst.error > allowed:
        verdict = "fail"
        reason = f"backward() and torch.autograd.grad differ by {blank.argument}"
    elif not bool(other.isfinite().any()):
        verdict, reason = "inconclusive", "no element of the gradient is finite"
    row = replace(
        worst.put_into(blank, allowed, scale),
        oracle="autograd_grad",
        shape=shape_text(tuple(wide.shape)),
        tolerance_source=PLUMBING,
        verdict=verdict,
        status="failed" if verdict == "fail" else "ok",
        reason=reason,
    )
    return replace(row, got_values=_text(wide), expected_values=_text(other))


def _without_formula(
    bound: BoundCase, device: torch.device, blank: AutogradRow, checks: Iterable[GradientCheck]
) -> Iterator[AutogradRow]:
    """The oracles that every operation has too: finite differences, and float64."""
    is_reference = bound.dtype is torch.float64 and device.type == "cpu"
    for check in checks:
        if check.oracle == "float64_reference" and is_reference:
            continue  # it would be compared with itself
        yield row_of_check(blank, check)


def fresh_inputs(case: ExpressionCase, bound: BoundCase) -> BoundCase:
    """Inputs near the declared ones, at which the function and its derivatives are real numbers."""
    for attempt in range(ATTEMPTS):
        near = bound.near(attempt)
        exact = ExactGradient(case, near)
        gradients = [exact.gradient(name) for name in case.asked]
        if all(t.isfinite().all() for t in (exact.value, *gradients)):
            return near
    return near


def _text(tensor: torch.Tensor) -> str | None:
    return json.dumps(tensor.tolist()) if tensor.numel() <= MOST_SHOWN else None
