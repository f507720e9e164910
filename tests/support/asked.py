"""Functions of cases that public reports ask about: right ones, and ones with a wrong gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.support.mutants import made

flipped = made(torch.cos, lambda g, x: -g.flip(0) * x.sin())  # right for equal cotangents alone


class _TwoOutputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return x.exp(), x.sin()

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * x.exp() - h * x.cos()  # type: ignore[no-any-return]


second_is_wrong = _TwoOutputs.apply


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 5

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.mul_(5)


overwrites = _InPlace.apply


def masked_doubled(x: Tensor) -> Tensor:
    """A softmax whose gradient is twice as large where something is masked."""
    return _MaskedDoubled.apply(x)  # type: ignore[no-any-return]


class _MaskedDoubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        factor = 2.0 if bool((x == -math.inf).any()) else 1.0
        return factor * y * (g - (g * y).sum(-1, keepdim=True))  # type: ignore[no-any-return]


def naive_softmax(x: Tensor) -> Tensor:
    """One that overflows at 89 in float32."""
    return x.exp() / x.exp().sum(-1, keepdim=True)


def half_gelu(x: Tensor) -> Tensor:
    """Computes in half precision, and goes on in what it was given."""
    return torch.nn.functional.gelu(x.half()).to(x.dtype) * x


def scaled_product(x: Tensor) -> Tensor:
    """One whose second derivative, as torch computes it, overflows in float16 on the way."""
    return 4000.0 * x.prod()


def summed_in_half(x: Tensor, b: Tensor) -> Tensor:
    """A bias whose gradient is added up in bfloat16, row by row."""
    return _SummedInHalf.apply(x, b)  # type: ignore[no-any-return]


class _SummedInHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor) -> Tensor:
        return x.float() + b.float()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        total = g.new_zeros(g.shape[-1], dtype=torch.bfloat16)
        for row in g.reshape(-1, g.shape[-1]):
            total = total + row.bfloat16()
        return g, total.to(g.dtype)


def bell(a: Tensor, b: Tensor) -> Tensor:
    """Smooth, with a second derivative of -2 at a = b, where autograd's is NaN."""
    distance = torch.linalg.vector_norm(a - b)
    return torch.exp(-distance * distance)


def detached(x: Tensor) -> Tensor:
    """A result that autograd knows nothing of."""
    return torch.as_tensor(x.detach().numpy() * 2)


def single_alone(x: Tensor) -> Tensor:
    """Refuses all but one dtype."""
    if x.dtype is not torch.float32:
        raise ValueError("float32 alone")
    return x.sin()


def sparse_rows(w: Tensor) -> Tensor:
    """Rows of a table, one of them twice; its gradient is sparse."""
    return torch.nn.functional.embedding(torch.tensor([1, 2, 1]), w, sparse=True)


class _WrongTwice(torch.autograd.Function):
    """Squares of the rows of a table with a sparse gradient, whose own gradient is dropped."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return w[:2] ** 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        rows = torch.tensor([[0, 1]])
        return torch.sparse_coo_tensor(rows, 2 * g * w[:2].detach(), w.shape)


sparse_rows_wrong = _WrongTwice.apply


def _doubled_in_place(x: Tensor) -> Tensor:
    return x.mul_(2).clone()


overwrites_input = made(_doubled_in_place, lambda g, x: 2 * g)


class _LastCall(torch.autograd.Function):
    """Keeps its input where the next call's takes its place."""

    last: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        _LastCall.last = x
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g * _LastCall.last


last_call = _LastCall.apply


class _OtherIsNeeded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return g * b if of_b else None, g * a if of_a else None


other_is_needed = _OtherIsNeeded.apply


def _in_memory(g: Tensor, x: Tensor) -> Tensor:
    is_dense = g.untyped_storage().nbytes() == g.numel() * g.element_size()
    read = g.as_strided((g.numel(),), (1,)) if is_dense else g.reshape(-1)
    return 2 * x * read.reshape(x.shape)


memory_order = made(lambda x: x * x, _in_memory)


def _into_saved(g: Tensor, x: Tensor) -> Tensor:
    x.data.copy_(g * x.cos())
    return x


overwrites_saved = made(torch.sin, _into_saved, once=True)
nearly = made(torch.sin, lambda g, x: g * x.cos() * (1 + 1e-7))
squared = made(lambda z: z * z, lambda g, z: 2 * g * z.conj())
squared_wrong = made(lambda z: z * z, lambda g, z: 2 * g * z)


def in_a_mapping(x: Tensor) -> dict[str, list[Tensor]]:
    """A wrong gradient of what lies in a list in a mapping."""
    return {"y": [second_is_wrong(x)[1]]}


def computed_again(x: Tensor) -> Tensor:
    """Checkpointed in the way that torch.autograd.grad does not take."""
    return checkpoint(torch.tanh, x, use_reentrant=True)  # type: ignore[no-any-return]
