"""Other shapes: from an operation's signature, or guessed from a function's example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_arguments import BoundArguments
from runner.calls.bound_operation import (
    BoundOperation,
    is_differentiable,
    outputs_of,
    with_slopes_of,
)
from runner.config.signature import ELLIPSIS
from runner.config.size import BATCH, Size
from runner.errors import ConfigError
from runner.verify.gradients.problem import GradientTarget, ShapedInputs
from runner.verify.gradients.structure import lowest
from runner.verify.likeness import ordered
from runner.verify.values import reference_inputs

LONG, LESS_LONG, VAST = 1031, 131, 70_001  # primes, past what one tile, block or thread takes
MOST_ELEMENTS = 300_000  # of inputs and outputs together
BASES = ((3, 2, 4), (5, 4, 6), (9, 8, 10))  # lengths of free dimensions; the first that are taken
MOST_GUESSED = 20_000  # elements of inputs whose shapes nobody declared
MOST_AXES = 4  # free dimensions that are made long and short one by one
FEW_ELEMENTS = 40  # of inputs along each element of which the slope can be taken


def operation_target(bound: BoundOperation) -> GradientTarget:
    """An operation as a target, in float64, at its size and at others that its signature allows."""
    op, names = bound.op, bound.names
    if op.compare == "up_to_sign":  # the squares of a factor are unique
        bound = replace(bound, function=partial(_squares, bound.function))
    if (other := op.loaded("gradient_of")) is not None:
        bound = replace(bound, function=with_slopes_of(other, bound.function))
    if isinstance(bound, BoundArguments) and bound.as_verified is not None:
        bound = replace(bound, function=partial(bound.as_verified, bound.function))
    wide = replace(bound, dtype=torch.complex128 if bound.dtype.is_complex else torch.float64)
    inputs = tuple(reference_inputs(bound, bound.draw()))
    return GradientTarget(
        example=ShapedInputs("example", bound.outputs, inputs),
        arguments=names,
        requires_grad=tuple(
            is_differentiable(t.dtype) and name not in op.nondifferentiable_inputs
            for t, name in zip(inputs, names, strict=True)
        ),
        domains=tuple(map(op.domain_of, range(len(names)))),
        other_shapes=() if bound.has_one_size else tuple(_declared(wide)),
        roundoffs=op.roundoffs(bound.dimensions.variables),
        seed=bound.seed,
        costly=bound.is_compiled,
        is_compared=op is not op.declared,
        on_no_graph=bound.on_no_graph,
        on_no_float64=bound.on_no_float64,
    )


def _squares(function: Callable[..., Any], *args: object, **kwargs: object) -> list[Tensor]:
    return [(t * t.conj()).real for t in ordered(outputs_of(function(*args, **kwargs)))]


def guessed_shapes(example: ShapedInputs, seed: int) -> Iterator[ShapedInputs]:
    """The example's shapes with other lengths: dimensions that are equally long stay so."""
    lengths = sorted({n for n in chain.from_iterable(t.shape for t in example.inputs) if n > 1})
    new_lengths = {
        "small": dict(zip(lengths, (2, 3, 4, 5), strict=False)),
        "odd": dict(zip(reversed(lengths), (5, 7, 3, 11), strict=False)),
        "large": dict(zip(reversed(lengths), (LESS_LONG, 3, 2, 5), strict=False)),
        "long": dict(zip(lengths, (LONG, 3, 2, 1), strict=False)),
        "ones": dict.fromkeys(lengths, 1),
    }
    for name, table in new_lengths.items() if lengths else ():
        shapes = [tuple(table.get(n, n) for n in t.shape) for t in example.inputs]
        elements = sum(map(math.prod, shapes))
        if len(table) >= min(len(lengths), 4) and elements <= MOST_GUESSED:
            yield _resized(example, name, shapes, seed)
    yield _resized(example, "batched", [(2, *t.shape) for t in example.inputs], seed)


def _resized(
    example: ShapedInputs, name: str, shapes: list[tuple[int, ...]], seed: int
) -> ShapedInputs:
    generator = torch.Generator().manual_seed(seed)
    smallest = min((min(shape) for shape in shapes if shape), default=1)
    inputs = []
    for tensor, shape in zip(example.inputs, shapes, strict=True):
        if is_differentiable(tensor.dtype):
            inputs.append(torch.randn(shape, generator=generator, dtype=tensor.dtype))
            continue

        # integers may be indices, which have to be in the range of the shortest dimension
        low, high = 0, 2
        if tensor.dtype is not torch.bool:
            low, high = lowest(tensor), max(1, smallest)
        low = low if low < smallest else 0
        inputs.append(torch.randint(low, high, shape, generator=generator).to(tensor.dtype))
    return ShapedInputs(name, example.call, tuple(inputs), declared=False)


