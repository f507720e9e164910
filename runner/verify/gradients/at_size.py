"""A gradient at a size where only what is far off can be told, and at little cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation, dense, is_differentiable
from runner.calls.layouts import copy_of
from runner.verify.gradients.reference import LARGEST_TERM, VANISHING
from runner.verify.gradients.vectors import largest, max_abs
from runner.verify.rounding import rounding_bound, summing_factor, unit_roundoff
from runner.verify.values import reference_inputs

FAR = 8  # roots of the unit roundoff, of a gradient's norm: ties and long sums explain less


def gradient_is_off(bound: BoundOperation, device: torch.device) -> bool:
    """Whether a gradient is farther from the reference's in float64 than rounding can explain.

    Of what draws numbers, or has results of free signs, it cannot be told so cheaply.
    """
    if bound.op.random or bound.op.compare == "up_to_sign":
        return False
    drawn = bound.draw()
    got, weights = _gradients(bound, bound.outputs, [copy_of(t, device) for t in drawn])
    right, _ = _gradients(bound, bound.expected, reference_inputs(bound, drawn))
    far = FAR * math.sqrt(unit_roundoff(bound.dtype))
    weight = largest(weights)
    info = torch.finfo(bound.dtype)
    lost = rounding_bound(info.eps, LARGEST_TERM * weight)
    least = rounding_bound(info.smallest_normal * info.eps, max(1.0, weight))
    for own, expected in zip(got, right, strict=True):
        if not bool(expected.isfinite().all()):  # of which nothing can be far
            continue
        apart = torch.linalg.vector_norm(own.to(expected.dtype) - expected)
        allowed = far * float(torch.linalg.vector_norm(expected))
        allowed += least * math.sqrt(expected.numel())  # of numbers between 0 and normal ones
        vanishing = VANISHING * weight * summing_factor(weights, expected)
        if 0 < max_abs(expected) <= vanishing:  # all of it is rounding
            allowed += lost * math.sqrt(expected.numel())
        if not apart <= allowed:
            return True
    return False


def _gradients(
    bound: BoundOperation, call: Callable[[list[Tensor]], list[Tensor]], tensors: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradient by each input of a sum of the outputs with random weights, and these."""
    constant = bound.op.nondifferentiable_inputs
    given = [t for n, t in zip(bound.names, tensors, strict=True) if n not in constant]
    asked = [t.requires_grad_() for t in given if is_differentiable(t.dtype)]
    outputs, weights = [], []
    with torch.enable_grad():
        for place, output in enumerate(call(tensors)):
            if output.requires_grad:
                drawn = torch.randn(output.shape, generator=bound.generator(951 + place))
                outputs.append(output)
                weights.append(drawn.to(output))
    found = torch.autograd.grad(outputs, asked, weights, materialize_grads=True)
    return [dense(t).detach().cpu() for t in found], weights
