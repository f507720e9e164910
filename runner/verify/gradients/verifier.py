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
from runner.verify.gradients.points import Point, draw, found_domains, points_of
from runner.verify.gradients.probes import PROBES, Base, probe_all
from runner.verify.gradients.reference import by_analytic, by_reference, gains, narrowed
from runner.verify.gradients.setting import Setting, second_order
from runner.verify.gradients.shapes import FEW_ELEMENTS, guessed_forms, operation_subject
from runner.verify.gradients.slopes_table import pull
from runner.verify.gradients.structure import order_decides
from runner.verify.gradients.subject import Form, Subject
from runner.verify.gradients.vjp import copied, outputs_at, own_eps

QUICK_PROBES = ("linearity", "cotangent layouts", "unchanged")
LARGE = 20_000  # elements of a form at which the quick probes alone are tried
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
    return verify(operation_subject(bound), bound.dtype, device, quick=quick)


def verify(subject: Subject, dtype: torch.dtype, device: torch.device, *, quick: bool = False) -> list[GradientCheck]:
    """Verify a subject's gradients in a dtype on a device.

    Args:
        subject: what to verify.
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
            return list(_verify(subject, dtype, device, threads, quick=quick))
    finally:
        torch.set_num_threads(threads)


def _verify(
    subject: Subject, dtype: torch.dtype, device: torch.device, threads: int, *, quick: bool
) -> Iterator[GradientCheck]:
    small = subject.example if sum(t.numel() for t in subject.example.inputs) <= FEW_ELEMENTS else None
    forms = list(subject.forms or ([*([small] if small else []), *guessed_forms(subject.example, subject.seed)]))
    subject = replace(subject, forms=tuple(forms))
    domains = found_domains(subject)
    in_place = _in_place(subject.example)
    reason = _unrepeatable(subject.example)
    if reason:
        yield GradientCheck("repeatable", "invariant", "inconclusive", reason=reason)
        return

    model = draw(subject.forms[0], domains, subject.seed + 1) if subject.forms else subject.example
    eps = own_eps(model.call, model.inputs) if _runs(model) else torch.finfo(torch.float64).eps

    def setting(probe: str, form: Form, *, each: bool) -> Setting:
        return Setting(
            probe, form.call, form.inputs, subject.wanted, subject.arguments, subject.seed, in_place, each=each, eps=eps
        )

    if not any(subject.wanted):
        yield GradientCheck("example", "invariant", "unsupported", reason="no input has a gradient")
        return
    example = setting("example", subject.example, each=sum(t.numel() for t in subject.example.inputs) <= FEW_ELEMENTS)
    example = replace(example, special=True)  # whoever declared it may have chosen equal elements, or zeros
    yield from _defined(example, subject.example, _timed(lambda: by_differences(example)))
    if subject.analytic is not None:
        analytic = subject.analytic
        yield from _timed(lambda: by_analytic(example, analytic))
    tiny = next((f for f in forms if sum(t.numel() for t in f.inputs) <= FEW_ELEMENTS and _runs(f)), None)
    probed: list[list[GradientCheck]] = []
    if tiny is not None:
        for point in points_of(tiny, domains, subject.seed)[: 1 if quick else None]:
            at = replace(setting(point.name, point.form, each=True), special=point.special)
            yield from _tried(at, subject.example, tiny.declared, lambda at=at: by_differences(at))  # type: ignore[misc]
            if point.name in ("fresh", "scale 30") and not quick:
                probed.append(_probed(at, torch.float64))
        fresh = setting("fresh", draw(tiny, domains, subject.seed + 1), each=True)
        if not quick and _runs(Form("fresh", fresh.call, fresh.inputs)):
            yield from _defined(fresh, subject.example, _timed(lambda: by_forward_mode(fresh, pull(fresh))))
            yield from _defined(fresh, subject.example, _second(fresh))
    for form in forms[:2] if quick else forms:
        if form is tiny and not quick:
            continue
        fresh_form = draw(form, domains, subject.seed + 2)
        at = setting("fresh" if form is subject.example else form.name, fresh_form, each=False)
        if form.name != DECLARED_BUT_EMPTY and form is not tiny:
            yield from _tried(at, subject.example, form.declared, lambda at=at: by_differences(at))  # type: ignore[misc]
        large = sum(t.numel() for t in form.inputs) > LARGE
        probed.append(_probed(at, torch.float64, QUICK_PROBES if quick or large else tuple(PROBES)))
    if not quick:
        probed.append(_probed(example, torch.float64))
    yield from _merged(probed)
    narrow = dtype not in (torch.float64, torch.complex128) or device.type != "cpu"
    if narrow:
        example = replace(example, each=False)
        torch.set_num_threads(threads)  # the kernels as they are used
        found = _timed(lambda: by_reference(example, dtype, device, subject.roundoffs))
        torch.set_num_threads(1)
        yield from found
        yield from _in_dtype(subject, domains, setting, tiny, dtype=dtype, device=device, quick=quick)


def _in_dtype(
    subject: Subject,
    domains: tuple[Domain, ...],
    setting: Callable[..., Setting],
    tiny: Form | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quick: bool,
) -> Iterator[GradientCheck]:
    """The gradients in the dtype on the device, against float64 from the same rounded inputs."""
    points = [] if tiny is None else [p for p in points_of(tiny, domains, subject.seed) if not p.special]
    points += [Point(f.name, draw(f, domains, subject.seed + 2)) for f in subject.forms if f.name != DECLARED_BUT_EMPTY]
    if subject.costly:
        return
    usual = gains(setting("fresh", points[0].form, each=False)) if tiny is not None else []
    for point in points[:2] if quick else points:
        at = setting(point.name, point.form, each=False)
        size = usual if tiny is not None and point.form.name == tiny.name else []
        yield from _tried(
            at,
            subject.example,
            point.form.declared,
            lambda at=at, size=size: by_reference(at, dtype, device, subject.roundoffs, size),  # type: ignore[misc]
        )
    probed = []
    for point in [p for p in points if p.name in ("fresh", "odd", "long n", "batch")][: 1 if quick else None]:
        moved = tuple(
            t.to(device, narrowed(t, dtype)) if is_differentiable(t.dtype) else t.to(device) for t in point.form.inputs
        )
        at = replace(setting(point.name, point.form, each=False), inputs=moved)
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
    at: Setting, example: Form, declared: bool, made: Callable[[], Iterable[GradientCheck]]
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


def _defined(at: Setting, example: Form, checks: list[GradientCheck]) -> list[GradientCheck]:
    """The checks, without those that fail where the function leaves it open what it returns."""
    if not any(c.verdict == "fail" for c in checks) or not order_decides(at.call, at.inputs, example):
        return checks
    reason = "indices are equal, and the order in which they come decides what is returned"
    return [replace(c, verdict="inconclusive", reason=reason) if c.verdict == "fail" else c for c in checks]


def _probed(at: Setting, dtype: torch.dtype, probes: tuple[str, ...] = tuple(PROBES)) -> list[GradientCheck]:
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


def _second(at: Setting) -> list[GradientCheck]:
    """Second derivatives, where the backward pass can itself be differentiated."""
    try:
        twice = second_order(at)
        through = [t for t in twice.traced(copied(twice.inputs)).outputs if t.requires_grad]
        if through:  # to every leaf of the graph, and so through nodes that only raise
            torch.autograd.backward(through, [torch.ones_like(t) for t in through])
    except Exception as error:
        return [GradientCheck("second order", "finite_differences", "unsupported", reason=one_line(error, 160))]
    return _timed(lambda: by_differences(twice))


def _runs(form: Form) -> bool:
    try:
        outputs_at(form.call, copied(form.inputs))
    except Exception:  # whatever it raises, this form is not one that it takes
        return False
    return True


def _in_place(example: Form) -> bool:
    """Whether the function overwrites an input and returns it, as one that works in place does."""
    given = copied(example.inputs)
    outputs = outputs_at(example.call, given)
    changed = [t for t, before in zip(given, example.inputs, strict=True) if not torch.equal(t, before)]
    storages = {t.untyped_storage().data_ptr() for t in outputs if t.numel()}
    return any(t.untyped_storage().data_ptr() in storages for t in changed if t.numel())


def _unrepeatable(example: Form) -> str | None:
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
