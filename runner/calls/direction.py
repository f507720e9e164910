"""The call that is timed: forward, the backward pass alone, or both, also with recomputing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation, is_differentiable, outputs_of
from runner.calls.layouts import copy_of

MOST_REALLOCATED_BYTES = 2**24  # of inputs that are copied; some 16 copies are held


def in_direction(
    forward: Thunk, tensors: list[Tensor], direction: str
) -> tuple[Thunk, list[Tensor]]:
    """The call to time, and its cotangents.

    It is forward, backward on a kept graph, both, or recompute: both, where the forward pass keeps
    its inputs alone and is made once more for the backward pass.
    """
    if direction == "forward":
        return forward, []
    if direction == "recompute":
        forward = partial(checkpoint, forward, use_reentrant=False)
    inputs = [t for t in tensors if t.requires_grad]

    def differentiable() -> list[Tensor]:
        return [t for t in outputs_of(forward()) if t.requires_grad]

    outputs = differentiable()
    cotangents = [_ones_like(t) for t in outputs]
    grad = partial(torch.autograd.grad, allow_unused=True)
    if direction == "backward":
        return partial(grad, outputs, inputs, cotangents, retain_graph=True), cotangents
    return lambda: grad(differentiable(), inputs, cotangents), cotangents


def _ones_like(tensor: Tensor) -> Tensor:
    """A tensor of ones, which torch does not make of a sparse one of coordinates."""
    if tensor.layout is not torch.sparse_coo:
        return torch.ones_like(tensor)
    ones = torch.ones_like(tensor.detach()._values())
    return torch.sparse_coo_tensor(tensor.detach()._indices(), ones, tensor.shape)


def make_call(direction: str, bound: BoundOperation, tensors: list[torch.Tensor]) -> Thunk:
    """The call to time on these inputs."""
    return restoring(in_direction(bound.call_with(tensors), tensors, direction)[0], bound, tensors)


class Restoring(partial[Any]):
    """A call that changes its inputs, and what puts them back before the next one."""

    restore: Callable[[], None]


def restoring(call: Thunk, bound: BoundOperation, tensors: list[Tensor]) -> Thunk:
    """The same call, with what puts back the inputs that the operation is declared to change."""
    changed = [tensors[bound.names.index(name)] for name in bound.op.restore]
    if not changed:
        return call
    kept = [copy_of(tensor) for tensor in changed]

    def restore() -> None:
        for tensor, before in zip(changed, kept, strict=True):
            tensor.copy_(before)

    return restored_by(restore, call)


def restored_by(restore: Callable[[], None], call: Thunk) -> Thunk:
    """The same call, with what puts its inputs back."""
    whole = Restoring(call)
    whole.restore = restore
    return whole


def inputs_of(bound: BoundOperation, direction: str, device: torch.device) -> list[torch.Tensor]:
    """The inputs on a device, with a gradient where the direction asks for one."""
    tensors = [copy_of(t, device if bound.moves else None) for t in bound.draw()]
    if direction == "forward":
        return tensors
    return [t.requires_grad_() if is_differentiable(t.dtype) else t for t in tensors]


def reallocate_for(
    bound: BoundOperation, tensors: list[Tensor], direction: str
) -> Callable[[], Thunk] | None:
    """Gives the call to time on copies of the tensors; None where these would take much memory."""
    if sum(t.numel() * t.element_size() for t in tensors) > MOST_REALLOCATED_BYTES:
        return None

    results: list[Any] = []

    def reallocate() -> Thunk:
        copies = [copy_of(tensor) for tensor in tensors]
        call = make_call(direction, bound, copies)

        # takes up what the call before this one gave back, so that the output moves too
        results.append(call())
        return call

    return reallocate
