"""Properties of a right gradient, whatever the function: no oracle is needed to see that one is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.errors import one_line
from runner.verify.gradients.deviation import VANISHING, WIDE, Baseline, Deviation, worst_of
from runner.verify.gradients.finding import GradientCheck
from runner.verify.gradients.layouts import LAYOUTS
from runner.verify.gradients.target import Tensors
from runner.verify.gradients.trace import draws_random_numbers
from runner.verify.gradients.vectors import copied, max_abs, random_cotangents

FACTORS = (
    -1.0,
    2.0**20,
    2.0**-20,
    -(2.0**-6),
)  # powers of two, by which multiplying does not round
NARROW_FACTORS = (-1.0, 2.0, -0.5)  # for float16, whose range is short
REPEATS = 8  # of the same backward call
ALIKE = 0.1  # relative; values that differ by more do not do so by rounding
DIGITS = (
    torch.float32
)  # a gradient in float64 that has no more digits than this was rounded on its way

Probe = Callable[[Baseline], Iterator[Deviation]]


def linearity(base: Baseline) -> Iterator[Deviation]:
    """A gradient is linear in the cotangent."""
    traced = base.traced(base.inputs)

    # a function that computes in float16 has its range, whatever the dtype of its inputs
    narrow = base.dtype is torch.float16 or base.problem.eps >= torch.finfo(torch.float16).eps
    largest = max((max_abs(g) for g in base.gradients), default=0.0)
    for factor in NARROW_FACTORS if narrow else FACTORS:
        if largest * abs(factor) >= torch.finfo(base.dtype).max / 16:
            continue
        scaled = traced.gradients([c * factor for c in base.cotangents])
        if narrow:
            yield Deviation(scaled, [g * factor for g in base.gradients])
        else:
            yield Deviation([g / factor for g in scaled], base.gradients)

    zeros = [torch.zeros_like(c) for c in base.cotangents]
    expected = [torch.where(g.isfinite(), torch.zeros_like(g), g) for g in base.gradients]
    yield Deviation(traced.gradients(zeros), expected)

    drawn = random_cotangents(base.cotangents, base.problem.generator(22))
    for parts in (drawn, [torch.ones_like(c) for c in base.cotangents]):
        rest = [c - p for c, p in zip(base.cotangents, parts, strict=True)]
        first, second = traced.gradients(parts), traced.gradients(rest)
        yield Deviation([a + b for a, b in zip(first, second, strict=True)], base.gradients)


def separate_outputs(base: Baseline) -> Iterator[Deviation]:
    """The gradients of each output alone sum up to those of all together."""
    count = len(base.cotangents)
    if count < 2:
        return
    total = [torch.zeros_like(g) for g in base.gradients]
    for j in range(count):
        alone = [c if k == j else None for k, c in enumerate(base.cotangents)]
        total = [t + g for t, g in zip(total, base.gradients_at(base.inputs, alone), strict=True)]
    yield Deviation(total, base.gradients)


def cotangent_layouts(base: Baseline) -> Iterator[Deviation]:
    """The gradient does not depend on the memory layout of the cotangent."""
    traced = base.traced(base.inputs)
    for name, lay in LAYOUTS.items():
        laid = [lay(c) for c in base.cotangents]
        if all(t is None for t in laid):
            continue
        cotangents = [c if t is None else t for t, c in zip(laid, base.cotangents, strict=True)]
        plain = [t.contiguous().resolve_conj().clone() for t in cotangents]
        try:
            got = traced.gradients(cotangents)
        except Exception as error:
            yield Deviation(layout=f"cotangent {name}", error=one_line(error, 160))
            continue
        yield Deviation(got, traced.gradients(plain), f"cotangent {name}")


def input_layouts(base: Baseline) -> Iterator[Deviation]:
    """The gradient does not depend on the memory layout of the inputs."""
    if draws_random_numbers(base.problem.call, base.inputs):
        return
    for name, lay in LAYOUTS.items():
        laid = [lay(t) if is_differentiable(t.dtype) else None for t in base.inputs]
        overlapping = base.problem.in_place and name == "expanded"
        if name == "constant" or overlapping or all(t is None for t in laid):
            continue
        inputs = [t if new is None else new for new, t in zip(laid, base.inputs, strict=True)]
        plain = [t.contiguous().resolve_conj().clone() for t in inputs]

        # without the same values there is nothing to compare: it may read memory rather than numbers
        try:
            traced, reference = base.traced(inputs), base.traced(plain)
            if not all(
                _alike(a, b) for a, b in zip(traced.outputs, reference.outputs, strict=True)
            ):
                continue
            expected = reference.gradients(base.cotangents)
        except Exception:  # the forward pass may refuse a layout
            continue
        try:
            got = traced.gradients(base.cotangents)
        except Exception as error:
            yield Deviation(layout=f"inputs {name}", error=one_line(error, 160))
            continue

        # expanded rows are alike, and any of them may get the gradient of a tie: their sum is compared
        if name == "expanded":
            got, expected = _row_sums(got), _row_sums(expected)
        yield Deviation(got, expected, f"inputs {name}")


def _row_sums(gradients: Tensors) -> Tensors:
    return [g.sum(0, keepdim=True) if g.dim() else g for g in gradients]


def subsets(base: Baseline) -> Iterator[Deviation]:
    """An input's gradient does not depend on the other inputs whose gradients are computed with it."""
    positions = base.problem.positions
    if len(positions) < 2:
        return
    columns = range(len(positions))
    sizes = range(1, len(positions)) if len(positions) <= 3 else (1, len(positions) - 1)
    for chosen in chain.from_iterable(combinations(columns, size) for size in sizes):
        subset = {positions[k] for k in chosen}
        requires_grad = tuple(i in subset for i in range(len(base.inputs)))
        traced = replace(base.problem, requires_grad=requires_grad).traced(base.inputs)
        if len(traced.outputs) != len(base.cotangents):
            continue  # an output depends on other inputs alone
        yield Deviation(traced.gradients(base.cotangents), [base.gradients[k] for k in chosen])


