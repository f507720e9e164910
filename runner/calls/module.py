"""A ``torch.nn.Module`` as a function of its inputs and then its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class ModuleFunction:
    """The function. A call takes the inputs, and then a tensor for each parameter.

    ``is_made`` says whether the module was made of the operation's constants.
    """

    def __init__(self, module: nn.Module, *, is_made: bool = False) -> None:
        self._module, self.is_made = module, is_made
        self.names = tuple(name for name, _ in module.named_parameters())

    def __call__(self, *tensors: Tensor, **kwargs: object) -> object:
        """Call it through ``functional_call``, which costs more than a call of its own."""
        count = len(tensors) - len(self.names)
        named = dict(zip(self.names, tensors[count:], strict=True))
        like = _like(tensors)
        for name, buffer in self._module.named_buffers():
            named[name] = buffer.to(like if buffer.is_floating_point() else like.device)
        return torch.func.functional_call(self._module, named, tensors[:count], kwargs)

    def parameters(self, dtype: torch.dtype) -> list[Tensor]:
        """Copies of the parameters; floating ones in a dtype."""
        return [
            p.detach().to(dtype if p.is_floating_point() else p.dtype, copy=True)
            for p in self._module.parameters()
        ]

    def holding(self, tensors: Sequence[Tensor], parameters: Sequence[Tensor]) -> nn.Module:
        """A module that has these tensors for parameters, called as any other module."""
        like = _like([*parameters, *tensors])
        module = deepcopy(self._module).to(like if like.is_floating_point() else like.device)
        tensor_of = dict(zip(map(id, module.parameters()), parameters, strict=True))
        for part in module.modules():
            held: dict[str, Any] = part._parameters
            held |= {name: tensor_of[id(p)] for name, p in held.items() if p is not None}
        return module


def _like(tensors: Sequence[Tensor]) -> Tensor:
    """The first floating tensor, whose dtype and device a module's buffers have."""
    only = [tensor for tensor in tensors if isinstance(tensor, Tensor)]  # a call has constants too
    return next((tensor for tensor in only if tensor.is_floating_point()), only[0])


def made_callable(
    loaded: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], seed: int
) -> Callable[..., Any]:
    """What an op file's ``call`` names: a module, one of a class made of constants, or itself."""
    if isinstance(loaded, type) and issubclass(loaded, nn.Module):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ModuleFunction(loaded(*args, **kwargs), is_made=True)
    return ModuleFunction(loaded) if isinstance(loaded, nn.Module) else loaded
