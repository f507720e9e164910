"""What gradients are compared with: finite differences, forward mode, an exact formula, the same in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.autograd import forward_ad

from runner.size import shape_text
from runner.tensors import is_differentiable
from runner.verify.call import Traced, copied, flat, gaussian, outputs_at, trace, unflat
from runner.verify.check import GradientCheck
from runner.verify.differences import EPS, HUGE, Slopes, differentiate
from runner.verify.subject import Analytic, Call, Tensors

BOUND_FACTOR = 8.0  # roundings that a gradient passes through, beside those that its inputs' rounding explains
FLOOR = 1e-9  # relative: what differences of order h^6 reach where the function is smooth
NEGLIGIBLE = 1e-13  # relative to the largest derivative among those looked at together
TRUST = 4.0  # how many times the differences' own estimate their error may be
USEFUL = 1e-3  # relative; a looser comparison says nothing either way
DRAWS = 6  # of inputs one roundoff away, to see how far a gradient moves
PERTURBATIONS = 2  # draws of inputs one roundoff away, for a gradient in float64
MANY = 16  # elements up to which each is looked at by itself
NEIGHBOURS = 48  # enough that each of some five equal elements is at least once the one that counts
NEARBY = 1e-6  # how far these are: gradients change by little where there is no kink
NEARBY_SLACK = 1e-4
SECOND_LADDER = 0.37 * 0.25  # an accusation is checked once more from steps that are no multiples of the first


@dataclass(frozen=True)
class Setting:
    """One call under test: where, of what, and under which name.

    Attributes:
        probe: as results name it.
        call, inputs: what is called with what, in float64.
        wanted: which inputs have a gradient.
        names: of the inputs.
        in_place: whether the operation overwrites its inputs on purpose.
        each: whether every element is looked at by itself, rather than some directions through all of them.
        special: whether gradients may be one of several there, as at ties.
        every_output: whether an output without a graph counts beside others that have one.
    """

    probe: str
    call: Call
    inputs: tuple[torch.Tensor, ...]
    wanted: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int
    in_place: bool = False
    each: bool = True
    special: bool = False
    every_output: bool = False

    def traced(self, inputs: Sequence[torch.Tensor]) -> Traced:
        """Call with a graph at these inputs, used as they lie in memory."""
        return trace(self.call, inputs, self.wanted, in_place=self.in_place, every_output=self.every_output)

    @property
    def positions(self) -> list[int]:
        """Of the inputs that have a gradient."""
        return [i for i, w in enumerate(self.wanted) if w]


@dataclass(frozen=True)
class Pulled:
    """Gradients for several cotangents, as real matrices.

    Attributes:
        cotangents: a row for each, over the elements of all outputs.
        gradients: for each wanted input, a row for each cotangent.
        doubt: by how much rounding may have changed each.
        outputs: positions of the outputs that the cotangents are of.
    """

    cotangents: torch.Tensor
    gradients: list[torch.Tensor]
    doubt: list[torch.Tensor]
    outputs: tuple[int, ...]


def pull(setting: Setting, *, dense: int = 2, known: torch.Tensor | None = None) -> Pulled:
    """Gradients for dense cotangents and, where the outputs are small, for each of their elements.

    Args:
        setting: the call.
        dense: how many dense cotangents.
        known: the outputs' elements that dense cotangents reach; None: all.
    """
    traced = setting.traced(copied(setting.inputs))
    generator = torch.Generator().manual_seed(setting.seed + 11)
    size = sum(t.numel() * (2 if t.is_complex() else 1) for t in traced.outputs)
    rows = torch.randn(dense, size, generator=generator, dtype=torch.float64)
    if known is not None:
        rows = rows * known
    if setting.each and size <= MANY:
        weights = torch.randn(size, generator=generator, dtype=torch.float64)
        rows = torch.cat([rows, torch.diag(torch.where(weights.abs() < 0.1, torch.ones(()).double(), weights))])

    def all_gradients(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        graph = setting.traced(copied(inputs))
        found = [graph.gradients(_split(row, graph.outputs)) for row in rows]
        return [torch.stack([flat([g[i]]) for g in found]) for i in range(len(graph.leaves))]

    gradients = all_gradients(setting.inputs)
    doubt = [torch.zeros_like(g) for g in gradients]
    for _ in range(PERTURBATIONS):
        try:
            moved = all_gradients([nudged(t, EPS, generator) for t in setting.inputs])
        except Exception:  # out of the domain by a roundoff
            continue
        changes = [(m - g).abs().nan_to_num(0.0, 0.0) for m, g in zip(moved, gradients, strict=True)]
        doubt = [torch.maximum(d, c) for d, c in zip(doubt, changes, strict=True)]
    bounds = [BOUND_FACTOR * (EPS * g.abs().nan_to_num(0.0, 0.0) + d) for g, d in zip(gradients, doubt, strict=True)]
    return Pulled(rows, gradients, bounds, traced.positions)


def nudged(tensor: torch.Tensor, roundoff: float, generator: torch.Generator) -> torch.Tensor:
    """A tensor each of whose elements has moved by one relative roundoff, up or down."""
    if not is_differentiable(tensor.dtype):
        return tensor
    signs = (torch.randint(2, tensor.shape, generator=generator) * 2 - 1).to(tensor.device)
    return tensor * (1 + roundoff * signs)


def by_differences(setting: Setting) -> list[GradientCheck]:
    """Compare each input's gradient with finite differences: a check for each input."""
    generator = torch.Generator().manual_seed(setting.seed + 12)
    outputs = setting.traced(copied(setting.inputs)).positions
    directions = [_directions(setting.inputs[p], generator, each=setting.each) for p in setting.positions]
    slopes = [
        [_slopes(setting, outputs, position, direction) for direction in of_input]
        for position, of_input in zip(setting.positions, directions, strict=True)
    ]
    pulled = pull(setting, known=None if setting.each else _told([s for row in slopes for s in row]))
    checks = []
    for column, position in enumerate(setting.positions):
        table = _compared(pulled, column, torch.stack(directions[column]), slopes[column])
        near: list[torch.Tensor] | None = None
        for _, d in table.accused():
            direction = directions[column][d]
            again = _slopes(setting, outputs, position, direction, coarsest=SECOND_LADDER)
            table.reconsider(d, _compared(pulled, column, direction.unsqueeze(0), [again]))
            if setting.special:
                near = near or _nearby(setting, pulled)
                table.excuse(d, near[column] @ direction)
        checks.append(table.check(setting, setting.inputs[position], setting.names[position], directions[column]))
    return checks


