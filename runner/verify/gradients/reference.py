"""Oracles of the whole gradient: an exact formula, and the same in float64 from the same rounded inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from runner.calls.bound_operation import is_differentiable
from runner.config.size import shape_text
from runner.verify.gradients.differences import EPS
from runner.verify.gradients.finding import GradientCheck, relative
from runner.verify.gradients.problem import GradientProblem, index_text, max_abs, perturbed
from runner.verify.gradients.slope_comparison import BOUND_FACTOR, USEFUL
from runner.verify.gradients.target import Analytic, Tensors
from runner.verify.gradients.vjp import copied, gaussian

SMALLEST_NORMAL = 2.0**-900  # of what is worth counting in units of the last place
DRAWS = 6  # of inputs one roundoff away, to see how far a gradient moves


def by_analytic(problem: GradientProblem, analytic: Analytic) -> list[GradientCheck]:
    """Compare each input's gradient with the exact one."""
    traced = problem.traced(copied(problem.inputs))
    generator = torch.Generator().manual_seed(problem.seed + 15)
    cotangents = [gaussian(t, generator).to(t.dtype) for t in traced.outputs]
    exact = analytic(list(problem.inputs), cotangents)
    got = traced.gradients(cotangents)
    moved = _moved(problem, cotangents, got, EPS / 2, generator)
    bounds = conditioned_bound(exact, moved, EPS / 2, 0.0)
    return [
        _elementwise(problem, "analytic", position, got=g, expected=e, bound=bound, eps=EPS)
        for position, g, e, bound in zip(problem.positions, got, exact, bounds, strict=True)
    ]


def by_reference(
    problem: GradientProblem, dtype: torch.dtype, device: torch.device, roundoffs: float, usual: Sequence[float] = ()
) -> list[GradientCheck]:
    """Compare gradients in a dtype on a device with those in float64 on the CPU, from the same rounded inputs.

    Args:
        problem: the call, in float64.
        dtype: the dtype under test.
        device: where it is computed.
        roundoffs: see :func:`conditioned_bound`.
        usual: what :func:`gradient_scales` says of the same shapes at usual inputs. A gradient that is far smaller at
            these may be the rest of a difference, of which rounding explains more than of the gradient itself.
    """
    generator = torch.Generator().manual_seed(problem.seed + 16)
    rounded = [t.to(narrowed(t, dtype)) if is_differentiable(t.dtype) else t for t in problem.inputs]
    wide = [t.to(w.dtype) for t, w in zip(rounded, problem.inputs, strict=True)]
    there = problem.traced([t.to(device, copy=True) for t in rounded])
    cotangents = [gaussian(t, generator).to(t.dtype) for t in there.outputs]
    reference = problem.traced(copied(wide))
    wide_cotangents = [c.to(t.dtype) for c, t in zip(cotangents, reference.outputs, strict=True)]
    expected = reference.gradients(wide_cotangents)
    got = [g.cpu() for g in there.gradients([c.to(device) for c in cotangents])]
    outputs = [t.detach() for t in there.outputs]
    info = torch.finfo(dtype)
    moved = _moved(replace(problem, inputs=tuple(wide)), wide_cotangents, expected, info.eps / 2, generator)
    bounds = conditioned_bound(expected, moved, info.eps / 2, roundoffs)
    checks = []
    weight = max((max_abs(c) for c in cotangents), default=1.0)
    underflow = BOUND_FACTOR * info.smallest_normal * max(1.0, weight)
    elements = sum(c.numel() for c in cotangents)
    for column, (position, g, e, bound) in enumerate(zip(problem.positions, got, expected, bounds, strict=True)):
        summed = math.sqrt(max(1.0, elements / max(1, e.numel())))  # terms added up one by one, in random directions
        check = _elementwise(
            problem,
            "float64_reference",
            position,
            got=g.to(e.dtype),
            expected=e,
            bound=bound * summed + underflow,
            eps=info.eps,
        )
        vanishes = max_abs(e) <= 1e-12 * weight  # all of it is rounding, of terms whose size is not known
        usually = 1e3 if vanishes else usual[column] if usual else 0.0
        lost = check.max_abs_error is not None and check.max_abs_error <= BOUND_FACTOR * info.eps * usually * weight
        if check.verdict == "fail" and lost:
            check = replace(check, verdict="inconclusive", reason="rounding of larger terms explains the difference")
        overflow = not all(bool(t.isfinite().all()) for t in outputs) or max_abs(e) > info.max / 16
        if overflow and check.verdict == "fail":
            check = replace(check, verdict="inconclusive", reason=f"{_plain(dtype)} overflows here")
        checks.append(check)
    return checks


