"""Vector-Jacobian products: the gradients of a problem for several cotangents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.verify.gradients.problem import GradientProblem
from runner.verify.gradients.vectors import (
    Tensors,
    copied,
    farthest,
    flat,
    magnitudes,
    perturbed,
    real_size,
    split_row,
)
from runner.verify.rounding import rounding_bound

DENSE = 2  # cotangents that reach every output
MANY = 16  # elements up to which each has a cotangent, and a direction, of its own
PERTURBATIONS = 2  # draws of inputs one roundoff away, for a gradient in float64


@dataclass(frozen=True)
class VjpBatch:
    """Gradients for several cotangents, as real matrices.

    Attributes:
        cotangents: a row for each, over the elements of all outputs.
        gradients: for each differentiable input, a row for each cotangent.
        uncertainty: by how much rounding may have changed each element of ``gradients``.
        outputs: positions of the outputs that the cotangents are of.
    """

    cotangents: Tensor
    gradients: Tensors
    uncertainty: Tensors
    outputs: tuple[int, ...]


def vjp(problem: GradientProblem, *, reached: Tensor | None = None) -> VjpBatch:
    """Gradients for dense cotangents and, where the outputs are small, for each of their elements.

    Args:
        problem: whose gradients.
        reached: a mask of the outputs' elements that dense cotangents reach; None: all.
    """
    traced = problem.traced(copied(problem.inputs))
    generator = problem.generator(11)
    size = real_size(traced.outputs)

    cotangents = torch.randn(DENSE, size, generator=generator, dtype=torch.float64)
    if reached is not None:
        cotangents = cotangents * reached
    if problem.each_element and size <= MANY:
        weights = torch.randn(size, generator=generator, dtype=torch.float64)
        weights = weights.masked_fill(weights.abs() < 0.1, 1.0)
        cotangents = torch.cat([cotangents, torch.diag(weights)])

    def others() -> Tensors:
        inputs = perturbed(problem.inputs, problem.eps, generator)
        return gradients_at(problem, inputs, cotangents)

    # how far rounding may move a gradient is seen by moving its inputs
    gradients = gradients_at(problem, problem.inputs, cotangents)
    moved = farthest(gradients, others, PERTURBATIONS)
    pairs = zip(gradients, moved, strict=True)
    uncertainty = [rounding_bound(problem.eps, magnitudes(g), m) for g, m in pairs]
    return VjpBatch(cotangents, gradients, uncertainty, traced.positions)


def gradients_at(problem: GradientProblem, inputs: Sequence[Tensor], cotangents: Tensor) -> Tensors:
    """For each differentiable input, a row for each cotangent, from one graph."""
    traced = problem.traced(copied(inputs))
    rows = [traced.gradients(split_row(row, traced.outputs)) for row in cotangents]
    return [torch.stack([flat([row[i]]) for row in rows]) for i in range(len(traced.leaves))]
