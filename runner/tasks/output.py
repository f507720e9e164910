"""What there is to know of an operation's output, without keeping it."""

from __future__ import annotations

from typing import Any

import torch

from runner.calls.bound_operation import BoundOperation, outputs_of, storage_of
from runner.config.operation import Operation
from runner.config.signature import Dimensions
from runner.measure.detectors import denormal
from runner.measure.device import Device
from runner.verify.values import finite_fraction


def _check_shapes(op: Operation, dimensions: Dimensions, got: list[tuple[int, ...]]) -> None:
    expected = [dimensions.shape(axes) for axes in op.parsed.outputs]
    if got != expected:
        raise ValueError(
            f"op {op.name}: its signature {op.signature!r} promises outputs {expected}, the call gave {got}"
        )


class OutputSummary:
    """What there is to know of an operation's output, without keeping it: at full size memory is short.

    Attributes:
        bytes: of the inputs and the output.
        counts: how many they are and the bytes of each side, by the row's columns.
        finite_fraction: of its elements, or of the gradients' where these are timed; None where there are none.
        view: whether it, or a gradient, shares storage with an input or cotangent.
        denormal: whether a noticeable share of any of these is denormal.
    """

    def __init__(self, bound: BoundOperation, inputs: list[torch.Tensor], device: Device) -> None:
        self._bound, self._inputs, self._device = bound, inputs, device
        self.bytes = self.output_bytes = 0
        self.counts: dict[str, Any] = {}
        self.denormal = False
        self.finite_fraction: float | None = None
        self.view = False

    def summarize(self, result: Any) -> None:
        """Look at what a call returned.

        Raises:
            ValueError: its shapes are not those of the signature.
        """
        outputs = outputs_of(result)
        _check_shapes(self._bound.op, self._bound.dimensions, [tuple(t.shape) for t in outputs])
        taken, self.output_bytes = (sum(t.nbytes for t in side) for side in (self._inputs, outputs))
        self.bytes = taken + self.output_bytes
        self.counts = {
            "inputs": len(self._inputs),
            "input_bytes": taken,
            "outputs": len(outputs),
            "output_bytes": self.output_bytes,
        }
        self._summarize(self._inputs, outputs)

    def summarize_gradients(self, cotangents: list[torch.Tensor], result: Any) -> None:
        """Look at what a backward pass returned: how right it is, is checked elsewhere."""
        self._summarize([*self._inputs, *cotangents], outputs_of(result))

    def _summarize(self, given: list[torch.Tensor], got: list[torch.Tensor]) -> None:
        self.denormal = denormal(given + got, self._device)
        self.finite_fraction = finite_fraction(got)
        storages = {storage_of(t) for t in given if t.numel()}
        self.view = any(storage_of(t) in storages for t in got if t.numel())


def counted_flop(bound: BoundOperation, drawn: list[torch.Tensor]) -> int | None:
    """What PyTorch counts, on tensors that have a shape and no data, so that it costs nothing."""
    from torch.utils.flop_counter import FlopCounterMode

    meta = [t.to("meta") for t in drawn]
    try:
        with FlopCounterMode(display=False) as counter:
            bound.outputs(meta)
    except Exception:  # the operation needs data
        return None
    return int(counter.get_total_flops()) or None  # 0 means that it knows none of the kernels
