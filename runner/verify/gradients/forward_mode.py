"""The oracle of forward mode: other code than reverse mode, whose result times a cotangent is the same number."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from runner.config.size import shape_text
from runner.errors import one_line
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.slopes import EPS
from runner.verify.gradients.trace import reseed
from runner.verify.gradients.vectors import copied, flat, gaussian, max_abs
from runner.verify.gradients.vjp import VjpBatch, vjp
from runner.verify.rounding import BOUND_FACTOR


def by_forward_mode(problem: GradientProblem) -> list[GradientCheck]:
    """Compare reverse mode with forward mode: a check for each input, unsupported where there is no forward mode."""
    batch = vjp(problem)
    generator = problem.generator(13)
    checks = []
    for column, position in enumerate(problem.positions):
        name = problem.names[position]
        direction = gaussian(problem.inputs[position], generator)
        try:
            jvp = _jvp(problem, position, direction, batch.outputs)
        except Exception as error:
            reason = one_line(error, 120)
            checks.append(
                GradientCheck(problem.probe, "forward_mode", "unsupported", name, reason=reason)
            )
            continue
        if jvp is None or not jvp.isfinite().all():
            reason = "forward mode gives no number"
            checks.append(
                GradientCheck(problem.probe, "forward_mode", "inconclusive", name, reason=reason)
            )
            continue
        checks.append(_check(problem, batch, column, flat([direction]), jvp))
    return checks


def _jvp(
    problem: GradientProblem, position: int, direction: Tensor, positions: tuple[int, ...]
) -> Tensor | None:
    """The derivative of the outputs at these positions along one input's direction; None where none has a tangent."""
    with forward_ad.dual_level():
        inputs = copied(problem.inputs)
        inputs[position] = forward_ad.make_dual(inputs[position], direction)  # type: ignore[no-untyped-call]
        if problem.in_place:
            inputs = [t.clone() for t in inputs]
        reseed(inputs)
        results = problem.call(inputs)

        # an output without a tangent does not depend on the input
        outputs = [results[j] for j in positions]
        tangents = [forward_ad.unpack_dual(t).tangent for t in outputs]  # type: ignore[no-untyped-call]
        if all(t is None for t in tangents):
            return None
        return flat(
            [
                torch.zeros_like(o) if t is None else t
                for t, o in zip(tangents, outputs, strict=True)
            ]
        )


def _check(
    problem: GradientProblem, batch: VjpBatch, column: int, direction: Tensor, jvp: Tensor
) -> GradientCheck:
    """Cotangent times forward mode against gradient times direction."""
    position = problem.positions[column]
    name = problem.names[position]
    cotangent = batch.cotangents[0]
    expected = float(cotangent @ jvp)
    got = float(batch.gradients[column][0] @ direction)
    scale = float(cotangent.abs() @ jvp.abs())

    # rounding: relative to all terms that are added up, of the gradient, and of terms that cancelled on the way
    uncertainty = float(batch.uncertainty[column][0] @ direction.abs())
    lost = BOUND_FACTOR * EPS * max_abs(cotangent) * float(direction.abs().sum())
    tolerance = max(1e-10, 8 * problem.eps) * scale + uncertainty + lost + 1e-300

    error = abs(got - expected)
    agree = error <= tolerance or (math.isnan(got) and math.isnan(expected))
    return GradientCheck(
        problem.probe,
        "forward_mode",
        "pass" if agree else "fail",
        name,
        shape=shape_text(tuple(problem.inputs[position].shape)),
        max_abs_error=error,
        max_relative_error=relative(error, scale),
        got=got,
        expected=expected,
        tolerance=relative(tolerance, scale),
        tolerance_source="conditioning",
        reason=None if agree else f"forward and reverse mode disagree on input {name}",
    )
