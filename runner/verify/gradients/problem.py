"""What is verified: a function with inputs, its outputs there, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.domain import Domain
from runner.verify.gradients.vectors import (
    TensorFunction,
    Tensors,
    copied,
    farthest,
    flat,
    magnitudes,
    perturbed,
    random_cotangents,
    real_size,
    unflat,
)
from runner.verify.rounding import rounding_bound

DENSE = 2  # cotangents that reach every output
MANY = 16  # elements up to which each has a cotangent, and a direction, of its own
PERTURBATIONS = 2  # draws of inputs one roundoff away, for a gradient in float64


def outputs_at(call: TensorFunction, inputs: Sequence[Tensor]) -> Tensors:
    """The outputs, with random numbers that are the same in every call, and without a graph."""
    with torch.no_grad():
        reseed(inputs)
        return [t.detach() for t in call(list(inputs))]


def reseed(inputs: Sequence[Tensor]) -> None:
    """Make an operation that draws random numbers draw the same ones again."""
    torch.default_generator.manual_seed(0)
    if inputs and not inputs[0].is_cpu:
        torch.manual_seed(0)


def draws_random_numbers(call: TensorFunction, inputs: Sequence[Tensor]) -> bool:
    """Whether a call draws random numbers, which other layouts may get in another order."""
    reseed(inputs)
    state = torch.default_generator.get_state()
    outputs_at(call, copied(inputs))
    return not torch.equal(state, torch.default_generator.get_state())


@dataclass(frozen=True)
class ShapedInputs:
    """Inputs of one set of shapes, and the function that takes them.

    Attributes:
        name: of the shapes (example, tiny, odd, ...), or of the numbers (fresh, zeros, ...).
        call: the function; its constants may depend on the shapes.
        inputs: floating ones in float64 or complex128.
        declared: whether the target declares these shapes; others are guesses, which it may refuse.
        special: whether gradients may be undefined there by right: zeros, ties, ends of domains.
    """

    name: str
    call: TensorFunction
    inputs: tuple[Tensor, ...]
    declared: bool = True
    special: bool = False

    @property
    def elements(self) -> int:
        """Of all inputs together."""
        return sum(t.numel() for t in self.inputs)

    def runs(self) -> bool:
        """Whether the function takes these inputs."""
        try:
            self.outputs()
        except Exception:  # whatever it raises
            return False
        return True

    def outputs(self) -> Tensors:
        """What the function makes of copies."""
        return outputs_at(self.call, copied(self.inputs))


def effective_eps(shaped: ShapedInputs) -> float:
    """The eps of the narrowest dtype that holds a function's values: it may compute in that."""
    if shaped.runs():
        values = flat([t for t in shaped.outputs() if is_differentiable(t.dtype)]).nan_to_num()
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            if torch.equal(values.to(dtype).double(), values):
                return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class GradientTarget:
    """A function whose gradients are verified.

    Attributes:
        example: the declared inputs, which may have been chosen to be equal, or zeros.
        domains: the domain of each input; None: to be inferred.
        other_shapes: inputs of other shapes, small ones ("tiny") first.
        roundoffs: the error that the function itself explains, in unit roundoffs of the dtype.
        seed: of everything that is drawn.
        costly: whether a call at a new shape takes long, as it does through a compiler.
    """

    example: ShapedInputs
    arguments: tuple[str, ...]
    requires_grad: tuple[bool, ...]
    domains: tuple[Domain | None, ...]
    other_shapes: tuple[ShapedInputs, ...] = ()
    roundoffs: float = 0.0
    seed: int = 0
    costly: bool = False


@dataclass(frozen=True)
class Traced:
    """A call with its autograd graph.

    Attributes:
        leaves: the tensors whose gradients are taken, in the order of the differentiable inputs.
        outputs: those of floating or complex dtype that depend on the leaves.
        positions: of these among all outputs.
    """

    leaves: Tensors
    outputs: Tensors
    positions: tuple[int, ...]

    def gradients(self, cotangents: Sequence[Tensor | None]) -> Tensors:
        """The gradients of the outputs' products with cotangents, of which None leaves one out."""
        pairs = zip(self.outputs, cotangents, strict=True)
        used = [(o, c) for o, c in pairs if o.requires_grad and c is not None]
        if not used:
            return [torch.zeros_like(t) for t in self.leaves]
        outputs, weights = zip(*used, strict=True)
        gradients = torch.autograd.grad(
            outputs, self.leaves, weights, retain_graph=True, materialize_grads=True
        )
        # a sparse gradient is compared like any other
        return [g.detach() if g.layout is torch.strided else g.to_dense() for g in gradients]