@dataclass(frozen=True)
class _Shape:
    """Lengths for the dimensions of a signature."""

    name: str
    lengths: Sequence[int]  # of the free dimensions, in turn; none leaves them as they are
    # the dimensions for which ``...`` stands; () where the signature has none
    batch: tuple[int, ...] = ()


def _declared(bound: BoundOperation) -> Iterator[ShapedInputs]:
    """Inputs of shapes that a signature allows, small ones first; none where these are refused."""
    signature = bound.op.parsed
    axes = [axis for axis in chain.from_iterable(signature.inputs) if axis != ELLIPSIS]
    free = [axis for axis in dict.fromkeys(axes) if axis not in signature.formulas]
    batch = (2,) if any(ELLIPSIS in axes for axes in signature.inputs) else ()

    # an operation may need lengths that are not the least
    for base in BASES:
        tiny = _draw(bound, free, _Shape("tiny", base, batch))
        if tiny is None:
            continue
        yield tiny
        shapes = _at_other_lengths(base, batched=bool(batch), free=bool(free))
        yield from filter(None, (_draw(bound, free, shape) for shape in shapes))

        # one dimension after another is short, and then long, or less long where it cannot be
        lengths = [base[i % len(base)] for i in range(len(free))]
        for name, tried in (("one", (1,)), ("long", (LONG, LESS_LONG))):
            for i, axis in enumerate(free[:MOST_AXES]):
                changed = ([*lengths[:i], length, *lengths[i + 1 :]] for length in tried)
                drawn = (_draw(bound, free, _Shape(f"{name} {axis}", n, batch)) for n in changed)
                yield from islice(filter(None, drawn), 1)
        yield from _broadcast(tiny, bound)
        return


def _at_other_lengths(base: Sequence[int], *, batched: bool, free: bool) -> list[_Shape]:
    """Shapes at which implementations change their ways: odd, of length 1, empty, square, large."""
    odd = [n + 2 for n in (*base, base[0] + 2)]
    if not batched:
        shapes = [_Shape("odd", odd), _Shape("ones", (1,)), _Shape("empty", (0, *base[1:]))]
        return [*shapes, _Shape("square", (4,)), _Shape("large", (LESS_LONG,))]
    vast = ((2,), (VAST,)) if free else ((), (7, VAST // 7))
    return [
        _Shape("odd", odd, (3,)),
        _Shape("ones", (1,), (1,)),
        _Shape("empty", base, (0,)),
        _Shape("no batch", base),
        _Shape("batch", base, (3, 2)),
        _Shape("large batch", (LESS_LONG, 67), (3, 5)),
        _Shape("vast batch", *vast),
        _Shape("square", (4,), (4,)),
    ]


def _draw(bound: BoundOperation, free: Sequence[str], shape: _Shape) -> ShapedInputs | None:
    """The operation's inputs in a shape; None where it does not take it, or they would be large."""
    named: list[tuple[str, tuple[int, ...]]] = []
    if shape.lengths:
        named = [(axis, (shape.lengths[i % len(shape.lengths)],)) for i, axis in enumerate(free)]
    if shape.batch or not named:
        named.append((BATCH, shape.batch))
    parsed = bound.op.parsed
    try:
        sized = replace(bound, dimensions=bound.op.bind(Size(named=tuple(named))))
        shapes = [sized.dimensions.shape(axes) for axes in (*parsed.inputs, *parsed.outputs)]
        if sum(map(math.prod, shapes)) > MOST_ELEMENTS:
            return None
        drawn = sized.draw()
    except (ConfigError, RuntimeError, ValueError):
        return None

    # a case draws inputs of the shapes that it declares, whatever the size
    if [tuple(t.shape) for t in drawn] != shapes[: len(parsed.inputs)]:
        return None
    return ShapedInputs(shape.name, sized.outputs, tuple(reference_inputs(bound, drawn)))


def _broadcast(tiny: ShapedInputs, bound: BoundOperation) -> Iterator[ShapedInputs]:
    """Inputs whose ``...`` is of length 1, or missing, while another input's is not."""
    signature = bound.op.parsed
    open_inputs = [i for i, axes in enumerate(signature.inputs) if ELLIPSIS in axes]
    if len(open_inputs) < 2 or bound.op.as_list:
        return
    first = open_inputs[0]
    if tiny.inputs[first].dim() < len(signature.inputs[first]):
        return
    for i in open_inputs[:3]:
        whole = tiny.inputs[i]
        for name, part in (("ones", whole[:1]), ("missing", whole[0])):
            inputs = list(tiny.inputs)
            inputs[i] = part.clone()
            yield ShapedInputs(f"broadcast {name} {i}", tiny.call, tuple(inputs), declared=False)
