"""What an input is, beside numbers of a domain: by name. Tensors are only called upon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # never imported in this room
    from torch import Tensor


def _positive_definite(tensor: Tensor) -> Tensor:
    square = _symmetric(tensor @ tensor.mH) / tensor.shape[-1]
    return square + square.new_ones(tensor.shape[-1]).diag()


def _symmetric(tensor: Tensor) -> Tensor:
    return (tensor + tensor.mH) / 2


def _causal_mask(tensor: Tensor) -> Tensor:
    """True up to the diagonal; of numbers, what is added to scores: 0 there and -inf beyond it."""
    allowed = tensor.new_ones(tensor.shape).tril().bool()
    if not tensor.is_floating_point():
        return allowed.to(tensor.dtype)
    return tensor.new_zeros(tensor.shape).masked_fill(~allowed, float("-inf"))


def _offsets(tensor: Tensor) -> Tensor:
    ordered: Tensor = tensor.sort(-1).values
    ordered[..., :1] = 0
    return ordered


STRUCTURES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "causal_mask": _causal_mask,
    "offsets": _offsets,
    "permutation": lambda tensor: tensor.double().argsort(-1),
    "positive_definite": _positive_definite,
    "probabilities": lambda tensor: tensor.softmax(-1),
    "sorted": lambda tensor: tensor.sort(-1).values,
    "symmetric": _symmetric,
}
"""What makes such an input of a drawn one, along its last dimension or in its last two.

``offsets`` are positions in order of which the first is 0, ``probabilities`` sum to 1.
"""
