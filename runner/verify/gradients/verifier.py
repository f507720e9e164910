"""Are the gradients right: probes times oracles, and a verdict on each.

In float64 on the CPU, whatever the dtype asked for, a gradient is compared with finite differences of the forward
pass, with forward mode and, where it is known, with the exact one, at many inputs and shapes; in the dtype on the
device, with the same in float64 from the same rounded inputs. What a right gradient has whatever the function
(linearity, independence of memory layouts, ...) is tried in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.config.domain import Domain
from runner.errors import one_line
from runner.rows.rows import BAD
from runner.verify.gradients.finding import GradientCheck
from runner.verify.gradients.oracles import by_differences, by_forward_mode
from runner.verify.gradients.points import InputPoint, choose_domains, draw, points_of
from runner.verify.gradients.probes import PROBES, Base, probe_all
from runner.verify.gradients.problem import GradientProblem, second_order
from runner.verify.gradients.reference import by_analytic, by_reference, gradient_scales, narrowed
from runner.verify.gradients.shapes import FEW_ELEMENTS, guessed_shapes, operation_target
from runner.verify.gradients.slope_comparison import vjp
from runner.verify.gradients.structure import order_decides
from runner.verify.gradients.target import GradientTarget, ShapedInputs
from runner.verify.gradients.vjp import copied, effective_eps, outputs_at

QUICK_PROBES = ("linearity", "cotangent layouts", "unchanged")
LARGE = 20_000  # elements of inputs at which the quick probes alone are tried
DECLARED_BUT_EMPTY = "empty"
REPEATABLE = (
    1e-6  # relative; a function whose values differ by more from call to call cannot be differentiated by calls
)


def check_gradients(bound: BoundOperation, device: torch.device, *, quick: bool = False) -> list[GradientCheck]:
    """Verify an operation's gradients in its dtype on a device.

    Args:
        bound: the operation; its size should be small.
        device: where.
        quick: fewer probes, for a verdict beside a benchmark.

    Raises:
        RuntimeError: the operation cannot be called, or autograd cannot differentiate it, in this dtype or there.
    """
    return verify(operation_target(bound), bound.dtype, device, quick=quick)


def verify(
    target: GradientTarget, dtype: torch.dtype, device: torch.device, *, quick: bool = False
) -> list[GradientCheck]:
    """Verify a target's gradients in a dtype on a device.

    Args:
        target: what to verify.
        dtype: floating or complex; what is looked at in float64 is so in any case.
        device: where the dtype's gradients are computed.
        quick: fewer probes.

    Returns:
        a check for each probe, oracle and argument.

    Raises:
        RuntimeError: the example cannot be called, or autograd cannot differentiate it, in this dtype or there.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of calls on few elements, which threads that wait for each other make slow
    try:
        with torch.random.fork_rng(devices=[]):
            return list(_verify(target, dtype, device, threads, quick=quick))
    finally:
        torch.set_num_threads(threads)


