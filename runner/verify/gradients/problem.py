"""What is verified: a function with inputs, its outputs there, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.calls.bound_operation import dense, is_differentiable
from runner.config.domain import Domain
from runner.verify.gradients.precision import Narrowing, moved_by_rounding
from runner.verify.gradients.vectors import (
    TensorFunction,
    Tensors,
    copied,
    flat,
    magnitudes,
    random_cotangents,
    real_size,
    unflat,
)
from runner.verify.rounding import rounding_bound

NO_GRAD_CALL = "incompatible with .grad()"  # of what works with a plain backward() alone
SINGLE = torch.finfo(torch.float32).eps
HALF = torch.finfo(torch.float16)  # whose smallest numbers are not small
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


@dataclass(frozen=True)
class ShapedInputs:
    """Inputs of one set of shapes, and the function that takes them."""

    name: str  # of the shapes (example, tiny, odd, ...), or of the numbers (fresh, zeros, ...)
    call: TensorFunction  # the function; its constants may depend on the shapes
    inputs: tuple[Tensor, ...]  # floating ones in float64 or complex128
    # whether the target declares these shapes; others are guesses, which it may refuse
    declared: bool = True
    # whether gradients may be undefined there by right: zeros, ties, ends of domains
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
    """The eps of the precision in which a function computes, whatever its inputs' dtype.

    It is that of the narrowest dtype which wider numbers are turned into on the way to its values;
    of a kernel that does not show its steps, that of the narrowest dtype which holds them.
    """
    widest = torch.finfo(torch.float64).eps
    if not shaped.runs():
        return widest
    values, seen = _values(shaped), Narrowing()
    with suppress(Exception), seen:  # what is compiled may refuse to be looked at
        shaped.outputs()
    if seen.eps > widest:
        # what is narrowed to be saved for the backward pass changes no value, and excuses nothing
        with suppress(Exception), Narrowing(prevented=True):
            seen.eps = widest if torch.equal(_values(shaped), values) else seen.eps
    fractions, _ = values.frexp()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        # numbers of far fewer digits, as a function has that rounds to integers, show no dtype
        steps = fractions * (2 / torch.finfo(dtype).eps)
        if torch.equal(steps.round(), steps):
            shown = not torch.equal((steps / 8).round(), steps / 8)
            return max(seen.eps, torch.finfo(dtype).eps if shown else 0.0)
    return seen.eps


def _values(shaped: ShapedInputs) -> Tensor:
    return flat([t for t in shaped.outputs() if is_differentiable(t.dtype)]).nan_to_num()


@dataclass(frozen=True)
class GradientTarget:
    """A function whose gradients are verified."""

    example: ShapedInputs  # the declared inputs, which may have been chosen to be equal, or zeros
    arguments: tuple[str, ...]
    requires_grad: tuple[bool, ...]
    domains: tuple[Domain | None, ...]  # the domain of each input; None: to be inferred
    other_shapes: tuple[ShapedInputs, ...] = ()  # inputs of other shapes, small ones ("tiny") first
    # the error that the function itself explains, in unit roundoffs of the dtype
    roundoffs: float = 0.0
    seed: int = 0  # of everything that is drawn
    costly: bool = False  # whether a call at a new shape takes long, as it does through a compiler
    # whether its gradient in a dtype is to be that of another function in float64
    is_compared: bool = False
    # what its author can do where it has no graph, or cannot be called in float64; blank: not known
    on_no_graph: str = ""
    on_no_float64: str = ""


@dataclass(frozen=True)
class Traced:
    """A call with its autograd graph."""

    # the tensors whose gradients are taken, in the order of the differentiable inputs
    leaves: Tensors
    outputs: Tensors  # those of floating or complex dtype that depend on the leaves
    positions: tuple[int, ...]  # of these among all outputs

    def gradients(self, cotangents: Sequence[Tensor | None]) -> Tensors:
        """The gradients of the outputs' products with cotangents, of which None leaves one out."""
        pairs = zip(self.outputs, cotangents, strict=True)
        used = [(o, c) for o, c in pairs if o.requires_grad and c is not None]
        if not used:
            return [torch.zeros_like(t) for t in self.leaves]
        outputs, weights = zip(*used, strict=True)
        try:
            gradients = torch.autograd.grad(
                outputs, self.leaves, weights, retain_graph=True, materialize_grads=True
            )
        except RuntimeError as error:
            if NO_GRAD_CALL not in str(error):
                raise
            torch.autograd.backward(outputs, weights, retain_graph=True)
            gradients = tuple(self.accumulated())
        return [dense(g.detach()) for g in gradients]

    def accumulated(self) -> Tensors:
        """What ``backward()`` has added to the leaves' ``.grad``, which is blank afterwards."""
        sums = [torch.zeros_like(t) if t.grad is None else t.grad for t in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None
        return list(map(dense, sums))


@dataclass(frozen=True)
class GradientProblem:
    """One gradient to verify: of what, where, and under which name."""

    probe: str  # the name in results
    call: TensorFunction
    inputs: tuple[Tensor, ...]  # where the gradient of ``call`` is verified, in float64
    requires_grad: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int  # of everything that is drawn
    # whether the operation overwrites its inputs on purpose, so that it gets copies
    in_place: bool = False
    # whether slopes are taken along every element, or along a few directions
    each_element: bool = True
    special: bool = False  # whether the gradient may be one of several, as at ties
    # whether outputs without a graph, of gradient zero, count if others have one
    every_output: bool = False
    # of the precision in which the function computes, whatever its inputs' dtype
    eps: float = torch.finfo(torch.float64).eps
    # positions of matrices of which the function takes one triangle for both, so that its gradient
    # is that along symmetric (Hermitian) directions
    symmetric: tuple[int, ...] = ()

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

    def direction(self, position: int, along: Tensor) -> Tensor:
        """A direction in which an input may be moved, from any tensor of its shape."""
        square = along.dim() > 1 and along.shape[-1] == along.shape[-2]
        return (along + along.mH) / 2 if position in self.symmetric and square else along

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed + stream)

    @property
    def elements(self) -> int:
        """Of all inputs together."""
        return sum(t.numel() for t in self.inputs)

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
        return list(map(dense, gradients))  # as that of a table of which few rows are looked up

    return replace(
        problem,
        call=gradient,
        inputs=(*problem.inputs, *cotangents),
        requires_grad=(*problem.requires_grad, *(True for _ in cotangents)),
        names=(*problem.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        in_place=False,
        every_output=True,
    )


class VjpBatch:
    """Gradients for several cotangents, as real matrices.

    Attributes:
        cotangents: a row for each, over the elements of all outputs.
        gradients: for each differentiable input, a row for each cotangent.
        uncertainty: by how much rounding may have changed each element of ``gradients``.
        outputs: positions of the outputs that the cotangents are of.
        eps: of the precision in which the function computes.
        nan_excused: whether a gradient that is not finite says nothing.
    """

    nan_excused = False

    def __init__(self, problem: GradientProblem, reached: Tensor | None = None) -> None:
        """For dense cotangents, which reach a mask or all, and few outputs' single elements."""
        traced = problem.traced(copied(problem.inputs))
        generator = problem.generator(11)
        size = real_size(traced.outputs)

        # an output that is not finite has no derivative, and would take the others' with it
        cotangents = torch.randn(DENSE, size, generator=generator, dtype=torch.float64)
        cotangents = cotangents * flat(traced.outputs).isfinite()
        if reached is not None:
            cotangents = cotangents * reached
        if problem.each_element and size <= MANY:
            weights = torch.randn(size, generator=generator, dtype=torch.float64)
            weights = weights.masked_fill(weights.abs() < 0.1, 1.0)
            cotangents = torch.cat([cotangents, torch.diag(weights)])
        self.cotangents, self.outputs, self.eps = cotangents, traced.positions, problem.eps

        # how far rounding may move a gradient is seen by moving what it is computed from
        self.gradients = gradients_at(problem, problem.inputs, cotangents)
        moved = moved_by_rounding(
            self.gradients,
            lambda inputs, _: gradients_at(problem, inputs, cotangents),
            (problem.inputs, ()),
            problem.eps,
            generator,
            draws=PERTURBATIONS,
        )
        pairs = zip(self.gradients, moved, strict=True)
        lost = rounding_bound(1.0, HALF.smallest_normal if problem.eps == HALF.eps else 0.0)
        self.uncertainty = [rounding_bound(problem.eps, magnitudes(g), m) + lost for g, m in pairs]


def gradients_at(problem: GradientProblem, inputs: Sequence[Tensor], cotangents: Tensor) -> Tensors:
    """For each differentiable input, a row for each cotangent, from one graph."""
    traced = problem.traced(copied(inputs))
    sizes = [real_size([t]) for t in traced.outputs]
    rows = []
    for row in cotangents:
        parts = zip(torch.split(row, sizes), traced.outputs, strict=True)
        rows.append(traced.gradients([unflat(part, t) for part, t in parts]))
    return [torch.stack([flat([row[i]]) for row in rows]) for i in range(len(traced.leaves))]
