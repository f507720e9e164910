"""Are the values right: finiteness of the output at full size, and its error against float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.calls.layouts import copy_of
from runner.config.operation import Operation
from runner.config.signature import Dimensions
from runner.config.size import Size
from runner.verify.rounding import unit_roundoff

CHECK_INNER, CHECK_OUTER = 64, 4  # lengths of the last two, and the other, dimensions of a check
FULL_ELEMENTS, FULL_FLOP = 2**18, 2**25  # of all tensors: up to these the whole output is checked
FEWEST_ROUNDOFFS = 8  # of a half-precision output


@dataclass(frozen=True)
class ValueCheck:
    """How far the values are from a float64 reference.

    Attributes:
        size: at which they were compared.
        relative_error: relative to the largest element of the reference; None: there is no output.
        allowed: the largest that the dtype and the operation explain.
        mutated: whether the call changed its inputs, but for those that are put back.
    """

    size: str
    relative_error: float | None
    allowed: float
    mutated: bool = False

    @property
    def wrong(self) -> bool:
        """Whether the error is more than rounding explains; a NaN is."""
        return self.relative_error is not None and not self.relative_error <= self.allowed


def small(bound: BoundOperation, requested: Size) -> BoundOperation:
    """The operation at a size where checks cost little, or as it is where it cannot be cut down."""
    try:
        dimensions = bound.op.bind(requested.at_most(CHECK_INNER, CHECK_OUTER))
        reduced = replace(bound, dimensions=dimensions)
        reduced.outputs(reduced.draw())
    except Exception:  # whatever the callable raises at a size that nobody requested
        return bound
    return reduced


def to_check(bound: BoundOperation, requested: Size) -> BoundOperation:
    """The operation at the size at which its values are checked: its own, or a smaller one."""
    tensors = bound.op.parsed.inputs + bound.op.parsed.outputs
    elements = sum(math.prod(bound.dimensions.shape(axes)) for axes in tensors)
    flop = bound.op.work(bound.op.flop, bound.dimensions) or 0
    return bound if elements <= FULL_ELEMENTS and flop <= FULL_FLOP else small(bound, requested)


def check_values(bound: BoundOperation, device: torch.device) -> ValueCheck:
    """Compare an operation's output with its own in float64 on the CPU, from the same numbers.

    Integers must be equal; for what others are allowed see :func:`allowed_error`.
    """
    # the call gets copies on the device, so that the reference is computed from what was drawn
    inputs = bound.draw()
    device_inputs = [copy_of(t, device) for t in inputs]
    outputs = [t.cpu() for t in bound.outputs(device_inputs)]
    expected = bound.expected([t.clone() for t in reference_inputs(bound, inputs)])
    drawn = zip(bound.names, device_inputs, inputs, strict=True)
    unchanged = all(torch.equal(t.cpu(), i) for n, t, i in drawn if n not in bound.op.restore)

    # integer outputs of a floating operation are not compared: indices of ties may differ
    exact = not is_differentiable(bound.dtype)
    pairs = zip(outputs, expected, strict=True)
    errors = [relative_error(t, e) for t, e in pairs if exact or is_differentiable(t.dtype)]

    # autocast rounds to its own dtype, whatever the inputs' is
    kind, rounded = device.type, bound.dtype
    if torch.is_autocast_enabled(kind):
        rounded = torch.get_autocast_dtype(kind)

    # a NaN is the worst error, which max() alone would not see
    return ValueCheck(
        size=bound.op.size_text(bound.dimensions),
        relative_error=max(errors, key=lambda error: (math.isnan(error), error), default=None),
        allowed=0.0 if exact else allowed_error(bound.op, bound.dimensions, rounded),
        mutated=not unchanged,
    )


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


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest element expected; 0 where both are alike."""
    if got.numel() == 0:
        return 0.0
    if not is_differentiable(got.dtype):
        return float(not torch.equal(got, expected.to(got.dtype)))
    wide = got.to(expected.dtype)
    same = (wide == expected) | (wide.isnan() & expected.isnan())
    if bool(same.all()):
        return 0.0
    difference = (wide - expected).abs().masked_fill(same, 0.0).max().item()
    scale = expected.abs().nan_to_num(0.0, 0.0, 0.0).max().item()
    return difference / scale if scale else float("inf")


def finite_fraction(outputs: list[Tensor]) -> float | None:
    """The share of elements that are neither infinite nor NaN; None for an empty output."""
    total = sum(t.numel() for t in outputs)
    return sum(int(t.isfinite().sum().item()) for t in outputs) / total if total else None
