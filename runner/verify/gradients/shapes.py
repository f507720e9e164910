"""Other shapes: from an operation's signature, or guessed from a function's example."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.config.signature import ELLIPSIS, Dimensions
from runner.config.size import BATCH, Size
from runner.errors import ConfigError
from runner.verify.gradients.structure import lowest
from runner.verify.gradients.target import GradientTarget, ShapedInputs
from runner.verify.values import reference_input

LONG, LESS_LONG, VAST = 1031, 131, 70_001  # primes: multiples of no tile, and past what one block or thread takes
MOST_ELEMENTS = 300_000  # of an example's inputs and outputs together
BASES = ((3, 2, 4), (5, 4, 6), (9, 8, 10))  # lengths of free dimensions, tried until the operation takes them
MOST_GUESSED = 20_000  # elements of shapes that nobody declared
FEW_ELEMENTS = 40  # of inputs of which each element can be looked at


def operation_target(bound: BoundOperation) -> GradientTarget:
    """An operation as a target, in float64, at its size and at others that its signature allows."""
    op = bound.op
    wide = replace(bound, dtype=torch.complex128 if bound.dtype.is_complex else torch.float64)
    example = ShapedInputs("example", bound.outputs, tuple(reference_input(t) for t in bound.draw()))
    names = bound.names
    return GradientTarget(
        example=example,
        arguments=names,
        requires_grad=tuple(
            is_differentiable(t.dtype) and name not in op.nondifferentiable_inputs
            for t, name in zip(example.inputs, names, strict=True)
        ),
        domains=tuple(op.domain_of(position) for position in range(len(names))),
        other_shapes=tuple(_declared(wide)),
        roundoffs=op.roundoffs(bound.dimensions.variables),
        seed=bound.seed,
        costly=bound.reference is not None,
    )


def guessed_shapes(example: ShapedInputs, seed: int) -> Iterator[ShapedInputs]:
    """The example's shapes with other lengths: dimensions that are equally long stay so."""
    lengths = sorted({n for t in example.inputs for n in t.shape if n > 1})
    ones = dict.fromkeys(lengths, 1)
    others = {"odd": (5, 7, 3, 11), "large": (LESS_LONG, 3, 2, 5)}
    maps = {
        "small": dict(zip(lengths, (2, 3, 4, 5), strict=False)),
        **{name: dict(zip(reversed(lengths), values, strict=False)) for name, values in others.items()},
        "ones": ones,
    }
    for name, table in maps.items():
        elements = sum(math.prod(table.get(n, n) for n in t.shape) for t in example.inputs)
        if lengths and len(table) >= min(len(lengths), 4) and elements <= MOST_GUESSED:
            yield _resized(example, name, lambda shape, table=table: [table.get(n, n) for n in shape], seed)
    yield _resized(example, "batched", lambda shape: [2, *shape], seed)


def _resized(example: ShapedInputs, name: str, resize: object, seed: int) -> ShapedInputs:
    generator = torch.Generator().manual_seed(seed)
    shapes = [tuple(resize(list(t.shape))) for t in example.inputs]  # type: ignore[operator]
    smallest = min((n for shape in shapes for n in shape), default=1)
    inputs = []
    for tensor, shape in zip(example.inputs, shapes, strict=True):
        if is_differentiable(tensor.dtype):
            inputs.append(torch.randn(shape, generator=generator, dtype=tensor.dtype))
        else:
            low = lowest(tensor) if tensor.dtype is not torch.bool else 0
            low = low if low < smallest else 0
            high = 2 if tensor.dtype is torch.bool else max(1, smallest)
            inputs.append(torch.randint(low, high, shape, generator=generator).to(tensor.dtype))
    return ShapedInputs(name, example.call, tuple(inputs), declared=False)


