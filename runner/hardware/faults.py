"""Calls that go wrong as calls on a device do. Each is meant to end its cell, and no other."""

from __future__ import annotations

import torch
from torch import Tensor

FOREVER = 10**15  # cycles of a device's clock: days
BEYOND = 10**9  # elements, farther than any tensor of a stage reaches
TOO_MUCH = 2**50  # bytes
WRITES_NOWHERE = 'extern "C" __global__ void nowhere(float *out) { *(float *)16 = out[0]; }'


def hang(x: Tensor) -> Tensor:
    """A kernel that does not end."""
    torch.get_device_module(x.device)._sleep(FOREVER)
    return x + 1


def beyond(x: Tensor) -> Tensor:
    """An index that is not there, which a device notices when the kernel runs."""
    index = torch.full((1,), BEYOND, dtype=torch.int64, device=x.device)
    return x + x.flatten().index_select(0, index)


def illegal(x: Tensor) -> Tensor:
    """A kernel that writes where no memory is; NotImplementedError where none can be compiled."""
    compile_kernel = getattr(torch.get_device_module(x.device), "_compile_kernel", None)
    if compile_kernel is None:
        raise NotImplementedError("no kernel can be compiled at run time here")
    out = x + 1
    compile_kernel(WRITES_NOWHERE, "nowhere")((1, 1, 1), (1, 1, 1), (out,))
    return out


def too_much(x: Tensor) -> Tensor:
    """More memory than any device has."""
    return x + torch.empty(TOO_MUCH, dtype=torch.uint8, device=x.device)[0]
