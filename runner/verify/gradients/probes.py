"""Properties of a right gradient, whatever the function: they need no oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations

import torch
from torch import Tensor

from runner.calls.bound_operation import draws_random_numbers, is_differentiable
from runner.errors import is_unsupported, one_line
from runner.rows.rows import GradientCheck
from runner.verify.gradients.deviation import VANISHING, WIDE, Baseline, Deviation, worst_of
from runner.verify.gradients.problem import SINGLE
from runner.verify.gradients.vectors import Tensors, copied, largest, max_abs, random_cotangents

FACTORS = (-1.0, 2.0**20, 2.0**-20, -(2.0**-6))  # multiplying by powers of two does not round
NARROW_FACTORS = (-1.0, 2.0, -0.5)  # for float16, whose range is short
REPEATS = 8  # of the same backward call
ALIKE = 0.1  # relative; values that differ by more do not do so by rounding

Probe = Callable[[Baseline], Iterator[Deviation]]
Layout = Callable[[Tensor], Tensor | None]


def linearity(base: Baseline) -> Iterator[Deviation]:
    """A gradient is linear in the cotangent."""
    traced = base.traced(base.inputs)

    # a function that computes in float16 has its range, whatever the dtype of its inputs
    narrow = base.dtype is torch.float16 or base.problem.eps >= torch.finfo(torch.float16).eps
    size = largest(base.gradients)
    for factor in NARROW_FACTORS if narrow else FACTORS:
        if size * abs(factor) >= torch.finfo(base.dtype).max / 16:
            continue
        scaled = traced.gradients([c * factor for c in base.cotangents])
        if narrow:
            yield Deviation(scaled, [g * factor for g in base.gradients])
        else:
            yield Deviation([g / factor for g in scaled], base.gradients)

    zeros = [torch.zeros_like(c) for c in base.cotangents]
    expected = [g.masked_fill(g.isfinite(), 0.0) for g in base.gradients]
    yield Deviation(traced.gradients(zeros), expected)

    drawn = random_cotangents(base.cotangents, base.problem.generator(22))
    for parts in (drawn, [torch.ones_like(c) for c in base.cotangents]):
        rest = [c - p for c, p in zip(base.cotangents, parts, strict=True)]
        total = list(map(torch.add, traced.gradients(parts), traced.gradients(rest)))
        yield Deviation(total, base.gradients)


def separate_outputs(base: Baseline) -> Iterator[Deviation]:
    """The gradients of each output alone sum up to those of all together."""
    count = len(base.cotangents)
    if count < 2:
        return
    total = [torch.zeros_like(g) for g in base.gradients]
    for j in range(count):
        alone = [c if k == j else None for k, c in enumerate(base.cotangents)]
        total = list(map(torch.add, total, base.gradients_at(base.inputs, alone)))
    yield Deviation(total, base.gradients)


def transposed(tensor: Tensor) -> Tensor | None:
    """Dimensions in the reverse order in memory; None where there are not two of any length."""
    if sum(n > 1 for n in tensor.shape) < 2:
        return None
    order = list(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


def spaced(tensor: Tensor) -> Tensor | None:
    """Every second element of a larger storage, the first of which is not at its beginning."""
    if not tensor.dim():
        return None
    gap = float("nan") if tensor.is_floating_point() else 0
    storage = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), gap)
    return storage[..., 1::2].copy_(tensor)


def expanded(tensor: Tensor) -> Tensor | None:
    """One row for all, without memory of their own (stride 0); other numbers than the tensor's."""
    return tensor[:1].expand(tensor.shape) if tensor.dim() and tensor.numel() else None


def constant(tensor: Tensor) -> Tensor | None:
    """One number for all, as the gradient of a sum is; other numbers than the tensor's."""
    return tensor.flatten()[0].expand(tensor.shape) if tensor.dim() and tensor.numel() else None


def conjugated(tensor: Tensor) -> Tensor | None:
    """A complex tensor of which memory holds the conjugate."""
    return tensor.conj().resolve_conj().conj() if tensor.is_complex() else None