def _told(slopes: Sequence[Slopes]) -> torch.Tensor:
    """The outputs' elements whose slopes are known along each direction, unless hardly any are."""
    known = torch.ones_like(slopes[0].value, dtype=torch.bool)
    for along in slopes:
        size = along.value.abs().max() if along.value.numel() else torch.zeros(())
        known &= (along.error <= 1e-6 * size + 1e-12) & ~along.kink
    return known if 2 * int(known.sum()) >= known.numel() else torch.ones_like(known)


def _nearby(setting: Setting, pulled: Pulled) -> list[torch.Tensor]:
    """Gradients at points around, for the same cotangents: for each wanted input, draws x cotangents x elements.

    At a kink a gradient is right that is between those of its neighbours (Clarke); these were compared with
    differences at points of their own.
    """
    generator = torch.Generator().manual_seed(setting.seed + 17)
    found: list[list[torch.Tensor]] = []
    for _ in range(NEIGHBOURS):
        moved = [
            t + NEARBY * gaussian(t, generator) if is_differentiable(t.dtype) else t for t in copied(setting.inputs)
        ]
        try:
            graph = setting.traced(moved)
            rows = [graph.gradients(_split(row, graph.outputs)) for row in pulled.cotangents]
        except Exception:  # outside the domain
            continue
        found.append([torch.stack([flat([g[i]]) for g in rows]) for i in range(len(graph.leaves))])
    if not found:
        return [torch.full((1, *g.shape), float("nan"), dtype=torch.float64) for g in pulled.gradients]
    return [torch.stack([draw[i] for draw in found]) for i in range(len(pulled.gradients))]


def _split(row: torch.Tensor, outputs: Sequence[torch.Tensor]) -> Tensors:
    """A real row as a cotangent for each output."""
    sizes = [t.numel() * (2 if t.is_complex() else 1) for t in outputs]
    return [unflat(part, t) for part, t in zip(row.split(sizes), outputs, strict=True)]


