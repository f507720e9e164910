"""Are the gradients right: oracles and probes at many inputs, and a verdict of each.

In float64 on the CPU, whatever the dtype under test, a gradient is compared with finite differences
of the forward pass and with forward mode, at many inputs and shapes; in the dtype on the device,
with the same in float64 from the same rounded inputs. Properties of every right gradient
(linearity, independence of memory layouts, ...) are tried in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import torch

from runner.calls.bound_operation import (
    BoundOperation,
    draws_random_numbers,
    is_differentiable,
    storage_of,
)
from runner.errors import is_unsupported, one_line
from runner.rows.rows import BAD, GradientCheck
from runner.verify.gradients.deviation import Baseline
from runner.verify.gradients.finding import NO_ORACLE, badness
from runner.verify.gradients.finite_differences import by_differences
from runner.verify.gradients.forward_mode import by_forward_mode
from runner.verify.gradients.points import choose_domains, draw, points_of
from runner.verify.gradients.probes import PROBES, probe_all
from runner.verify.gradients.problem import (
    GradientProblem,
    GradientTarget,
    ShapedInputs,
    effective_eps,
    outputs_at,
    reseed,
    second_order,
)
from runner.verify.gradients.reference import by_reference, gradient_scales, narrowed
from runner.verify.gradients.reproduction import script_of
from runner.verify.gradients.shapes import FEW_ELEMENTS, guessed_shapes, operation_target
from runner.verify.gradients.structure import draws_differ, one_triangle, order_decides
from runner.verify.gradients.vectors import Tensors, copied, flat, max_abs

ALL_PROBES = tuple(PROBES)
QUICK_PROBES = ("linearity", "cotangent layouts", "unchanged")
LARGE = 20_000  # elements of inputs at which the quick probes alone are tried
EMPTY = "empty"  # the shape without elements
PROBED_POINTS = ("fresh", "scale 30")  # of the small shape, in float64
PROBED_IN_DTYPE = ("fresh", "odd", "long n", "batch")
TWICE_AT = ("fresh", "zeros", "ties", "equal inputs")  # the points of second derivatives
LARGE_INPUTS = ("scale 30", "scale 1000")
HELD_TWICE = 0.25  # of a dtype's range: second derivatives up to it do not overflow by right
# terms of which a sum in the dtype soon stands still; ones float16 can count up to 2048
ALIKE = {torch.bfloat16: 1.0, torch.float16: 0.7}
NO_INPUT = "no input has a gradient"
NO_GRAPH = "the result does not depend on its inputs through autograd"
EQUAL_INDICES = "indices are equal, and the order in which they come decides what is returned"
OTHER_DRAWS = "how many random numbers it draws depends on its inputs, so that it has no slope here"
REPEATABLE = 1e-6  # relative; differences of values that waver more from call to call say nothing

Checks = list[GradientCheck]
Oracle = Callable[[GradientProblem], Checks]
Keep = Callable[[Checks], None]


def check_gradients(
    bound: BoundOperation,
    device: torch.device,
    *,
    quick: bool = False,
    keep: Keep = lambda checks: None,
) -> Checks:
    """Verify an operation of small size in its dtype on a device, see :func:`verify`."""
    return verify(operation_target(bound), bound.dtype, device, quick=quick, keep=keep)


def verify(
    target: GradientTarget,
    dtype: torch.dtype,
    device: torch.device,
    *,
    quick: bool = False,
    keep: Keep = lambda checks: None,
) -> Checks:
    """Verify a target's gradients in a dtype, floating or complex, on a device.

    The checks in float64 are made in any case, on the CPU. ``quick`` takes fewer inputs and probes,
    for a verdict next to a benchmark. ``keep`` is given all checks that have ended, again and
    again, as the function may hang or end its process in the next one. RuntimeError where the
    example cannot be called or differentiated in this dtype, or there.
    """
    # thousands of calls on few elements, which threads that wait for each other make slow
    threads = torch.get_num_threads()
    with thread_count(1), torch.random.fork_rng(devices=[]):
        try:
            reason = _unrepeatable(target.example)
        except Exception as error:
            # it may know its own dtype alone, which raises here where it does not either
            _in_own_dtype(target, dtype, device)
            why = f"cannot be computed in float64 on the CPU ({one_line(error, 120)})"
            reason = _advised(f"the call itself {why}", target.on_no_float64)
        if reason:
            return [GradientCheck("repeatable", "invariant", verdict="inconclusive", reason=reason)]
        if not any(target.requires_grad):
            return [GradientCheck("example", "invariant", verdict="unsupported", reason=NO_INPUT)]
        if not any(t.requires_grad for t in _in_own_dtype(target, dtype, device)):
            reason = _advised(NO_GRAPH, target.on_no_graph)
            return [GradientCheck("example", "invariant", verdict="unsupported", reason=reason)]

        plan = _Plan(target, dtype, device, quick=quick)
        checks = plan.made(plan.in_float64(), keep)
        is_other = dtype not in (torch.float64, torch.complex128) or device.type != "cpu"
        # random numbers are others in another dtype, or on another device
        if is_other and not draws_random_numbers(target.example.call, target.example.inputs):
            suffix = f", {str(dtype).removeprefix('torch.')}"
            checks = plan.made(plan.in_dtype(threads), keep, checks, suffix)
        return checks


def _advised(what: str, advice: str) -> str:
    """What is in the way, and what the author of the function can do."""
    return f"{what}; {advice}" if advice else what


def _in_own_dtype(target: GradientTarget, dtype: torch.dtype, device: torch.device) -> Tensors:
    """The example's outputs as they are for a user, with their graph."""
    own = (narrowed(t, dtype).to(device, copy=True) for t in target.example.inputs)
    pairs = zip(own, target.requires_grad, strict=True)
    with torch.enable_grad():  # clones, since a leaf may not be overwritten
        return target.example.call([t.requires_grad_().clone() if r else t for t, r in pairs])


