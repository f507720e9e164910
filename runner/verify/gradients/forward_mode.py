"""The oracle of forward mode: other code, whose result times a cotangent is the same number."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd import forward_ad

from runner.config.size import shape_text
from runner.errors import one_line
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finding import relative
from runner.verify.gradients.problem import GradientProblem, VjpBatch, reseed
from runner.verify.gradients.slopes import EPS
from runner.verify.gradients.vectors import copied, flat, gaussian, max_abs
from runner.verify.rounding import rounding_bound


def by_forward_mode(problem: GradientProblem) -> list[GradientCheck]:
    """Compare reverse mode with forward mode, where there is one: a check for each input."""
    batch = VjpBatch(problem)
    generator = problem.generator(13)
    checks = []
    for column, position in enumerate(problem.positions):
        direction = problem.direction(position, gaussian(problem.inputs[position], generator))
        checks.append(_check(problem, batch, column, direction))
    return checks


def _check(
    problem: GradientProblem, batch: VjpBatch, column: int, direction: Tensor
) -> GradientCheck:
    name = problem.arguments[column]
    check = GradientCheck(problem.probe, "forward_mode", name)
    try:
        jvp = _jvp(problem, problem.positions[column], direction, batch.outputs)
    except Exception as refusal:
        return replace(check, verdict="unsupported", reason=one_line(refusal, 120))
    if jvp is None or not jvp.isfinite().all():
        return replace(check, verdict="inconclusive", reason="forward mode gives no number")

    cotangent, along = batch.cotangents[0], flat([direction])
    expected = float(cotangent @ jvp)
    got = float(batch.gradients[column][0] @ along)
    scale = float(cotangent.abs() @ jvp.abs())

    # rounding is relative to all terms: those of the gradient, and those that cancelled on the way
    uncertainty = float(batch.uncertainty[column][0] @ along.abs())
    lost = rounding_bound(EPS, max_abs(cotangent) * float(along.abs().sum()))
    tolerance = max(1e-10, 8 * problem.eps) * scale + uncertainty + lost + 1e-300

    error = abs(got - expected)
    agree = error <= tolerance or (math.isnan(got) and math.isnan(expected))
    return replace(
        check,
        verdict="pass" if agree else "fail",
        shape=shape_text(tuple(direction.shape)),
        max_abs_error=error,
        max_relative_error=relative(error, scale),
        got=got,
        expected=expected,
        tolerance=relative(tolerance, scale),
        tolerance_source="conditioning",
        reason=None if agree else f"forward and reverse mode disagree on input {name}",
    )


def _jvp(
    problem: GradientProblem, position: int, direction: Tensor, outputs: tuple[int, ...]
) -> Tensor | None:
    """The derivative of some outputs along one input's direction; None where none has a tangent."""
    with forward_ad.dual_level():
        inputs = copied(problem.inputs)
        inputs[position] = forward_ad.make_dual(inputs[position], direction)  # type: ignore[no-untyped-call]
        if problem.in_place:
            inputs = [t.clone() for t in inputs]
        reseed(inputs)
        results = problem.call(inputs)
        duals = [forward_ad.unpack_dual(results[j]) for j in outputs]  # type: ignore[no-untyped-call]
        if all(dual.tangent is None for dual in duals):
            return None

        # an output without a tangent does not depend on the input
        return flat([torch.zeros_like(o) if t is None else t for o, t in duals])