def _directions(tensor: torch.Tensor, generator: torch.Generator, *, each: bool) -> list[torch.Tensor]:
    """Directions as real vectors: dense, all elements alike, and single elements where there are few."""
    vector = flat([tensor])
    size = len(vector)
    spread = vector.abs().square().mean().sqrt() if size else torch.ones(())
    weights = torch.maximum(vector.abs(), 0.1 * spread) if spread else torch.ones(size, dtype=torch.float64)
    dense = torch.randn(size, generator=generator, dtype=torch.float64).clamp(-3, 3) * weights
    if not each:
        return [dense]
    alike = torch.ones(size, dtype=torch.float64) * (spread if spread else 1.0)
    chosen = range(size) if size <= MANY else sorted({0, size - 1, *torch.randint(size, (6,), generator=generator).tolist()})
    singles = []
    for i in chosen:
        single = torch.zeros(size, dtype=torch.float64)
        single[i] = weights[i]
        singles.append(single)
    return [dense, alike, *singles]


def _slopes(
    setting: Setting, outputs: tuple[int, ...], position: int, direction: torch.Tensor, **ladder: float
) -> Slopes:
    step = unflat(direction, setting.inputs[position])
    length = sum(t.numel() * (2 if t.is_complex() else 1) for t in _chosen(setting, setting.inputs, outputs))

    def along(h: float) -> torch.Tensor:
        moved = copied(setting.inputs)
        moved[position] = moved[position] + h * step
        try:
            return flat(_chosen(setting, moved, outputs))
        except Exception:  # outside the domain
            return torch.full((length,), float("nan"), dtype=torch.float64)

    return differentiate(along, 1.0, **ladder)


def _chosen(setting: Setting, inputs: Sequence[torch.Tensor], outputs: tuple[int, ...]) -> Tensors:
    found = outputs_at(setting.call, copied(inputs))
    return [found[j] for j in outputs]


