"""What there is to know of an operation's output, without keeping it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from runner.calls.bound_operation import BoundOperation, outputs_of, storage_of
from runner.measure.detectors import denormal
from runner.measure.device import Device
from runner.verify.values import finite_fraction


class OutputSummary:
    """What is kept of it: at full size memory is short."""

    def __init__(self, bound: BoundOperation, tensors: list[torch.Tensor], device: Device) -> None:
        self._bound, self._tensors, self._device = bound, tensors, device
        self.inputs, self.input_bytes = len(tensors), sum(t.nbytes for t in tensors)
        self.outputs = self.output_bytes = 0
        # of the elements of the output, or of the gradients; None: of none
        self.finite_fraction: float | None = None
        self.view = False  # whether all of it, or of the gradients, lies in inputs or cotangents
        self.denormal = False  # whether a noticeable share of any of these is denormal

    def summarize(self, result: Any) -> None:
        """Look at what a call returned.

        Raises:
            ValueError: its shapes are not those of the signature.
        """
        outputs, bound = outputs_of(result), self._bound
        expected = [bound.dimensions.shape(axes) for axes in bound.op.parsed.outputs]
        shapes = [tuple(t.shape) for t in outputs]
        if shapes != expected:
            whose = f"op {bound.op.name}: its signature {bound.op.signature!r}"
            raise ValueError(f"{whose} promises outputs {expected}, the call gave {shapes}")
        self.outputs = len(outputs)
        self.output_bytes = sum(t.nbytes for t in outputs)
        self._summarize(self._tensors, outputs)

    def summarize_gradients(self, cotangents: list[torch.Tensor], result: Any) -> None:
        """Look at what a backward pass returned: how right it is, is checked elsewhere."""
        self._summarize([*self._tensors, *cotangents], outputs_of(result))

    def _summarize(self, read: list[torch.Tensor], returned: list[torch.Tensor]) -> None:
        self.denormal = denormal(read + returned, self._device)
        self.finite_fraction = finite_fraction(returned)
        storages = {storage_of(t) for t in read if t.numel()}
        written = [storage_of(t) in storages for t in returned if t.numel()]
        self.view = bool(written) and all(written)


def counted_flop(bound: BoundOperation, tensors: list[torch.Tensor]) -> int | None:
    """What PyTorch counts, on tensors that have a shape and no data, so that it costs nothing."""
    without_data = [t.to("meta") for t in tensors]
    try:
        with FlopCounterMode(display=False) as counter:
            bound.outputs(without_data)
    except Exception:  # the operation needs data
        return None
    return int(counter.get_total_flops()) or None  # 0 means that it knows none of the kernels
