"""``job=autograd`` of a case: its gradient three ways, and by finite differences."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch

from runner.calls.bound_case import BoundCase, bind_case
from runner.config.cases import ExpressionCase, GradientCase
from runner.config.size import shape_text
from runner.rows.rows import BAD, AutogradRow
from runner.tasks.task import Task, TaskResult
from runner.verify.exact import ExactGradient
from runner.verify.gradients.verifier import check_gradients
from runner.verify.rounding import BOUND_TEXT, FACTOR, rounding_bound, unit_roundoff

ATTEMPTS = 8  # at inputs near the declared ones where the function and its derivatives exist
# relative; what is compared more loosely than this, and than 64 roundoffs, says nothing
USEFUL_TOLERANCE = 1e-3
MOST_SHOWN = 256  # elements in a row's text
PLUMBING = f"{FACTOR} unit roundoffs; one engine is asked twice, so that agreement is no evidence"
ROUNDING = f"{BOUND_TEXT}, d by 16 draws of a rounding error at each step"
Gradients = dict[str, torch.Tensor]


def run(task: Task) -> TaskResult:
    """Check the gradients of one case, a row an argument and oracle.

    Raises:
        RuntimeError: autograd cannot differentiate the function in this dtype or on this device.
    """
    case, device = task.cell.case, task.device.torch
    assert isinstance(case, GradientCase)
    task.report_step("checking gradients")
    begun = time.perf_counter()
    bound = bind_case(case, task.function, task.dtype, task.cell.seed)
    blank = replace(task.blank(AutogradRow), probe="example")

    # the declared inputs may be special, so that a formula is tried at others too
    rows = [*_rows_at(case, bound, device, blank), *_without_formula(bound, device, blank)]
    if isinstance(case, ExpressionCase):
        task.report_step("checking gradients at other inputs")
        fresh = fresh_inputs(case, bound)
        rows += _rows_at(case, fresh, device, replace(blank, probe="fresh"))

    each_s = (time.perf_counter() - begun) / len(rows)
    return TaskResult(
        [row if row.seconds is not None else replace(row, seconds=each_s) for row in rows]
    )


def _rows_at(
    case: GradientCase, bound: BoundCase, device: torch.device, blank: AutogradRow
) -> Iterator[AutogradRow]:
    """The rows of one set of inputs: against SymPy's derivative, and one way against the other."""
    value, by_backward = _by_backward(bound, device)
    by_grad = _by_grad(bound, device)
    exact = ExactGradient(case, bound) if isinstance(case, ExpressionCase) else None
    if exact is not None:
        yield _analytic(blank, value, exact.value, exact.allowed[""], "")
    for name in by_backward:
        if exact is not None:
            row = replace(blank, argument=name, derivation=exact.derivation(name))
            gradient, allowed = exact.gradient(name), exact.allowed[name]
            yield _analytic(row, by_backward[name], gradient, allowed, f" by {name}")
        yield _plumbing(replace(blank, argument=name), by_backward[name], by_grad[name])


def _by_backward(bound: BoundCase, device: torch.device) -> tuple[torch.Tensor, Gradients]:
    leaves = _leaves(bound, device)
    (value,) = bound.outputs(leaves)
    value.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    return value.detach().cpu(), _named(bound, leaves, [t.grad for t in leaves])


def _by_grad(bound: BoundCase, device: torch.device) -> Gradients:
    leaves = _leaves(bound, device)  # a graph of its own: backward() has freed the other
    gradients = torch.autograd.grad(bound.outputs(leaves), leaves, allow_unused=True)
    return _named(bound, leaves, gradients)


def _leaves(bound: BoundCase, device: torch.device) -> list[torch.Tensor]:
    return [tensor.to(device).requires_grad_() for tensor in bound.draw()]


def _named(
    bound: BoundCase, leaves: list[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> Gradients:
    """Each input's gradient, which is 0 where the function does not depend on it."""
    dense = [
        torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves, strict=True)
    ]
    return {name: gradient.cpu() for name, gradient in zip(bound.names, dense, strict=True)}


def _analytic(
    blank: AutogradRow, computed: torch.Tensor, exact: torch.Tensor, allowed: torch.Tensor, of: str
) -> AutogradRow:
    """The element that is nearest to its bound, or farthest beyond it."""
    wide = computed.to(torch.float64)
    errors = (wide - exact).abs().nan_to_num(float("inf"), float("inf"))
    worst = int((errors / allowed).argmax()) if errors.numel() else 0
    error, bound = errors.flatten()[worst].item(), allowed.flatten()[worst].item()
    got, expected = wide.flatten()[worst].item(), exact.flatten()[worst].item()
    scale = exact.abs().nan_to_num(0.0).max().item() or 1.0
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), exact.shape)]
    is_loose = bound / scale > max(USEFUL_TOLERANCE, 64 * torch.finfo(computed.dtype).eps)

    # a loose bound says nothing where it is kept, and something where it is exceeded
    verdict, reason = "pass", None
    if not bool(exact.isfinite().all()):
        kind = "not a real number" if exact.isnan().any() else "beyond what float64 holds"
        what = f"the {'derivative' if of else 'function'}{of}"
        verdict, reason = "inconclusive", f"{what} is {kind} at some of these inputs"
    elif not error <= bound:
        what = f"the gradient{of}" if of else "the function's value"
        verdict, reason = "fail", f"{what} at {index} is {got!r}, not {expected!r}"
    elif is_loose:
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
    # NaN against NaN agrees, as infinity does with itself
    wide, other = by_backward.to(torch.float64), by_grad.to(torch.float64)
    same = (wide == other) | (wide.isnan() & other.isnan())
    errors = (wide - other).abs().masked_fill(same, 0.0).flatten()
    worst = int(errors.argmax()) if errors.numel() else 0

    # one engine adds up in two orders at most: a few roundoffs are all that may be between them
    scale = other.abs().nan_to_num(0.0, 0.0, 0.0).max().item() or 1.0
    error = errors[worst].item() / scale
    tolerance = rounding_bound(unit_roundoff(by_grad.dtype), 1.0)
    agree = error <= tolerance
    return replace(
        blank,
        oracle="autograd_grad",
        shape=shape_text(tuple(wide.shape)),
        max_abs_error=error * scale,
        max_relative_error=error,
        got=wide.flatten()[worst].item(),
        expected=other.flatten()[worst].item(),
        tolerance=tolerance,
        tolerance_source=PLUMBING,
        verdict="pass" if agree else "fail",
        status="ok" if agree else "failed",
        reason=None if agree else f"backward() and torch.autograd.grad differ by {blank.argument}",
        got_values=_text(wide),
        expected_values=_text(other),
    )


def _without_formula(
    bound: BoundCase, device: torch.device, blank: AutogradRow
) -> Iterator[AutogradRow]:
    """The oracles that every operation has too: finite differences, and float64."""
    is_reference = bound.dtype is torch.float64 and device.type == "cpu"
    for check in check_gradients(bound, device):
        if check.oracle == "float64_reference" and is_reference:
            continue  # it would be compared with itself
        yield replace(blank, **asdict(check), status="failed" if check.verdict in BAD else "ok")


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