class _Table:
    """Every cotangent against every direction: got, expected as an interval, tolerance."""

    def __init__(self, got: torch.Tensor, low: torch.Tensor, high: torch.Tensor, tolerance: torch.Tensor, kink: torch.Tensor) -> None:
        self.got, self.low, self.high, self.tolerance, self.kink = got, low, high, tolerance, kink
        finite = torch.maximum(low.abs(), high.abs())[tolerance < HUGE / 2]
        self.scale = finite.max().item() if finite.numel() else 0.0
        outside = torch.maximum(low - got, got - high).clamp(min=0.0)
        self.error = torch.where(got.isfinite(), outside, torch.full_like(got, float("inf")))

    @property
    def useful(self) -> torch.Tensor:
        """Where the tolerance says something."""
        size = torch.maximum(self.low.abs(), self.high.abs())
        return (self.tolerance <= USEFUL * size.clamp(min=self.scale)) | ((self.scale == 0) & (self.tolerance < 1e-6))

    def accused(self) -> list[tuple[int, int]]:
        """The worst entry of each direction in which some entry is off by more than is allowed."""
        wrong = (self.error > self.tolerance) & (self.tolerance < HUGE / 2)
        ratio = torch.where(wrong, self.error / self.tolerance.clamp(min=1e-300), torch.zeros_like(self.error))
        ratio = ratio.nan_to_num(0.0, HUGE)
        worst = ratio.argmax(0).tolist()
        order = ratio.amax(0).argsort(descending=True).tolist()
        return [(worst[d], d) for d in order[:3] if ratio[worst[d], d] > 0]

    def reconsider(self, d: int, second: _Table) -> None:
        """Keep an accusation only where other steps repeat it and agree on what should be; for its direction."""
        agree = torch.maximum(self.low[:, d] - second.high[:, 0], second.low[:, 0] - self.high[:, d])
        repeated = (second.error[:, 0] > second.tolerance[:, 0]) & (
            agree <= self.tolerance[:, d] + second.tolerance[:, 0]
        )
        accused = self.error[:, d] > self.tolerance[:, d]
        self.tolerance[:, d] = torch.where(accused & ~repeated, torch.full_like(agree, HUGE), self.tolerance[:, d])

    def excuse(self, d: int, nearby: torch.Tensor) -> None:
        """Take back what is said along a direction where gradients nearby, a row a draw, lie on both sides."""
        low, high = nearby.nan_to_num(HUGE).amin(0), nearby.nan_to_num(-HUGE).amax(0)
        slack = NEARBY_SLACK * torch.maximum(low.abs(), high.abs())
        got = self.got[:, d]
        apart = high - low > 10 * slack  # where they agree there is no kink, and being alike proves nothing
        inside = got.isfinite() & apart & (got >= low - slack) & (got <= high + slack)
        accused = self.error[:, d] > self.tolerance[:, d]
        self.tolerance[:, d] = torch.where(accused & inside, torch.full_like(got, HUGE), self.tolerance[:, d])
        self.kink[:, d] |= accused & inside

    def check(
        self, setting: Setting, tensor: torch.Tensor, name: str, directions: Sequence[torch.Tensor]
    ) -> GradientCheck:
        useful = self.useful
        wrong = (self.error > self.tolerance) & (self.tolerance < HUGE / 2)
        ratio = torch.where(
            wrong | useful, self.error / self.tolerance.clamp(min=1e-300), torch.full_like(self.error, -1.0)
        ).nan_to_num(0.0, HUGE)
        worst = int(ratio.argmax())
        c, d = divmod(worst, ratio.shape[1])
        confirmed = {(c, d) for c, d in self.accused()}
        total, decided = ratio.numel(), int(useful.sum())
        verdict = (
            "fail"
            if confirmed
            else "inconclusive"
            if 2 * decided < total or not total
            else "kink"
            if bool((self.kink & useful).any())
            else "pass"
        )
        touched = directions[d].nonzero().flatten().tolist()
        expected = min(max(self.got[c, d].nan_to_num(0.0).item(), self.low[c, d].item()), self.high[c, d].item())
        error, scale = self.error[c, d].item(), self.scale
        reason = None
        if verdict == "fail":
            reason = f"the gradient of input {name} is off by {_ratio(error, scale):.3g} of its scale"
            reason += f"; {_ratio(self.tolerance[c, d].item(), scale):.3g} is allowed"
        elif decided < total:
            reason = f"{total - decided} of {total} derivatives could not be told by differences"
        return GradientCheck(
            probe=setting.probe,
            oracle="finite_differences",
            verdict=verdict,
            argument=name,
            shape=shape_text(tuple(tensor.shape)),
            max_abs_error=error,
            max_relative_error=_ratio(error, scale),
            worst_index=index_text(touched[0], tensor) if len(touched) == 1 else None,
            got=self.got[c, d].item(),
            expected=expected,
            tolerance=_ratio(self.tolerance[c, d].item(), scale),
            tolerance_source="one-sided slopes" if bool(self.kink[c, d]) else "differences",
            reason=reason,
        )


def _ratio(error: float, scale: float) -> float:
    return error / scale if scale else error


def index_text(element: int, tensor: torch.Tensor) -> str:
    """An element's position, ``3,1``, from its place in :func:`runner.verify.call.flat`."""
    place = element // 2 if tensor.is_complex() else element
    index = []
    for n in reversed(tensor.shape):
        place, rest = divmod(place, n)
        index.append(rest)
    return ",".join(map(str, reversed(index)))