def repeated(base: Baseline) -> Iterator[Deviation]:
    """The same call gives the same gradient, on a kept graph and on a new one, whatever was called in between."""
    traced = base.traced(base.inputs)
    for _ in range(REPEATS):
        yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)

    # a call with other inputs, whose state must not get into the graph of these
    generator = base.problem.generator(23)
    others = [
        _mixed(t, generator) if is_differentiable(t.dtype) else t + 0 * t for t in base.inputs
    ]
    try:
        between = base.traced(others)
    except Exception:  # outside the domain
        between = base.traced(copied(base.inputs))
    cotangents = [-2 * c for c in base.cotangents]
    if [t.shape for t in between.outputs] == [c.shape for c in cotangents]:
        yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)
        between.gradients(cotangents)
    yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)
    yield Deviation(base.gradients_at(base.inputs, base.cotangents), base.gradients, exact=True)


def _mixed(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """The same numbers in another order, and so in the same domain."""
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return (tensor.flatten()[order] * 0.875).reshape(tensor.shape)


def unchanged(base: Baseline) -> Iterator[Deviation]:
    """The backward pass changes neither cotangent nor inputs nor outputs, and the forward pass no input."""
    inputs, cotangents = copied(base.inputs), copied(base.cotangents)
    traced = base.traced(inputs)
    outputs = [t.detach().clone() for t in traced.outputs]
    originals: dict[str, Tensors] = {}
    if not base.problem.in_place:
        # inputs without a gradient, as running statistics, may be changed by the forward pass
        pairs = zip(base.inputs, inputs, base.problem.requires_grad, strict=True)
        originals["inputs"] = [original if r else t.clone() for original, t, r in pairs]
    originals |= {"cotangent": base.cotangents, "outputs": outputs}

    traced.gradients(cotangents)
    now = {
        "inputs": inputs,
        "cotangent": cotangents,
        "outputs": [t.detach() for t in traced.outputs],
    }
    for what, before in originals.items():
        if not all(_same(a, b) for a, b in zip(now[what], before, strict=True)):
            yield Deviation(layout=what, error=f"the {what} changed")
            return
    yield Deviation(base.gradients, base.gradients)


def _alike(a: Tensor, b: Tensor) -> bool:
    scale = max_abs(b.detach())
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=ALIKE * scale, equal_nan=True)


