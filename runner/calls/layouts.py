"""How tensors lie in memory, and copies that lie alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def laid(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers in a layout of the axis, where a tensor has the dimensions for it.

    ``strided`` has a gap after each element, ``expanded`` its first row or plane everywhere.
    """
    if layout == "transposed" and tensor.ndim >= 2:
        return tensor.mT.contiguous().mT
    if layout == "channels_last" and tensor.ndim in (4, 5):
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        return tensor.contiguous(memory_format=formats[tensor.ndim])
    if layout == "strided" and tensor.ndim:
        return tensor.new_empty((*tensor.shape, 2))[..., 0].copy_(tensor)
    if layout == "expanded" and tensor.ndim:
        return tensor[:1].expand(tensor.shape)
    return tensor


def strided(tensor: Tensor, strides: Sequence[int]) -> Tensor:
    """The same numbers with so many elements between neighbours along each dimension; 0: one."""
    laid_out = tensor.new_empty_strided(tensor.shape, tuple(strides))
    part = stored(laid_out)
    part.copy_(tensor[tuple(map(slice, part.shape))])
    return part.expand(tensor.shape)


def stored(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in memory once: the first of each expanded dimension."""
    for dimension, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dimension] > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def copy_of(tensor: Tensor, device: torch.device | None = None) -> Tensor:
    """A copy, perhaps on another device, with the strides and the need for a gradient."""
    if tensor.layout is not torch.strided:
        return tensor.detach().to(device, copy=True).requires_grad_(tensor.requires_grad)
    part = stored(tensor.detach())
    copy = torch.empty_strided(
        part.shape, part.stride(), dtype=part.dtype, device=device or part.device
    )
    return copy.copy_(part).expand(tensor.shape).requires_grad_(tensor.requires_grad)