def _compared(pulled: Pulled, column: int, directions: torch.Tensor, slopes: Sequence[Slopes]) -> _Table:
    cotangents, gradients, doubt = pulled.cotangents, pulled.gradients[column], pulled.doubt[column]
    bad = (~gradients.isfinite()).double() @ (directions != 0).double().T > 0
    got = gradients.nan_to_num(0.0, 0.0, 0.0) @ directions.T
    got = torch.where(bad, torch.full_like(got, float("nan")), got)
    value = torch.stack([s.value for s in slopes])
    left, right = torch.stack([s.left for s in slopes]), torch.stack([s.right for s in slopes])
    kink = torch.stack([s.kink for s in slopes])
    error = torch.stack([s.error for s in slopes])
    low_end, high_end = torch.where(kink, left, value), torch.where(kink, right, value)
    error = torch.where(kink, 1e-6 * torch.maximum(left.abs(), right.abs()), error)
    positive, negative = cotangents.clamp(min=0.0), cotangents.clamp(max=0.0)
    low = positive @ low_end.T + negative @ high_end.T
    high = positive @ high_end.T + negative @ low_end.T
    absolute = cotangents.abs()
    doubt = doubt.nan_to_num(0.0, 0.0) + EPS * absolute.amax(1, keepdim=True)  # terms of order 1 may have cancelled
    rounding = doubt @ directions.abs().T
    size = absolute @ torch.maximum(low_end.abs(), high_end.abs()).T
    size = size + NEGLIGIBLE / FLOOR * torch.where(error.T.amax(0) < HUGE / 2, size, 0 * size).max()
    tolerance = (TRUST * absolute @ error.T + FLOOR * size + rounding + 1e-300).nan_to_num(HUGE, HUGE).clamp(max=HUGE)
    known = (error < HUGE / 2).all(1)  # 0 times an infinite slope is NaN by right, for any cotangent
    tolerance = torch.where(got.isfinite() | known, tolerance, torch.full_like(tolerance, HUGE))
    return _Table(got, low, high, tolerance, absolute @ kink.double().T > 0)


def by_forward_mode(setting: Setting, pulled: Pulled) -> list[GradientCheck]:
    """Compare reverse mode with forward mode, which is other code; nothing where there is none."""
    generator = torch.Generator().manual_seed(setting.seed + 13)
    checks = []
    for column, position in enumerate(setting.positions):
        tensor, name = setting.inputs[position], setting.names[position]
        direction = gaussian(tensor, generator)
        try:
            with forward_ad.dual_level(), torch.no_grad():
                given = copied(setting.inputs)
                given[position] = forward_ad.make_dual(given[position], direction)
                if setting.in_place:
                    given = [t.clone() for t in given]
                outputs = setting.call(given)
                tangents = []
                for j in pulled.outputs:
                    tangent = forward_ad.unpack_dual(outputs[j]).tangent
                    tangents.append(torch.zeros_like(outputs[j]) if tangent is None else tangent)
        except Exception as error:
            from runner.errors import one_line

            checks.append(
                GradientCheck(setting.probe, "forward_mode", "unsupported", name, reason=one_line(error, 120))
            )
            continue
        pushed = flat(tangents)
        cotangent = pulled.cotangents[0]
        expected = float(cotangent @ pushed)
        vector = flat([direction])
        got = float(pulled.gradients[column][0] @ vector)
        scale = float(cotangent.abs() @ pushed.abs())
        doubt = float(pulled.doubt[column][0] @ vector.abs())
        tolerance = 1e-10 * scale + doubt + 1e-300
        error = abs(got - expected)
        finite = got == got and expected == expected
        good = error <= tolerance if finite else (got != got) == (expected != expected)
        checks.append(
            GradientCheck(
                setting.probe,
                "forward_mode",
                "pass" if good else "fail",
                name,
                shape=shape_text(tuple(tensor.shape)),
                max_abs_error=error,
                max_relative_error=_ratio(error, scale),
                got=got,
                expected=expected,
                tolerance=_ratio(tolerance, scale),
                tolerance_source="conditioning",
                reason=None if good else f"forward and reverse mode disagree on input {name}",
            )
        )
    return checks


