"""Where a call's tensors lie and what they hold, drawn again for each visit."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from runner.calls.layouts import copy_of, stored

ALIGNMENT = 64  # bytes, as PyTorch's allocator on the CPU
SLACK_BYTES = 2**20  # of a pool beyond what the tensors need: the places to choose from


class Pools:
    """Memory that sides use in turn: a pool for each set of tensors, for the largest side's.

    Args:
        seed: of the places in them.
    """

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._needed = 0
        self._pools: dict[int, torch.Tensor] = {}

    def reserve(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make the pools large enough for these, before the first one is used."""
        self._needed = max(self._needed, sum(_aligned(_span(tensor)) for tensor in tensors))

    def place(self, tensors: Sequence[torch.Tensor], number: int) -> list[torch.Tensor]:
        """Copies at a random place of a pool, with their strides and need for a gradient.

        Another device than the CPU places them itself.
        """
        if number not in self._pools:
            with torch.inference_mode(mode=False):  # a side without it writes here too
                self._pools[number] = torch.empty(self._needed + SLACK_BYTES, dtype=torch.uint8)
        pool = self._pools[number]
        position = self._draw.randrange(SLACK_BYTES // ALIGNMENT) * ALIGNMENT
        copies = []
        for tensor in tensors:
            if tensor.device.type != "cpu" or not _span(tensor):
                copies.append(copy_of(tensor))
                continue
            memory = pool[position : position + _span(tensor)].view(tensor.dtype)
            part = stored(tensor.detach())
            copy = memory.as_strided(part.shape, part.stride(), memory.storage_offset())
            copy = copy.copy_(part).expand(tensor.shape)
            copies.append(copy.requires_grad_(tensor.requires_grad))
            position += _aligned(_span(tensor))
        return copies


def _span(tensor: torch.Tensor) -> int:
    """Bytes from a tensor's first element to its last one."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((length - 1) * stride for length, stride in steps)) * tensor.element_size()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
