"""The inputs at which gradients are verified: other draws, magnitudes, signs, zeros, ties, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.domain import NAMED, Domain
from runner.verify.gradients.problem import GradientTarget, ShapedInputs
from runner.verify.gradients.structure import PositiveDefinite, is_index, shown_domain
from runner.verify.gradients.vectors import gaussian

GUESSES = (NAMED["real"], NAMED["positive"], Domain(0.0, 1.0), Domain(-1.0, 1.0), Domain(1.0))

Map = Callable[[Tensor], Tensor]


def choose_domains(target: GradientTarget) -> tuple[Domain, ...]:
    """The domain of each input: declared, shown, or the guess with the most finite outputs."""
    pairs = zip(target.domains, target.example.inputs, strict=True)
    shown = [d or shown_domain(t) for d, t in pairs]
    declared = [d or NAMED["real"] for d in shown]
    shaped = target.other_shapes[0] if target.other_shapes else target.example
    differentiable = [is_differentiable(t.dtype) for t in shaped.inputs]
    free = [i for i, d in enumerate(shown) if d is None and differentiable[i]]

    # a guess is tried for all free inputs together and, where there are few, for each alone
    groups = [free]
    if 1 < len(free) <= 4:
        groups += [[i] for i in free]
    best, best_share = tuple(declared), -1.0
    for guess, group in product(GUESSES, groups):
        domains = tuple(guess if i in group else d for i, d in enumerate(declared))
        share = _finite_share(draw(shaped, domains, target.seed))
        if share > best_share:
            best, best_share = domains, share
        if share == 1.0 or not free:
            return domains
    return best


def _finite_share(shaped: ShapedInputs) -> float:
    try:
        outputs = shaped.outputs()
    except Exception:  # an operation may refuse what is outside its domain
        return -1.0
    numbers = [t for t in outputs if t.numel() and is_differentiable(t.dtype)]
    return min((t.isfinite().double().mean().item() for t in numbers), default=1.0)


def draw(
    shaped: ShapedInputs, domains: Sequence[Domain], seed: int, change: Map = lambda z: z
) -> ShapedInputs:
    """The same shapes with normal numbers, changed, then folded into the domains; integers stay."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, domain: Domain) -> Tensor:
        if not is_differentiable(like.dtype):
            return like
        values = change(gaussian(like, generator))
        return values if _unordered(values, domain) else domain.fold(values)

    return replace(shaped, inputs=tuple(map(drawn, shaped.inputs, domains)))


def _unordered(values: Tensor, domain: Domain) -> bool:
    """Whether a domain says nothing about complex numbers, being an interval of real ones."""
    return values.is_complex() and not isinstance(domain, PositiveDefinite)


def points_of(shaped: ShapedInputs, domains: Sequence[Domain], seed: int) -> Iterator[ShapedInputs]:
    """Other numbers in these shapes, which should be small: each element has its slope taken."""

    def named(name: str, stream: int, change: Map) -> ShapedInputs:
        return replace(draw(shaped, domains, seed + stream, change), name=name)

    yield named("fresh", 1, lambda z: z)
    yield named("scale 0.001", 2, lambda z: 1e-3 * z)
    yield named("scale 30", 2, lambda z: 30.0 * z)
    yield named("scale 1000", 2, lambda z: 1e3 * z)
    yield named("positive", 3, lambda z: 2 * _absolute(z))
    yield named("negative", 4, lambda z: -2 * _absolute(z))

    # numbers that have to stay as they are, and are taken where the domain holds them
    for name, change in (("zeros", torch.zeros_like), ("ties", _ties), ("halves", _halves)):
        exact = draw(shaped, [NAMED["real"]] * len(domains), seed + 5, change)
        inputs = tuple(map(_within, exact.inputs, domains, shaped.inputs))
        yield replace(shaped, name=name, inputs=inputs, special=True)
    yield from _equal(draw(shaped, domains, seed + 6))
    yield from _duplicates(draw(shaped, domains, seed + 7), seed)


def _ties(z: Tensor) -> Tensor:
    return torch.complex(z.real.round(), z.imag.round()) if z.is_complex() else (z * 1.2).round()


def _halves(z: Tensor) -> Tensor:
    return torch.complex(z.real, 0 * z.imag) if z.is_complex() else (z * 3).round() / 2


def _absolute(z: Tensor) -> Tensor:
    return torch.complex(z.real.abs(), z.imag) if z.is_complex() else z.abs()


def _within(values: Tensor, domain: Domain, otherwise: Tensor) -> Tensor:
    if domain.is_real or _unordered(values, domain) or not is_differentiable(values.dtype):
        return values
    return torch.where(domain.holds(values), values, otherwise)


def _equal(fresh: ShapedInputs) -> Iterator[ShapedInputs]:
    """Inputs of one shape that hold the same numbers, where differences and distances are zero."""
    first: dict[tuple[torch.Size, torch.dtype], Tensor] = {}
    same = [first.setdefault((t.shape, t.dtype), t).clone() for t in fresh.inputs]
    floating = [(t.shape, t.dtype) for t in fresh.inputs if is_differentiable(t.dtype)]
    if len(set(floating)) < len(floating):
        yield replace(fresh, name="equal inputs", inputs=tuple(same), special=True)


def _duplicates(fresh: ShapedInputs, seed: int) -> Iterator[ShapedInputs]:
    """Integer inputs whose elements are all the same, and drawn again from their own elements."""
    several = [is_index(t) and t.numel() > 1 for t in fresh.inputs]
    if not any(several):
        return
    generator = torch.Generator().manual_seed(seed)

    def resampled(tensor: Tensor) -> Tensor:
        chosen = torch.randint(tensor.numel(), tensor.shape, generator=generator)
        return tensor.flatten()[chosen]

    pairs = list(zip(fresh.inputs, several, strict=True))
    alike = [t.flatten()[0].expand(t.shape).clone() if s else t for t, s in pairs]
    mixed = [resampled(t) if s else t for t, s in pairs]
    yield replace(fresh, name="one index", inputs=tuple(alike))
    yield replace(fresh, name="duplicate indices", inputs=tuple(mixed))