def second_order(setting: Setting) -> Setting:
    """The gradient as a function of inputs and cotangents, whose own gradient is the second derivative."""
    outputs = setting.traced(copied(setting.inputs)).outputs
    generator = torch.Generator().manual_seed(setting.seed + 14)
    cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in outputs]
    count = len(setting.inputs)

    def call(tensors: Tensors) -> Tensors:
        given, weights = list(tensors[:count]), tensors[count:]
        with torch.enable_grad():
            for i, w in enumerate(setting.wanted):
                if w and not given[i].requires_grad:
                    given[i] = given[i].detach().requires_grad_()
            leaves = [t for t, w in zip(given, setting.wanted, strict=True) if w]
            passed = [t.clone() if setting.in_place else t for t in given]
            made = [t for t in setting.call(passed) if t.requires_grad]
            found = torch.autograd.grad(made, leaves, weights[: len(made)], create_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]

    return Setting(
        probe="second order",
        call=call,
        inputs=(*setting.inputs, *cotangents),
        wanted=(*setting.wanted, *(True for _ in cotangents)),
        names=(*setting.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        seed=setting.seed,
        each=setting.each,
        every_output=True,
    )


def by_analytic(setting: Setting, analytic: Analytic) -> list[GradientCheck]:
    """Compare each input's gradient with the exact one."""
    traced = setting.traced(copied(setting.inputs))
    generator = torch.Generator().manual_seed(setting.seed + 15)
    cotangents = [gaussian(t, generator).to(t.dtype) for t in traced.outputs]
    exact = analytic(list(setting.inputs), cotangents)
    got = traced.gradients(cotangents)
    moved = _moved(setting, cotangents, got, EPS / 2, generator)
    bounds = conditioned_bound(exact, moved, EPS / 2, 0.0)
    return [
        _elementwise(setting, "analytic", "conditioning", position, g, e, bound, EPS)
        for position, g, e, bound in zip(setting.positions, got, exact, bounds, strict=True)
    ]


def gains(setting: Setting) -> list[float]:
    """For each wanted input, its largest gradient over the largest cotangent: the size that gradients have there."""
    traced = setting.traced(copied(setting.inputs))
    generator = torch.Generator().manual_seed(setting.seed + 18)
    cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in traced.outputs]
    weight = max((_most(c) for c in cotangents), default=1.0) or 1.0
    return [_most(g) / weight for g in traced.gradients(cotangents)]


def by_reference(
    setting: Setting, dtype: torch.dtype, device: torch.device, roundoffs: float, usual: Sequence[float] = ()
) -> list[GradientCheck]:
    """Compare gradients in a dtype on a device with those in float64 on the CPU, from the same rounded inputs.

    Args:
        setting: the call, in float64.
        dtype: the dtype under test.
        device: where it is computed.
        roundoffs: see :func:`conditioned_bound`.
        usual: what :func:`gains` says of the same shapes at usual inputs. A gradient that is far smaller here may be
            what is left of a difference, of which rounding explains more than of the gradient itself.
    """
    generator = torch.Generator().manual_seed(setting.seed + 16)
    rounded = [t.to(narrowed(t, dtype)) if is_differentiable(t.dtype) else t for t in setting.inputs]
    wide = [t.to(w.dtype) for t, w in zip(rounded, setting.inputs, strict=True)]
    there = setting.traced([t.to(device, copy=True) for t in rounded])
    cotangents = [gaussian(t, generator).to(t.dtype) for t in there.outputs]
    reference = setting.traced(copied(wide))
    wide_cotangents = [c.to(t.dtype) for c, t in zip(cotangents, reference.outputs, strict=True)]
    expected = reference.gradients(wide_cotangents)
    got = [g.cpu() for g in there.gradients([c.to(device) for c in cotangents])]
    outputs = [t.detach() for t in there.outputs]
    info = torch.finfo(dtype)
    moved = _moved(replace(setting, inputs=tuple(wide)), wide_cotangents, expected, info.eps / 2, generator)
    bounds = conditioned_bound(expected, moved, info.eps / 2, roundoffs)
    checks = []
    weight = max((_most(c) for c in cotangents), default=1.0)
    underflow = BOUND_FACTOR * info.smallest_normal * max(1.0, weight)
    elements = sum(c.numel() for c in cotangents)
    for column, (position, g, e, bound) in enumerate(zip(setting.positions, got, expected, bounds, strict=True)):
        summed = math.sqrt(max(1.0, elements / max(1, e.numel())))  # terms added up one by one, in random directions
        check = _elementwise(
            setting,
            "float64_reference",
            "conditioning",
            position,
            g.to(e.dtype),
            e,
            bound * summed + underflow,
            info.eps,
        )
        vanishes = _most(e) <= 1e-12 * weight  # all of it is rounding, of terms whose size is not known
        usually = 1e3 if vanishes else usual[column] if usual else 0.0
        lost = check.max_abs_error is not None and check.max_abs_error <= BOUND_FACTOR * info.eps * usually * weight
        if check.verdict == "fail" and lost:
            check = replace(check, verdict="inconclusive", reason="rounding of larger terms explains the difference")
        overflow = not all(bool(t.isfinite().all()) for t in outputs) or _most(e) > info.max / 16
        if overflow and check.verdict == "fail":
            check = replace(check, verdict="inconclusive", reason=f"{_plain(dtype)} overflows here")
        checks.append(check)
    return checks


