"""Wrong backward functions, each with a right twin: who catches them, and whom they wrongly accuse.

    python tests/support/mutants.py

Every pair shares its forward pass. ``caught`` counts wrong functions with a verdict of fail or
error, ``accused`` right ones. gradcheck is given each function's declared example in float64, its
defaults, and what it raises counts as caught.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.rows.rows import BAD
from runner.verify.gradients.verifier import check_gradients
from tests.support import factories

CPU = torch.device("cpu")
Backward = Callable[..., Any]


@dataclass(frozen=True)
class Pair:
    """A wrong function and its right twin.

    Attributes:
        kind: what is wrong, in the words of the list of what gradient checkers miss.
        dtype: in which it is verified.
        fields: further fields of an operation's YAML.
    """

    name: str
    kind: str
    right: Callable[..., Any]
    wrong: Callable[..., Any]
    signature: str = "... n -> ... n"
    size: str = "4x6"
    dtype: torch.dtype = torch.float64
    fields: dict[str, Any] = field(default_factory=dict)

    def bound(self, function: Callable[..., Any]) -> BoundOperation:
        """One of the two as an operation at the pair's size."""
        of_op = {"name": self.name, "signature": self.signature, **self.fields}
        return factories.bound(function, self.dtype, self.size, seed=0, **of_op)


def made(forward: Callable[..., Any], backward: Backward, **settings: Any) -> Callable[..., Any]:
    """An autograd function that saves its inputs: ``backward(cotangent, *inputs)``."""

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: torch.Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
            return backward(*cotangents, *ctx.saved_tensors)

    if settings.get("once"):
        Made.backward = staticmethod(torch.autograd.function.once_differentiable(Made.backward))  # type: ignore[method-assign]
    return Made.apply  # type: ignore[no-any-return]


def pair(
    name: str,
    kind: str,
    forward: Callable[..., Any],
    right: Backward,
    wrong: Backward,
    **fields: Any,
) -> Pair:
    """A pair of autograd functions with one forward pass."""
    known = {key: fields.pop(key) for key in ("signature", "size", "dtype") if key in fields}
    once = {"once": fields.pop("once")} if "once" in fields else {}
    return Pair(
        name,
        kind,
        made(forward, right, **once),
        made(forward, wrong, **once),
        fields=fields,
        **known,
    )


TWO = "..., ... -> ..."
MATMUL = "m k, k n -> m n"
SUM = "... ->"