def _same(a: Tensor, b: Tensor) -> bool:
    if not is_differentiable(a.dtype):
        return torch.equal(a, b)
    a, b = (
        torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (a, b)
    )  # halves know less
    return torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())


def accumulated(base: Baseline) -> Iterator[Deviation]:
    """``backward()`` twice leaves twice the gradient in ``.grad``: buffers that are shared would show."""
    traced = base.traced(base.inputs)
    used = [(o, c) for o, c in zip(traced.outputs, base.cotangents, strict=True) if o.requires_grad]
    if not used:
        return
    outputs, cotangents = [o for o, _ in used], copied([c for _, c in used])
    for _ in range(2):
        torch.autograd.backward(outputs, cotangents, retain_graph=True, inputs=traced.leaves)
    sums = [torch.zeros_like(t) if t.grad is None else t.grad for t in traced.leaves]
    yield Deviation([s / 2 for s in sums], base.gradients)
    yield Deviation(base.gradients_at(base.inputs, base.cotangents), base.gradients)


def shared_inputs(base: Baseline) -> Iterator[Deviation]:
    """One tensor passed as two inputs has the sum of the two gradients."""
    problem, positions = base.problem, base.problem.positions
    pair = None if problem.in_place else _interchangeable(base)
    if pair is None:
        return
    a, b = pair
    inputs = list(base.inputs)
    inputs[b] = inputs[a].clone()
    separate = base.gradients_at(inputs, base.cotangents)

    def joined(tensors: Tensors) -> Tensors:
        tensors = list(tensors)
        tensors[b] = tensors[a]
        return problem.call(tensors)

    together = replace(problem, call=joined).traced(inputs).gradients(base.cotangents)
    first, second = positions.index(a), positions.index(b)
    yield Deviation([together[first]], [separate[first] + separate[second]], "one tensor twice")


def _interchangeable(base: Baseline) -> tuple[int, int] | None:
    """The positions of the first two differentiable inputs of one shape and dtype."""
    for a, b in combinations(base.problem.positions, 2):
        first, second = base.inputs[a], base.inputs[b]
        if first.shape == second.shape and first.dtype == second.dtype:
            return a, b
    return None


def form_of_gradient(base: Baseline) -> Iterator[Deviation]:
    """A gradient has its input's shape, dtype and device, and as many digits as its dtype has."""
    traced = base.traced(base.inputs)
    gradients = traced.gradients(base.cotangents)
    for gradient, leaf in zip(gradients, traced.leaves, strict=True):
        for what in ("shape", "dtype", "device"):
            got, expected = getattr(gradient, what), getattr(leaf, what)
            if got != expected:
                yield Deviation(error=f"the gradient's {what} is {got}, not {expected}")
                return

    # of a gradient that vanishes all digits are rounding
    precise = all(_digits(t) for t in traced.outputs) and any(_digits(t) for t in base.inputs)
    for gradient in gradients if precise else ():
        vanishes = max_abs(gradient) <= VANISHING * base.weight
        if gradient.dtype in WIDE and not vanishes and not _digits(gradient):
            yield Deviation(
                error=f"the gradient has only the digits of {str(DIGITS).removeprefix('torch.')}"
            )
            return
    yield Deviation(gradients, base.gradients)


def _digits(tensor: Tensor) -> bool:
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


def probe_all(base: Baseline, probes: Sequence[str] = tuple(PROBES)) -> list[GradientCheck]:
    """Try each property of one problem: a check for each that says something there."""
    checks = []
    for name in probes:
        try:
            worst = worst_of(base, name, PROBES[name](base))
        except Exception as error:
            reason = f"{type(error).__name__}: {one_line(error, 200)}"
            worst = GradientCheck(name, "invariant", "error", reason=reason)
        if worst is None:
            continue
        reason_with_probe = f"{worst.reason} (at {base.problem.probe})" if worst.reason else None
        checks.append(replace(worst, reason=reason_with_probe))
    return checks
