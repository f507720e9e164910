"""What rounding explains: a dtype's unit roundoff, and the error bound that all oracles share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

FACTOR = 8  # roundings of the backward pass, beside those that perturbed inputs show
BOUND_TEXT = f"{FACTOR} (u |g| + d)"

Number = TypeVar("Number", float, Tensor)


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number of the dtype."""
    return torch.finfo(dtype).eps / 2


def rounding_bound(roundoff: float, magnitude: Number, moved: Number | float = 0.0) -> Number:
    """The error of a gradient that rounding explains, 8 (u |g| + d), for a number or each element.

    The roundoff u is relative, the magnitude |g| that of the gradient, and d how far it is moved
    when all that it is computed from moves by a roundoff.
    """
    return FACTOR * (roundoff * magnitude + moved)


def summing_factor(terms: Sequence[Tensor], total: Tensor) -> float:
    """By how much adding up multiplies rounding: n terms for each element walk a root of n far."""
    count = sum(t.numel() for t in terms)
    return math.sqrt(max(1.0, count / max(1, total.numel())))
