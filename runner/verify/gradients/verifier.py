"""Are the gradients right: oracles and probes at many inputs, and a verdict of each.

In float64 on the CPU, whatever the dtype under test, a gradient is compared with finite differences
of the forward pass and with forward mode, at many inputs and shapes; in the dtype on the device,
with the same in float64 from the same rounded inputs. Properties of every right gradient
(linearity, independence of memory layouts, ...) are tried in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.rows.rows import BAD, GradientCheck
from runner.verify.gradients.plan import Checks, Plan, thread_count
from runner.verify.gradients.shapes import operation_target
from runner.verify.gradients.target import GradientTarget, ShapedInputs
from runner.verify.gradients.vectors import max_abs

REPEATABLE = 1e-6  # relative; differences of values that waver more from call to call say nothing


def check_gradients(bound: BoundOperation, device: torch.device, *, quick: bool = False) -> Checks:
    """Verify an operation of small size in its dtype on a device, see :func:`verify`."""
    return verify(operation_target(bound), bound.dtype, device, quick=quick)


def verify(
    target: GradientTarget, dtype: torch.dtype, device: torch.device, *, quick: bool = False
) -> Checks:
    """Verify a target's gradients in a dtype on a device.

    Args:
        target: what to verify.
        dtype: floating or complex; the checks in float64 are made in any case.
        device: where the dtype's gradients are computed.
        quick: fewer inputs and probes, for a verdict next to a benchmark.

    Returns:
        a check for each probe, oracle and argument.

    Raises:
        RuntimeError: the example cannot be called or differentiated in this dtype, or there.
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

        plan = Plan(target, dtype, device, quick=quick)
        checks = list(_merged(plan.in_float64()))
        if dtype not in (torch.float64, torch.complex128) or device.type != "cpu":
            suffix = f", {str(dtype).removeprefix('torch.')}"
            checks += _merged(plan.in_dtype(threads), suffix)
        return checks


def _merged(checks: Iterable[GradientCheck], suffix: str = "") -> Iterator[GradientCheck]:
    """The checks of all oracles, and then the worst of each probe, under its name and a suffix."""
    probed: dict[str | None, Checks] = {}
    for check in checks:
        if check.oracle == "invariant":
            probed.setdefault(check.probe, []).append(check)
        else:
            yield check
    for name, of_probe in probed.items():
        worst, seconds = max(of_probe, key=_badness), sum(c.seconds or 0.0 for c in of_probe)
        yield replace(worst, probe=f"{name}{suffix}", seconds=seconds)


def _badness(check: GradientCheck) -> tuple[bool, float]:
    return check.verdict in BAD, (check.max_relative_error or 0.0) / (check.tolerance or 1e-300)


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
