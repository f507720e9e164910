"""A gradient case made ready: its function of tensors, and its inputs, in a dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_operation import (
    BoundOperation,
    is_differentiable,
    outputs_of,
    with_slopes_of,
)
from runner.config.arithmetic import build
from runner.config.cases.expression import CONSTANTS, FUNCTIONS, parse
from runner.config.cases.gradient import ExpressionCase, FunctionCase, GradientCase
from runner.config.cases.nested import kind_of
from runner.config.operation import Operation
from runner.config.signature import Dimensions
from runner.errors import one_line


@dataclass(frozen=True)
class BoundCase(BoundOperation):
    """A case as what verifies operations takes it: it draws the inputs that the case declares."""

    # the inputs whose gradient is checked, by name, in the dtype, on the CPU
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)  # the others
    has_one_size = True
    # a case's file has no such fields, and a function that is given in Python has no file at all
    on_no_graph = (
        "what the function does on the way has to be torch's functions of tensors alone, "
        "without .detach(), .item(), .numpy(), torch.tensor() or a cast to integers"
    )
    on_no_float64 = "have the function take its inputs' dtype and device"

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
        named = dict(inputs)
        for name, t in self.constants.items():
            named[name] = t.to(like if is_differentiable(t.dtype) else like.device)
        return {name: named[name] for name in self.op.inputs}

    def near(self, attempt: int) -> BoundCase:
        """The same with inputs near the declared ones: within half of each, or of 1 where it is 0.

        A positive input stays positive, so that a logarithm or a root keeps its domain.
        """
        generator = self.generator(800 + attempt)

        def moved(tensor: Tensor) -> Tensor:
            wide = tensor.to(torch.float64)
            size = torch.where((wide == 0) | wide.isinf(), 1.0, wide.abs())
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
    call: Callable[..., Any]
    if isinstance(case, FunctionCase):
        assert function is not None
        other = case.load_other()
        called = with_slopes_of(other, function) if other is not None else function
        call = partial(results_of, called, case)
    else:
        assert isinstance(case, ExpressionCase)
        call = partial(elements, case)

    # whole numbers and truth values stay what they are where a function takes no gradient by them
    inputs = {name: torch.tensor(case.values[name], dtype=dtype) for name in case.asked}
    constants = {}
    for name in case.values.keys() - inputs.keys():
        exact = isinstance(case, FunctionCase) and kind_of(case.values[name]) is not float
        constants[name] = torch.tensor(case.values[name], dtype=None if exact else dtype)
    names = tuple(case.values)
    op = Operation(name=case.name, call=case.name, signature="... -> ...", inputs=names)
    return BoundCase(op, call, Dimensions((), {}), dtype, seed, inputs=inputs, constants=constants)


def elements(case: ExpressionCase, named: dict[str, Tensor]) -> Tensor:
    """The expression's value before it is reduced, with its autograd graph."""
    functions = {name: getattr(torch, name) for name in FUNCTIONS}
    constants = {name: getattr(math, name) for name in CONSTANTS}
    dtype = next(iter(named.values())).dtype

    # torch's functions take no plain numbers
    def applied(name: str) -> Callable[[Tensor | float], Tensor]:
        return lambda value: functions[name](torch.as_tensor(value, dtype=dtype))

    names, made = {**constants, **named}, {name: applied(name) for name in FUNCTIONS}
    value: Tensor = build(parse(case.expression), names, made, lambda number: number)
    return value


def reduced(case: GradientCase, value: Tensor) -> Tensor:
    """The one number whose gradient is taken; of complex ones their real part."""
    value = value.real if value.is_complex() else value
    return value.sum() if case.reduce == "sum" else value.mean()


def results_of(
    function: Callable[..., object], case: FunctionCase, named: dict[str, Tensor]
) -> list[Tensor]:
    """The tensors that a function returns; TypeError where there are none."""
    try:
        result = function(*named.values(), **case.kwargs)
    except RuntimeError as error:
        names = ", ".join(name for name, tensor in named.items() if _may_be_truth(tensor))
        if names and "bool" in str(error).lower():
            advice = f"where {names} holds truth values, write true and false for 1 and 0"
            raise RuntimeError(f"{one_line(error)}; {advice}") from error
        raise
    tensors = outputs_of(result)
    if not tensors:
        raise TypeError(f"{case.function} returned a {type(result).__name__} without a tensor")
    return tensors


def _may_be_truth(tensor: Tensor) -> bool:
    """Whether whole numbers are 0 and 1 alone."""
    whole = tensor.dtype is not torch.bool and not is_differentiable(tensor.dtype)
    return whole and bool(((tensor == 0) | (tensor == 1)).all())