@dataclass(frozen=True)
class GradientProblem:
    """One gradient to verify: of what, where, and under which name.

    Attributes:
        probe: the name in results.
        inputs: where the gradient of ``call`` is verified, in float64.
        seed: of everything that is drawn.
        in_place: whether the operation overwrites its inputs on purpose, so that it gets copies.
        each_element: whether slopes are taken along every element, or along a few directions.
        special: whether the gradient may be one of several, as at ties.
        every_output: whether outputs without a graph, of gradient zero, count if others have one.
        eps: of the precision in which the function computes, whatever its inputs' dtype.
    """

    probe: str
    call: TensorFunction
    inputs: tuple[Tensor, ...]
    requires_grad: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int
    in_place: bool = False
    each_element: bool = True
    special: bool = False
    every_output: bool = False
    eps: float = torch.finfo(torch.float64).eps

    def traced(self, inputs: Sequence[Tensor]) -> Traced:
        """Call with a graph at other inputs, used in their memory layout."""
        pairs = zip(inputs, self.requires_grad, strict=True)
        tensors = [t.detach().requires_grad_() if r else t for t, r in pairs]
        leaves = [tensors[i] for i in self.positions]
        with torch.enable_grad():
            reseed(inputs)
            outputs = self.call([t.clone() for t in tensors] if self.in_place else tensors)

        # where no output has a graph, all are kept, and each gradient is compared with zero
        positions = [j for j, t in enumerate(outputs) if is_differentiable(t.dtype)]
        if not self.every_output:
            positions = [j for j in positions if outputs[j].requires_grad] or positions
        return Traced(leaves, [outputs[j] for j in positions], tuple(positions))

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed + stream)

    @property
    def positions(self) -> list[int]:
        """Of the inputs that have a gradient."""
        return [i for i, r in enumerate(self.requires_grad) if r]

    @property
    def arguments(self) -> list[str]:
        """The names of the inputs that have a gradient."""
        return [self.names[i] for i in self.positions]


def second_order(problem: GradientProblem) -> GradientProblem:
    """The gradient as a function of inputs and cotangents, whose own is the second derivative."""
    outputs = problem.traced(copied(problem.inputs)).outputs
    cotangents = random_cotangents(outputs, problem.generator(14))
    count = len(problem.inputs)

    def gradient(tensors: Tensors) -> Tensors:
        inputs = list(tensors[:count])
        with torch.enable_grad():
            # the first derivative needs leaves, even when the inputs are called without a graph
            for i in problem.positions:
                if not inputs[i].requires_grad:
                    inputs[i] = inputs[i].detach().requires_grad_()
            leaves = [inputs[i] for i in problem.positions]

            passed = [t.clone() if problem.in_place else t for t in inputs]
            results = [t for t in problem.call(passed) if t.requires_grad]
            weights = tensors[count : count + len(results)]
            gradients = torch.autograd.grad(
                results, leaves, weights, create_graph=True, materialize_grads=True
            )
        return list(gradients)

    return replace(
        problem,
        probe="second order",
        call=gradient,
        inputs=(*problem.inputs, *cotangents),
        requires_grad=(*problem.requires_grad, *(True for _ in cotangents)),
        names=(*problem.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        in_place=False,
        special=False,
        every_output=True,
    )


class VjpBatch:
    """Gradients for several cotangents, as real matrices.

    Attributes:
        cotangents: a row for each, over the elements of all outputs.
        gradients: for each differentiable input, a row for each cotangent.
        uncertainty: by how much rounding may have changed each element of ``gradients``.
        outputs: positions of the outputs that the cotangents are of.
    """

    def __init__(self, problem: GradientProblem, reached: Tensor | None = None) -> None:
        """For dense cotangents, which reach a mask or all, and few outputs' single elements."""
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
        self.cotangents, self.outputs = cotangents, traced.positions

        def others() -> Tensors:
            inputs = perturbed(problem.inputs, problem.eps, generator)
            return gradients_at(problem, inputs, cotangents)

        # how far rounding may move a gradient is seen by moving its inputs
        self.gradients = gradients_at(problem, problem.inputs, cotangents)
        moved = farthest(self.gradients, others, PERTURBATIONS)
        pairs = zip(self.gradients, moved, strict=True)
        self.uncertainty = [rounding_bound(problem.eps, magnitudes(g), m) for g, m in pairs]


def gradients_at(problem: GradientProblem, inputs: Sequence[Tensor], cotangents: Tensor) -> Tensors:
    """For each differentiable input, a row for each cotangent, from one graph."""
    traced = problem.traced(copied(inputs))
    sizes = [real_size([t]) for t in traced.outputs]
    rows = []
    for row in cotangents:
        parts = zip(torch.split(row, sizes), traced.outputs, strict=True)
        rows.append(traced.gradients([unflat(part, t) for part, t in parts]))
    return [torch.stack([flat([row[i]]) for row in rows]) for i in range(len(traced.leaves))]
