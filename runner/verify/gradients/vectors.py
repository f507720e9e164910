"""Tensors as real vectors, and the random numbers and small changes to try gradients with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable

Tensors = list[Tensor]
TensorFunction = Callable[[Tensors], Tensors]  # inputs -> the tensors of its result


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
    """A real vector in the shape, dtype and device of ``like``: :func:`flat` of it, undone."""
    if like.is_complex():
        vector = torch.view_as_complex(vector.reshape(*like.shape, 2).clone())
    return vector.reshape(like.shape).to(like.device, like.dtype)


def index_text(element: int, tensor: Tensor) -> str:
    """The index ``3,1`` of an element of a tensor."""
    index = torch.unravel_index(torch.tensor(element), tensor.shape)
    return ",".join(str(int(i)) for i in index)


def magnitudes(tensor: Tensor) -> Tensor:
    """The absolute value of each element; 0 where it is not finite."""
    return tensor.abs().nan_to_num(0.0, 0.0)


def max_abs(tensor: Tensor) -> float:
    """The largest absolute value among the finite elements; 0 where there is none."""
    return magnitudes(tensor).max().item() if tensor.numel() else 0.0


def largest(tensors: Sequence[Tensor], default: float = 0.0) -> float:
    """The largest absolute value of several tensors."""
    return max(map(max_abs, tensors), default=default)


def gaussian(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in float64 (complex128), of a tensor's shape, on the CPU."""
    dtype = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, generator=generator, dtype=dtype)


def random_cotangents(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensors:
    """A cotangent for each output, in its dtype and on its device."""
    return [gaussian(t, generator).to(t.device, t.dtype) for t in outputs]


def random_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """1 or -1 for each element of a tensor, on its device."""
    signs = torch.randint(2, like.shape, generator=generator) * 2 - 1
    return signs.to(like.device)


def perturbed(tensors: Sequence[Tensor], roundoff: float, generator: torch.Generator) -> Tensors:
    """Tensors whose elements have moved by a relative roundoff, up or down; integers stay."""

    def moved(tensor: Tensor) -> Tensor:
        # in the tensor's own precision, where 1 plus less than this is 1 again
        dtype = tensor.dtype.to_real()
        step = max(roundoff, torch.finfo(dtype).eps)
        return tensor * (1 + step * random_signs(tensor, generator).to(dtype))

    return [moved(t) if is_differentiable(t.dtype) else t for t in tensors]


def farthest(gradients: Tensors, perturb: Callable[[], Tensors], draws: int) -> Tensors:
    """How far rounding moves gradients: the most of several draws, for each element.

    Each comes from inputs that are off by a roundoff; out of the domain, it raises and is left out.
    """
    most = [torch.zeros_like(magnitudes(g)) for g in gradients]
    for _ in range(draws):
        try:
            others = perturb()
        except Exception:  # whatever the function raises there
            continue
        changes = [magnitudes(o - g) for o, g in zip(others, gradients, strict=True)]
        most = [torch.maximum(m, c) for m, c in zip(most, changes, strict=True)]
    return most
