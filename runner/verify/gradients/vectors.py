"""Tensors as real vectors, and the random numbers and small changes that gradients are tried with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.target import Tensors


def copied(tensors: Sequence[Tensor]) -> Tensors:
    """Copies that a call may overwrite."""
    return [t.detach().clone() for t in tensors]


def real_size(tensors: Sequence[Tensor]) -> int:
    """The length of their real vector; a complex number is two of its elements."""
    return sum(t.numel() * (2 if t.is_complex() else 1) for t in tensors)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors as one real vector in float64."""
    parts = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    if not parts:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([t.detach().resolve_neg().reshape(-1).to("cpu", torch.float64) for t in parts])


def unflat(vector: Tensor, like: Tensor) -> Tensor:
    """A real vector in the shape, dtype and device of ``like``; the inverse of :func:`flat` for one tensor."""
    if like.is_complex():
        return torch.view_as_complex(vector.reshape(*like.shape, 2).clone()).to(
            like.device, like.dtype
        )
    return vector.reshape(like.shape).to(like.device, like.dtype)


def split_row(row: Tensor, outputs: Sequence[Tensor]) -> Tensors:
    """A real vector over all outputs as a cotangent for each."""
    sizes = [real_size([t]) for t in outputs]
    return [unflat(part, t) for part, t in zip(torch.split(row, sizes), outputs, strict=True)]


def index_text(element: int, tensor: Tensor) -> str:
    """The index ``3,1`` of an element of a tensor's real vector."""
    rest = element // 2 if tensor.is_complex() else element
    indices = []
    for n in reversed(tensor.shape):
        rest, index = divmod(rest, n)
        indices.append(index)
    return ",".join(map(str, reversed(indices)))


def max_abs(tensor: Tensor) -> float:
    """The largest absolute value among the finite elements; 0 where there is none."""
    return tensor.abs().nan_to_num(0.0, 0.0).max().item() if tensor.numel() else 0.0


def gaussian(like: Tensor, generator: torch.Generator) -> Tensor:
    """Signed standard normal numbers in float64 (complex128), of a tensor's shape, on the CPU."""
    dtype = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, generator=generator, dtype=dtype)


def random_cotangents(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensors:
    """A cotangent for each output, in its dtype and on its device."""
    return [gaussian(t, generator).to(t.device, t.dtype) for t in outputs]


def perturbed(tensor: Tensor, roundoff: float, generator: torch.Generator) -> Tensor:
    """A tensor each of whose elements has moved by one relative roundoff, up or down; integers stay."""
    if not is_differentiable(tensor.dtype):
        return tensor
    signs = (torch.randint(2, tensor.shape, generator=generator) * 2 - 1).to(tensor.device)
    return tensor * (1 + roundoff * signs)


def all_perturbed(
    tensors: Sequence[Tensor], roundoff: float, generator: torch.Generator
) -> Tensors:
    """Each of several tensors, :func:`perturbed`."""
    return [perturbed(t, roundoff, generator) for t in tensors]
