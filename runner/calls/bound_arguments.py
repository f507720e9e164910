"""An operation of the signature ``* -> *``: its inputs stand anywhere in what its call gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from runner.calls.bound_operation import (
    CPU,
    BoundOperation,
    draws_random_numbers,
    is_differentiable,
)
from runner.calls.layouts import laid
from runner.calls.operator_database import DatabaseOperator
from runner.errors import ConfigError


@dataclass(frozen=True)
class BoundArguments(BoundOperation):
    """The operation, whose ``inputs_from`` has made its arguments once."""

    # what the arguments hold, in order; a strided tensor is an input, and the rest constants
    leaves: tuple[Any, ...] = ()
    form: TreeSpec | None = None  # how they are nested
    # the dtype for which they were made; where it is a constant, it stands for the dtype of the
    # call's inputs
    made_in: torch.dtype = torch.float32
    # what calls the callable where its gradient is defined; None: it itself
    as_verified: Callable[..., Any] | None = None
    has_one_size = True

    @classmethod
    def of(cls, bound: BoundOperation) -> BoundArguments:
        """Make the arguments, which say what has a gradient; ConfigError where they are none."""
        if bound.module is not None:
            call = f"op {bound.op.name}: {bound.op.call}"
            raise ConfigError(f"{call} is a module, whose inputs the signature has to name")
        leaves, form = _made(bound)
        made = cls(**vars(bound), leaves=tuple(leaves), form=form, made_in=bound.dtype)
        by_name = dict(zip(made.names, made.inputs, strict=True))
        floating = {n: t for n, t in by_name.items() if is_differentiable(t.dtype)}
        whole = {n: str(t.dtype) for n, t in by_name.items() if n not in floating}
        declared: dict[str, Any] = {
            "nondifferentiable_inputs": tuple(
                n for n, t in floating.items() if not t.requires_grad
            ),
            "differentiable": any(t.requires_grad for t in floating.values()),
            "input_dtypes": whole if is_differentiable(bound.dtype) else {},
        }
        if isinstance(bound.function, DatabaseOperator):
            declared["random"] = draws_random_numbers(made.outputs, made.inputs)
            made = replace(made, as_verified=bound.function.as_verified)
        return replace(made, op=replace(bound.op, **declared))

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors among the arguments, as they were made."""
        return list(filter(_is_input, self.leaves))

    def draw(self) -> list[Tensor]:
        """The inputs, made once more, in the cell's layout."""
        leaves, _ = _made(self)
        return [laid(tensor.detach(), self.layout) for tensor in filter(_is_input, leaves)]

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs by position."""
        return tuple(map(str, range(len(self.inputs))))

    def call_with(self, tensors: list[Tensor]) -> Callable[[], Any]:
        """The callable with the tensors in their places, and the operation's constants."""
        before, after, named = self.constants_for(tensors)
        floating = [t.dtype for t in tensors if is_differentiable(t.dtype)]
        device = tensors[0].device if tensors else self.device
        args, kwargs = self.arguments(tensors, next(iter(floating), self.dtype), device)
        return partial(self.function, *before, *args, *after, **kwargs, **named)

    def arguments(
        self, inputs: Sequence[Any], dtype: torch.dtype, device: torch.device = CPU
    ) -> Any:
        """The list and the mapping that were made, with these inputs, dtype and device."""
        rest = iter(inputs)

        def filled(leaf: object) -> object:
            if _is_input(leaf):
                return next(rest)
            if isinstance(leaf, torch.device) and leaf == CPU:  # which they were made for
                return device
            return dtype if isinstance(leaf, torch.dtype) and leaf == self.made_in else leaf

        assert self.form is not None
        return tree_unflatten(list(map(filled, self.leaves)), self.form)


def _is_input(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout is torch.strided


def _made(bound: BoundOperation) -> tuple[list[Any], TreeSpec]:
    """The leaves and the form of what ``inputs_from`` makes; ConfigError where it is no call's."""
    make = bound.op.loaded("inputs_from")
    assert make is not None  # or the op file would have been refused
    made = make(dict(bound.dimensions.lengths), bound.dtype, CPU, bound.generator(0))
    match made:
        case [list() | tuple() as args, dict() as kwargs]:
            return tree_flatten((list(args), kwargs))
    whose = f"op {bound.op.name}: inputs_from {bound.op.inputs_from}"
    gave = f"made a {type(made).__name__}"
    raise ConfigError(
        f"{whose} {gave}; for the signature {bound.op.signature!r} it makes two "
        "things, a list of arguments and a mapping of those by name"
    )
