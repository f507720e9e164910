"""Seeded inputs: drawn on the CPU and then moved, so that every device and dtype gets the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from runner.operation import Operation
from runner.signature import Dimensions

INTEGER_RANGE = 10  # integers are drawn from -9..9 (0..9 unsigned): products stay exact in every dtype that holds them


@dataclass(frozen=True)
class BoundOperation:
    """An operation with its callable imported and everything but the device settled."""

    op: Operation
    function: Callable[..., Any]
    dimensions: Dimensions
    dtype: torch.dtype
    seed: int

    def draw(self) -> list[torch.Tensor]:
        """Draw the inputs on the CPU.

        Floating and complex numbers are standard normal, drawn in float32 and rounded to ``dtype``, so that the
        numbers differ between dtypes by rounding alone, and folded into the input's domain where it declares one; an
        ``index`` input holds int64 positions.

        Returns:
            one tensor for each input of the signature, with its shape.
        """
        op, dtype = self.op, self.dtype
        names = op.inputs or ("",) * len(op.parsed.inputs)
        tensors = []
        for position, (axes, name) in enumerate(zip(op.parsed.inputs, names, strict=True)):
            generator = self.generator(position)
            shape = self.dimensions.shape(axes)
            if name in op.index:
                tensors.append(torch.randint(self.dimensions.lengths[op.index[name]], shape, generator=generator))
            elif dtype is torch.bool:
                tensors.append(torch.randint(2, shape, generator=generator, dtype=dtype))
            elif is_differentiable(dtype):
                single = torch.complex64 if dtype.is_complex else torch.float32
                drawn = torch.randn(shape, generator=generator, dtype=single)
                domain = None if dtype.is_complex else op.domain_of(position)
                tensors.append((domain.fold(drawn) if domain else drawn).to(dtype))
            else:
                low = 0 if dtype is torch.uint8 else 1 - INTEGER_RANGE
                tensors.append(torch.randint(low, INTEGER_RANGE, shape, generator=generator, dtype=dtype))
        return tensors

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed * 1_000 + stream)

    def call_with(self, tensors: list[torch.Tensor]) -> Callable[[], Any]:
        """The callable with the tensors and the operation's constants filled in, to be called with nothing."""
        args, kwargs = self.op.constants(self.dimensions)
        if self.op.pack:
            return partial(self.function, *args, tensors, **kwargs)
        if self.op.inputs:
            return partial(self.function, *args, **dict(zip(self.op.inputs, tensors, strict=True)), **kwargs)
        return partial(self.function, *args, *tensors, **kwargs)

    def outputs(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Call it and return the tensors of its result."""
        return outputs_of(self.call_with(tensors)())


def is_differentiable(dtype: torch.dtype) -> bool:
    """Whether tensors of this dtype can have a gradient."""
    return dtype.is_floating_point or dtype.is_complex


def outputs_of(result: Any) -> list[torch.Tensor]:
    """The tensors in what an operation returned: itself, or the members of a tuple or list."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [item for item in result if isinstance(item, torch.Tensor)] if isinstance(result, tuple | list) else []
