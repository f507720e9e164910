"""The exact gradient of a bound expression, what rounding may do to it, and its derivation."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_case import BoundCase, elements, reduced
from runner.config.cases.gradient import ExpressionCase
from runner.verify.gradients.precision import Rounding
from runner.verify.rounding import rounding_bound, unit_roundoff

DRAWS = 16  # of rounding errors at every step; of fewer, all might cancel for some element


class ExactGradient:
    """An expression at its inputs, each of which is taken as exactly what it is in its dtype."""

    def __init__(self, case: ExpressionCase, bound: BoundCase) -> None:
        from runner.verify.derivative import derive  # SymPy takes long, and few cases need it

        self.case, self.bound = case, bound
        self._derived = derive(case.expression)
        self._named = bound.named(bound.draw())

        # the inputs at each element of the expression before it is reduced, by symbol
        wide = torch.broadcast_tensors(*self._named.values())  # type: ignore[no-untyped-call]
        self._shape = wide[0].shape
        pairs = zip(self._named, wide, strict=True)
        numbers = {name: tensor.double().flatten().tolist() for name, tensor in pairs}
        self._points = list(zip(*(numbers[name] for name in self._derived.symbols), strict=True))
        self._share = len(self._points) if case.reduce == "mean" else 1
        values = self._derived.at(self._derived.value, self._points)
        # the function's, without dimensions; NaN where it is not real
        self.value = torch.tensor(self._derived.total(values, self._share), dtype=torch.float64)

    def gradient(self, name: str) -> Tensor:
        """The gradient by an input, float64, in its shape; NaN where it does not exist."""
        slopes = self._derived.slopes_at(name, self._points)
        tensor = self._named[name]

        # an element that broadcasting uses many times has the sum of the slopes
        numbered = torch.arange(tensor.numel()).reshape(tensor.shape).expand(self._shape)
        slopes_of: list[list[Any]] = [[] for _ in range(tensor.numel())]
        for index, slope in zip(numbered.flatten().tolist(), slopes, strict=True):
            slopes_of[index].append(slope)
        sums = [self._derived.total(numbers, self._share) for numbers in slopes_of]
        return torch.tensor(sums, dtype=torch.float64).reshape(tensor.shape)

    def derivation(self, name: str) -> str:
        """``d/dx sin(x**2 + 1) = 2*x*cos(x**2 + 1)``."""
        text, slope, count = self.case.expression, self._derived.texts[name], len(self._points)
        broadcast = self._named[name].numel() < count
        if self.case.reduce == "mean" and count > 1:
            if self._named[name].numel() == 1:
                return f"d/d{name} mean({text}) = mean({slope})"
            return f"d/d{name} mean({text}) = {'sum' if broadcast else ''}({slope})/{count}"
        if broadcast:
            return f"d/d{name} sum({text}) = sum({slope})"
        return f"d/d{name} {text} = {slope}"

    @cached_property
    def allowed(self) -> dict[str, Tensor]:
        """The error that rounding explains, for each element of each gradient, and for the value.

        It is 8 (u |g| + d), with u the unit roundoff of the dtype and d the largest change of the
        float64 gradient g when each input, and the result of each operation of the forward and the
        backward pass, is off by a roundoff, in 16 draws. The value's is under ``""``.
        """
        generator = self.bound.generator(900)
        u = unit_roundoff(self.bound.dtype)
        plain = self._by_autograd()
        moved = {name: torch.zeros_like(g) for name, g in plain.items()}
        for _ in range(DRAWS):
            with Rounding(u, generator):
                draw = self._by_autograd()
            for name, g in draw.items():
                moved[name] = torch.maximum(moved[name], (g - plain[name]).abs())

        tiny = torch.finfo(self.bound.dtype).tiny
        return {name: rounding_bound(u, g.abs(), moved[name]) + tiny for name, g in plain.items()}

    def _by_autograd(self) -> dict[str, Tensor]:
        """The value, under ``""``, and each gradient, float64."""
        leaves = {name: t.to(torch.float64).requires_grad_() for name, t in self._named.items()}
        inputs = {name: t.clone() for name, t in leaves.items()}  # a step as others are
        value = reduced(self.case, elements(self.case, inputs))
        names = self.bound.names
        gradients = torch.autograd.grad(value, [leaves[name] for name in names])
        return {"": value.detach(), **dict(zip(names, gradients, strict=True))}