def _merged(checks: Iterable[GradientCheck], suffix: str = "") -> Iterator[GradientCheck]:
    """The checks of all oracles, and then the worst of each probe, under its name and a suffix."""
    probed: dict[str | None, Checks] = {}
    for check in checks:
        if check.oracle == "invariant":
            probed.setdefault(check.probe, []).append(check)
        else:
            yield check
    for name, of_probe in probed.items():
        worst, seconds = max(of_probe, key=badness), sum(c.seconds or 0.0 for c in of_probe)
        yield replace(worst, probe=f"{name}{suffix}", seconds=seconds)


def _unrepeatable(example: ShapedInputs) -> str | None:
    """Why the function's values say nothing about its slopes: they differ from call to call."""
    first, second = (example.outputs() for _ in range(2))
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return "its outputs' shapes differ from call to call"
        if not is_differentiable(a.dtype) or not a.numel():
            continue
        difference = (a - b).abs().nan_to_num(0.0).max().item()
        if difference > REPEATABLE * max_abs(a):
            return f"its values differ by {difference:.3g} from call to call"
    return None


class _Plan:
    """What is tried of one target, and where.

    Attributes:
        target: with other shapes, declared or guessed.
        example: the gradient at the declared inputs.
        tiny: the first inputs with so few elements that the slope along each is taken.
        points: other inputs of that shape.
        usual: inputs that are not special, to see in which precision the function computes.
        failed: each failure of a first derivative, with its problem.
    """

    def __init__(
        self, target: GradientTarget, dtype: torch.dtype, device: torch.device, *, quick: bool
    ) -> None:
        self.dtype, self.device, self.quick = dtype, device, quick
        self.probes = QUICK_PROBES if quick else ALL_PROBES
        example = usual = target.example
        few = example.elements <= FEW_ELEMENTS
        if not target.other_shapes:
            guesses = guessed_shapes(example, target.seed)
            target = replace(target, other_shapes=(*((example,) if few else ()), *guesses))
        self.target = target

        # domains and precision are settled by calling the function
        self.domains = choose_domains(target)
        if target.other_shapes and not target.costly:
            usual = draw(target.other_shapes[0], self.domains, target.seed + 1)
        self.usual = usual
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
        )
        self.example = replace(self.example, in_place=_in_place(self.example))
        self.example = replace(self.example, symmetric=one_triangle(self.example))
        shapes = (shaped for shaped in target.other_shapes if shaped.elements <= FEW_ELEMENTS)
        self.tiny = next(filter(ShapedInputs.runs, shapes), None)
        self.failed: list[tuple[GradientProblem, GradientCheck]] = []
        self.points: list[ShapedInputs] = []
        if self.tiny is not None:
            self.points += points_of(self.tiny, self.domains, target.seed)

    def problem(self, shaped: ShapedInputs, *, each_element: bool = False) -> GradientProblem:
        return replace(
            self.example,
            probe=shaped.name,
            call=shaped.call,
            inputs=shaped.inputs,
            each_element=each_element,
            special=shaped.special,
        )

    def made(
        self,
        groups: Iterable[Checks],
        keep: Keep,
        before: Sequence[GradientCheck] = (),
        end: str = "",
    ) -> Checks:
        """The checks ``before``, and those that are made now, which are kept as they come."""
        checks, raw = [*before], []
        for group in groups:
            raw += group
            checks = [*before, *_merged(raw, end)]

            # the smallest failure is shown by a file, which one of the failing checks carries
            if self.failed:
                simplest = sorted(
                    self.failed, key=lambda f: (f[1].oracle in NO_ORACLE, f[0].elements)
                )
                first = next(i for i, c in enumerate(checks) if c.verdict in BAD)
                scripts = (script_of(problem, check, self.dtype) for problem, check in simplest)
                script = next(filter(None, scripts), None)
                checks[first] = replace(checks[first], script=script)
            if group:
                keep(checks)
        return checks

    def in_float64(self) -> Iterator[Checks]:
        """Without rounding to speak of: whether the formula is right."""
        checks = self._asked(by_differences, self.example)
        yield checks
        yield self._twice(self.example, checks)
        for point in self.points[:1] if self.quick else self.points:
            problem = self.problem(point, each_element=True)
            checks = self._tried(by_differences, problem, declared=point.declared)
            yield checks
            if point.name in TWICE_AT:
                yield self._twice(problem, checks)
            if point.name in PROBED_POINTS and not self.quick:
                yield self._probed(problem, torch.float64, ALL_PROBES)

        if self.points and not self.quick and self.points[0].runs():
            fresh = self.problem(self.points[0], each_element=True)
            declared = self.points[0].declared
            yield self._tried(by_forward_mode, fresh, declared=declared)
        yield from self._at_shapes()
        if not self.quick:
            yield self._probed(self.example, torch.float64, ALL_PROBES)

    def _twice(
        self,
        problem: GradientProblem,
        checks: Checks,
        oracle: Oracle = by_differences,
        *,
        ones: bool = False,
    ) -> Checks:
        """The second derivatives where the first are right; at a kink, for one, there are none."""
        usual = {"pass"} if problem.special else {"pass", "inconclusive"}
        if self.quick or not problem.each_element or not {c.verdict for c in checks} <= usual:
            return []
        return self._asked(partial(by_second_derivatives, oracle=oracle, ones=ones), problem)

    def _at_shapes(self) -> Iterator[Checks]:
        shapes = self.target.other_shapes
        for shaped in shapes[:2] if self.quick else shapes:
            if shaped is self.tiny and not self.quick:
                continue  # tried at many points already
            problem = self.problem(draw(shaped, self.domains, self.target.seed + 2))
            if shaped is self.target.example:
                problem = replace(problem, probe="fresh")
            if shaped.name != EMPTY and shaped is not self.tiny:
                yield self._tried(by_differences, problem, declared=shaped.declared)
            probes = QUICK_PROBES if shaped.elements > LARGE else self.probes
            yield self._probed(problem, torch.float64, probes)

    def in_dtype(self, threads: int) -> Iterator[Checks]:
        """Whether the kernels are right: at the declared inputs with the threads of their use."""
        # in a dtype it may compute in less than it does in float64, as under autocast
        own = tuple(narrowed(t, self.dtype).to(self.device) for t in self.usual.inputs)
        eps = effective_eps(replace(self.usual, inputs=own))
        self.example = replace(self.example, eps=max(eps, self.example.eps))
        reference = partial(
            by_reference,
            dtype=self.dtype,
            device=self.device,
            roundoffs=self.target.roundoffs,
            is_compared=self.target.is_compared,
        )
        example = replace(self.example, each_element=False)
        with thread_count(threads):
            checks = _timed(lambda: reference(example))
        yield checks
        if not self.target.costly:
            each = replace(example, each_element=True)
            for ones in (None, 1.0):  # what overflows on the way may do so for ones alone
                oracle = partial(reference, held=HELD_TWICE, alike=ones)
                found = self._twice(each, checks, oracle, ones=bool(ones))
                yield [check for check in found if check.verdict != "unsupported"]
        if self.target.costly:  # other numbers are no other kernel
            fresh = draw(self.target.example, self.domains, self.target.seed + 2)
            pairs = zip(self.target.example.inputs, fresh.inputs, strict=True)
            laid_alike = tuple(torch.empty_like(like).copy_(t) for like, t in pairs)
            problem = self.problem(replace(fresh, name="fresh", inputs=laid_alike))
            yield self._tried(reference, problem, declared=True)
            inputs = tuple(narrowed(t, self.dtype).to(self.device) for t in laid_alike)
            problem = replace(problem, inputs=inputs)
            yield self._probed(problem, self.dtype, QUICK_PROBES)
            return

        # points of the tiny shape at which the gradient is unique, and one of each other shape
        points = [point for point in self.points if not point.special]
        small_names = {point.name for point in points} | {self.tiny.name if self.tiny else None}
        others = [shaped for shaped in self.target.other_shapes if shaped.name != EMPTY]
        points += [draw(shaped, self.domains, self.target.seed + 2) for shaped in others]

        # usual gradients tell those that are small from those that are the rest of a difference
        usual: list[float] = []
        with suppress(Exception):  # whatever is raised there, what is tried there will say so
            usual = gradient_scales(self.problem(points[0])) if self.points else []
        for point in points[:2] if self.quick else points:
            usable = None not in self.target.domains or point.name not in LARGE_INPUTS
            scales = usual if point.name in small_names else []
            oracle = partial(reference, usual=scales, usable=usable)
            yield self._tried(oracle, self.problem(point), declared=point.declared)
            if point.name.startswith("long") and self.dtype in ALIKE:
                alike = ALIKE[self.dtype]
                same = replace(self.problem(point), probe=f"{point.name}, cotangent {alike:g}")
                yield self._tried(partial(oracle, alike=alike), same, declared=point.declared)

        probed = [point for point in points if point.name in PROBED_IN_DTYPE]
        for point in probed[:1] if self.quick else probed:
            inputs = tuple(narrowed(t, self.dtype).to(self.device) for t in point.inputs)
            problem = self.problem(replace(point, inputs=inputs))
            yield self._probed(problem, self.dtype, self.probes)

    def _asked(self, oracle: Oracle, problem: GradientProblem) -> Checks:
        """An oracle's checks; none fails where the function leaves it open what it returns."""
        checks = _timed(lambda: oracle(problem))
        failed, reason = [check for check in checks if check.verdict == "fail"], None
        if failed and order_decides(problem.call, problem.inputs, self.target.example):
            reason = EQUAL_INDICES
        elif failed and draws_differ(problem.call, problem.inputs):
            reason = OTHER_DRAWS
        if reason is None:
            if getattr(oracle, "func", None) is not by_second_derivatives:
                self.failed += [(problem, check) for check in failed]
            return checks
        return [
            replace(c, verdict="inconclusive", reason=reason) if c.verdict == "fail" else c
            for c in checks
        ]

    def _tried(self, oracle: Oracle, problem: GradientProblem, *, declared: bool) -> Checks:
        """The same where the forward pass may refuse, and the backward pass if not declared."""
        check = GradientCheck(problem.probe, "finite_differences", verdict="unsupported")
        try:
            outputs = outputs_at(problem.call, copied(problem.inputs))
        except Exception as error:
            return [replace(check, reason=one_line(error, 160))]
        if not any(is_differentiable(t.dtype) for t in outputs):
            return []
        try:
            return self._asked(oracle, problem)
        except Exception as error:
            refused = is_unsupported(error) or not declared
            # outside its domain a function has no derivative that could be computed
            refused |= not flat(outputs).isfinite().any().item()
            reason = f"the backward pass raised {type(error).__name__}: {one_line(error, 160)}"
            return [replace(check, verdict="unsupported" if refused else "fail", reason=reason)]

    def _probed(
        self, problem: GradientProblem, dtype: torch.dtype, probes: Sequence[str]
    ) -> Checks:
        try:
            baseline = Baseline(problem, dtype=dtype)
        except Exception:  # whether it may be refused is decided by the comparison with an oracle
            return []
        checks = _timed(lambda: probe_all(baseline, probes))
        self.failed += [(problem, check) for check in checks if check.verdict in BAD]
        return checks


