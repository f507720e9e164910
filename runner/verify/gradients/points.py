"""The inputs at which gradients are looked at: other draws, magnitudes, signs, zeros, ties, duplicate indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from runner.calls.bound_operation import is_differentiable
from runner.config.domain import NAMED, Domain
from runner.verify.gradients.structure import PositiveDefinite, shown_domain
from runner.verify.gradients.target import GradientTarget, ShapedInputs, Tensors
from runner.verify.gradients.vjp import copied, gaussian, outputs_at

GUESSES = (NAMED["real"], NAMED["positive"], Domain(0.0, 1.0), Domain(-1.0, 1.0), Domain(1.0))


@dataclass(frozen=True)
class InputPoint:
    """Inputs with a name.

    Attributes:
        special: whether gradients may be undefined there by right: zeros, ties, ends of domains.
    """

    name: str
    shaped: ShapedInputs
    special: bool = False


def choose_domains(target: GradientTarget) -> tuple[Domain, ...]:
    """The domain of each input: as declared, as its example shows, or the first guess with finite outputs."""
    known = [d or shown_domain(t) for d, t in zip(target.domains, target.example.inputs, strict=True)]
    declared = [d or NAMED["real"] for d in known]
    shaped = target.other_shapes[0] if target.other_shapes else target.example
    free = [i for i, d in enumerate(known) if d is None and is_differentiable(shaped.inputs[i].dtype)]
    groups = [free, *([[i] for i in free] if 1 < len(free) <= 4 else [])]
    best, best_share = tuple(declared), -1.0
    for guess in GUESSES:
        for group in groups:
            domains = tuple(guess if i in group else d for i, d in enumerate(declared))
            share = _finite_share(draw(shaped, domains, target.seed))
            if share > best_share:
                best, best_share = domains, share
            if share == 1.0 or not free:
                return domains
    return best


def _finite_share(shaped: ShapedInputs) -> float:
    try:
        outputs = outputs_at(shaped.call, copied(shaped.inputs))
    except Exception:  # an operation may refuse what is outside its domain
        return -1.0
    finite = [t.isfinite().double().mean().item() for t in outputs if t.numel() and is_differentiable(t.dtype)]
    return min(finite, default=1.0)


def draw(shaped: ShapedInputs, domains: Sequence[Domain], seed: int, scale: float = 1.0) -> ShapedInputs:
    """The same shapes with fresh numbers, normal and then folded into the domains; integers stay."""
    return redrawn(shaped, domains, seed, lambda z: z * scale)


def redrawn(
    shaped: ShapedInputs, domains: Sequence[Domain], seed: int, made: Callable[[torch.Tensor], torch.Tensor]
) -> ShapedInputs:
    """The same shapes with numbers that are made of normal ones."""
    generator = torch.Generator().manual_seed(seed)
    inputs: Tensors = []
    for tensor, domain in zip(shaped.inputs, domains, strict=True):
        if is_differentiable(tensor.dtype):
            fresh = made(gaussian(tensor, generator))
            matrix = isinstance(domain, PositiveDefinite)
            tensor = fresh if fresh.is_complex() and not matrix else domain.fold(fresh)  # noqa: PLW2901
        inputs.append(tensor)
    return replace(shaped, inputs=tuple(inputs))


def points_of(shaped: ShapedInputs, domains: Sequence[Domain], seed: int) -> list[InputPoint]:
    """Other numbers in the shapes of ``shaped``, which should be small: each element is looked at by itself."""
    made = [InputPoint("fresh", draw(shaped, domains, seed + 1))]
    for scale in (1e-3, 30.0, 1e3):
        made.append(InputPoint(f"scale {scale:g}", draw(shaped, domains, seed + 2, scale)))
    made.append(InputPoint("positive", redrawn(shaped, domains, seed + 3, lambda z: 2 * _absolute(z))))
    made.append(InputPoint("negative", redrawn(shaped, domains, seed + 4, lambda z: -2 * _absolute(z))))
    for name, change in (
        ("zeros", torch.zeros_like),
        ("ties", lambda z: (z * 1.2).round() if not z.is_complex() else torch.complex(z.real.round(), z.imag.round())),
        ("halves", lambda z: (z * 3).round() / 2 if not z.is_complex() else torch.complex(z.real, 0 * z.imag)),
    ):
        exact = redrawn(shaped, [NAMED["real"]] * len(domains), seed + 5, change)
        kept = [_within(e, d, t) for e, d, t in zip(exact.inputs, domains, shaped.inputs, strict=True)]
        made.append(InputPoint(name, replace(shaped, inputs=tuple(kept)), special=True))
    made += _equal(shaped, domains, seed) + _duplicates(shaped, domains, seed)
    return made


def _within(values: torch.Tensor, domain: Domain, otherwise: torch.Tensor) -> torch.Tensor:
    elementwise = not isinstance(domain, PositiveDefinite)
    if domain.is_real or (values.is_complex() and elementwise) or not is_differentiable(values.dtype):
        return values
    return torch.where(domain.holds(values), values, otherwise)


def _absolute(tensor: torch.Tensor) -> torch.Tensor:
    return torch.complex(tensor.real.abs(), tensor.imag) if tensor.is_complex() else tensor.abs()


def _equal(shaped: ShapedInputs, domains: Sequence[Domain], seed: int) -> list[InputPoint]:
    """Inputs of one shape that hold the same numbers, where differences and distances are zero."""
    fresh = draw(shaped, domains, seed + 6)
    first: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}
    same: Tensors = []
    for tensor in fresh.inputs:
        same.append(first.setdefault((tensor.shape, tensor.dtype), tensor).clone())
    floating = [t for t in fresh.inputs if is_differentiable(t.dtype)]
    if len({(t.shape, t.dtype) for t in floating}) == len(floating):
        return []
    return [InputPoint("equal inputs", replace(fresh, inputs=tuple(same)), special=True)]


def _duplicates(shaped: ShapedInputs, domains: Sequence[Domain], seed: int) -> list[InputPoint]:
    """Integer inputs whose elements are all the same, and drawn again from those that are there."""
    whole = [not is_differentiable(t.dtype) and t.dtype is not torch.bool and t.numel() > 1 for t in shaped.inputs]
    if not any(whole):
        return []
    fresh = draw(shaped, domains, seed + 7)
    generator = torch.Generator().manual_seed(seed)

    def again(tensor: torch.Tensor) -> torch.Tensor:
        values = tensor.flatten()
        return values[torch.randint(len(values), (len(values),), generator=generator)].reshape(tensor.shape)

    alike = [torch.full_like(t, t.flatten()[0].item()) if w else t for t, w in zip(fresh.inputs, whole, strict=True)]
    mixed = [again(t) if w else t for t, w in zip(fresh.inputs, whole, strict=True)]
    return [
        InputPoint("one index", replace(fresh, inputs=tuple(alike))),
        InputPoint("duplicate indices", replace(fresh, inputs=tuple(mixed))),
    ]