def _verify(
    target: GradientTarget, dtype: torch.dtype, device: torch.device, threads: int, *, quick: bool
) -> Iterator[GradientCheck]:
    small = target.example if sum(t.numel() for t in target.example.inputs) <= FEW_ELEMENTS else None
    other_shapes = list(
        target.other_shapes or ([*([small] if small else []), *guessed_shapes(target.example, target.seed)])
    )
    target = replace(target, other_shapes=tuple(other_shapes))
    domains = choose_domains(target)
    in_place = _in_place(target.example)
    reason = _unrepeatable(target.example)
    if reason:
        yield GradientCheck("repeatable", "invariant", "inconclusive", reason=reason)
        return

    model = draw(target.other_shapes[0], domains, target.seed + 1) if target.other_shapes else target.example
    eps = effective_eps(model.call, model.inputs) if _runs(model) else torch.finfo(torch.float64).eps

    def problem(probe: str, shaped: ShapedInputs, *, each_element: bool) -> GradientProblem:
        return GradientProblem(
            probe,
            shaped.call,
            shaped.inputs,
            target.requires_grad,
            target.arguments,
            target.seed,
            in_place,
            each_element=each_element,
            eps=eps,
        )

    if not any(target.requires_grad):
        yield GradientCheck("example", "invariant", "unsupported", reason="no input has a gradient")
        return
    example = problem(
        "example", target.example, each_element=sum(t.numel() for t in target.example.inputs) <= FEW_ELEMENTS
    )
    example = replace(example, special=True)  # whoever declared it may have chosen equal elements, or zeros
    yield from _defined(example, target.example, _timed(lambda: by_differences(example)))
    if target.analytic is not None:
        analytic = target.analytic
        yield from _timed(lambda: by_analytic(example, analytic))
    tiny = next((f for f in other_shapes if sum(t.numel() for t in f.inputs) <= FEW_ELEMENTS and _runs(f)), None)
    probed: list[list[GradientCheck]] = []
    if tiny is not None:
        for point in points_of(tiny, domains, target.seed)[: 1 if quick else None]:
            at = replace(problem(point.name, point.shaped, each_element=True), special=point.special)
            yield from _tried(at, target.example, tiny.declared, lambda at=at: by_differences(at))  # type: ignore[misc]
            if point.name in ("fresh", "scale 30") and not quick:
                probed.append(_probed(at, torch.float64))
        fresh = problem("fresh", draw(tiny, domains, target.seed + 1), each_element=True)
        if not quick and _runs(ShapedInputs("fresh", fresh.call, fresh.inputs)):
            yield from _defined(fresh, target.example, _timed(lambda: by_forward_mode(fresh, vjp(fresh))))
            yield from _defined(fresh, target.example, _second(fresh))
    for shaped in other_shapes[:2] if quick else other_shapes:
        if shaped is tiny and not quick:
            continue
        fresh_inputs = draw(shaped, domains, target.seed + 2)
        at = problem("fresh" if shaped is target.example else shaped.name, fresh_inputs, each_element=False)
        if shaped.name != DECLARED_BUT_EMPTY and shaped is not tiny:
            yield from _tried(at, target.example, shaped.declared, lambda at=at: by_differences(at))  # type: ignore[misc]
        large = sum(t.numel() for t in shaped.inputs) > LARGE
        probed.append(_probed(at, torch.float64, QUICK_PROBES if quick or large else tuple(PROBES)))
    if not quick:
        probed.append(_probed(example, torch.float64))
    yield from _merged(probed)
    narrow = dtype not in (torch.float64, torch.complex128) or device.type != "cpu"
    if narrow:
        example = replace(example, each_element=False)
        torch.set_num_threads(threads)  # the kernels as they are used
        found = _timed(lambda: by_reference(example, dtype, device, target.roundoffs))
        torch.set_num_threads(1)
        yield from found
        yield from _in_dtype(target, domains, problem, tiny, dtype=dtype, device=device, quick=quick)


def _in_dtype(
    target: GradientTarget,
    domains: tuple[Domain, ...],
    problem: Callable[..., GradientProblem],
    tiny: ShapedInputs | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quick: bool,
) -> Iterator[GradientCheck]:
    """The gradients in the dtype on the device, against float64 from the same rounded inputs."""
    points = [] if tiny is None else [p for p in points_of(tiny, domains, target.seed) if not p.special]
    points += [
        InputPoint(f.name, draw(f, domains, target.seed + 2))
        for f in target.other_shapes
        if f.name != DECLARED_BUT_EMPTY
    ]
    if target.costly:
        return
    usual = gradient_scales(problem("fresh", points[0].shaped, each_element=False)) if tiny is not None else []
    for point in points[:2] if quick else points:
        at = problem(point.name, point.shaped, each_element=False)
        size = usual if tiny is not None and point.shaped.name == tiny.name else []
        yield from _tried(
            at,
            target.example,
            point.shaped.declared,
            lambda at=at, size=size: by_reference(at, dtype, device, target.roundoffs, size),  # type: ignore[misc]
        )
    probed = []
    for point in [p for p in points if p.name in ("fresh", "odd", "long n", "batch")][: 1 if quick else None]:
        moved = tuple(
            t.to(device, narrowed(t, dtype)) if is_differentiable(t.dtype) else t.to(device)
            for t in point.shaped.inputs
        )
        at = replace(problem(point.name, point.shaped, each_element=False), inputs=moved)
        probed.append(_probed(at, dtype, QUICK_PROBES if quick else tuple(PROBES)))
    for check in _merged(probed):
        yield replace(check, probe=f"{check.probe}, {str(dtype).removeprefix('torch.')}")


