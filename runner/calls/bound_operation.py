"""An operation with its inputs: drawn on the CPU, so that all devices get the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.calls.layouts import laid, strided
from runner.calls.module import ModuleFunction
from runner.config.operation import Constants, Operation
from runner.config.signature import Dimensions
from runner.config.size import BATCH
from runner.config.structure import STRUCTURES

OF_TORCH = (torch.dtype, torch.layout, torch.memory_format)  # what constants may name
CPU = torch.device("cpu")
INTEGER_RANGE = 10  # integers are drawn from -9..9 (0..9 unsigned): products of these stay exact


@dataclass(frozen=True)
class BoundOperation:
    """An operation with its callable imported and everything but the device settled."""

    op: Operation
    function: Callable[..., Any]
    dimensions: Dimensions
    dtype: torch.dtype
    seed: int
    # what the inputs hold, one of the choices of :class:`runner.config.axes.CellKey`
    fill: str = "normal"
    layout: str = "contiguous"  # how they lie in memory, likewise
    # the callable whose values are taken for right; None: ``function`` itself
    reference: Callable[..., Any] | None = None
    # what ``function`` was made of, if of a module, whose parameters are inputs too
    module: ModuleFunction | None = None
    device: torch.device = CPU  # of a call without inputs
    is_compiled: bool = False  # whether a call at a new shape takes seconds, for the compiler
    has_one_size: ClassVar[bool] = False  # whether it can be drawn at its own size alone
    moves: ClassVar[bool] = True  # whether its inputs are drawn for whatever device it runs on
    # what its author can do where the result has no graph, or float64 is refused
    on_no_graph: ClassVar[str] = "where that is meant, write differentiable: false in the op file"
    on_no_float64: ClassVar[str] = "write reference: a callable that can be"

    @property
    def as_declared(self) -> BoundOperation:
        """The operation by its own call, whatever implementation this is of."""
        return replace(self, op=self.op.declared, function=self.op.declared.load())

    def draw(self) -> list[Tensor]:
        """Draw the inputs on the CPU.

        Floating and complex numbers are drawn in float32 as ``fill`` says and rounded to ``dtype``:
        standard normal, uniform from [0, 1), small integers, or zeros, and folded into the input's
        domain where it declares one. Integers and booleans know two fills, their own and zeros.
        An ``index`` input holds int64 positions, whatever the fill. What the operation declares of
        an input comes before the cell's dtype and layout. A module's parameters are the last.
        """
        make = self.op.loaded("inputs_from") if not self.op.passes else None
        shapes = [self.dimensions.shape(axes) for axes in self.op.parsed.inputs]
        if make is not None:
            tensors = self._made(make, shapes)
        else:
            tensors = [self._drawn(position, shape) for position, shape in enumerate(shapes)]
        layouts = [self.op.input_layouts.get(name, self.layout) for name in self.op.names]
        tensors = [laid(*pair) for pair in zip(tensors, layouts, strict=True)]
        for name, strides in self.op.input_strides.items():
            position = self.op.names.index(name)
            tensors[position] = strided(tensors[position], strides)
        return tensors + (self.module.parameters(self.dtype) if self.module else [])

    def _made(self, make: Callable[..., Any], shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """What the user's own function makes; ValueError where it is not what was promised."""
        lengths = {**self.dimensions.lengths, BATCH: self.dimensions.batch}
        made = outputs_of(make(lengths, self.dtype, CPU, self.generator(0)))
        got = [tuple(tensor.shape) for tensor in made]
        if got != shapes:
            whose = f"op {self.op.name}: inputs_from {self.op.inputs_from}"
            raise ValueError(f"{whose} made {got}; the signature's inputs are {shapes}")
        return made

    def _drawn(self, position: int, shape: tuple[int, ...]) -> Tensor:
        generator, name = self.generator(position), self.op.names[position]
        declared = self.op.input_dtypes.get(name)
        dtype = self.dtype if declared is None else getattr(torch, declared)
        if name in self.op.index_inputs:
            length = self.dimensions.lengths[self.op.index_inputs[name]]
            tensor = torch.randint(length, shape, generator=generator)
        else:
            tensor = self._filled(shape, generator, dtype)
            is_real = not dtype.is_complex and dtype is not torch.bool
            domain = self.op.domain_of(position) if is_real else None
            tensor = domain.fold(tensor) if domain else tensor
        structure = self.op.structure.get(name)
        if structure is not None:
            tensor = STRUCTURES[structure](tensor)
        return tensor if declared is None else tensor.to(dtype)

    def _filled(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        # these know no other fill than their own
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
        return self.op.names + (self.module.names if self.module else ())

    def generator(self, stream: int) -> torch.Generator:
        """A generator that the seed and a small number determine."""
        return torch.Generator().manual_seed(self.seed * 1_000 + stream)

    def call_with(self, tensors: list[Tensor]) -> Callable[[], Any]:
        """The callable with the tensors and the operation's constants filled in."""
        before, after, named = self.constants_for(tensors)
        if self.module is not None and self.module.is_made:
            before, named = [], {}
        function, count = self.function, len(self.op.names)
        inputs, parameters = tensors[:count], tensors[count:]
        if isinstance(function, ModuleFunction):  # which a compiled one is not any more
            function, parameters = function.holding(inputs, parameters), []
        pairs, placed = zip(self.op.names, inputs, strict=True), self.op.placed.values()
        others = {name: tensor for name, tensor in pairs if name not in placed}
        inputs = list(others.values())
        prepare = self.op.loaded("prepare")
        passed: Any = [inputs] if self.op.as_list else inputs
        if prepare is not None:
            with torch.no_grad():
                passed = prepare(*inputs)
            passed = passed if isinstance(passed, tuple | list | Mapping) else [passed]
        elif self.op.inputs and not self.op.as_list:
            passed = others
        if isinstance(passed, Mapping):
            return partial(function, *before, *after, *parameters, **passed, **named)
        return partial(function, *before, *passed, *after, *parameters, **named)

    def constants_for(self, tensors: Sequence[Tensor]) -> Constants:
        """The operation's constants for a call on these tensors: before, after and by name."""
        names, known = self.op.names, self._of_call(tensors)
        known |= {word: tensors[names.index(name)] for word, name in self.op.placed.items()}
        constants: Constants = _filled(self.op.constants(self.dimensions), known)
        return constants

    def _of_call(self, tensors: Sequence[Tensor]) -> dict[str, object]:
        """What a constant may name of a call on these tensors, whatever was drawn."""
        floating = [tensor for tensor in tensors if is_differentiable(tensor.dtype)]
        like = (floating or [*tensors] or [torch.empty(0, dtype=self.dtype, device=self.device)])[0]
        return {"{dtype}": like.dtype, "{device}": like.device}

    def outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        """Call it and return the tensors of its result, with all of their elements."""
        return list(map(dense, outputs_of(self.call_with(tensors)())))

    def expected(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors of the reference's result."""
        function = self.reference or self.function
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            declared = replace(self, op=self.op.declared, function=function, device=CPU)
            return declared.outputs(tensors)


def _filled(value: object, known: Mapping[str, object]) -> Any:
    """Nested constants with what they name of torch, or of the call, put in."""
    match value:
        case str() if value in known:
            return known[value]
        case str() if value.startswith("torch."):
            named = getattr(torch, value.removeprefix("torch."), None)
            return named if isinstance(named, OF_TORCH) else value
        case list() | tuple():
            return [_filled(item, known) for item in value]
        case dict():
            return {key: _filled(item, known) for key, item in value.items()}
    return value


def with_slopes_of(other: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is its own where a graph is made, and another one where differences are."""

    def call(*args: object, **kwargs: object) -> object:
        return (own if torch.is_grad_enabled() else other)(*args, **kwargs)

    return call


def draws_random_numbers(call: Callable[[list[Tensor]], object], inputs: Sequence[Tensor]) -> bool:
    """Whether a call draws random numbers, which other layouts may get in another order."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        state = torch.default_generator.get_state()
        call([t.detach().clone() for t in inputs])
        return not torch.equal(state, torch.default_generator.get_state())


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


def dense(tensor: Tensor) -> Tensor:
    """A tensor with all of its elements, as a sparse one has not."""
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def outputs_of(result: object) -> list[Tensor]:
    """The tensors in what an operation returned, however they are nested, and NumPy's arrays.

    Where there is none, its numbers.
    """
    if isinstance(result, Tensor) and not result.is_nested:
        return [result]
    leaves = list(_leaves(result))
    tensors = [torch.as_tensor(leaf) for leaf in leaves if hasattr(leaf, "__array__")]
    return tensors or [_number(leaf) for leaf in leaves if isinstance(leaf, int | float | complex)]


def _number(number: complex) -> Tensor:
    wide = {float: torch.float64, complex: torch.complex128}  # nothing of it is rounded
    return torch.tensor(number, dtype=wide.get(type(number)))


def _leaves(result: object) -> Iterator[object]:
    items = vars(result) if is_dataclass(result) else result
    items = items.values() if isinstance(items, Mapping) else items
    if isinstance(items, Tensor) and items.is_nested:
        items = items.unbind()  # which has no shape of its own
    if isinstance(items, tuple | list | ValuesView):
        yield from chain.from_iterable(map(_leaves, items))
    else:
        yield items
