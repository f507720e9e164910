"""An operation with its inputs: drawn on the CPU, so that all devices get the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from runner.config.operation import Operation
from runner.config.signature import Dimensions

INTEGER_RANGE = 10  # integers are drawn from -9..9 (0..9 unsigned): products of these stay exact


@dataclass(frozen=True)
class BoundOperation:
    """An operation with its callable imported and everything but the device settled.

    Attributes:
        fill: what the inputs hold, one of the choices of :class:`runner.config.axes.CellKey`.
        layout: how they lie in memory, likewise.
        reference: the callable whose values are taken for right; None: ``function`` itself.
        is_compiled: whether a call at a new shape takes seconds, for the compiler.
    """

    op: Operation
    function: Callable[..., Any]
    dimensions: Dimensions
    dtype: torch.dtype
    seed: int
    fill: str = "normal"
    layout: str = "contiguous"
    reference: Callable[..., Any] | None = None
    is_compiled: bool = False

    def draw(self) -> list[Tensor]:
        """Draw the inputs on the CPU.

        Floating and complex numbers are drawn in float32 as ``fill`` says and rounded to ``dtype``:
        standard normal, uniform from [0, 1), small integers, or zeros, and folded into the input's
        domain where it declares one. Integers and booleans know two fills, their own and zeros.
        An ``index`` input holds int64 positions, whatever the fill. With ``layout=transposed`` the
        last two dimensions of an input that has two lie the other way round in memory.
        """
        tensors = []
        for position, axes in enumerate(self.op.parsed.inputs):
            tensor = self._drawn(position, self.dimensions.shape(axes))
            if self.layout == "transposed" and tensor.ndim >= 2:
                tensor = tensor.mT.contiguous().mT
            tensors.append(tensor)
        return tensors

    def _drawn(self, position: int, shape: tuple[int, ...]) -> Tensor:
        generator = self.generator(position)
        indexed = self.op.index_inputs.get(self.names[position])
        if indexed is not None:
            return torch.randint(self.dimensions.lengths[indexed], shape, generator=generator)
        tensor = self._filled(shape, generator)
        domain = self.op.domain_of(position) if tensor.is_floating_point() else None
        return domain.fold(tensor) if domain else tensor

    def _filled(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        # these know no other fill than their own
        dtype = self.dtype
        if self.fill == "zeros":
            return torch.zeros(shape, dtype=dtype)
        if dtype is torch.bool:
            return torch.randint(2, shape, generator=generator, dtype=dtype)
        low = 0 if dtype is torch.uint8 else 1 - INTEGER_RANGE
        if not is_differentiable(dtype):
            return torch.randint(low, INTEGER_RANGE, shape, generator=generator, dtype=dtype)

        # drawn in one dtype and rounded, so that other dtypes' numbers differ by rounding alone
        single = torch.complex64 if dtype.is_complex else torch.float32
        if self.fill == "integers":
            integers = torch.randint(low, INTEGER_RANGE, shape, generator=generator)
            return integers.to(single).to(dtype)
        fill = torch.rand if self.fill == "uniform" else torch.randn
        return fill(shape, generator=generator, dtype=single).to(dtype)

    @property
    def names(self) -> tuple[str, ...]:
        """What :meth:`draw` draws, by name or position."""
        return self.op.inputs or tuple(map(str, range(len(self.op.parsed.inputs))))

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed * 1_000 + stream)

    def call_with(self, tensors: list[Tensor]) -> Callable[[], Any]:
        """The callable with the tensors and the operation's constants filled in."""
        args, kwargs = self.op.constants(self.dimensions)
        if self.op.as_list:
            return partial(self.function, *args, tensors, **kwargs)
        if self.op.inputs:
            named = dict(zip(self.op.inputs, tensors, strict=True))
            return partial(self.function, *args, **named, **kwargs)
        return partial(self.function, *args, *tensors, **kwargs)

    def outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        """Call it and return the tensors of its result."""
        return outputs_of(self.call_with(tensors)())

    def expected(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors of the reference's result."""
        return replace(self, function=self.reference or self.function).outputs(tensors)


def is_differentiable(dtype: torch.dtype) -> bool:
    """Whether tensors of this dtype can have a gradient."""
    return dtype.is_floating_point or dtype.is_complex


def storage_of(tensor: Tensor) -> int:
    """What tensors that share memory have in common; an address, where the device has addresses."""
    storage = tensor.untyped_storage()
    try:
        return int(storage.data_ptr())
    except RuntimeError:  # an out-of-tree device may keep its memory elsewhere
        return int(storage._cdata)


def outputs_of(result: object) -> list[Tensor]:
    """The tensors in what an operation returned, however they are nested; a number is one too."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, int | float | complex):
        wide = torch.float64 if isinstance(result, float) else None  # nothing of it is rounded
        return [torch.tensor(result, dtype=wide)]
    return [tensor for tensor in _leaves(result) if isinstance(tensor, Tensor)]


def _leaves(result: object) -> Iterator[object]:
    items = result.values() if isinstance(result, Mapping) else result
    if isinstance(items, tuple | list | ValuesView):
        yield from chain.from_iterable(map(_leaves, items))
    else:
        yield items
