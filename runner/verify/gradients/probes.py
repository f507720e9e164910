"""Properties that a right gradient has, whatever the function: no oracle is needed to see that one is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from runner.calls.bound_operation import is_differentiable
from runner.config.size import shape_text
from runner.errors import one_line
from runner.verify.gradients.finding import GradientCheck
from runner.verify.gradients.layouts import LAYOUTS
from runner.verify.gradients.problem import GradientProblem, index_text, max_abs, perturbed
from runner.verify.gradients.reference import DRAWS
from runner.verify.gradients.slope_comparison import BOUND_FACTOR
from runner.verify.gradients.vjp import Traced, copied, draws_random_numbers, gaussian

SLACK = 4.0  # a layout or another grouping may add in another order
FACTORS = (-1.0, 2.0**20, 2.0**-20, -(2.0**-6))  # powers of two, by which multiplying does not round
NARROW_FACTORS = (-1.0, 2.0, -0.5)  # for float16, whose range is short
WIDE = (torch.float64, torch.complex128)
REPEATS = 8  # of the same backward call
FLOOR = 1e-11  # relative
ALIKE = 0.1  # relative; values that differ by more do not do so by rounding
VANISHING = 1e-10  # relative to the cotangent
DIGITS = torch.float32  # a gradient in float64 that has no more digits than this was rounded on its way


@dataclass(frozen=True)
class Deviation:
    """How far gradients are from what the property asks.

    Attributes:
        got, expected: for each differentiable input.
        layout: of what was laid out differently.
        error: why there is no gradient to compare, where the call raised.
        exact: whether they are to be the same to the bit.
    """

    got: Sequence[torch.Tensor] = ()
    expected: Sequence[torch.Tensor] = ()
    layout: str | None = None
    error: str | None = None
    exact: bool = False


class Base:
    """The gradient of one problem, in the dtype and on the device under test, that variants are compared with."""

    def __init__(self, problem: GradientProblem, *, dtype: torch.dtype) -> None:
        self.problem, self.dtype = problem, dtype
        self.inputs = copied(problem.inputs)
        generator = torch.Generator().manual_seed(problem.seed + 21)
        traced = self.traced(self.inputs)
        self.cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in traced.outputs]
        self.gradients = traced.gradients(self.cotangents)
        self.roundoff = max(torch.finfo(dtype).eps, problem.eps if dtype in WIDE else 0.0) / 2
        self.uncertainty = [0.0] * len(self.gradients)
        for _ in range(DRAWS):
            try:
                moved = [perturbed(t, 4 * self.roundoff, generator) for t in self.inputs]
                found = self.traced(moved).gradients(
                    [perturbed(c, 4 * self.roundoff, generator) for c in self.cotangents]
                )
            except Exception:  # out of the domain by a roundoff
                continue
            self.uncertainty = [
                max(d, max_abs(f - g)) for d, f, g in zip(self.uncertainty, found, self.gradients, strict=True)
            ]

    def traced(self, inputs: Sequence[torch.Tensor]) -> Traced:
        """Call with a graph."""
        return self.problem.traced(inputs)

    def again(self, inputs: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
        """The gradients at other inputs or cotangents."""
        return self.traced(inputs).gradients(cotangents)

    @property
    def floor(self) -> float:
        """Below this the dtype loses digits."""
        return float(torch.finfo(self.dtype).tiny)


Probe = Callable[[Base], Iterator[Deviation]]


def linearity(base: Base) -> Iterator[Deviation]:
    """A gradient is linear in the cotangent."""
    traced = base.traced(base.inputs)
    largest = max((max_abs(g) for g in base.gradients), default=0.0)
    short = torch.finfo(torch.float16)  # its range, which a function that computes in it has whatever it is given
    narrow = base.dtype is torch.float16 or base.problem.eps >= short.eps
    for factor in NARROW_FACTORS if narrow else FACTORS:
        if largest * abs(factor) < torch.finfo(base.dtype).max / 16:
            found = traced.gradients([c * factor for c in base.cotangents])
            yield Deviation(
                found if narrow else [g / factor for g in found],
                [g * factor for g in base.gradients] if narrow else base.gradients,
            )
    yield Deviation(
        traced.gradients([torch.zeros_like(c) for c in base.cotangents]),
        [torch.where(g.isfinite(), torch.zeros_like(g), g) for g in base.gradients],
    )
    generator = torch.Generator().manual_seed(base.problem.seed + 22)
    drawn = [gaussian(c, generator).to(c.device, c.dtype) for c in base.cotangents]
    for parts in (drawn, [torch.ones_like(c) for c in base.cotangents]):
        rest = [c - p for c, p in zip(base.cotangents, parts, strict=True)]
        first, second = traced.gradients(parts), traced.gradients(rest)
        yield Deviation([a + b for a, b in zip(first, second, strict=True)], base.gradients)


def separate_outputs(base: Base) -> Iterator[Deviation]:
    """What each output alone gives sums up to what they give together."""
    count = len(base.cotangents)
    if count < 2:
        return
    total = [torch.zeros_like(g) for g in base.gradients]
    for j in range(count):
        alone = [c if k == j else None for k, c in enumerate(base.cotangents)]
        total = [t + g for t, g in zip(total, base.again(base.inputs, alone), strict=True)]
    yield Deviation(total, base.gradients)


def cotangent_layouts(base: Base) -> Iterator[Deviation]:
    """The gradient does not depend on how the cotangent lies in memory."""
    traced = base.traced(base.inputs)
    for name, lay in LAYOUTS.items():
        laid = [lay(c) for c in base.cotangents]
        if all(t is None for t in laid):
            continue
        filled = [c if t is None else t for t, c in zip(laid, base.cotangents, strict=True)]
        plain = [t.contiguous().resolve_conj().clone() for t in filled]
        try:
            got = traced.gradients(filled)
        except Exception as error:
            yield Deviation(layout=f"cotangent {name}", error=one_line(error, 160))
            continue
        yield Deviation(got, traced.gradients(plain), f"cotangent {name}")


def input_layouts(base: Base) -> Iterator[Deviation]:
    """The gradient does not depend on how the inputs lie in memory."""
    if draws_random_numbers(base.problem.call, base.inputs):
        return
    for name, lay in LAYOUTS.items():
        laid = [lay(t) if is_differentiable(t.dtype) else None for t in base.inputs]
        if name == "constant" or all(t is None for t in laid) or (base.problem.in_place and name == "expanded"):
            continue
        filled = [t if new is None else new for new, t in zip(laid, base.inputs, strict=True)]
        plain = [t.contiguous().resolve_conj().clone() for t in filled]
        try:
            traced, apart = base.traced(filled), base.traced(plain)
            if not all(_alike(a, b) for a, b in zip(traced.outputs, apart.outputs, strict=True)):
                continue  # it reads memory rather than numbers
            expected = apart.gradients(base.cotangents)
        except Exception:  # the forward pass may refuse a layout
            continue
        try:
            got = traced.gradients(base.cotangents)
        except Exception as error:
            yield Deviation(layout=f"inputs {name}", error=one_line(error, 160))
            continue
        if name == "expanded":  # rows are alike there, and which of them gets the gradient of a tie is open
            got, expected = ([g.sum(0, keepdim=True) if g.dim() else g for g in of] for of in (got, expected))
        yield Deviation(got, expected, f"inputs {name}")


def subsets(base: Base) -> Iterator[Deviation]:
    """An input's gradient does not depend on which others are asked for."""
    positions = base.problem.positions
    if len(positions) < 2:
        return
    sizes = range(1, len(positions)) if len(positions) <= 3 else (1, len(positions) - 1)
    for size in sizes:
        for chosen in combinations(range(len(positions)), size):
            requires_grad = tuple(i in {positions[k] for k in chosen} for i in range(len(base.inputs)))
            traced = replace(base.problem, requires_grad=requires_grad).traced(base.inputs)
            if len(traced.outputs) != len(base.cotangents):
                continue  # an output depends on other inputs alone
            yield Deviation(traced.gradients(base.cotangents), [base.gradients[k] for k in chosen])