def gradient_scales(problem: GradientProblem) -> list[float]:
    """The usual size of gradients: for each differentiable input, its largest one over the largest cotangent."""
    traced = problem.traced(copied(problem.inputs))
    generator = torch.Generator().manual_seed(problem.seed + 18)
    cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in traced.outputs]
    weight = max((max_abs(c) for c in cotangents), default=1.0) or 1.0
    return [max_abs(g) / weight for g in traced.gradients(cotangents)]


def narrowed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a float64 or complex128 tensor has when others have ``dtype``."""
    if tensor.is_complex() and not dtype.is_complex:
        return torch.complex128 if dtype is torch.float64 else torch.complex64
    if dtype.is_complex and not tensor.is_complex():
        return torch.float64 if dtype is torch.complex128 else torch.float32
    return dtype


def conditioned_bound(
    reference: Sequence[torch.Tensor], moved: Sequence[float], roundoff: float, roundoffs: float
) -> list[float]:
    """The largest error of each gradient that rounding explains: 8 (u max|g| + d).

    Args:
        reference: the gradients in float64.
        moved: d, how far each moves when inputs and cotangents move by one roundoff.
        roundoff: u, of the dtype.
        roundoffs: what the operation itself declares, in roundoffs of the largest element; used where it is useful.
    """
    bounds = []
    for g, d in zip(reference, moved, strict=True):
        declared = roundoff * roundoffs if roundoff * roundoffs <= USEFUL else 0.0
        bounds.append(max(BOUND_FACTOR * (roundoff * max_abs(g) + d), declared * max_abs(g)))
    return bounds


def _moved(
    problem: GradientProblem, cotangents: Tensors, gradients: Tensors, roundoff: float, generator: torch.Generator
) -> list[float]:
    """How far each gradient moves when inputs, cotangents and what the forward pass saves move by one roundoff.

    It is the most of some draws. What is saved may be an output that is far larger than what its rounding does to it
    in the gradient: that of logsumexp is exp(x - output).
    """
    farthest = [0.0] * len(gradients)

    def rounded(saved: torch.Tensor) -> torch.Tensor:
        return perturbed(saved.detach(), roundoff, generator) if is_differentiable(saved.dtype) else saved

    for _ in range(DRAWS):
        inputs = [perturbed(t, roundoff, generator) for t in problem.inputs]
        try:
            with torch.autograd.graph.saved_tensors_hooks(rounded, _itself):
                traced = problem.traced(inputs)
            found = traced.gradients([perturbed(c, roundoff, generator) for c in cotangents])
        except Exception:  # out of the domain by a roundoff
            continue
        farthest = [max(m, max_abs(f - g)) for m, f, g in zip(farthest, found, gradients, strict=True)]
    return farthest


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _elementwise(
    problem: GradientProblem,
    oracle: str,
    position: int,
    *,
    got: torch.Tensor,
    expected: torch.Tensor,
    bound: float,
    eps: float,
) -> GradientCheck:
    """The largest error of a gradient, against one bound for all of its elements."""
    name, scale = problem.names[position], max_abs(expected)
    shape = shape_text(tuple(expected.shape))
    if not expected.numel():
        return GradientCheck(problem.probe, oracle, "pass", name, shape, max_abs_error=0.0, max_relative_error=0.0)
    undefined = ~expected.isfinite()
    errors = torch.where(undefined, torch.zeros(()), (got - expected).abs()).to(torch.float64)
    errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
    worst = int(errors.argmax())
    error = errors[worst].item()
    there = expected.flatten()[worst].abs().item()
    measurable = math.isfinite(error) and math.isfinite(there) and there >= SMALLEST_NORMAL
    useful = bound <= max(USEFUL, 64 * eps) * scale or error == 0
    verdict = "fail" if error > bound else "pass" if useful or not scale else "inconclusive"
    reason = None
    if verdict == "fail":
        reason = f"the gradient of input {name} is off by {relative(error, scale):.3g} of its scale; "
        reason += f"{relative(bound, scale):.3g} is allowed"
        if not bool(got.flatten()[worst].isfinite()):
            numbers = got.flatten()[worst].item(), expected.flatten()[worst].item()
            reason = f"the gradient of input {name} is {numbers[0]}, not {numbers[1]}"
    elif verdict == "inconclusive":
        reason = f"rounding alone explains {relative(bound, scale):.2g} of its scale"
    return GradientCheck(
        problem.probe,
        oracle,
        verdict,
        name,
        shape,
        max_abs_error=error,
        max_relative_error=relative(error, scale),
        ulp=error / (eps * 2.0 ** math.floor(math.log2(there))) if measurable else None,
        worst_index=index_text(worst * (2 if got.is_complex() else 1), got),
        got=_real(got.flatten()[worst]),
        expected=_real(expected.flatten()[worst]),
        tolerance=relative(bound, scale),
        tolerance_source="conditioning",
        reason=reason,
    )


def _itself(saved: torch.Tensor) -> torch.Tensor:
    return saved


def _real(number: torch.Tensor) -> float:
    return float(number.real.item() if number.is_complex() else number.item())
