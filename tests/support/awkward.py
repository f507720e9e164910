"""Callables that a check finds hard: what cells of tests call by name."""

import os
import sys
import time
from typing import Any

import torch

MOST_CALLS = 700  # by then some checks of a gradient have ended, and others have not begun


def half_only(x: torch.Tensor) -> torch.Tensor:
    """A kernel that knows bfloat16 alone."""
    if x.dtype is not torch.bfloat16:
        raise RuntimeError(f"expected bfloat16, got {x.dtype}")
    return x.exp()


@torch.no_grad()
def without_gradient(x: torch.Tensor) -> torch.Tensor:
    """As in inference."""
    return x * 2


def slow_to_check(x: torch.Tensor) -> torch.Tensor:
    """Quick as it is timed, slow where gradients are checked."""
    if x.dtype is torch.float64 and x.numel() < 64:
        time.sleep(0.05)
    return x.sin()


def ends_the_check(x: torch.Tensor) -> torch.Tensor:
    """Ends the process in float64."""
    if x.dtype is torch.float64:
        os._exit(3)
    return x.sin()


def exits_in_float64(x: torch.Tensor) -> torch.Tensor:
    """As a script does that is not meant for it."""
    if x.dtype is torch.float64:
        sys.exit("no float64")
    return x.sin()


def exits(*given: object) -> None:
    """Likewise, whatever it is given."""
    sys.exit(3)


def far_constants(x: torch.Tensor) -> torch.Tensor:
    """Another function in each dtype, for all numbers."""
    return x / (x.abs().amax(-1, keepdim=True) + 1e6 * torch.finfo(x.dtype).eps)


def own_constants(x: torch.Tensor) -> torch.Tensor:
    """Another function in each dtype, for small numbers, and the right gradient of each."""
    return torch.nn.functional.rms_norm(x, x.shape[-1:])


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


def straight_through(x: torch.Tensor) -> torch.Tensor:
    """Rounds, and lets the gradient pass."""
    result: torch.Tensor = _Rounded.apply(x)
    return result


def twice_through(x: torch.Tensor) -> torch.Tensor:
    """The same with a gradient that is twice as large."""
    return 2 * straight_through(x) - straight_through(x).detach()


class _WrongUnderAutocast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        gradient = g.to(x.dtype) @ x.mT + x.mT @ g.to(x.dtype)
        return gradient.to(x.dtype) * (1.5 if g.dtype is torch.bfloat16 else 1)


def wrong_under_autocast(x: torch.Tensor) -> torch.Tensor:
    """A square whose gradient is wrong where autocast has made its result bfloat16."""
    result: torch.Tensor = _WrongUnderAutocast.apply(x)
    return result


class _WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, function: Any) -> torch.Tensor:
        """As the function."""
        ctx.save_for_backward(x)
        ctx.function = function
        result: torch.Tensor = function(x)
        return result

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Right in float64 alone."""
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (right,) = torch.autograd.grad(ctx.function(leaf), leaf, g)
        return right if x.dtype is torch.float64 else right * 0.9, None


def own_constants_wrong(x: torch.Tensor) -> torch.Tensor:
    """The same with a wrong backward pass."""
    result: torch.Tensor = _WrongSlope.apply(x, own_constants)
    return result


def far_constants_wrong(x: torch.Tensor) -> torch.Tensor:
    """Likewise."""
    result: torch.Tensor = _WrongSlope.apply(x, far_constants)
    return result


class _Halved(torch.autograd.Function):
    """A square whose gradient is half of what it should be, up to a call that something ends."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, end: Any, most: int) -> torch.Tensor:
        _Halved.calls += 1
        if _Halved.calls > most:
            end()
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return g * x, None, None


def wrong_and_ends(x: torch.Tensor) -> torch.Tensor:
    """A wrong gradient that ends its process after some checks."""
    return _Halved.apply(x, lambda: os._exit(3), MOST_CALLS)


def wrong_and_hangs(x: torch.Tensor) -> torch.Tensor:
    """A wrong gradient that hangs after some checks."""
    return _Halved.apply(x, lambda: time.sleep(1e6), MOST_CALLS)


def wrong_and_raises(x: torch.Tensor) -> torch.Tensor:
    """A wrong gradient that leaves its process after some checks."""
    return _Halved.apply(x, sys.exit, MOST_CALLS)


def wrong_and_raises_in_a_benchmark(x: torch.Tensor) -> torch.Tensor:
    """The same in the fewer calls with a gradient that a check next to times makes."""
    return _Halved.apply(x, sys.exit, 80) if x.requires_grad else x * x
