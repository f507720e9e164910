"""Are the values right: finiteness of the output at full size, and its error against float64."""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import and_
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from runner.calls import Thunk
from runner.calls.bound_operation import (
    BoundOperation,
    dense,
    draws_random_numbers,
    is_differentiable,
    outputs_of,
)
from runner.calls.direction import restoring
from runner.calls.layouts import copy_of
from runner.config.operation import ROUNDING, Operation
from runner.config.signature import Dimensions
from runner.config.size import Size
from runner.errors import one_line
from runner.verify.blocks import WHOLE, Block, block_of, part_of
from runner.verify.gradients.precision import Rounding
from runner.verify.gradients.vectors import farthest, max_abs, perturbed
from runner.verify.likeness import (
    aligned,
    changed_by,
    has_free_sign,
    moments_differ,
    ordered,
    point_alike,
)
from runner.verify.rounding import FACTOR, unit_roundoff

CHECK_INNER, CHECK_OUTER = 64, 4  # lengths of the last two, and the other, dimensions of a check
FULL_ELEMENTS, FULL_FLOP = 2**18, 2**25  # of all tensors: up to these the whole output is checked
PART = 2**17  # elements that are compared at once
WHOLE_ELEMENTS, WHOLE_FLOP = 2**23, 2**32  # likewise, where it has to be at the size that is timed
LONGEST = 2**13  # dimension of a size below it
FEWEST_ROUNDOFFS = 8  # of a half-precision output
DRAWS = 8  # of moved inputs, or of random numbers

# what an op file may say of values that differ from float64's and are meant
RANDOM = "its values differ from call to call; where that is meant, write random: true"
FREE_SIGN = (
    "its vectors differ by their signs alone; where that is meant, write compare: up_to_sign"
)
CANCELS = (
    "a roundoff at each step moves it farther than tolerance: allows, which explains the error; "
    "write tolerance: rounding"
)
IN_A_ROW = "its values are wrong among calls in a row, between which a few elements change"
UNWRITTEN = "it returns memory that nobody has written to"
DEPENDS_ON_DTYPE = (
    "where its constants depend on the dtype, write reference: a callable that has this dtype's"
)


@dataclass(frozen=True)
class ValueCheck:
    """How far the values are from a float64 reference."""

    size: str | None = None  # at which they were compared
    # relative to the largest element of the reference, of the output that is nearest to what is
    # allowed, or beyond it; None: no values were compared
    relative_error: float | None = None
    allowed: float | None = None  # the largest that the dtype and the operation explain
    roundoffs: float | None = None  # the error in unit roundoffs of the dtype; None: of none
    mutated: bool = False  # whether the call changed its inputs, but for those that are put back
    undecided: int | None = None  # booleans and integers that differ, and of which rounding decides
    # of a random operation, whether its moments do; None: it is none
    moments_differ: bool | None = None
    reason: str = ""  # why nothing was compared, or what may be meant

    @property
    def compared(self) -> bool:
        """Whether anything was."""
        return self.relative_error is not None or self.moments_differ is not None

    @property
    def wrong(self) -> bool:
        """Whether the error is more than rounding explains; a NaN is."""
        if self.relative_error is None or self.allowed is None:
            return bool(self.moments_differ)
        return not self.relative_error <= self.allowed


def small(bound: BoundOperation, requested: Size) -> BoundOperation:
    """The operation at a size where checks cost little, or as it is where it cannot be cut down."""
    if bound.has_one_size:
        return bound
    try:
        dimensions = bound.op.bind(requested.at_most(CHECK_INNER, CHECK_OUTER))
        reduced = replace(bound, dimensions=dimensions)
        reduced.expected(reduced.draw())
    except Exception:  # whatever the callable raises at a size that nobody requested
        return bound
    return reduced


def to_check(bound: BoundOperation, requested: Size) -> BoundOperation:
    """The operation at the size at which its values are checked: its own, or a smaller one."""
    return bound if _is_within(bound, FULL_ELEMENTS, FULL_FLOP) else small(bound, requested)


def _is_within(bound: BoundOperation, elements: int, flop: int) -> bool:
    """Whether all of it has at most so many elements and takes at most so many FLOP."""
    tensors = bound.op.parsed.inputs + bound.op.parsed.outputs
    own = sum(math.prod(bound.dimensions.shape(axes)) for axes in tensors)
    return own <= elements and (bound.op.work(bound.op.flop, bound.dimensions) or 0) <= flop


