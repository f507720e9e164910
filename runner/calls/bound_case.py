"""A gradient case made ready: its function of tensors, and its inputs, in a dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation
from runner.config.arithmetic import build
from runner.config.cases.expression import CONSTANTS, FUNCTIONS, parse
from runner.config.cases.gradient import ExpressionCase, FunctionCase, GradientCase
from runner.config.operation import Operation
from runner.config.signature import Dimensions

Rounded = Callable[[Any], Any]
_NAMES_IN_TORCH = {"erf": torch.special.erf}


@dataclass(frozen=True)
class BoundCase(BoundOperation):
    """A case as what verifies operations takes it: it draws the inputs that the case declares.

    Attributes:
        inputs: the inputs whose gradient is checked, by name, in the dtype, on the CPU.
        constants: the others.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def draw(self) -> list[Tensor]:
        """The declared inputs whose gradients are checked."""
        return [tensor.clone() for tensor in self.inputs.values()]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs whose gradients are checked."""
        return tuple(self.inputs)

    def call_with(self, tensors: list[Tensor]) -> Callable[[], Any]:
        """The function with these inputs, and the constants in their dtype and on their device."""
        return partial(self.function, self.named(tensors))

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Every input by name, in the case's order."""
        inputs = dict(zip(self.names, tensors, strict=True))
        like = next(iter(inputs.values()))
        named = inputs | {name: tensor.to(like) for name, tensor in self.constants.items()}
        return {name: named[name] for name in self.op.inputs}

    def near(self, attempt: int) -> BoundCase:
        """The same with inputs near the declared ones: within half of each, or of 1 where it is 0.

        A positive input stays positive, so that a logarithm or a root keeps its domain.
        """
        generator = self.generator(800 + attempt)

        def moved(tensor: Tensor) -> Tensor:
            wide = tensor.to(torch.float64)
            size = torch.where(wide == 0, 1.0, wide.abs())
            draw = torch.rand(wide.shape, generator=generator, dtype=torch.float64) - 0.5
            return (wide + size * draw).to(tensor.dtype)

        inputs = {name: moved(tensor) for name, tensor in self.inputs.items()}
        constants = {name: moved(tensor) for name, tensor in self.constants.items()}
        return replace(self, inputs=inputs, constants=constants)


def bind_case(
    case: GradientCase, function: Callable[..., Any] | None, dtype: torch.dtype, seed: int
) -> BoundCase:
    """Make a case ready, with what :meth:`runner.config.cases.base.Case.load` returned of it."""
    # a formula is evaluated by torch's functions, anything else is called
    if isinstance(case, FunctionCase):
        assert function is not None
        call = partial(_called, function, case)
    else:
        assert isinstance(case, ExpressionCase)
        call = partial(_evaluated, case)

    tensors = {name: torch.tensor(value, dtype=dtype) for name, value in case.values.items()}
    inputs = {name: tensors[name] for name in case.asked}
    constants = {name: tensor for name, tensor in tensors.items() if name not in inputs}
    op = Operation(name=case.name, call=case.name, signature="... -> ...", inputs=tuple(tensors))
    return BoundCase(op, call, Dimensions((), {}), dtype, seed, inputs=inputs, constants=constants)


def elements(
    case: ExpressionCase, named: dict[str, Tensor], rounded: Rounded = lambda value: value
) -> Tensor:
    """The expression's value before it is reduced, with its autograd graph."""
    functions = {name: _NAMES_IN_TORCH.get(name) or getattr(torch, name) for name in FUNCTIONS}
    constants = {name: getattr(math, name) for name in CONSTANTS}
    dtype = next(iter(named.values())).dtype

    # torch's functions take no plain numbers
    def applied(name: str) -> Callable[[Tensor | float], Tensor]:
        return lambda value: functions[name](torch.as_tensor(value, dtype=dtype))

    names, made = {**constants, **named}, {name: applied(name) for name in FUNCTIONS}
    value: Tensor = build(parse(case.expression), names, made, lambda number: number, rounded)
    return value


def reduced(case: GradientCase, value: Tensor) -> Tensor:
    """The one number whose gradient is taken."""
    return value.sum() if case.reduce == "sum" else value.mean()


def _evaluated(case: ExpressionCase, named: dict[str, Tensor]) -> Tensor:
    return reduced(case, elements(case, named))


def _called(
    function: Callable[..., object], case: FunctionCase, named: dict[str, Tensor]
) -> Tensor:
    result = function(*named.values(), **case.kwargs)
    first = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(first, Tensor):
        raise TypeError(f"{case.function} returned a {type(first).__name__}, not a tensor")
    return reduced(case, first)