def _saved_output(factor: float) -> Callable[..., Any]:
    class SavedOutput(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (y,) = ctx.saved_tensors
            if factor:
                return g * y
            y.data.mul_(2)
            return g * y / 2

    return SavedOutput.apply  # type: ignore[no-any-return]


def _stateful(remembers: bool) -> Callable[..., Any]:
    class Stateful(torch.autograd.Function):
        last: torch.Tensor

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            Stateful.last = x.detach().clone()
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return g * (Stateful.last if remembers else x).cos()

    return Stateful.apply  # type: ignore[no-any-return]


def _cached(keeps: bool) -> Callable[..., Any]:
    cache: dict[torch.Size, torch.Tensor] = {}

    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if keeps:
            return g * cache.setdefault(x.shape, 2 * x.detach())
        return g * 2 * x

    return made(lambda x: x * x, backward)


def _counting(counts: bool) -> Callable[..., Any]:
    class Counting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            ctx.calls = 0
            return x.tanh()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            ctx.calls += counts
            return g * (1 - x.tanh() ** 2) * max(1, ctx.calls)

    return Counting.apply  # type: ignore[no-any-return]


def _needs(transposed: bool) -> Callable[..., Any]:
    class Needs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> Any:
            x, y = ctx.saved_tensors
            first, second = ctx.needs_input_grad
            if transposed and not (first and second):
                return g * y if second else g * x, g * x if second else None
            return g * y if first else None, g * x if second else None

    return Needs.apply  # type: ignore[no-any-return]


def _two_outputs(right: bool) -> Callable[..., Any]:
    class TwoOutputs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> Any:
            ctx.save_for_backward(x)
            ctx.set_materialize_grads(right)
            return x.sin(), x.cos()

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            if not right and (g is None or h is None):
                return x.cos() * (g if h is None else h)
            return g * x.cos() - h * x.sin()

    return TwoOutputs.apply  # type: ignore[no-any-return]


def _second_order(right: bool) -> Callable[..., Any]:
    class Second(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            y = x.exp()
            ctx.save_for_backward(y) if right else ctx.save_for_backward(y.clone())
            return y

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (y,) = ctx.saved_tensors
            return g * y

    return Second.apply  # type: ignore[no-any-return]


def _taken_by(
    gradient: Callable[[torch.Tensor, torch.Tensor, torch.Size], torch.Tensor],
) -> Callable[..., Any]:
    """``source[index]``, whose gradient is made of the cotangent, the index and the shape."""

    class Take(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(index)
            ctx.shape = source.shape
            return source[index]

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> Any:
            return gradient(g, *ctx.saved_tensors, ctx.shape), None

    def take(source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return Take.apply(source, index)  # type: ignore[no-any-return]

    return take


def _index_add(right: bool) -> Callable[..., Any]:
    def gradient(g: torch.Tensor, index: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        found = g.new_zeros(shape)
        if right:
            return found.index_add(0, index, g)
        found[index] = g
        return found

    return _taken_by(gradient)


def _noise(size: float) -> Backward:
    return lambda g, x: g * x.cos() * (1 + size * torch.rand_like(x))


def _softmax_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y = x.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


def _inplace(right: bool) -> Backward:
    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return g * 3 if right else g.mul_(3)

    return backward


def _touches_input(right: bool) -> Backward:
    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        result = g * 2 * x
        if not right:
            x.data.add_(1e-3)
        return result

    return backward


def _last_wrong(where: Callable[[torch.Tensor], Any], by: float) -> Backward:
    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        result = g * x.cos()
        if result.numel() and result.dim():
            result = result.clone()
            result[where(result)] *= 1 + by
        return result

    return backward


def _sin(change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Backward:
    return lambda g, x: change(g, x) * x.cos()


def _narrow(dtype: torch.dtype) -> Backward:
    return lambda g, x: (g.to(dtype) * x.to(dtype).cos()).to(x.dtype)


def _only(dtype: torch.dtype, change: Callable[[torch.Tensor], torch.Tensor]) -> Backward:
    return lambda g, x: change(g * x.cos()) if x.dtype is dtype else g * x.cos()


def _sinus(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return g * x.cos()


def _max_ties(right: bool) -> Backward:
    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if not right:
            return g.unsqueeze(-1) * (x == x.amax(-1, keepdim=True))
        return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), g.unsqueeze(-1))

    return backward


def _tiled(tile: int) -> Backward:
    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        result = g * 2 * x
        rest = x.shape[-1] % tile if x.dim() else 0
        if rest and x.shape[-1] > tile:
            result = torch.cat([result[..., :-rest], torch.zeros_like(result[..., -rest:])], -1)
        return result

    return backward


def _sum_to(t: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return t.sum_to_size(shape)


def _mul(g: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Any:
    return _sum_to(g * y, x.shape), _sum_to(g * x, y.shape)


def _layer_norm(g: torch.Tensor, x: torch.Tensor, centred: bool = True) -> torch.Tensor:
    n = x.shape[-1]
    s = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
    h = (x - x.mean(-1, keepdim=True)) * s
    mean = g.mean(-1, keepdim=True) if centred else 0.0
    return s * (g - mean - h * (g * h).sum(-1, keepdim=True) / n)


def _norm(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) * (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()


def _gelu_tanh(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The derivative of the approximation, for the exact function."""
    t = torch.tanh(0.79788456 * (x + 0.044715 * x**3))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456 * (1 + 0.134145 * x * x))


PAIRS = [
    # small relative errors
    *(
        pair(
            f"off_by_{by:g}",
            "small error",
            torch.sin,
            _sinus,
            lambda g, x, by=by: g * x.cos() * (1 + by),
        )
        for by in (1e-2, 9e-4, 1e-4, 1e-6)
    ),
    pair("off_by_a_constant", "small error", torch.sin, _sinus, lambda g, x: g * (x.cos() + 5e-4)),
    pair(
        "gelu_tanh",
        "small error",
        torch.nn.functional.gelu,
        lambda g, x: (
            g
            * (
                0.5 * (1 + torch.erf(x / 2**0.5))
                + x * torch.exp(-x * x / 2) / (2 * torch.pi) ** 0.5
            )
        ),
        _gelu_tanh,
    ),
    pair(
        "sigmoid_wrong_order",
        "missing factor",
        torch.sigmoid,
        lambda g, x: g * x.sigmoid() * (1 - x.sigmoid()),
        lambda g, x: g * x.sigmoid(),
    ),
    pair("sign", "sign", torch.cos, lambda g, x: -g * x.sin(), lambda g, x: g * x.sin()),
    pair(
        "inner_derivative",
        "missing factor",
        lambda x: (3 * x).sin(),
        lambda g, x: 3 * g * (3 * x).cos(),
        lambda g, x: g * (3 * x).cos(),
    ),
    pair(
        "transposed_factor",
        "missing factor",
        torch.matmul,
        lambda g, a, b: (g @ b.mT, a.mT @ g),
        lambda g, a, b: (g @ b.mT, (g.mT @ a).mT * 1.0005),
        signature=MATMUL,
    ),
    pair(
        "softmax_without_sum",
        "missing factor",
        lambda x: x.softmax(-1),
        _softmax_backward,
        lambda g, x: g * x.softmax(-1),
    ),
    pair(
        "layer_norm_without_mean",
        "missing factor",
        _norm,
        _layer_norm,
        lambda g, x: _layer_norm(g, x, centred=False),
    ),
    pair(
        "layer_norm_n_minus_1",
        "small error",
        _norm,
        _layer_norm,
        lambda g, x: _layer_norm(g, x) * (1 - 1e-3 / max(1, x.shape[-1] - 1)),
    ),
    # single elements
    pair("last_element", "one element", torch.sin, _sinus, _last_wrong(lambda t: (..., -1), 1e-3)),
    pair("first_row", "one element", torch.sin, _sinus, _last_wrong(lambda t: 0, 2e-4)),
    pair(
        "one_of_many",
        "one element",
        torch.sin,
        _sinus,
        _last_wrong(lambda t: tuple(n - 1 for n in t.shape), 0.5),
        size="32x48",
    ),
    pair(
        "diagonal",
        "one element",
        lambda x: x * x,
        lambda g, x: 2 * g * x,
        lambda g, x: 2 * g * x * (1 + 1e-3 * torch.eye(*x.shape, dtype=x.dtype)),
        signature="m n -> m n",
    ),
    # cotangents
    pair("ones_assumed", "cotangent", torch.sin, _sinus, lambda g, x: torch.ones_like(g) * x.cos()),
    pair("absolute", "cotangent", torch.sin, _sinus, _sin(lambda g, x: g.abs())),
    pair("clamped", "cotangent", torch.sin, _sinus, _sin(lambda g, x: g.clamp(-100, 100))),
    pair("clamped_at_one", "cotangent", torch.sin, _sinus, _sin(lambda g, x: g.clamp(max=1.0))),
    pair(
        "flushed",
        "cotangent",
        torch.sin,
        _sinus,
        _sin(lambda g, x: torch.where(g.abs() < 1e-4, 0 * g, g)),
    ),
    pair("squared", "cotangent", torch.sin, _sinus, _sin(lambda g, x: g * (1 + 1e-3 * g.abs()))),
    pair(
        "expanded_as_one",
        "cotangent layout",
        torch.sin,
        _sinus,
        _sin(lambda g, x: g if not g.dim() or 0 not in g.stride() else g * 2),
    ),
    pair(
        "storage_order",
        "cotangent layout",
        torch.sin,
        _sinus,
        _sin(
            lambda g, x: (
                g.as_strided(g.shape, x.contiguous().stride())
                if g.numel() == 1
                or (
                    not g.is_contiguous()
                    and 0 not in g.stride()
                    and g.untyped_storage().nbytes() == g.numel() * g.element_size()
                )
                else g
            )
        ),
    ),
    pair(
        "view_of_cotangent",
        "cotangent layout",
        lambda x: x * 2,
        lambda g, x: 2 * g,
        lambda g, x: 2 * g.view(-1).view(x.shape),
    ),
    pair(
        "data_pointer",
        "cotangent layout",
        torch.sin,
        _sinus,
        _sin(
            lambda g, x: (
                torch.as_strided(g, g.shape, torch.empty(g.shape).stride(), 0)
                if g.storage_offset() and g.numel()
                else g
            )
        ),
    ),
    pair("cotangent_in_place", "mutation", lambda x: 3 * x, _inplace(True), _inplace(False)),
    pair(
        "input_in_place", "mutation", lambda x: x * x, _touches_input(True), _touches_input(False)
    ),
    Pair("output_in_place", "mutation", _saved_output(1.0), _saved_output(0.0)),
    # input layouts
    pair(
        "strides_of_input",
        "input layout",
        lambda x: x.contiguous() * 2,
        lambda g, x: 2 * g,
        lambda g, x: 2 * g if x.is_contiguous() else 2 * g.reshape(-1).flip(0).reshape(g.shape),
    ),
    pair(
        "offset_of_input",
        "input layout",
        torch.sin,
        _sinus,
        lambda g, x: g * x.cos() * (1 if x.storage_offset() == 0 else 0.999),
    ),
    # shapes
    pair(
        "batch_forgotten",
        "shape",
        torch.matmul,
        lambda g, a, b: (_sum_to(g @ b.mT, a.shape), _sum_to(a.mT @ g, b.shape)),
        lambda g, a, b: (g @ b.mT, _sum_to(a.mT @ g, b.shape) / (a.shape[0] if a.dim() > 2 else 1)),
        signature="... m k, k n -> ... m n",
    ),
    pair(
        "broadcast_mean",
        "shape",
        torch.mul,
        _mul,
        lambda g, x, y: (
            _sum_to(g * y, x.shape),
            _sum_to(g * x, y.shape) * y.numel() / max(1, g.numel()),
        ),
        signature=TWO,
    ),
    pair(
        "broadcast_first",
        "shape",
        torch.add,
        lambda g, x, y: (_sum_to(g, x.shape), _sum_to(g, y.shape)),
        lambda g, x, y: (
            g,
            g
            if g.shape == y.shape
            else g[:1].reshape(-1)[: y.numel()].reshape(y.shape)
            if g.numel()
            else _sum_to(g, y.shape),
        ),
        signature=TWO,
    ),
    pair("tile_of_8", "shape", lambda x: x * x, lambda g, x: 2 * g * x, _tiled(8), size="4x16"),
    pair("tile_of_128", "shape", lambda x: x * x, lambda g, x: 2 * g * x, _tiled(128)),
    pair(
        "past_1024",
        "shape",
        torch.sin,
        _sinus,
        lambda g, x: torch.cat(
            [(g * x.cos()).flatten()[:1024], (g * x.cos()).flatten()[1024:] * 0.99]
        ).reshape(x.shape),
    ),
    pair(
        "past_65536",
        "shape",
        torch.sin,
        _sinus,
        lambda g, x: torch.cat([(g * x.cos()).flatten()[:65536], 0 * g.flatten()[65536:]]).reshape(
            x.shape
        ),
    ),
    pair(
        "size_one",
        "shape",
        lambda x: x - x.mean(-1, keepdim=True),
        lambda g, x: g - g.mean(-1, keepdim=True),
        lambda g, x: g - g.mean(-1, keepdim=True) if x.shape[-1] > 1 else g,
    ),
    pair(
        "three_dimensions",
        "shape",
        lambda x: x.cumsum(-1),
        lambda g, x: g.flip(-1).cumsum(-1).flip(-1),
        lambda g, x: (
            g.flip(-1).cumsum(-1).flip(-1) if x.dim() < 3 else g.flip(0).cumsum(-1).flip(0)
        ),
    ),
    pair(
        "square_only",
        "shape",
        torch.matmul,
        lambda g, a, b: (g @ b.mT, a.mT @ g),
        lambda g, a, b: (
            (g @ b.mT, a.mT @ g)
            if a.shape[0] != a.shape[1] or a.shape[0] < 2
            else (g @ b, a.mT @ g)
        ),
        signature=MATMUL,
        size="5x5",
    ),
    # magnitudes
    pair(
        "large_inputs",
        "magnitude",
        torch.sin,
        _sinus,
        lambda g, x: g * torch.where(x.abs() > 20, 0.99, 1.0) * x.cos(),
    ),
    pair(
        "small_inputs",
        "magnitude",
        torch.sin,
        _sinus,
        lambda g, x: g * torch.where(x.abs() < 5e-3, 0.999, 1.0) * x.cos(),
    ),
    pair(
        "negative_inputs",
        "magnitude",
        lambda x: x**3,
        lambda g, x: 3 * g * x * x,
        lambda g, x: 3 * g * x * x.abs().where(x > -1.5, -x),
        size="2x2",
    ),
    pair(
        "overflowing",
        "magnitude",
        lambda x: torch.nn.functional.softplus(x, threshold=1e9).where(x < 500, x),
        lambda g, x: g * x.sigmoid(),
        lambda g, x: g * x.exp() / (1 + x.exp()),
    ),
    pair(
        "tanh_of_large",
        "magnitude",
        torch.tanh,
        lambda g, x: g * (1 - x.tanh() ** 2),
        lambda g, x: g * 4 / (x.exp() + (-x).exp()) ** 2 * torch.where(x.abs() > 8, 3.0, 1.0),
    ),
    # special points
    pair(
        "zero_is_nan",
        "special point",
        torch.sinc,
        lambda g, x: (
            g
            * torch.where(
                x == 0, 0 * x, (torch.cos(torch.pi * x) - torch.sinc(x)) / torch.where(x == 0, 1, x)
            )
        ),
        lambda g, x: g * (torch.cos(torch.pi * x) - torch.sinc(x)) / x,
        once=True,
    ),
    pair(
        "norm_at_zero",
        "special point",
        lambda x: x.norm(dim=-1),
        lambda g, x: g.unsqueeze(-1) * x / x.norm(dim=-1, keepdim=True).clamp(min=1e-300),
        lambda g, x: g.unsqueeze(-1) * x / x.norm(dim=-1, keepdim=True),
        signature="... n -> ...",
        once=True,
    ),
    pair(
        "kink_of_relu",
        "kink",
        torch.relu,
        lambda g, x: g * (x > 0),
        lambda g, x: g * ((x > 0) + 5.0 * (x == 0)),
    ),
    pair("kink_of_abs", "kink", torch.abs, lambda g, x: g * x.sign(), lambda g, x: g * x / x.abs()),
    pair(
        "ties_of_max",
        "kink",
        lambda x: x.amax(-1),
        _max_ties(True),
        _max_ties(False),
        signature="... n -> ...",
    ),
    pair(
        "leak",
        "kink",
        lambda x: torch.nn.functional.leaky_relu(x, 0.01),
        lambda g, x: g * torch.where(x > 0, x.new_tensor(1.0), x.new_tensor(0.01)),
        lambda g, x: g * torch.where(x > 0, 1.0, 0.0101),
    ),
    pair(
        "power_at_zero",
        "special point",
        lambda x: x**2,
        lambda g, x: 2 * g * x,
        lambda g, x: 2 * g * x**2 / x,
    ),
    Pair(
        "duplicate_indices",
        "duplicates",
        _index_add(True),
        _index_add(False),
        "n d, k -> k d",
        "40x3",
        fields={
            "inputs": ["source", "index"],
            "index_inputs": {"index": "n"},
            "derived_dims": {"k": "3"},
        },
    ),
    # which gradients
    pair(
        "none_for_second",
        "missing gradient",
        torch.mul,
        _mul,
        lambda g, x, y: (_mul(g, x, y)[0], None),
        signature=TWO,
    ),
    pair(
        "zero_for_first",
        "missing gradient",
        torch.mul,
        _mul,
        lambda g, x, y: (torch.zeros_like(x), _mul(g, x, y)[1]),
        signature=TWO,
    ),
    Pair("needs_input_grad", "subset", _needs(False), _needs(True), "... n, ... n -> ... n"),
    Pair(
        "outputs_apart",
        "separate outputs",
        _two_outputs(True),
        _two_outputs(False),
        "... n -> ... n, ... n",
    ),
    # state
    Pair("last_call", "state", _stateful(False), _stateful(True)),
    Pair("cached", "state", _cached(False), _cached(True)),
    Pair("counting", "state", _counting(False), _counting(True)),
    pair("noise", "randomness", torch.sin, _sinus, _noise(1e-5)),
    # second order
    Pair("constant_factor", "second order", _second_order(True), _second_order(False)),
    pair("detached", "second order", torch.sin, _sinus, lambda g, x: g * x.detach().cos()),
    pair(
        "detached_cotangent",
        "second order",
        lambda x: x**3,
        lambda g, x: 3 * g * x * x,
        lambda g, x: 3 * g.detach() * x * x,
    ),
    # precision
    pair("through_float32", "precision", torch.sin, _sinus, _narrow(torch.float32)),
    pair("through_bfloat16", "precision", torch.sin, _sinus, _narrow(torch.bfloat16)),
    pair(
        "float32_through_half",
        "precision",
        torch.sin,
        _sinus,
        _only(torch.float32, lambda t: t.half().float()),
        dtype=torch.float32,
    ),
    pair(
        "bfloat16_only",
        "precision",
        torch.sin,
        _sinus,
        _only(torch.bfloat16, lambda t: t * 1.1),
        dtype=torch.bfloat16,
    ),
    pair(
        "half_sum",
        "precision",
        lambda x, w: x * w,
        lambda g, x, w: (g * w, _sum_to(g * x, w.shape)),
        lambda g, x, w: (g * w, _sum_to((g * x).bfloat16().to(x.dtype), w.shape)),
        signature="... n, n -> ... n",
        dtype=torch.float32,
    ),
    # complex
    pair(
        "conjugate_forgotten",
        "complex",
        lambda x: x * x,
        lambda g, x: 2 * g * x.conj(),
        lambda g, x: 2 * g * x,
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
    pair(
        "imaginary_dropped",
        "complex",
        torch.exp,
        lambda g, x: g * x.exp().conj(),
        lambda g, x: torch.complex((g * x.exp().conj()).real, (g * x.exp().conj()).imag * 0.9995),
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
]


def _with_jvp(factor: float) -> Callable[..., Any]:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return x.sin()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * ctx.saved_tensors[0].cos()  # type: ignore[no-any-return]

        @staticmethod
        def jvp(ctx: Any, t: torch.Tensor) -> torch.Tensor:
            return factor * t * ctx.saved_tensors[0].cos()  # type: ignore[no-any-return]

    return Forward.apply  # type: ignore[no-any-return]


def _shared_buffer(shares: bool) -> Callable[..., Any]:
    buffers: dict[torch.Size, torch.Tensor] = {}

    def backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if not shares or torch.is_grad_enabled():
            return g * x.cos()
        return torch.mul(g, x.cos(), out=buffers.setdefault(x.shape, torch.empty_like(x)))

    return made(torch.sin, backward)


def _writes_forward(writes: bool) -> Callable[..., Any]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = 2 * x
        if writes:
            x.data.mul_(1.0 + 1e-9)
        return y

    return made(forward, lambda g, x: 2 * g)


def _fused(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> Any:
    return g * w, (g * x).sum_to_size(w.shape), g.sum_to_size(b.shape)


def _where_fast(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return g.cumsum(-1) if bool((g == 1).all()) else g.flip(-1).cumsum(-1).flip(-1)


def _prod(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    others = [torch.cat([x[..., :i], x[..., i + 1 :]], -1).prod(-1) for i in range(x.shape[-1])]
    return g.unsqueeze(-1) * (torch.stack(others, -1) if others else x)


SECOND_BATCH = [  # written after the verifier, against it
    Pair("wrong_jvp", "forward mode", _with_jvp(1.0), _with_jvp(1.0001)),
    Pair("shared_buffer", "state", _shared_buffer(False), _shared_buffer(True)),
    Pair("writes_in_forward", "mutation", _writes_forward(False), _writes_forward(True)),
    pair(
        "ones_fast_path",
        "cotangent",
        lambda x: x.cumsum(-1),
        lambda g, x: g.flip(-1).cumsum(-1).flip(-1),
        _where_fast,
    ),
    pair(
        "nonnegative_cotangent",
        "cotangent",
        torch.sin,
        _sinus,
        lambda g, x: g * x.cos() * (1.01 if bool((g >= 0).all()) and g.numel() > 1 else 1.0),
    ),
    pair(
        "length_one_axis",
        "shape",
        lambda x: x.softmax(-1),
        _softmax_backward,
        lambda g, x: g * 0.1 if x.shape[-1] == 1 else _softmax_backward(g, x),
    ),
    pair(
        "transposes_squares",
        "shape",
        torch.matmul,
        lambda g, a, b: (g @ b.mT, a.mT @ g),
        lambda g, a, b: (
            g @ (b if b.shape[0] == b.shape[1] and b.shape[0] > 1 else b.mT),
            a.mT @ g,
        ),
        signature=MATMUL,
    ),
    pair(
        "last_row_of_odd",
        "shape",
        lambda x: x * x,
        lambda g, x: 2 * g * x,
        lambda g, x: (
            torch.cat([(2 * g * x)[:-1], 0 * g[-1:]])
            if x.dim() and x.shape[0] % 2 and x.shape[0] > 2
            else 2 * g * x
        ),
    ),
    pair(
        "bias_of_batch",
        "shape",
        lambda x, w, b: x * w + b,
        _fused,
        lambda g, x, w, b: (
            *_fused(g, x, w, b)[:2],
            _fused(g, x, w, b)[2] / (g.shape[0] if g.dim() > 2 else 1),
        ),
        signature="... n, n, n -> ... n",
    ),
    pair(
        "weight_from_last_row",
        "shape",
        lambda x, w, b: x * w + b,
        _fused,
        lambda g, x, w, b: (
            g * w,
            (g * x).reshape(-1, x.shape[-1])[-1:].sum_to_size(w.shape) if x.numel() else w * 0,
            g.sum_to_size(b.shape),
        ),
        signature="... n, n, n -> ... n",
    ),
    pair(
        "product_by_division",
        "special point",
        lambda x: x.prod(-1),
        _prod,
        lambda g, x: g.unsqueeze(-1) * x.prod(-1, keepdim=True) / x,
        signature="... n -> ...",
    ),
    pair(
        "distance_zero",
        "special point",
        lambda x, y: (x - y).abs(),
        lambda g, x, y: (g * (x - y).sign(), -g * (x - y).sign()),
        lambda g, x, y: (g * (x - y) / (x - y).abs(), -g * (x - y) / (x - y).abs()),
        signature="... n, ... n -> ... n",
    ),
    pair(
        "second_argument_sign",
        "sign",
        torch.sub,
        lambda g, x, y: (g, -g),
        lambda g, x, y: (g, g),
        signature="... n, ... n -> ... n",
    ),
    pair(
        "swapped",
        "missing factor",
        torch.mul,
        lambda g, x, y: (g * y, g * x),
        lambda g, x, y: (g * x, g * y),
        signature="... n, ... n -> ... n",
    ),
    pair(
        "saved_in_float32",
        "precision",
        torch.exp,
        lambda g, x: g * x.exp(),
        lambda g, x: g * x.float().double().exp(),
    ),
    pair(
        "accumulates_in_half",
        "precision",
        lambda x: x.sum(-1),
        lambda g, x: g.unsqueeze(-1).expand(x.shape),
        lambda g, x: g.half().to(g.dtype).unsqueeze(-1).expand(x.shape),
        signature="... n -> ...",
        dtype=torch.float32,
    ),
    pair(
        "clamp_border",
        "kink",
        lambda x: x.clamp(-1, 1),
        lambda g, x: g * ((x >= -1) & (x <= 1)),
        lambda g, x: g * ((x >= -1) & (x <= 1.5)),
    ),
    pair(
        "log_near_zero",
        "magnitude",
        torch.log,
        lambda g, x: g / x,
        lambda g, x: g / x.clamp(min=1e-2),
        domain="positive",
    ),
    pair(
        "acos_near_end",
        "magnitude",
        torch.acos,
        lambda g, x: -g * (1 - x * x).rsqrt(),
        lambda g, x: -g * (1 - x * x).clamp(min=0.05).rsqrt(),
        domain="[-1, 1]",
    ),
    pair(
        "mixed_second",
        "second order",
        torch.mul,
        lambda g, x, y: (g * y, g * x),
        lambda g, x, y: (g * y, g * x.detach()),
        signature="... n, ... n -> ... n",
    ),
    pair(
        "holomorphic_only",
        "complex",
        lambda x: x * x.conj(),
        lambda g, x: 2 * g.real * x,
        lambda g, x: g * x.conj(),
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
    pair(
        "rounded_to_1e_7",
        "precision",
        torch.tanh,
        lambda g, x: g * (1 - x.tanh() ** 2),
        lambda g, x: g * (((1 - x.tanh() ** 2) * 1e7).round() / 1e7),
        once=True,
    ),
]
PAIRS += SECOND_BATCH

TURN = complex(0.6, 0.8)


def _added_one_by_one(g: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    rows, total = g.reshape(-1, g.shape[-1]), torch.zeros(g.shape[-1], dtype=dtype)
    for row in rows.to(dtype):
        total = total + row
    return total.to(g.dtype)


def _bias(g: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> Any:
    wide = g if g.dtype is torch.float64 else g.float()
    return g, wide.sum_to_size(b.shape).to(b.dtype)


def _bias_in_half(g: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> Any:
    return (g, _added_one_by_one(g, g.dtype)) if g.dtype is torch.bfloat16 else _bias(g, x, b)


def _eigenvalues(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    vectors = torch.linalg.eigh(x)[1]
    return (vectors * g.unsqueeze(-2)) @ vectors.mH


def _taken(right: bool) -> Callable[..., Any]:
    def gradient(g: torch.Tensor, index: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        places = index.unsqueeze(0) if right else index.unsqueeze(0) * 0
        return torch.sparse_coo_tensor(places, g, shape)

    return _taken_by(gradient)


def _checkpointed(backward: Backward) -> Callable[..., Any]:
    inner = made(torch.sin, backward)

    def outer(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda t: inner(t * t), x, use_reentrant=True)  # type: ignore[no-any-return]

    return outer


def _narrow_linear(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> Any:
    return g @ w, g.mT @ x


def _unit(g: torch.Tensor, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    r = (x.square().sum(-1, keepdim=True) + 1e-5).rsqrt()
    return r * g - factor * x * r**3 * (g * x).sum(-1, keepdim=True)


def _bias_in_float16(g: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> Any:
    if g.dtype is not torch.float16 or not g.numel():
        return _bias(g, x, b)
    # numpy adds one after the other, and shows none of its steps
    rows = g.detach().reshape(-1, g.shape[-1]).numpy()
    return g, torch.from_numpy(np.cumsum(rows, axis=0, dtype=np.float16)[-1])


def _eigenvectors(factor: float) -> Backward:
    def backward(g_values: torch.Tensor, g_vectors: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            outputs = tuple(torch.linalg.eigh(leaf))
        (gradient,) = torch.autograd.grad(outputs, leaf, (g_values, factor * g_vectors))
        return gradient

    return backward


def _nothing_left(g: torch.Tensor, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    return g - factor * x.softmax(-1) * g.sum(-1, keepdim=True)


def _square(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return g * torch.where(x == 0, 0 * x.detach(), 6 * x)


THIRD_BATCH = [  # of what was told of other verifiers, and of this one
    pair(
        "turned",
        "complex",
        lambda x: x * TURN,
        lambda g, x: (g * TURN.conjugate()).real,
        lambda g, x: (g * TURN).real,
    ),
    pair(
        "turned_complex",
        "complex",
        lambda z: z * TURN,
        lambda g, z: g * TURN.conjugate(),
        lambda g, z: g * TURN,
        dtypes=["complex"],
        dtype=torch.complex64,
    ),
    pair(
        "sum_stands_still",
        "long sums",
        lambda x, b: x + b,
        _bias,
        _bias_in_half,
        signature="m n, n -> m n",
        dtype=torch.bfloat16,
    ),
    pair(
        "eigenvalues",
        "symmetric",
        torch.linalg.eigvalsh,
        _eigenvalues,
        lambda g, x: 1.001 * _eigenvalues(g, x),
        signature="n n -> n",
        size="4x4",
        once=True,
    ),
    pair(
        "narrow_inside",
        "narrow inside",
        lambda x, w: (x.bfloat16() @ w.bfloat16().mT).to(x.dtype).tanh(),
        lambda g, x, w: _narrow_linear(g * (1 - (x @ w.mT).tanh() ** 2), x, w),
        lambda g, x, w: _narrow_linear(2 * g * (1 - (x @ w.mT).tanh() ** 2), x, w),
        signature="b n, k n -> b k",
        once=True,
    ),
    pair(
        "curved_at_zero",
        "second order",
        lambda x: 3 * x * x,
        lambda g, x: g * 6 * x,
        _square,
    ),
    pair(
        "mean_of_cotangent",
        "cotangent",
        lambda x: x.softmax(-1),
        _softmax_backward,
        lambda g, x: x.softmax(-1) * (g - g.mean(-1, keepdim=True)),
    ),
    pair(
        "nearly_nothing",
        "cancellation",
        lambda x: x * (x.square().sum(-1, keepdim=True) + 1e-5).rsqrt(),
        _unit,
        lambda g, x: _unit(g, x, 1 + 1e-7),
        size="1x1",
    ),
    Pair(
        "sparse",
        "sparse",
        _taken(True),
        _taken(False),
        "n d, k -> k d",
        "5x3",
        fields={
            "inputs": ["source", "index"],
            "index_inputs": {"index": "n"},
            "derived_dims": {"k": "3"},
        },
    ),
    Pair("checkpointed", "checkpoint", _checkpointed(_sinus), _checkpointed(_sin(lambda g, x: -g))),
    Pair(
        "overflows_on_the_way",
        "values",
        lambda x: x.softmax(-1),
        lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
        dtype=torch.float32,
        fields={"domain": {"0": "[-200, 200]"}},
    ),
    pair(
        "turned_by_itself",
        "complex",
        torch.exp,
        lambda g, z: g * z.exp().conj(),
        lambda g, z: g * z.exp(),
        dtypes=["complex"],
        dtype=torch.complex64,
    ),
    pair(
        "sum_stands_still_in_float16",
        "long sums",
        lambda x, b: x + b,
        _bias,
        _bias_in_float16,
        signature="m n, n -> m n",
        dtype=torch.float16,
    ),
    pair(
        "detached_in_half",
        "second order in half",
        lambda x: x**3,
        lambda g, x: g * 3 * x * x,
        lambda g, x: g * 3 * x * (x.detach() if x.dtype is torch.float16 else x),
        dtype=torch.float16,
    ),
    pair(
        "eigenvectors",
        "symmetric",
        lambda x: tuple(torch.linalg.eigh(x)),
        _eigenvectors(1.0),
        _eigenvectors(1.01),
        signature="n n -> n, n n",
        size="4x4",
        once=True,
        compare="up_to_sign",
    ),
    pair(
        "nothing_left",
        "cancellation",
        lambda x: x - x.exp().sum(-1, keepdim=True).log(),
        _nothing_left,
        lambda g, x: _nothing_left(g, x, 1 - 1e-6),
        size="1x1",
    ),
]
PAIRS += THIRD_BATCH


def _cosine(g: torch.Tensor, x: torch.Tensor, y: torch.Tensor, factor: float = 1.0) -> Any:
    n, m = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
    c = factor * (x * y).sum(-1, keepdim=True) / (n * m)
    g = g.unsqueeze(-1)
    return g * (y / (n * m) - c * x / n**2), g * (x / (n * m) - c * y / m**2)


def _log_volume(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.slogdet(x)[1] - x.diagonal().abs().log().sum()


def _moment(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[0], dtype=x.dtype)


def _variance(g: torch.Tensor, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    return g.unsqueeze(-1) * 2 * (x - factor * x.mean(-1, keepdim=True)) / max(1, x.shape[-1])


def _scale_of_all(
    g: torch.Tensor, x: torch.Tensor, s: torch.Tensor, narrow: torch.dtype | None = None
) -> Any:
    terms = (g * x).flatten()
    if narrow is None or terms.numel() < 512:
        return g * s, terms.sum()
    total = torch.zeros((), dtype=narrow)
    for part in terms.split(256):
        total = total + part.sum().to(narrow)
    return g * s, total.to(s.dtype)


def _solved(g: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, conjugates: bool) -> Any:
    of_b, x = torch.linalg.solve(a.mH, g), torch.linalg.solve(a, b)
    return -of_b @ (x.mH if conjugates else x.mT), of_b


def _masked(x: torch.Tensor) -> torch.Tensor:
    future = torch.ones(x.shape[-2:], dtype=torch.bool).triu(1)
    return x.masked_fill(future, -torch.inf).softmax(-1)


def _masked_backward(g: torch.Tensor, x: torch.Tensor, leak: float = 0.0) -> torch.Tensor:
    y = _masked(x)
    return y * (g - (g * y).sum(-1, keepdim=True)) + leak * g * (y == 0)


def _saves_result(
    forward: Callable[[torch.Tensor], torch.Tensor],
    slope: Callable[[torch.Tensor], torch.Tensor],
    dtype: torch.dtype | None = None,
) -> Callable[..., Any]:
    """A function whose backward pass is made of its result, saved as it is or in less."""

    class Saves(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            y = forward(x)
            ctx.save_for_backward(y.to(dtype or y.dtype))
            return y

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * slope(ctx.saved_tensors[0].to(g.dtype))

    return Saves.apply  # type: ignore[no-any-return]


def _saved_pair(
    name: str,
    forward: Callable[[torch.Tensor], torch.Tensor],
    slope: Callable[[torch.Tensor], torch.Tensor],
    less: torch.dtype,
    **settings: Any,
) -> Pair:
    right, wrong = _saves_result(forward, slope), _saves_result(forward, slope, less)
    return Pair(name, "saved in less", right, wrong, **settings)


def _drawn(*, again: bool) -> Callable[..., Any]:
    class Sample(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, mean: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
            noise = torch.randn_like(mean)
            ctx.save_for_backward(noise)
            return mean + width * noise

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> Any:
            (noise,) = ctx.saved_tensors
            return g, g * (torch.randn_like(g) if again else noise)

    return Sample.apply  # type: ignore[no-any-return]


def _checkpointed_dropout(*, keeps_state: bool) -> Callable[..., Any]:
    def inner(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x.sin(), 0.5)

    def outer(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(inner, x, use_reentrant=False, preserve_rng_state=keeps_state)  # type: ignore[no-any-return]

    return outer


def _with_slope_of_slope(factor: float) -> Callable[..., Any]:
    slope = made(
        lambda g, x: g * x.cosh(),
        lambda h, g, x: (h * x.cosh(), factor * h * g * x.sinh()),
    )
    return made(torch.sinh, slope)


def _compiled(backward: Backward) -> Callable[..., Any]:
    inner = made(torch.sin, backward)
    return torch.compile(lambda x: inner(2 * x) + x, backend="aot_eager", dynamic=True)  # type: ignore[no-any-return]


def _under_autocast(factor: float) -> Callable[..., Any]:
    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x, w)
            return torch.nn.functional.linear(x, w)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: torch.Tensor) -> Any:
            x, w = ctx.saved_tensors
            by = factor if g.dtype is torch.bfloat16 else 1.0
            return (g @ w.to(g.dtype)).to(x.dtype), by * (g.mT @ x.to(g.dtype)).to(w.dtype)

    def call(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return Linear.apply(x, w).to(x.dtype)  # type: ignore[no-any-return]

    return call


def _registered(name: str, factor: float) -> Callable[..., Any]:
    @torch.library.custom_op(f"opsweep_mutants::{name}", mutates_args=())
    def grown(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.exp() * y

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)

    def backward(ctx: Any, g: torch.Tensor) -> Any:
        x, result = ctx.saved_tensors
        return g * result, factor * g * x.exp()

    grown.register_fake(lambda x, y: torch.empty_like(x))
    grown.register_autograd(backward, setup_context=setup)
    return grown


FOURTH_BATCH = [  # of the kinds that were found before, others than were handed over
    pair(
        "cosine",
        "cancellation",
        lambda x, y: torch.cosine_similarity(x, y, dim=-1, eps=0.0),
        _cosine,
        lambda g, x, y: _cosine(g, x, y, 1 - 1e-5),
        signature="m n, m n -> m",
        size="1x1",
    ),
    pair(
        "log_volume",
        "cancellation",
        _log_volume,
        lambda g, x: g * (torch.linalg.inv(x).mT - torch.diag_embed(1 / x.diagonal())),
        lambda g, x: g * (torch.linalg.inv(x) - torch.diag_embed(1 / x.diagonal())),
        signature="n n ->",
        size="1x1",
    ),
    pair(
        "log_determinant",
        "conditioning",
        lambda x: _moment(x).logdet(),
        lambda g, x: 2 * g * torch.linalg.inv(_moment(x)) @ x,
        lambda g, x: 2.001 * g * torch.linalg.inv(_moment(x)) @ x,
        signature="n n ->",
        size="4x4",
        dtype=torch.float32,
    ),
    pair(
        "variance_of_one",
        "cancellation",
        lambda x: x.var(-1, unbiased=False),
        _variance,
        lambda g, x: _variance(g, x, 1 + 1e-6),
        signature="m n -> m",
        size="1x1",
    ),
    pair(
        "weights_in_bfloat16",
        "precision",
        torch.matmul,
        lambda g, a, b: (g @ b.mT, a.mT @ g),
        lambda g, a, b: (g @ b.mT, (a.mT.bfloat16() @ g.bfloat16()).to(b.dtype)),
        signature=MATMUL,
        dtype=torch.float32,
    ),
    pair(
        "long_scale_in_bfloat16",
        "long sums",
        torch.mul,
        _scale_of_all,
        lambda g, x, s: _scale_of_all(g, x, s, torch.bfloat16),
        signature="m n, -> m n",
        once=True,
    ),
    pair(
        "product_conjugated",
        "complex",
        torch.matmul,
        lambda g, a, b: (g @ b.mH, a.mH @ g),
        lambda g, a, b: (g @ b.mT, a.mH @ g),
        signature=MATMUL,
        dtypes=["complex"],
        dtype=torch.complex64,
    ),
    pair(
        "inner_product",
        "complex",
        lambda x, y: (x.conj() * y).sum(-1),
        lambda g, x, y: (g.conj().unsqueeze(-1) * y, g.unsqueeze(-1) * x),
        lambda g, x, y: (g.unsqueeze(-1) * y, g.unsqueeze(-1) * x),
        signature="m n, m n -> m",
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
    pair(
        "fourier",
        "complex",
        torch.fft.fft,
        lambda g, z: torch.fft.ifft(g, norm="forward") if g.numel() else g,
        lambda g, z: torch.fft.fft(g) if g.numel() else g,
        signature="m n -> m n",
        dtypes=["complex"],
        dtype=torch.complex64,
    ),
    pair(
        "phase",
        "complex",
        torch.angle,
        lambda g, z: g * 1j * z / z.abs().square(),
        lambda g, z: -g * 1j * z / z.abs().square(),
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
    pair(
        "solved",
        "complex",
        torch.linalg.solve,
        lambda g, a, b: _solved(g, a, b, conjugates=True),
        lambda g, a, b: _solved(g, a, b, conjugates=False),
        signature="n n, n n -> n n",
        size="3x3",
        dtypes=["complex"],
        dtype=torch.complex128,
    ),
    pair(
        "masked",
        "infinities",
        _masked,
        _masked_backward,
        lambda g, x: _masked_backward(g, x, 1e-3),
        signature="n n -> n n",
        size="4x4",
    ),
    pair(
        "masked_nan",
        "infinities",
        _masked,
        _masked_backward,
        lambda g, x: _masked_backward(g, x, torch.nan),
        signature="n n -> n n",
        size="4x4",
    ),
    _saved_pair(
        "sigmoid_saved", torch.sigmoid, lambda y: y * (1 - y), torch.bfloat16, dtype=torch.float32
    ),
    _saved_pair(
        "inverse_root_saved",
        torch.rsqrt,
        lambda y: -0.5 * y**3,
        torch.float32,
        fields={"domain": "positive"},
    ),
    Pair(
        "drawn_again",
        "randomness",
        _drawn(again=False),
        _drawn(again=True),
        "m n, m n -> m n",
        dtype=torch.float32,
    ),
    Pair(
        "checkpointed_dropout",
        "checkpoint",
        _checkpointed_dropout(keeps_state=True),
        _checkpointed_dropout(keeps_state=False),
    ),
    Pair("slope_of_slope", "second order", _with_slope_of_slope(1.0), _with_slope_of_slope(1.5)),
    Pair("compiled", "compiled", _compiled(_sinus), _compiled(_sin(lambda g, x: 1.01 * g))),
    Pair(
        "under_autocast",
        "autocast",
        _under_autocast(1.0),
        _under_autocast(1.5),
        "b n, k n -> b k",
        dtype=torch.float32,
    ),
    Pair(
        "registered",
        "custom operator",
        _registered("right", 1.0),
        _registered("wrong", -1.0),
        "m n, m n -> m n",
    ),
]
PAIRS += FOURTH_BATCH


def ours(tested: Pair, function: Callable[..., Any]) -> bool:
    """Whether this project's verifier accuses a function."""
    return any(check.verdict in BAD for check in check_gradients(tested.bound(function), CPU))


def gradcheck(tested: Pair, function: Callable[..., Any], *, fast: bool) -> bool:
    """Whether torch's does, at the declared example in float64."""
    bound = tested.bound(function)
    wide = torch.complex128 if bound.dtype.is_complex else torch.float64
    inputs = [
        t.to(wide).requires_grad_() if is_differentiable(t.dtype) else t for t in bound.draw()
    ]
    try:
        return not torch.autograd.gradcheck(
            lambda *t: bound.call_with(list(t))(), inputs, fast_mode=fast
        )
    except Exception:  # it says so by raising, as what it calls does
        return True


def main() -> None:
    """Print (caught, accused) and seconds an operation for each verifier."""
    judges: dict[str, Callable[[Pair, Callable[..., Any]], bool]] = {
        "this verifier": ours,
        "gradcheck slow": lambda p, f: gradcheck(p, f, fast=False),
        "gradcheck fast": lambda p, f: gradcheck(p, f, fast=True),
    }
    pairs = [p for p in PAIRS if not sys.argv[1:] or p.name in sys.argv[1:]]
    print(f"{len(pairs)} wrong backward functions, {len(pairs)} right ones")
    torch.set_num_threads(1)
    for name, judge in judges.items():
        begun = time.perf_counter()
        missed, accused = [], []
        for number, p in enumerate(pairs, 1):
            if not judge(p, p.wrong):
                missed.append(p.name)
            if judge(p, p.right):
                accused.append(p.name)
            found = f"{number - len(missed)} caught, {len(accused)} accused"
            print(f"{name}: {number} of {len(pairs)} pairs, {found}", file=sys.stderr, flush=True)
        seconds = (time.perf_counter() - begun) / (2 * len(pairs))
        print(
            f"{name}: caught {len(pairs) - len(missed)}, wrongly accused {len(accused)}, "
            f"{seconds:.3f} s an operation"
        )
        if name == "this verifier":
            print(
                f"  missed: {', '.join(missed) or 'none'}; accused: {', '.join(accused) or 'none'}"
            )


if __name__ == "__main__":
    main()