def large(bound: BoundOperation, requested: Size) -> BoundOperation:
    """The operation at the size that is asked for, or at the largest one that costs little."""
    found, inner = bound, LONGEST
    while not _is_within(found, WHOLE_ELEMENTS, WHOLE_FLOP) and inner >= CHECK_INNER:
        found = replace(bound, dimensions=bound.op.bind(requested.at_most(inner, inner)))
        inner //= 2
    return found


def block_to_check(bound: BoundOperation, requested: Size) -> Block:
    """What is compared of an operation at its own size: all of it, where that costs little."""
    if _is_within(bound, WHOLE_ELEMENTS, WHOLE_FLOP) or bound.op.random:
        return WHOLE
    reduced = small(bound, requested)
    if reduced is bound or bound.op.compare != "values":
        return WHOLE

    def expected(tensors: list[Tensor]) -> list[Tensor]:
        return Reference(reduced, tensors).outputs

    return block_of(bound, reduced, expected, random.SystemRandom())


Called = Callable[[Thunk, list[Tensor]], Any]
"""Calls it and gives its result; the tensors are those that it has."""


def alone(thunk: Thunk, tensors: list[Tensor]) -> object:
    """A call's result, as any caller gets it."""
    return thunk()


def check_values(
    bound: BoundOperation,
    device: torch.device,
    captured: Callable[[Thunk], Thunk] | None = None,
    block: Block = WHOLE,
    called: Called = alone,
    *,
    coarser: float = 1.0,
) -> ValueCheck:
    """Compare an operation's output, or a block of it, with its reference's in float64 on the CPU.

    Both are of the same numbers. Booleans and integers must be equal, but for positions of
    equal elements, and where rounding of the inputs decides; for what others are allowed see
    :func:`allowed_error`. Where nothing can be compared, the check says why. ``captured`` makes a
    graph of a call that is timed as one; ``called`` calls it on the tensors that it has. Products
    of fewer digits, which a switch allows, may be off ``coarser`` times as far.
    """
    # the call gets copies on the device, so that the reference is computed from what was drawn
    drawn = bound.draw()
    of_inputs, of_outputs = bound.op.parsed.inputs, bound.op.parsed.outputs

    def call(called: Called = alone) -> tuple[list[Tensor], list[Tensor]]:
        copies = [copy_of(t, device) for t in drawn]
        thunk = restoring(bound.call_with(copies), bound, copies)
        result = called(captured(thunk) if captured else thunk, copies)
        outputs = [dense(t).cpu() for t in outputs_of(result)]
        return part_of(block, bound, outputs, of_outputs), [t.cpu() for t in copies]

    outputs, after = call(called)
    changed = [bool(relative_error(a, b)) for a, b in zip(after, drawn, strict=True)]
    after, inputs = (part_of(block, bound, tensors, of_inputs) for tensors in (after, drawn))
    lasting = (name not in bound.op.restore for name in bound.names)
    known = ValueCheck(mutated=any(map(and_, changed, lasting)))
    try:
        reference = Reference(bound, inputs, coarser)
    except Exception as error:  # of a check, which is none of the operation
        traceback.print_exc()
        return replace(known, reason=_not_computed(bound, error))

    known = replace(known, size=bound.op.size_text(bound.dimensions))
    if bound.op.random:
        return replace(known, moments_differ=_moments_differ(reference, lambda: call()[0]))

    outputs, expected = _with_left(reference, outputs, after, changed)
    if why := _incomparable(outputs, expected):
        return replace(known, size=None, reason=why)

    checked = _with_worst(known, reference, outputs, expected)
    if not checked.wrong and not checked.undecided:
        return checked
    found = Found(outputs, expected, again=call()[0])
    return _with_reason(checked, reference, found, drawn, in_a_row=called is not alone)


class Found(NamedTuple):
    """What a call gave, what it should have given, and what it gave when it was made again."""

    outputs: list[Tensor]
    expected: list[Tensor]
    again: list[Tensor]


def _with_reason(
    checked: ValueCheck, reference: Reference, found: Found, drawn: list[Tensor], *, in_a_row: bool
) -> ValueCheck:
    """What is wrong or undecided, with what explains it; what the op file may say is not wrong."""
    bound = reference.bound
    if checked.wrong and in_a_row:
        later = found.outputs[len(found.again) :]
        if not _with_worst(checked, reference, [*found.again, *later], found.expected).wrong:
            return replace(checked, reason=IN_A_ROW)
        # what draws no numbers and differs from call to call is not random
        if bound.device.type == "cpu" and not draws_random_numbers(bound.outputs, drawn):
            found = found._replace(again=found.outputs)
    reason = _declarable(checked, reference, found)
    if reason:
        return ValueCheck(mutated=checked.mutated, reason=reason)
    is_undeclared = checked.wrong and not bound.op.reference
    return replace(checked, reason=DEPENDS_ON_DTYPE) if is_undeclared else checked


