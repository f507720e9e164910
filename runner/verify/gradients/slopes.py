"""Finite differences in float64 that say how far they can be trusted.

Central differences at a ladder of steps, each a quarter of the one before, extrapolated twice (Richardson), so that
the error is of order h^6. For each output the step is taken at which three neighbours of the ladder agree best; what
they disagree by, and the noise of the function as its finest steps show it, is the error. Where the two one-sided
slopes stay apart however small the step, the point is a kink for that output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

LEVELS = 10
RATIO = 4.0
COARSEST = 0.25  # of the input's scale; the finest step is 1e-6 of it
EPS = torch.finfo(torch.float64).eps
ERRATIC = 1e-2  # noise, relative to the function's own size, beyond which differences say nothing
TRUST = 4.0  # how many times the differences' own estimate their error may be
HUGE = 1e300  # an error that says nothing is known; finite, so that 0 times it is 0
MIDDLE, FINE = LEVELS - 4, LEVELS - 2  # the levels between which a kink and a curve are told apart, 16 steps apart


@dataclass(frozen=True)
class Slopes:
    """The derivative of each output along one direction; vectors of one length.

    Attributes:
        value: the derivative.
        error: how far it may be off; :data:`HUGE` where it is not known.
        left, right: the one-sided slopes, in order of size.
        kink: where these differ.
        base: the outputs at the point.
    """

    value: torch.Tensor
    error: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    kink: torch.Tensor
    base: torch.Tensor


def differentiate(along: Callable[[float], torch.Tensor], scale: float, *, coarsest: float = COARSEST) -> Slopes:
    """Differentiate at 0 a function of one real number with a vector of real outputs.

    Args:
        along: the function; NaN where it is not defined.
        scale: the length over which its argument is of order one.
        coarsest: the first step, relative to ``scale``.
    """
    steps = torch.tensor([coarsest * scale * RATIO**-k for k in range(LEVELS)], dtype=torch.float64)
    base = along(0.0)
    ahead = torch.stack([along(h) for h in steps.tolist()])
    behind = torch.stack([along(-h) for h in steps.tolist()])
    h = steps.unsqueeze(1)
    central = (ahead - behind) / (2 * h)
    once = central[1:] + (central[1:] - central[:-1]) / (RATIO**2 - 1)
    twice = once[1:] + (once[1:] - once[:-1]) / (RATIO**4 - 1)
    size = torch.maximum(ahead.abs(), behind.abs())
    jitter = 0.5 * (h[:-1] * (central[:-1] - central[1:]).abs())[-3:].nan_to_num(0.0, 0.0).amax(0)
    noise = torch.maximum(EPS * size, jitter)
    noise = noise / h + EPS * scale / h * central.abs()  # of the sum x + h d itself, too
    agreement = (twice[:-1] - once[1:-1]).abs() + (twice[:-1] - twice[1:]).abs()
    error = (agreement + 2 * noise[2:-1]).nan_to_num(HUGE, HUGE)
    best = error.argmin(0, keepdim=True)
    value = twice[:-1].gather(0, best)[0]
    finer = torch.arange(len(error)).unsqueeze(1) > best
    against = ((twice[:-1] - value).abs() - error).nan_to_num(0.0, 0.0).clamp(min=0.0)
    error = error.gather(0, best)[0] + torch.where(finer, against, 0 * against).amax(0)  # coarse steps agree by chance
    right, left = _one_sided((ahead - base) / h), _one_sided((base - behind) / h)
    bend = (ahead + behind - 2 * base).abs() / h
    above_noise = bend[FINE] > 8 * noise[FINE] + 1e-7 * torch.maximum(left.abs(), right.abs())
    stays = above_noise & (bend[FINE] > 0.25 * bend[MIDDLE])
    kink = stays & (bend[FINE] < 2.5 * bend[MIDDLE]) & left.isfinite() & right.isfinite()
    erratic = jitter > ERRATIC * size.nan_to_num(0.0, 0.0).amax(0)  # it jumps, or is as good as random
    level = (ahead == base) & (behind == base)  # where steps are finer than those of rounding, say
    stairs = level[FINE:].all(0) & ((ahead != base) & (behind != base))[:2].all(0)
    unknown = erratic | stairs | (stays & ~kink) | ~base.isfinite() | ~value.isfinite()
    error = torch.where(unknown, torch.full_like(error, HUGE), error)
    return Slopes(
        value=value.nan_to_num(0.0, 0.0, 0.0),
        error=error,
        left=torch.minimum(left, right).nan_to_num(0.0, 0.0, 0.0),
        right=torch.maximum(left, right).nan_to_num(0.0, 0.0, 0.0),
        kink=kink & ~unknown,
        base=base,
    )


def _one_sided(slopes: torch.Tensor) -> torch.Tensor:
    """Slopes to one side, whose error is of order h, extrapolated once."""
    return slopes[FINE] + (slopes[FINE] - slopes[FINE - 1]) / (RATIO - 1)