LAYOUTS: tuple[Layout, ...] = (transposed, spaced, expanded, constant, conjugated)
"""Each gives a tensor of the same shape and dtype; None where this one cannot have the layout."""


def cotangent_layouts(base: Baseline) -> Iterator[Deviation]:
    """The gradient does not depend on the memory layout of the cotangent."""
    traced = base.traced(base.inputs)
    for layout in LAYOUTS:
        cotangents, name = _laid_out(base.cotangents, layout), f"cotangent {layout.__name__}"
        if cotangents is None:
            continue
        try:
            got = traced.gradients(cotangents)
        except Exception as error:
            yield Deviation(layout=name, error=one_line(error, 160))
            continue
        yield Deviation(got, traced.gradients(_plain(cotangents)), name)


def input_layouts(base: Baseline) -> Iterator[Deviation]:
    """The gradient does not depend on the memory layout of the inputs."""
    if draws_random_numbers(base.problem.call, base.inputs):
        return
    for layout in LAYOUTS:
        inputs, name = _laid_out(base.inputs, layout), f"inputs {layout.__name__}"
        overlapping = base.problem.in_place and layout is expanded
        if inputs is None or layout is constant or overlapping:
            continue

        # without the same values there is nothing to compare: it may read memory, not numbers
        try:
            traced, reference = base.traced(inputs), base.traced(_plain(inputs))
            pairs = zip(traced.outputs, reference.outputs, strict=True)
            if not all(_alike(a, b) for a, b in pairs):
                continue
            expected = reference.gradients(base.cotangents)
        except Exception:  # the forward pass may refuse a layout
            continue
        try:
            got = traced.gradients(base.cotangents)
        except Exception as error:
            yield Deviation(layout=name, error=one_line(error, 160))
            continue

        # expanded rows are alike, and any may get the gradient of a tie: their sum is compared
        if layout is expanded:
            got, expected = _row_sums(got), _row_sums(expected)
        yield Deviation(got, expected, name)


def _laid_out(tensors: Tensors, layout: Layout) -> Tensors | None:
    """Tensors in a memory layout, as far as they can have it; None where none can."""
    changed = [layout(t) if is_differentiable(t.dtype) else None for t in tensors]
    if all(t is None for t in changed):
        return None
    return [t if new is None else new for new, t in zip(changed, tensors, strict=True)]


def _plain(tensors: Tensors) -> Tensors:
    return [t.contiguous().resolve_conj().clone() for t in tensors]


def _alike(a: Tensor, b: Tensor) -> bool:
    apart = ALIKE * max_abs(b.detach())
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=apart, equal_nan=True)


def _row_sums(gradients: Tensors) -> Tensors:
    return [g.sum(0, keepdim=True) if g.dim() else g for g in gradients]


def subsets(base: Baseline) -> Iterator[Deviation]:
    """An input's gradient does not depend on the other inputs whose gradients are computed too."""
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
        got, expected = traced.gradients(base.cotangents), [base.gradients[k] for k in chosen]
        yield Deviation(got, expected, columns=chosen)


