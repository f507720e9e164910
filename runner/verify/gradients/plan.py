"""Which oracles and probes are tried, and at which inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from runner.calls.bound_operation import storage_of
from runner.errors import one_line
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finite_differences import by_differences
from runner.verify.gradients.forward_mode import by_forward_mode
from runner.verify.gradients.points import choose_domains, draw, points_of
from runner.verify.gradients.probes import PROBES
from runner.verify.gradients.problem import GradientProblem, outputs_at, second_order
from runner.verify.gradients.reference import by_reference, gradient_scales, narrowed
from runner.verify.gradients.shapes import FEW_ELEMENTS, guessed_shapes
from runner.verify.gradients.target import GradientTarget, ShapedInputs, effective_eps
from runner.verify.gradients.vectors import copied

ALL_PROBES = tuple(PROBES)
QUICK_PROBES = ("linearity", "cotangent layouts", "unchanged")
LARGE = 20_000  # elements of inputs at which the quick probes alone are tried
EMPTY = "empty"  # the shape without elements
PROBED_POINTS = ("fresh", "scale 30")  # of the small shape, in float64
PROBED_IN_DTYPE = ("fresh", "odd", "long n", "batch")

Oracle = Callable[[GradientProblem], list[GradientCheck]]


@dataclass(frozen=True)
class OracleStep:
    """An oracle asked about one problem.

    Attributes:
        oracle: gives a check for each input of the problem.
        declared: whether the shapes are declared, so that the backward pass may not refuse them.
        required: whether an error of the call is one of the whole verification.
        excusable: whether a failure where equal indices leave the gradient open is none.
    """

    problem: GradientProblem
    oracle: Oracle
    declared: bool = True
    required: bool = False
    excusable: bool = True


@dataclass(frozen=True)
class ProbeStep:
    """Properties of a right gradient, tried on one problem.

    Attributes:
        problem: its inputs are in the dtype and on the device.
        dtype: under test.
        probes: by name.
    """

    problem: GradientProblem
    dtype: torch.dtype
    probes: Sequence[str] = ALL_PROBES


Steps = Iterator[OracleStep | ProbeStep]


class Plan:
    """What is tried of one target, and where.

    Attributes:
        target: with other shapes, declared or guessed.
        dtype, device: under test.
        quick: fewer inputs and probes.
        threads: of the comparison at the declared inputs: the kernels as they are used.
        domains: of each input.
        example: the gradient at the declared inputs.
        tiny: the first inputs with so few elements that the slope along each is taken.
        points: other inputs of that shape.
    """

    def __init__(
        self,
        target: GradientTarget,
        dtype: torch.dtype,
        device: torch.device,
        *,
        threads: int,
        quick: bool,
    ) -> None:
        self.dtype, self.device, self.threads, self.quick = dtype, device, threads, quick
        self.probes = QUICK_PROBES if quick else ALL_PROBES
        example = usual = target.example
        few = example.elements <= FEW_ELEMENTS
        if not target.other_shapes:
            guesses = guessed_shapes(example, target.seed)
            target = replace(target, other_shapes=(*((example,) if few else ()), *guesses))
        self.target = target

        # domains and precision are settled by calling the function
        self.domains = choose_domains(target)
        if target.other_shapes:
            usual = draw(target.other_shapes[0], self.domains, target.seed + 1)
        self.example = GradientProblem(
            "example",
            example.call,
            example.inputs,
            target.requires_grad,
            target.arguments,
            target.seed,
            each_element=few,
            special=True,
            eps=effective_eps(usual),
            in_place=_in_place(example),
        )
        shapes = (shaped for shaped in target.other_shapes if shaped.elements <= FEW_ELEMENTS)
        self.tiny = next(filter(ShapedInputs.runs, shapes), None)
        self.points: list[ShapedInputs] = []
        if self.tiny is not None:
            self.points += points_of(self.tiny, self.domains, target.seed)

    def problem(self, shaped: ShapedInputs, *, each_element: bool = False) -> GradientProblem:
        """The gradient of the target at some inputs, under their name."""
        return replace(
            self.example,
            probe=shaped.name,
            call=shaped.call,
            inputs=shaped.inputs,
            each_element=each_element,
            special=shaped.special,
        )

    def in_float64(self) -> Steps:
        """Without rounding to speak of: whether the formula is right."""
        yield OracleStep(self.example, by_differences, required=True)
        for point in self.points[:1] if self.quick else self.points:
            problem = self.problem(point, each_element=True)
            yield OracleStep(problem, by_differences, declared=point.declared)
            if point.name in PROBED_POINTS and not self.quick:
                yield ProbeStep(problem, torch.float64)

        if self.points and not self.quick and self.points[0].runs():
            fresh = self.problem(self.points[0], each_element=True)
            yield OracleStep(fresh, by_forward_mode, required=True)
            yield OracleStep(fresh, by_second_derivatives, required=True)
        yield from self._at_shapes()
        if not self.quick:
            yield ProbeStep(self.example, torch.float64)

    def _at_shapes(self) -> Steps:
        shapes = self.target.other_shapes
        for shaped in shapes[:2] if self.quick else shapes:
            if shaped is self.tiny and not self.quick:
                continue  # tried at many points already
            problem = self.problem(draw(shaped, self.domains, self.target.seed + 2))
            if shaped is self.target.example:
                problem = replace(problem, probe="fresh")
            if shaped.name != EMPTY and shaped is not self.tiny:
                yield OracleStep(problem, by_differences, declared=shaped.declared)
            probes = QUICK_PROBES if shaped.elements > LARGE else self.probes
            yield ProbeStep(problem, torch.float64, probes)

    def in_dtype(self) -> Steps:
        """In the dtype on the device: whether the kernels are right, against float64."""
        reference = partial(
            by_reference, dtype=self.dtype, device=self.device, roundoffs=self.target.roundoffs
        )

        def with_threads(problem: GradientProblem) -> list[GradientCheck]:
            with thread_count(self.threads):
                return reference(problem)

        example = replace(self.example, each_element=False)
        yield OracleStep(example, with_threads, required=True, excusable=False)
        if self.target.costly:
            return

        # points of the tiny shape at which the gradient is unique, and one of each other shape
        points = [point for point in self.points if not point.special]
        small_names = {point.name for point in points} | {self.tiny.name if self.tiny else None}
        points += [
            draw(shaped, self.domains, self.target.seed + 2)
            for shaped in self.target.other_shapes
            if shaped.name != EMPTY
        ]

        # usual gradients tell those that are small from those that are the rest of a difference
        usual = gradient_scales(self.problem(points[0])) if self.points else []
        for point in points[:2] if self.quick else points:
            oracle = partial(reference, usual=usual if point.name in small_names else [])
            yield OracleStep(self.problem(point), oracle, declared=point.declared)

        probed = [point for point in points if point.name in PROBED_IN_DTYPE]
        for point in probed[:1] if self.quick else probed:
            inputs = tuple(narrowed(t, self.dtype).to(self.device) for t in point.inputs)
            problem = self.problem(replace(point, inputs=inputs))
            yield ProbeStep(problem, self.dtype, self.probes)


def by_second_derivatives(problem: GradientProblem) -> list[GradientCheck]:
    """Compare second derivatives with differences of the first, where there are any."""
    try:
        twice = second_order(problem)
        outputs = [t for t in twice.traced(copied(twice.inputs)).outputs if t.requires_grad]
        if outputs:  # to every leaf of the graph, and so through nodes that only raise
            torch.autograd.backward(outputs, [torch.ones_like(t) for t in outputs])
    except Exception as error:
        check = GradientCheck("second order", "finite_differences", verdict="unsupported")
        return [replace(check, reason=one_line(error, 160))]
    return by_differences(twice)


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Let torch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_place(example: ShapedInputs) -> bool:
    """Whether the function overwrites an input and returns it, as one that works in place does."""
    inputs = copied(example.inputs)
    outputs = outputs_at(example.call, inputs)
    pairs = zip(inputs, example.inputs, strict=True)
    changed = [t for t, before in pairs if not torch.equal(t, before)]
    storages = {storage_of(t) for t in outputs if t.numel()}
    return any(storage_of(t) in storages for t in changed if t.numel())