def narrowed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a float64 or complex128 tensor has when others have ``dtype``."""
    if tensor.is_complex() and not dtype.is_complex:
        return torch.complex128 if dtype is torch.float64 else torch.complex64
    if dtype.is_complex and not tensor.is_complex():
        return torch.float64 if dtype is torch.complex128 else torch.float32
    return dtype


def conditioned_bound(
    reference: Sequence[torch.Tensor], moved: Sequence[float], roundoff: float, roundoffs: float
) -> list[float]:
    """The largest error of each gradient that rounding explains: 8 (u max|g| + d).

    Args:
        reference: the gradients in float64.
        moved: d, how far each moves when inputs and cotangents move by one roundoff.
        roundoff: u, of the dtype.
        roundoffs: what the operation itself declares, in roundoffs of the largest element; used where it is useful.
    """
    bounds = []
    for g, d in zip(reference, moved, strict=True):
        declared = roundoff * roundoffs if roundoff * roundoffs <= USEFUL else 0.0
        bounds.append(max(BOUND_FACTOR * (roundoff * _most(g) + d), declared * _most(g)))
    return bounds


def _moved(
    setting: Setting, cotangents: Tensors, gradients: Tensors, roundoff: float, generator: torch.Generator
) -> list[float]:
    """How far each gradient moves when inputs and cotangents move by one roundoff: the most of some draws."""
    most = [0.0] * len(gradients)
    for _ in range(DRAWS):
        inputs = [nudged(t, roundoff, generator) for t in setting.inputs]
        try:
            found = setting.traced(inputs).gradients([nudged(c, roundoff, generator) for c in cotangents])
        except Exception:  # out of the domain by a roundoff
            continue
        most = [max(m, _most(f - g)) for m, f, g in zip(most, found, gradients, strict=True)]
    return most


def _most(tensor: torch.Tensor) -> float:
    return tensor.abs().nan_to_num(0.0, 0.0).max().item() if tensor.numel() else 0.0


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _elementwise(
    setting: Setting,
    oracle: str,
    source: str,
    position: int,
    got: torch.Tensor,
    expected: torch.Tensor,
    bound: float,
    eps: float,
) -> GradientCheck:
    """The largest error of a gradient, against one bound for all of its elements."""
    name, scale = setting.names[position], _most(expected)
    shape = shape_text(tuple(expected.shape))
    if not expected.numel():
        return GradientCheck(setting.probe, oracle, "pass", name, shape, max_abs_error=0.0, max_relative_error=0.0)
    undefined = ~expected.isfinite()
    errors = torch.where(undefined, torch.zeros(()), (got - expected).abs()).to(torch.float64)
    errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
    worst = int(errors.argmax())
    error = errors[worst].item()
    there = expected.flatten()[worst].abs().item()
    useful = bound <= max(USEFUL, 64 * eps) * scale or error == 0
    verdict = "fail" if error > bound else "pass" if useful or not scale else "inconclusive"
    reason = None
    if verdict == "fail":
        reason = f"the gradient of input {name} is off by {_ratio(error, scale):.3g} of its scale; "
        reason += f"{_ratio(bound, scale):.3g} is allowed"
    elif verdict == "inconclusive":
        reason = f"rounding alone explains {_ratio(bound, scale):.2g} of its scale"
    return GradientCheck(
        setting.probe,
        oracle,
        verdict,
        name,
        shape,
        max_abs_error=error,
        max_relative_error=_ratio(error, scale),
        ulp=error / (eps * 2.0 ** math.floor(math.log2(there))) if there and math.isfinite(error) else None,
        worst_index=index_text(worst * (2 if got.is_complex() else 1), got),
        got=_real(got.flatten()[worst]),
        expected=_real(expected.flatten()[worst]),
        tolerance=_ratio(bound, scale),
        tolerance_source=source,
        reason=reason,
    )


def _real(number: torch.Tensor) -> float:
    return float(number.real.item() if number.is_complex() else number.item())