def _with_left(
    reference: Reference, outputs: list[Tensor], after: list[Tensor], changed: list[bool]
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and what is expected, with what is left in inputs where the reference leaves it."""
    expected = list(reference.outputs)
    for position, now in enumerate(reference.after):
        if changed[position] and relative_error(now, reference.inputs[position]):
            outputs, expected = [*outputs, after[position]], [*expected, now]
    return outputs, expected


def _moments_differ(reference: Reference, call: Callable[[], list[Tensor]]) -> bool:
    results = [call() for _ in range(DRAWS)]
    return moments_differ(results, [reference.at(reference.inputs)[0] for _ in results])


def _incomparable(outputs: list[Tensor], expected: list[Tensor]) -> str:
    """Why outputs cannot be compared with what is expected; blank where they can."""
    if not expected:
        return "the call gives nothing that could be compared"
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (outputs, expected)]
    if shapes[0] == shapes[1]:
        return ""
    return f"the call gives {shapes[0]}, what it is compared with {shapes[1]}"


def _with_worst(
    known: ValueCheck, reference: Reference, outputs: list[Tensor], expected: list[Tensor]
) -> ValueCheck:
    """What is known, with the output that is farthest from what is allowed."""
    if reference.bound.op.compare == "up_to_sign":
        outputs, expected = ordered(outputs), ordered(expected)
    compared = [_compared(reference, outputs, expected, i) for i in range(len(expected))]
    worst = max(compared, key=_badness)
    discrete = any(not is_differentiable(t.dtype) for t in outputs)
    undecided = sum(output.undecided for output in compared) if discrete else None
    found = replace(known, relative_error=worst.error, allowed=worst.allowed, undecided=undecided)
    if not is_differentiable(reference.bound.dtype):
        return found
    return replace(found, roundoffs=worst.error / unit_roundoff(reference.bound.dtype))


class Reference:
    """What the right callable gives from the same numbers, in the widest dtype that it has."""

    def __init__(self, bound: BoundOperation, inputs: list[Tensor], coarser: float = 1.0) -> None:
        self.bound, self.inputs = bound, reference_inputs(bound, inputs)
        self._coarser = coarser
        self._wide = bound
        if not inputs:  # which would tell the call its dtype
            self._wide = replace(bound, dtype=_widest(bound.dtype))
        try:
            self.outputs, self.after = self.at(self.inputs)
        except Exception:
            # the call in its own dtype would be compared with itself
            if bound.reference is None:
                raise
            self.inputs = inputs
            self.outputs, self.after = self.at(inputs)

    def at(self, inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs at other inputs, and what a call leaves in copies of these."""
        copies = [t.clone() for t in inputs]
        return [t.cpu() for t in self._wide.expected(copies)], copies

    def moved(self) -> Iterator[list[Tensor]]:
        """The outputs at inputs that have moved by some roundoffs of the dtype, up or down."""
        generator = self.bound.generator(950)
        roundoffs = FACTOR * unit_roundoff(self.bound.dtype)
        for _ in range(DRAWS):
            yield self.at(perturbed(self.inputs, roundoffs, generator))[0]

    @cached_property
    def moved_by_rounding(self) -> list[float]:
        """How far rounding moves each output, relative to its largest element; integers not."""
        if not is_differentiable(self.bound.dtype):
            return [0.0 for _ in self.outputs]
        generator, roundoff = self.bound.generator(951), unit_roundoff(self.bound.dtype)
        numbers = [t if is_differentiable(t.dtype) else t.double() for t in self.outputs]

        def moved() -> list[Tensor]:
            with Rounding(roundoff, generator):
                results = self.at(perturbed(self.inputs, roundoff, generator))[0]
            return [t.to(number.dtype) for t, number in zip(results, numbers, strict=True)]

        most = farthest(numbers, moved, DRAWS)
        return [max_abs(m) / (max_abs(t) or 1.0) for m, t in zip(most, numbers, strict=True)]

    def allowed(self, got: Tensor, index: int) -> float:
        """The largest error of an output, as of those at the index."""
        kind, dtypes = self.bound.device.type, [self.bound.dtype, got.dtype]
        if torch.is_autocast_enabled(kind):  # which rounds to a dtype of its own
            dtypes.append(torch.get_autocast_dtype(kind))
        floating = filter(is_differentiable, dtypes)
        dtype = max(floating, key=lambda dtype: torch.finfo(dtype).eps, default=None)
        if dtype is None:
            return 0.0
        allowed = self._coarser * allowed_error(self.bound.op, self.bound.dimensions, dtype)
        if self.bound.op.tolerance != ROUNDING or index >= len(self.outputs):
            return allowed
        return allowed + FACTOR * self.moved_by_rounding[index]


class _Compared(NamedTuple):
    """An output's error, the largest that is allowed, and how many elements rounding decides."""

    error: float
    allowed: float = 0.0
    undecided: int = 0


def _compared(
    reference: Reference, outputs: list[Tensor], expected: list[Tensor], index: int
) -> _Compared:
    got, wide, op = outputs[index], expected[index], reference.bound.op
    if is_differentiable(got.dtype) or is_differentiable(wide.dtype):
        signed = op.compare == "up_to_sign"
        error = error_up_to_sign(got, wide) if signed else relative_error(got, wide)
        return _Compared(error, reference.allowed(got, index))
    differs = got != wide.to(got.dtype)
    if not bool(differs.any()) or not is_differentiable(reference.bound.dtype):
        return _Compared(float(bool(differs.any())))

    # of a floating operation: ties may be broken either way, and rounding may decide
    differs &= ~point_alike(reference.inputs, got, wide)
    undecided = torch.zeros_like(differs)
    if index < len(reference.outputs) and bool(differs.any()):
        undecided = differs & changed_by(reference.moved(), reference.outputs, index)
    return _Compared(float(bool((differs & ~undecided).any())), 0.0, int(undecided.sum()))


def _badness(output: _Compared) -> tuple[bool, float]:
    """How far beyond what is allowed; a NaN is the worst, which max() alone would not see."""
    ratio = output.error / output.allowed if output.allowed else math.inf * bool(output.error)
    return math.isnan(output.error), output.error if math.isnan(ratio) else ratio


def _is_random(reference: Reference, outputs: list[Tensor], again: list[Tensor]) -> bool:
    """Whether a second call gives other results than rounding explains."""
    return any(
        first.shape != second.shape or relative_error(second, first) > reference.allowed(first, i)
        for i, (first, second) in enumerate(zip(outputs, again, strict=False))
    )


def _declarable(checked: ValueCheck, reference: Reference, found: Found) -> str:
    """What the op file may say of values that differ and are not wrong; blank where they are."""
    outputs, expected, again = found
    if not checked.wrong:  # integers that a call draws are undecided one and all
        is_drawn = checked.undecided and _is_random(reference, outputs, again)
        return RANDOM if is_drawn else ""
    with _new_memory_filled():
        filled = reference.at(reference.inputs)[0]
    if filled and all(bool(t.isnan().all()) for t in filled):
        return UNWRITTEN
    with constants_of(reference.bound.dtype):
        others = reference.at(reference.inputs)[0]
    if (
        not reference.bound.op.reference
        and len(others) == len(outputs)
        and all(
            o.shape == t.shape and relative_error(t, o) <= reference.allowed(t, i)
            for i, (t, o) in enumerate(zip(outputs, others, strict=True))
        )
    ):
        return DEPENDS_ON_DTYPE
    if _is_random(reference, outputs, again):
        return RANDOM
    factors = sum(is_differentiable(t.dtype) for t in outputs)
    pairs = list(zip(ordered(outputs), ordered(expected), strict=True))
    if factors > 1 and any(has_free_sign(*pair) for pair in pairs):
        errors = (error_up_to_sign(*pair) for pair in pairs)
        if all(e <= reference.allowed(outputs[i], i) for i, e in enumerate(errors)):
            return FREE_SIGN
    return CANCELS if _is_explained(reference, outputs, expected) else ""


def _is_explained(reference: Reference, outputs: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether rounding moves what is off by more than the tolerance, and as far as it is off.

    What is compared with another callable has to be as exact as the tolerance asks.
    """
    if reference.bound.reference is not None or len(outputs) != len(reference.outputs):
        return False
    for i, moved in enumerate(reference.moved_by_rounding):
        limit = reference.allowed(outputs[i], i)
        cancels = is_differentiable(outputs[i].dtype) and moved > limit
        if not relative_error(outputs[i], expected[i]) <= (FACTOR * moved if cancels else limit):
            return False
    return True


@contextmanager
def constants_of(dtype: torch.dtype) -> Iterator[None]:
    """Have ``torch.finfo`` give this dtype's eps and largest number, whichever it is asked for."""
    finfo = torch.finfo
    with patch.object(torch, "finfo", lambda asked=None: finfo(dtype)):
        yield


@contextmanager
def _new_memory_filled() -> Iterator[None]:
    """Have torch fill what it allocates with NaN, as it does where it is to be deterministic."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def _not_computed(bound: BoundOperation, error: Exception) -> str:
    widest = _widest(bound.dtype)
    where = f"in {str(widest).removeprefix('torch.')} on the CPU"
    who = bound.op.reference or "the call itself"
    advice = "" if bound.op.reference else "; write reference: a callable that can be"
    return f"{who} cannot be computed {where} ({one_line(error, 120)}){advice}"


def allowed_error(op: Operation, dimensions: Dimensions, dtype: torch.dtype) -> float:
    """The largest error that rounding explains, relative to the largest element of the output.

    It is ``op.tolerance`` unit roundoffs of the dtype. Half-precision kernels accumulate in
    float32, so only the tolerance at lengths of 1 counts in roundoffs of the dtype, and the part
    that grows with the lengths in those of float32: with the dtype's roundoff throughout, no result
    of a long sum would be wrong.
    """
    roundoff = unit_roundoff(dtype)
    roundoffs = op.roundoffs(dimensions.variables)
    if dtype not in (torch.float16, torch.bfloat16):
        return roundoffs * roundoff
    at_length_1 = max(FEWEST_ROUNDOFFS, op.roundoffs(dict.fromkeys(dimensions.variables, 1)))
    accumulated = at_length_1 * roundoff + roundoffs * unit_roundoff(torch.float32)
    return min(roundoffs * roundoff, accumulated)


def reference_inputs(bound: BoundOperation, drawn: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers in the widest dtypes; integers that are declared to be others stay so."""
    wide = []
    for name, tensor in zip(bound.names, drawn, strict=True):
        stays = name in bound.op.input_dtypes and not is_differentiable(tensor.dtype)
        wide.append(tensor if stays else reference_input(tensor))
    return wide


def reference_input(tensor: Tensor) -> Tensor:
    """The same numbers in the widest dtype of their kind."""
    if tensor.dtype is torch.bool:
        return tensor
    if tensor.dtype.is_complex:
        return tensor.to(torch.complex128)
    return tensor.to(torch.float64 if tensor.dtype.is_floating_point else torch.int64)


def _widest(dtype: torch.dtype) -> torch.dtype:
    return reference_input(torch.empty(0, dtype=dtype)).dtype


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest element expected; 0 where both are alike."""
    got, expected = (_with_arithmetic(dense(side)) for side in (got, expected))
    if got.numel() == 0 or (got.dtype == expected.dtype and torch.equal(got, expected)):
        return 0.0
    if not is_differentiable(got.dtype) and not is_differentiable(expected.dtype):
        # integers wrap as those of the call do; of a truth value one is as true as two
        common = expected.dtype if got.dtype is torch.bool else got.dtype
        return float(not torch.equal(got.to(common), expected.to(common)))
    # a part at a time: large masks, once freed, would be the memory of later calls' results, which
    # then take a tenth of the time that fresh memory takes
    parts = zip(*(torch.split(side.reshape(-1), PART) for side in (got, expected)), strict=True)
    differences, scales = zip(*(_difference_and_scale(*part) for part in parts), strict=True)
    ends = torch.tensor([differences, scales], dtype=torch.float64)  # whose maximum keeps a NaN
    difference, scale = ends.amax(-1).tolist()
    if difference == 0:
        return 0.0
    return difference / scale if scale else float("inf")


def _with_arithmetic(tensor: Tensor) -> Tensor:
    """The same numbers in a dtype that can be subtracted, as floating numbers of a byte cannot."""
    is_narrow = tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1
    return tensor.float() if is_narrow else tensor


def _difference_and_scale(got: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest difference, 0 where both are alike, and the largest finite element expected."""
    # nothing of either is lost: neither what is behind the point nor an imaginary part
    dtype = torch.promote_types(got.dtype, expected.dtype)
    wide, expected = got.to(dtype), expected.to(dtype)
    same = (wide == expected) | (wide.isnan() & expected.isnan())
    scale = expected.abs().nan_to_num(0.0, 0.0, 0.0).max().item()
    if bool(same.all()):
        return 0.0, scale
    return (wide - expected).abs().masked_fill(same, 0.0).max().item(), scale


def error_up_to_sign(got: Tensor, expected: Tensor) -> float:
    """The relative error where the vectors of a matrix, columns or rows, may have either sign."""
    errors = (relative_error(candidate, expected) for candidate in aligned(got, expected))
    return min(errors, key=lambda error: (math.isnan(error), error))


def finite_fraction(outputs: list[Tensor]) -> float | None:
    """The share of elements that are neither infinite nor NaN; None for an empty output."""
    total = sum(t.numel() for t in outputs)
    return sum(int(t.isfinite().sum().item()) for t in outputs) / total if total else None