def repeated(base: Baseline) -> Iterator[Deviation]:
    """The same call gives the same gradient, on a kept graph and on a new one, whatever between."""
    traced = base.traced(base.inputs)
    for _ in range(REPEATS):
        yield Deviation(traced.gradients(base.cotangents), base.gradients, exact=True)

    # a call with other inputs, whose state must not get into the graph of these
    generator = base.problem.generator(23)
    others = [_mixed(t, generator) if is_differentiable(t.dtype) else t for t in base.inputs]
    try:
        between = base.traced(copied(others))
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
    """The backward pass changes no cotangent, input or output, and the forward pass no input."""
    inputs, cotangents = copied(base.inputs), copied(base.cotangents)
    traced = base.traced(inputs)
    outputs = [t.detach() for t in traced.outputs]

    # inputs without a gradient, as running statistics, may be changed by the forward pass
    pairs = zip(base.inputs, inputs, base.problem.requires_grad, strict=True)
    originals = [original if r else t.clone() for original, t, r in pairs]
    watched = {
        "inputs": (originals, inputs),
        "cotangent": (base.cotangents, cotangents),
        "outputs": (copied(outputs), outputs),
    }
    if base.problem.in_place:
        del watched["inputs"]

    traced.gradients(cotangents)
    for what, (before, now) in watched.items():
        if not all(map(_same, now, before)):
            yield Deviation(layout=what, error=f"the {what} changed")
            return
    yield Deviation(base.gradients, base.gradients)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the bit, NaNs included."""
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def accumulated(base: Baseline) -> Iterator[Deviation]:
    """``backward()`` twice leaves twice the gradient in ``.grad``: shared buffers would show."""
    traced = base.traced(base.inputs)
    pairs = zip(traced.outputs, copied(base.cotangents), strict=True)
    used = [(o, c) for o, c in pairs if o.requires_grad]
    if not used:
        return
    outputs, cotangents = zip(*used, strict=True)
    for _ in range(2):
        torch.autograd.backward(outputs, cotangents, retain_graph=True)
    yield Deviation([s / 2 for s in traced.accumulated()], base.gradients)
    yield Deviation(base.gradients_at(base.inputs, base.cotangents), base.gradients)


def shared_inputs(base: Baseline) -> Iterator[Deviation]:
    """One tensor passed as two inputs has the sum of the two gradients."""
    problem, positions = base.problem, base.problem.positions
    form = {i: (base.inputs[i].shape, base.inputs[i].dtype) for i in positions}
    pairs = [(a, b) for a, b in combinations(positions, 2) if form[a] == form[b]]
    if problem.in_place or not pairs:
        return
    a, b = pairs[0]
    inputs = list(base.inputs)
    inputs[b] = inputs[a].clone()
    separate = base.gradients_at(inputs, base.cotangents)

    def joined(tensors: Tensors) -> Tensors:
        tensors = list(tensors)
        tensors[b] = tensors[a]
        return problem.call(tensors)

    together = replace(problem, call=joined).traced(inputs).gradients(base.cotangents)
    first, second = positions.index(a), positions.index(b)
    total, layout = separate[first] + separate[second], "one tensor twice"
    yield Deviation([together[first]], [total], layout, columns=(first,))


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

    # of a gradient that vanishes, or that is known to less than float32, all digits are rounding
    precise = all(map(_digits, traced.outputs)) and any(map(_digits, base.inputs))
    pairs = zip(gradients, base.uncertainty, strict=True)
    for gradient, uncertainty in pairs if precise else ():
        scale = max_abs(gradient)
        vague = base.allowed(gradient, scale, uncertainty) > SINGLE * scale
        vague = vague or scale <= VANISHING * base.weight
        if gradient.dtype in WIDE and not vague and not _digits(gradient):
            yield Deviation(error="the gradient has only the digits of float32")
            return
    yield Deviation(gradients, base.gradients)


def _digits(tensor: Tensor) -> bool:
    """Whether a tensor in float64 holds numbers that float32 cannot."""
    narrow = torch.complex64 if tensor.is_complex() else torch.float32
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


def probe_all(base: Baseline, probes: Sequence[str]) -> list[GradientCheck]:
    """Try each property of one problem: a check for each that says something there."""
    checks = []
    for name in probes:
        try:
            worst = worst_of(base, name, PROBES[name](base))
        except Exception as error:
            reason = f"{type(error).__name__}: {one_line(error, 200)}"
            verdict = "unsupported" if is_unsupported(error) else "error"
            worst = GradientCheck(name, "invariant", verdict=verdict, reason=reason)
        if worst is not None and worst.reason:
            worst = replace(worst, reason=f"{worst.reason} (at {base.problem.probe})")
        if worst is not None:
            checks.append(worst)
    return checks