def _timed(made: Callable[[], Checks]) -> Checks:
    """Checks, each with its share of the seconds that making them took."""
    begun = time.perf_counter()
    checks = made()
    seconds = (time.perf_counter() - begun) / max(1, len(checks))
    return [replace(check, seconds=seconds) for check in checks]


def by_second_derivatives(problem: GradientProblem, oracle: Oracle, *, ones: bool) -> Checks:
    """Compare second derivatives, where there are any: the gradient of the first, by an oracle.

    The first is for random cotangents, or for ``ones``.
    """
    name = "second order" if problem.probe == "fresh" else f"second order at {problem.probe}"
    name += ", cotangent 1" if ones else ""
    problem = replace(problem, probe=name)
    try:
        twice = second_order(problem)
        if ones:
            own = len(problem.inputs)
            alike = map(torch.ones_like, twice.inputs[own:])
            twice = replace(twice, inputs=(*twice.inputs[:own], *alike))
        outputs = [t for t in twice.traced(copied(twice.inputs)).outputs if t.requires_grad]
        if outputs:  # to every leaf of the graph, and so through nodes that only raise
            torch.autograd.backward(outputs, [torch.ones_like(t) for t in outputs])
    except Exception as error:
        check = GradientCheck(name, "finite_differences", verdict="unsupported")
        return [replace(check, reason=one_line(error, 160))]
    return oracle(twice)


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Let torch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_place(problem: GradientProblem) -> bool:
    """Whether the function overwrites an input and returns it, as one that works in place does.

    Autograd has to know: what has written into an input is then its last node.
    """
    pairs = zip(copied(problem.inputs), problem.requires_grad, strict=True)
    inputs = [t.requires_grad_().clone() if r else t for t, r in pairs]
    nodes = [t.grad_fn for t in inputs]
    with torch.enable_grad():
        reseed(inputs)
        outputs = {storage_of(t) for t in problem.call(list(inputs)) if t.numel()}
    for now, node, before in zip(inputs, nodes, problem.inputs, strict=True):
        returned = now.numel() and storage_of(now) in outputs
        if returned and now.grad_fn is not node and not torch.equal(now, before):
            return True
    return False