def _timed(made: Callable[[], Iterable[GradientCheck]]) -> list[GradientCheck]:
    """The checks, each with its share of the seconds that they took."""
    begun = time.perf_counter()
    checks = list(made())
    seconds = (time.perf_counter() - begun) / max(1, len(checks))
    return [replace(check, seconds=seconds) for check in checks]


def _tried(
    at: GradientProblem, example: ShapedInputs, declared: bool, made: Callable[[], Iterable[GradientCheck]]
) -> list[GradientCheck]:
    """The checks at inputs that nobody asked for: what the forward pass refuses there is not supported."""
    try:
        outputs = outputs_at(at.call, copied(at.inputs))
    except Exception as error:
        return [GradientCheck(at.probe, "finite_differences", "unsupported", reason=one_line(error, 160))]
    if not any(is_differentiable(t.dtype) for t in outputs):
        return []
    try:
        return _defined(at, example, _timed(made))
    except Exception as error:
        refused = isinstance(error, NotImplementedError) or not declared
        verdict = "unsupported" if refused else "fail"
        reason = f"the backward pass raised {type(error).__name__}: {one_line(error, 160)}"
        return [GradientCheck(at.probe, "finite_differences", verdict, reason=reason)]


def _defined(at: GradientProblem, example: ShapedInputs, checks: list[GradientCheck]) -> list[GradientCheck]:
    """The checks, without those that fail where the function leaves it open what it returns."""
    if not any(c.verdict == "fail" for c in checks) or not order_decides(at.call, at.inputs, example):
        return checks
    reason = "indices are equal, and the order in which they come decides what is returned"
    return [replace(c, verdict="inconclusive", reason=reason) if c.verdict == "fail" else c for c in checks]


def _probed(at: GradientProblem, dtype: torch.dtype, probes: tuple[str, ...] = tuple(PROBES)) -> list[GradientCheck]:
    try:
        base = Base(at, dtype=dtype)
    except Exception:  # whether it may be refused is said by the comparison with an oracle
        return []
    return _timed(lambda: probe_all(base, probes))


def _merged(probed: list[list[GradientCheck]]) -> Iterator[GradientCheck]:
    """For each probe, the worst that was found at any shape."""
    by_probe: dict[str, list[GradientCheck]] = {}
    for check in (check for checks in probed for check in checks):
        by_probe.setdefault(check.probe, []).append(check)
    for checks in by_probe.values():
        worst = max(checks, key=lambda c: (c.verdict in BAD, (c.max_relative_error or 0.0) / (c.tolerance or 1e-300)))
        yield replace(worst, seconds=sum(c.seconds or 0.0 for c in checks))


def _second(at: GradientProblem) -> list[GradientCheck]:
    """Second derivatives, where the backward pass can itself be differentiated."""
    try:
        twice = second_order(at)
        through = [t for t in twice.traced(copied(twice.inputs)).outputs if t.requires_grad]
        if through:  # to every leaf of the graph, and so through nodes that only raise
            torch.autograd.backward(through, [torch.ones_like(t) for t in through])
    except Exception as error:
        return [GradientCheck("second order", "finite_differences", "unsupported", reason=one_line(error, 160))]
    return _timed(lambda: by_differences(twice))


def _runs(shaped: ShapedInputs) -> bool:
    try:
        outputs_at(shaped.call, copied(shaped.inputs))
    except Exception:  # whatever it raises, this form is not one that it takes
        return False
    return True


def _in_place(example: ShapedInputs) -> bool:
    """Whether the function overwrites an input and returns it, as one that works in place does."""
    given = copied(example.inputs)
    outputs = outputs_at(example.call, given)
    changed = [t for t, before in zip(given, example.inputs, strict=True) if not torch.equal(t, before)]
    storages = {t.untyped_storage().data_ptr() for t in outputs if t.numel()}
    return any(t.untyped_storage().data_ptr() in storages for t in changed if t.numel())


def _unrepeatable(example: ShapedInputs) -> str | None:
    """Why the function's values say nothing about its slopes: they differ from call to call."""
    first, second = (outputs_at(example.call, copied(example.inputs)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return "its outputs' shapes differ from call to call"
        if not is_differentiable(a.dtype) or not a.numel():
            continue
        difference = (a - b).abs().nan_to_num(0.0).max().item()
        if difference > REPEATABLE * a.abs().nan_to_num(0.0, 0.0, 0.0).max().item():
            return f"its values differ by {difference:.3g} from call to call"
    return None
