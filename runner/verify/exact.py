"""The exact gradient of a bound expression, how far rounding may move it, and the words of its derivation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_case import BoundCase, elements, reduced
from runner.config.cases.gradient import ExpressionCase
from runner.verify.derivative import Exact, derive
from runner.verify.rounding import rounding_bound, unit_roundoff

DRAWS = 16  # of rounding errors at every step; of fewer, all might cancel for some element


@dataclass(frozen=True)
class ExactGradient:
    """An expression at its inputs.

    Attributes:
        case: the expression.
        bound: its inputs; each number is taken as exactly what it is in its dtype.
    """

    case: ExpressionCase
    bound: BoundCase

    @cached_property
    def value(self) -> Tensor:
        """The function's value, float64, without dimensions; NaN where it is not real."""
        numbers = self._derived.at(self._derived.value, self._points)
        return torch.tensor(self._derived.total(numbers, self._share), dtype=torch.float64)

    def gradient(self, name: str) -> Tensor:
        """The gradient by an input, float64, in its shape; NaN where it does not exist."""
        slopes = self._derived.at(self._derived.slopes[name], self._points)
        shape = self._named[name].shape

        # an element that broadcasting uses many times has the sum of the slopes
        slopes_of: list[list[Any]] = [[] for _ in range(math.prod(shape))]
        for index, slope in zip(self._indices(name), slopes, strict=True):
            slopes_of[index].append(slope)
        sums = [self._derived.total(numbers, self._share) for numbers in slopes_of]
        return torch.tensor(sums, dtype=torch.float64).reshape(shape)

    def derivation(self, name: str) -> str:
        """``d/dx sin(x**2 + 1) = 2*x*cos(x**2 + 1)``."""
        text, slope, count = self.case.expression, self._derived.texts[name], len(self._points)
        broadcast = self._named[name].numel() < count
        if self.case.reduce == "sum" or count == 1:
            return (
                f"d/d{name} sum({text}) = sum({slope})"
                if broadcast
                else f"d/d{name} {text} = {slope}"
            )
        if self._named[name].numel() == 1:
            return f"d/d{name} mean({text}) = mean({slope})"
        return f"d/d{name} mean({text}) = {'sum' if broadcast else ''}({slope})/{count}"

    @cached_property
    def allowed(self) -> dict[str, Tensor]:
        """The error that rounding explains, for each element of each gradient, and of the value under ``""``.

        It is 8 (u |g| + d), with u the unit roundoff of the dtype and d the largest change of the float64 gradient g
        when the result of each operation, and each input, is off by a random number of roundoffs, in 16 draws.
        """
        generator = self.bound.generator(900)
        u = unit_roundoff(self.bound.dtype)
        tiny = torch.finfo(self.bound.dtype).tiny

        def rounded(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value * (
                1 + u * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            )

        # what rounding errors do is seen by making them at random, in a dtype that adds none of its own
        plain = self._by_autograd(lambda value: value)
        moved = {name: torch.zeros_like(g) for name, g in plain.items()}
        for _ in range(DRAWS):
            for name, g in self._by_autograd(rounded).items():
                moved[name] = torch.maximum(moved[name], (g - plain[name]).abs())

        return {name: rounding_bound(u, g.abs(), moved[name]) + tiny for name, g in plain.items()}

    def _by_autograd(self, rounded: Callable[[Any], Any]) -> dict[str, Tensor]:
        """The value, under ``""``, and the gradient by each input in float64, every step through ``rounded``."""
        leaves = {name: t.to(torch.float64).requires_grad_() for name, t in self._named.items()}
        inputs = {name: rounded(t) for name, t in leaves.items()}
        value = reduced(self.case, elements(self.case, inputs, rounded))
        names = [name for name, _ in self.bound.inputs]
        gradients = torch.autograd.grad(value, [leaves[name] for name in names])
        return {"": value.detach(), **dict(zip(names, gradients, strict=True))}

    @cached_property
    def _derived(self) -> Exact:
        return derive(self.case.expression)

    @cached_property
    def _named(self) -> dict[str, Tensor]:
        return self.bound.named(self.bound.draw())

    @cached_property
    def _points(self) -> list[tuple[float, ...]]:
        """The inputs at each element of the expression, in the order of its symbols."""
        wide = (
            self._named[name].to(torch.float64).expand(self._shape)
            for name in self._derived.symbols
        )
        return list(zip(*(t.reshape(-1).tolist() for t in wide), strict=True))

    def _indices(self, name: str) -> list[int]:
        """For each element of the expression, the element of an input that it takes."""
        tensor = self._named[name]
        numbered = torch.arange(tensor.numel()).reshape(tensor.shape)
        return [int(i) for i in numbered.expand(self._shape).reshape(-1)]

    @property
    def _shape(self) -> torch.Size:
        """The shape of the expression before it is reduced."""
        shape: torch.Size = torch.broadcast_shapes(*(t.shape for t in self._named.values()))  # type: ignore[no-untyped-call]
        return shape

    @property
    def _share(self) -> int:
        return len(self._points) if self.case.reduce == "mean" else 1
