"""Finite differences in float64 that say how far they can be trusted.

Central differences at a ladder of steps, each a quarter of the one before, extrapolated twice
(Richardson), so that the error is of order h^6::

    step    central    once       twice
    1/4     c0
    1/16    c1    ---> o0
    1/64    c2    ---> o1    ---> t0
    1/256   c3    ---> o2    ---> t1      each from the two to its left and above it
    ...
    error   h^2        h^4        h^6

For each output the step is taken at which three neighbours of the ladder agree best; their
disagreement, and the noise of the function as its finest steps show it, is the error. Where the two
one-sided slopes stay apart however small the step, the point is a kink for that output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 10
RATIO = 4.0
COARSEST = 0.25  # of the input's scale; the finest step is 1e-6 of it
EPS = torch.finfo(torch.float64).eps
ERRATIC = 1e-2  # noise, relative to the function's own size, beyond which differences say nothing
TRUST = 4.0  # how many times the differences' own estimate their error may be
HUGE = 1e300  # the error of an unknown slope; finite, so that 0 times it is 0
NOISY_LEVELS = 3  # the finest, at which noise is what differs most from level to level
BEND_FLOOR = 1e-7  # relative; a smaller difference of the one-sided slopes is rounding
ABOVE_NOISE = 8.0  # times the noise that a bend has to be

# two levels, 16 steps apart, between which a curve bends 1/16, a kink 1 and a jump 4 times as much
MIDDLE, FINE = LEVELS - 4, LEVELS - 2
BEND_STAYS, BEND_GROWS = 0.25, 2.5


@dataclass(frozen=True)
class Slopes:
    """The derivative of each output along one direction; vectors of one length."""

    value: Tensor
    error: Tensor  # how far the value may be off; :data:`HUGE` where it is not known
    # left, right: the one-sided slopes, in order of size
    left: Tensor
    right: Tensor
    kink: Tensor  # where these differ
    rise: Tensor  # how much the output changes over the coarsest step, over that step
    base: Tensor  # the outputs at the point


def differentiate(along: Callable[[float], Tensor], *, coarsest: float = COARSEST) -> Slopes:
    """Differentiate at 0 a function of one real number with a vector of real outputs.

    It is NaN where it is not defined, and its argument is of order one, which the first step,
    ``coarsest``, is relative to.
    """
    # a row for each step, a column for each output
    steps = [coarsest * RATIO**-k for k in range(LEVELS)]
    base = along(0.0)
    ahead = torch.stack([along(h) for h in steps])
    behind = torch.stack([along(-h) for h in steps])
    h = torch.tensor(steps, dtype=torch.float64).unsqueeze(1)
    central = (ahead - behind) / (2 * h)

    # slopes at the finest steps differ by noise over h alone, whatever the function
    differences = 0.5 * (h[:-1] * (central[:-1] - central[1:]).abs())
    jitter = differences[-NOISY_LEVELS:].nan_to_num(0.0, 0.0).amax(0)
    size = torch.maximum(ahead.abs(), behind.abs())
    noise = torch.maximum(EPS * size, jitter)
    noise = noise / h + EPS / h * central.abs()  # x + h d is rounded, too

    value, error = _richardson(central, noise)
    right, left = _one_sided((ahead - base) / h), _one_sided((base - behind) / h)
    low, high = torch.minimum(left, right), torch.maximum(left, right)

    # the difference of the one-sided slopes goes with h for a curve, stays for a kink, or grows
    bend = (ahead + behind - 2 * base).abs() / h
    floor = BEND_FLOOR * torch.maximum(left.abs(), right.abs())
    bent = bend[FINE] > ABOVE_NOISE * noise[FINE] + floor
    stays = bent & (bend[FINE] > BEND_STAYS * bend[MIDDLE])
    kink = stays & (bend[FINE] < BEND_GROWS * bend[MIDDLE]) & left.isfinite() & right.isfinite()

    # nothing is known where it jumps, is as good as random, or rounds: level at fine steps alone
    erratic = jitter > ERRATIC * size.nan_to_num(0.0, 0.0).amax(0)
    level = (ahead == base) & (behind == base)
    moves = (ahead != base) & (behind != base)
    stairs = level[FINE:].all(0) & moves[:2].all(0)
    unknown = erratic | stairs | (stays & ~kink) | ~base.isfinite() | ~value.isfinite()
    return Slopes(
        value=value.nan_to_num(0.0, 0.0, 0.0),
        error=error.masked_fill(unknown, HUGE),
        left=low.nan_to_num(0.0, 0.0, 0.0),
        right=high.nan_to_num(0.0, 0.0, 0.0),
        kink=kink & ~unknown,
        rise=torch.maximum((ahead[0] - base).abs(), (base - behind[0]).abs()).nan_to_num(0.0, 0.0)
        / h[0],
        base=base,
    )


def _richardson(central: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The slope of each output, and how far it may be off."""
    once = central[1:] + (central[1:] - central[:-1]) / (RATIO**2 - 1)
    twice = once[1:] + (once[1:] - once[:-1]) / (RATIO**4 - 1)

    # the best step is a compromise: coarser ones have a larger error, finer ones more noise
    agreement = (twice[:-1] - once[1:-1]).abs() + (twice[:-1] - twice[1:]).abs()
    error = (agreement + 2 * noise[2:-1]).nan_to_num(HUGE, HUGE)
    best = error.argmin(0, keepdim=True)
    value = twice[:-1].gather(0, best)[0]

    # coarse steps may agree by chance, as over a whole wave; finer ones that contradict them count
    coarser = torch.arange(len(error)).unsqueeze(1) <= best
    contradiction = ((twice[:-1] - value).abs() - error).nan_to_num(0.0, 0.0).clamp(min=0.0)
    contradiction = contradiction.masked_fill(coarser, 0.0).amax(0)
    return value, error.gather(0, best)[0] + contradiction


def _one_sided(slopes: Tensor) -> Tensor:
    """Slopes to one side, whose error is of order h, extrapolated once."""
    return slopes[FINE] + (slopes[FINE] - slopes[FINE - 1]) / (RATIO - 1)
