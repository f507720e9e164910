"""Products of 8-bit numbers: what PyTorch's own kernels for them need, and what they compute."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled(a: Tensor, b: Tensor) -> list[Tensor]:
    """Two matrices, and for each a number that it is multiplied by."""
    one = torch.ones((), dtype=torch.float32, device=a.device)
    return [a, b, one, one]


def scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: torch.dtype
) -> Tensor:
    """The product in the matrices' own dtype; ``out_dtype`` is what a kernel rounds to."""
    return (a * scale_a) @ (b * scale_b)