def repeated(base: Base) -> Iterator[Deviation]:
    """The same call gives the same, on a kept graph and anew, and whatever else was called in between."""
    traced = base.traced(base.inputs)
    for _ in range(REPEATS):
        yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)
    generator = torch.Generator().manual_seed(base.problem.seed + 23)
    other = [t + 0 * t if not is_differentiable(t.dtype) else _mixed(t, generator) for t in base.inputs]
    try:
        between = base.traced(other)
    except Exception:  # outside the domain
        between = base.traced(copied(base.inputs))
    cotangents = [-2 * c for c in base.cotangents]
    if len(between.outputs) == len(cotangents) and all(
        o.shape == c.shape for o, c in zip(between.outputs, cotangents, strict=True)
    ):
        yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)
        between.gradients(cotangents)
    yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)
    yield Deviation(base.again(base.inputs, base.cotangents), base.gradients, exact=True)


def _mixed(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same numbers in another order, and so in the same domain."""
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return (tensor.flatten()[order] * 0.875).reshape(tensor.shape)


def unchanged(base: Base) -> Iterator[Deviation]:
    """The backward pass changes neither cotangent nor inputs nor outputs, and the forward pass no input."""
    inputs, cotangents = copied(base.inputs), copied(base.cotangents)
    traced = base.traced(inputs)
    names: list[tuple[str, list[torch.Tensor], list[torch.Tensor]]] = []
    if not base.problem.in_place:  # statistics that the forward pass keeps have no gradient
        requires_grad = base.problem.requires_grad
        before = [b if w else t.clone() for b, t, w in zip(base.inputs, inputs, requires_grad, strict=True)]
        names.append(("inputs", inputs, before))
    outputs = [t.detach().clone() for t in traced.outputs]
    traced.gradients(cotangents)
    names += [("cotangent", cotangents, base.cotangents), ("outputs", [t.detach() for t in traced.outputs], outputs)]
    for what, now, before in names:
        if not all(_same(a, b) for a, b in zip(now, before, strict=True)):
            yield Deviation(layout=what, error=f"the {what} changed")
            return
    yield Deviation(base.gradients, base.gradients)


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = max_abs(b.detach())
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=ALIKE * scale, equal_nan=True)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not is_differentiable(a.dtype):
        return torch.equal(a, b)
    a, b = (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (a, b))  # halves know less
    return torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())


def accumulated(base: Base) -> Iterator[Deviation]:
    """``backward()`` twice leaves twice the gradient in ``.grad``: a plumbing check of buffers that are shared."""
    traced = base.traced(base.inputs)
    used = [(o, c) for o, c in zip(traced.outputs, base.cotangents, strict=True) if o.requires_grad]
    if not used:
        return
    kept = copied([c for _, c in used])
    for _ in range(2):
        torch.autograd.backward([o for o, _ in used], kept, retain_graph=True, inputs=traced.leaves)
    got = [torch.zeros_like(t) if t.grad is None else t.grad for t in traced.leaves]
    yield Deviation([g / 2 for g in got], base.gradients)
    yield Deviation(base.again(base.inputs, base.cotangents), base.gradients)


def shared_inputs(base: Base) -> Iterator[Deviation]:
    """One tensor passed as two inputs has the sum of the two gradients."""
    positions = [] if base.problem.in_place else base.problem.positions
    for a, b in combinations(positions, 2):
        if base.inputs[a].shape != base.inputs[b].shape or base.inputs[a].dtype != base.inputs[b].dtype:
            continue
        alike = list(base.inputs)
        alike[b] = alike[a].clone()
        plain = base.traced(alike)
        apart = plain.gradients(base.cotangents)
        problem = base.problem

        def joined(
            tensors: list[torch.Tensor], a: int = a, b: int = b, call: object = problem.call
        ) -> list[torch.Tensor]:
            tensors = list(tensors)
            tensors[b] = tensors[a]
            return call(tensors)  # type: ignore[no-any-return,operator]

        together = replace(problem, call=joined).traced(alike).gradients(base.cotangents)
        index = positions.index(a)
        yield Deviation([together[index]], [apart[index] + apart[positions.index(b)]], "one tensor twice")
        return


def form_of_gradient(base: Base) -> Iterator[Deviation]:
    """A gradient has its input's shape, dtype and device, and as many digits as its dtype has."""
    traced = base.traced(base.inputs)
    found = traced.gradients(base.cotangents)
    for gradient, leaf in zip(found, traced.leaves, strict=True):
        for what in ("shape", "dtype", "device"):
            if getattr(gradient, what) != getattr(leaf, what):
                yield Deviation(error=f"the gradient's {what} is {getattr(gradient, what)}, not {getattr(leaf, what)}")
                return
    weight = max((max_abs(c) for c in base.cotangents), default=0.0)
    precise = all(_digits(t) for t in traced.outputs) and any(_digits(t) for t in base.inputs)
    for gradient in found:
        if (
            gradient.dtype in WIDE
            and precise
            and max_abs(gradient) > VANISHING * weight  # of less, all of it is rounding
            and not _digits(gradient)
        ):
            yield Deviation(error=f"the gradient has only the digits of {str(DIGITS).removeprefix('torch.')}")
            return
    yield Deviation(found, base.gradients)


def _digits(tensor: torch.Tensor) -> bool:
    """Whether a tensor in float64 holds numbers that float32 cannot."""
    narrow = torch.complex64 if tensor.is_complex() else DIGITS
    return bool((tensor.detach() != tensor.detach().to(narrow).to(tensor.dtype)).any())


PROBES: dict[str, Probe] = {
    "linearity": linearity,
    "separate outputs": separate_outputs,
    "cotangent layouts": cotangent_layouts,
    "input layouts": input_layouts,
    "subsets of inputs": subsets,
    "repeated": repeated,
    "unchanged": unchanged,
    "accumulated": accumulated,
    "shared inputs": shared_inputs,
    "form of gradient": form_of_gradient,
}
"""Each probe by the name that results give it."""


def probe_all(base: Base, probes: Sequence[str] = tuple(PROBES)) -> list[GradientCheck]:
    """Try each property of one problem: a check for each that says something there."""
    found = []
    for name in probes:
        try:
            worst = _worst(base, name, PROBES[name](base))
        except Exception as error:
            worst = GradientCheck(name, "invariant", "error", reason=f"{type(error).__name__}: {one_line(error, 200)}")
        if worst is not None:
            found.append(replace(worst, reason=f"{worst.reason} (at {base.problem.probe})" if worst.reason else None))
    return found


def _worst(base: Base, name: str, deviations: Iterator[Deviation]) -> GradientCheck | None:
    worst: GradientCheck | None = None
    highest = -1.0
    for deviation in deviations:
        if deviation.error:
            return GradientCheck(name, "invariant", "fail", memory_layout=deviation.layout, reason=deviation.error)
        names = base.problem.positions
        for index, (got, expected) in enumerate(zip(deviation.got, deviation.expected, strict=True)):
            check = _deviation(
                base,
                name,
                layout=deviation.layout,
                got=got,
                expected=expected,
                index=index if len(deviation.got) == len(names) else 0,
                exact=deviation.exact,
            )
            ratio = (
                1e300 if check.verdict == "fail" else (check.max_relative_error or 0.0) / (check.tolerance or 1e-300)
            )
            if ratio > highest:
                worst, highest = check, ratio
    return worst


def _deviation(
    base: Base, name: str, *, layout: str | None, got: torch.Tensor, expected: torch.Tensor, index: int, exact: bool
) -> GradientCheck:
    argument = base.problem.names[base.problem.positions[index]]
    shape = shape_text(tuple(expected.shape))
    if not got.numel():
        return GradientCheck(
            name, "invariant", "pass", argument, shape, layout, max_abs_error=0.0, max_relative_error=0.0, tolerance=0.0
        )
    defined = expected.isfinite()  # where a gradient is not finite, oracles say whether it should be
    errors = torch.where(defined, (got - expected).abs(), torch.zeros(())).to(torch.float64)
    errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
    worst = int(errors.argmax())
    scale = max(
        max_abs(expected), max_abs(base.gradients[index]) if expected.shape == base.gradients[index].shape else 0.0
    )
    u = base.roundoff
    weight = max((max_abs(c) for c in base.cotangents), default=0.0)  # what a small gradient may be the rest of
    terms = sum(c.numel() for c in base.cotangents) / max(1, expected.numel())
    summed = max(1.0, terms) ** 0.5  # added up in another order
    allowed = SLACK * BOUND_FACTOR * summed * (2 * u * scale + base.uncertainty[index]) + 16 * (u * weight + base.floor)
    if scale <= VANISHING * weight:  # all of it is rounding, of terms whose size is not known
        allowed = max(allowed, 1e3 * u * weight)
    if base.dtype in WIDE:
        allowed = max(allowed, FLOOR * scale)  # what nobody can see is no deviation, though the bound be overdrawn
    if exact:  # what is not repeatable has made the draws of the bound differ too
        allowed = 16 * u * summed * max(scale, weight) + base.floor
    error = errors[worst].item()
    relative, tolerance = (error / scale, allowed / scale) if scale else (error, allowed)
    verdict = "fail" if error > allowed else "inconclusive" if exact and error else "pass"
    wide = got.flatten()[worst].to(torch.complex128).real.item()
    return GradientCheck(
        name,
        "invariant",
        verdict,
        argument,
        shape,
        layout,
        max_abs_error=error,
        max_relative_error=relative,
        worst_index=index_text(worst * (2 if got.is_complex() else 1), got),
        got=wide,
        expected=expected.flatten()[worst].to(torch.complex128).real.item(),
        tolerance=tolerance,
        tolerance_source="conditioning",
        reason=None
        if verdict == "pass"
        else f"the gradient of input {argument} differs by {relative:.3g} of its scale",
    )
