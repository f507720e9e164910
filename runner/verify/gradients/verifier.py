"""Are the gradients right: oracles and probes at many inputs, and a verdict of each.

In float64 on the CPU, whatever the dtype under test, a gradient is compared with finite differences
of the forward pass and with forward mode, at many inputs and shapes; in the dtype on the device,
with the same in float64 from the same rounded inputs. Properties of every right gradient
(linearity, independence of memory layouts, ...) are tried in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.errors import one_line
from runner.rows.rows import BAD, GradientCheck
from runner.verify.gradients.deviation import Baseline
from runner.verify.gradients.plan import OracleStep, Plan, ProbeStep, Steps, thread_count
from runner.verify.gradients.probes import probe_all
from runner.verify.gradients.problem import outputs_at
from runner.verify.gradients.shapes import operation_target
from runner.verify.gradients.structure import order_decides
from runner.verify.gradients.target import GradientTarget, ShapedInputs
from runner.verify.gradients.vectors import copied, max_abs

REPEATABLE = 1e-6  # relative; differences of values that waver more from call to call say nothing


def check_gradients(
    bound: BoundOperation, device: torch.device, *, quick: bool = False
) -> list[GradientCheck]:
    """Verify an operation's gradients in its dtype on a device; its size should be small.

    See :func:`verify`.
    """
    return verify(operation_target(bound), bound.dtype, device, quick=quick)


def verify(
    target: GradientTarget, dtype: torch.dtype, device: torch.device, *, quick: bool = False
) -> list[GradientCheck]:
    """Verify a target's gradients in a dtype on a device.

    Args:
        target: what to verify.
        dtype: floating or complex; the checks in float64 are made in any case.
        device: where the dtype's gradients are computed.
        quick: fewer inputs and probes, for a verdict next to a benchmark.

    Returns:
        a check for each probe, oracle and argument.

    Raises:
        RuntimeError: the example cannot be called, or autograd cannot differentiate it, in this
            dtype or there.
    """
    # thousands of calls on few elements, which threads that wait for each other make slow
    threads = torch.get_num_threads()
    with thread_count(1), torch.random.fork_rng(devices=[]):
        reason = _unrepeatable(target.example)
        if reason:
            check = GradientCheck("repeatable", "invariant", verdict="inconclusive")
            return [replace(check, reason=reason)]
        if not any(target.requires_grad):
            check = GradientCheck("example", "invariant", verdict="unsupported")
            return [replace(check, reason="no input has a gradient")]

        plan = Plan(target, dtype, device, threads=threads, quick=quick)
        checks = list(_run(plan.in_float64(), target.example))
        if dtype not in (torch.float64, torch.complex128) or device.type != "cpu":
            suffix = f", {str(dtype).removeprefix('torch.')}"
            checks += _run(plan.in_dtype(), target.example, suffix)
        return checks


def _run(steps: Steps, example: ShapedInputs, suffix: str = "") -> Iterator[GradientCheck]:
    """The checks of all oracles, and then the worst of each probe, under its name and a suffix."""
    probed: dict[str | None, list[GradientCheck]] = {}
    for step in steps:
        if isinstance(step, OracleStep):
            yield from _asked(step, example) if step.required else _tried(step, example)
            continue
        for check in _probed(step):
            probed.setdefault(check.probe, []).append(check)

    for name, checks in probed.items():
        worst, seconds = max(checks, key=_badness), sum(c.seconds or 0.0 for c in checks)
        yield replace(worst, probe=f"{name}{suffix}", seconds=seconds)


def _badness(check: GradientCheck) -> tuple[bool, float]:
    return check.verdict in BAD, (check.max_relative_error or 0.0) / (check.tolerance or 1e-300)


def _asked(step: OracleStep, example: ShapedInputs) -> list[GradientCheck]:
    """An oracle's checks; none fails where the function leaves it open which result it returns."""
    problem = step.problem
    checks = _timed(lambda: step.oracle(problem))
    failed = step.excusable and any(c.verdict == "fail" for c in checks)
    if not failed or not order_decides(problem.call, problem.inputs, example):
        return checks
    reason = "indices are equal, and the order in which they come decides what is returned"
    excused = [replace(c, verdict="inconclusive", reason=reason) for c in checks]
    return [e if c.verdict == "fail" else c for c, e in zip(checks, excused, strict=True)]


def _tried(step: OracleStep, example: ShapedInputs) -> list[GradientCheck]:
    """An oracle's checks at inputs that nobody declared, which the forward pass may refuse."""
    problem = step.problem
    check = GradientCheck(problem.probe, "finite_differences", verdict="unsupported")
    try:
        outputs = outputs_at(problem.call, copied(problem.inputs))
    except Exception as error:
        return [replace(check, reason=one_line(error, 160))]
    if not any(is_differentiable(t.dtype) for t in outputs):
        return []
    try:
        return _asked(step, example)
    except Exception as error:
        refused = isinstance(error, NotImplementedError) or not step.declared
        reason = f"the backward pass raised {type(error).__name__}: {one_line(error, 160)}"
        return [replace(check, verdict="unsupported" if refused else "fail", reason=reason)]


def _probed(step: ProbeStep) -> list[GradientCheck]:
    try:
        baseline = Baseline(step.problem, dtype=step.dtype)
    except Exception:  # whether it may be refused is decided by the comparison with an oracle
        return []
    return _timed(lambda: probe_all(baseline, step.probes))


def _timed(made: Callable[[], list[GradientCheck]]) -> list[GradientCheck]:
    """Checks, each with its share of the seconds that making them took."""
    begun = time.perf_counter()
    checks = made()
    seconds = (time.perf_counter() - begun) / max(1, len(checks))
    return [replace(check, seconds=seconds) for check in checks]


def _unrepeatable(example: ShapedInputs) -> str | None:
    """Why the function's values say nothing about its slopes: they differ from call to call."""
    first, second = example.outputs(), example.outputs()
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return "its outputs' shapes differ from call to call"
        if not is_differentiable(a.dtype) or not a.numel():
            continue
        difference = (a - b).abs().nan_to_num(0.0).max().item()
        if difference > REPEATABLE * max_abs(a):
            return f"its values differ by {difference:.3g} from call to call"
    return None
