"""What rounding explains: the unit roundoff of a dtype, and the error bound that every oracle shares."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

BOUND_FACTOR = (
    8.0  # roundings of the backward pass, in addition to those that perturbed inputs show
)

Number = TypeVar("Number", float, Tensor)


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number of the dtype."""
    return torch.finfo(dtype).eps / 2


def rounding_bound(roundoff: float, magnitude: Number, moved: Number) -> Number:
    """The error of a gradient that rounding explains, 8 (u |g| + d), as a number or element by element.

    Args:
        roundoff: u, relative.
        magnitude: |g|, of the gradient.
        moved: d, how far the gradient moves when everything it is computed from moves by a roundoff.
    """
    return BOUND_FACTOR * (roundoff * magnitude + moved)