def _declared(bound: BoundOperation) -> Iterator[ShapedInputs]:
    signature = bound.op.parsed
    drawn = [axis for axes in signature.inputs for axis in axes if axis != ELLIPSIS]
    free = [axis for axis in dict.fromkeys(drawn) if axis not in signature.formulas]
    batched = any(ELLIPSIS in axes for axes in signature.inputs)
    found = ((base, _shaped_inputs(bound, "tiny", free, base, (2,) * batched)) for base in BASES)
    base, tiny = next(((base, shaped) for base, shaped in found if shaped is not None), (BASES[0], None))
    if tiny is None:
        return
    yield tiny
    candidates: list[tuple[str, Sequence[int], tuple[int, ...]]] = [
        ("odd", tuple(n + 2 for n in (*base, base[0] + 2)), (3,)),
        ("ones", (1,), (1,)),
        ("empty", base, (0,)) if batched else ("empty", (0, *base[1:]), ()),
    ]
    if batched:
        candidates += [("no batch", base, ()), ("batch", base, (3, 2)), ("large batch", (131, 67), (3, 5))]
        candidates += [("vast batch", (2,), (VAST,))] if free else [("vast batch", (), (7, VAST // 7))]
    candidates += [("square", (4,), (4,)), *([("large", (LESS_LONG,), ())] if not batched else [])]
    for position, axis in enumerate(free[:4]):
        shortened = [1 if i == position else base[i % len(base)] for i in range(len(free))]
        candidates.append((f"one {axis}", shortened, (2,)))
    for name, lengths, batch in candidates:
        shaped = _shaped_inputs(bound, name, free, lengths, batch if batched else ())
        if shaped is not None:
            yield shaped
    for position, axis in enumerate(free[:4]):
        for long in (LONG, LESS_LONG):
            lengths = [base[i % len(base)] for i in range(len(free))]
            lengths[position] = long
            shaped = _shaped_inputs(bound, f"long {axis}", free, lengths, (2,) * batched)
            if shaped is not None:
                yield shaped
                break
    yield from _broadcast(tiny, bound)


def _shaped_inputs(
    bound: BoundOperation, name: str, free: list[str], lengths: Sequence[int], batch: tuple[int, ...]
) -> ShapedInputs | None:
    """The operation with these lengths for its free dimensions in turn; None where it cannot be had."""
    named = {axis: lengths[i % len(lengths)] for i, axis in enumerate(free)} if lengths else {}
    first = bound.op.parsed.inputs[0]
    try:
        sized = replace(bound, dimensions=_bind(bound, named, batch if ELLIPSIS in first or batch else ()))
        elements = sum(
            _count(sized.dimensions.shape(axes)) for axes in (*sized.op.parsed.inputs, *sized.op.parsed.outputs)
        )
        if elements > MOST_ELEMENTS:
            return None
        drawn = sized.draw()
        if [tuple(t.shape) for t in drawn] != [sized.dimensions.shape(axes) for axes in sized.op.parsed.inputs]:
            return None  # a case, whose inputs are declared
        return ShapedInputs(name, sized.outputs, tuple(reference_input(t) for t in drawn))
    except (ConfigError, RuntimeError, ValueError):
        return None


def _bind(bound: BoundOperation, named: dict[str, int], batch: tuple[int, ...]) -> Dimensions:
    lengths = tuple((name, (n,)) for name, n in named.items())
    return bound.op.bind(Size(named=(*lengths, *(((BATCH, batch),) if batch or not lengths else ()))))


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _broadcast(tiny: ShapedInputs, bound: BoundOperation) -> Iterator[ShapedInputs]:
    """Inputs with ``...`` whose leading dimensions are 1, or not there, while another input's are."""
    open_ones = [i for i, axes in enumerate(bound.op.parsed.inputs) if ELLIPSIS in axes]
    if len(open_ones) < 2 or bound.op.as_list:
        return
    batch = len(tiny.inputs[open_ones[0]].shape) - (len(bound.op.parsed.inputs[open_ones[0]]) - 1)
    for i in open_ones[:3]:
        whole = tiny.inputs[i]
        for name, part in (("ones", whole[:1]), ("missing", whole[0])) if batch > 0 else ():
            inputs = list(tiny.inputs)
            inputs[i] = part.clone()
            yield ShapedInputs(f"broadcast {name} {i}", tiny.call, tuple(inputs), declared=False)
