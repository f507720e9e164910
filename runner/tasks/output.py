"""What there is to know of an operation's output, without keeping it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from runner.calls.bound_operation import BoundOperation, outputs_of, storage_of
from runner.measure.detectors import denormal
from runner.measure.device import Device
from runner.verify.values import finite_fraction

_ROWS, _COLUMNS = ("crow_indices", "col_indices"), ("ccol_indices", "row_indices")
SPARSE_PARTS = {
    torch.sparse_csr: (*_ROWS, "values"),
    torch.sparse_bsr: (*_ROWS, "values"),
    torch.sparse_csc: (*_COLUMNS, "values"),
    torch.sparse_bsc: (*_COLUMNS, "values"),
}


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
        outputs, promised = outputs_of(result), self._bound.op.parsed.outputs
        dimensions = self._bound.dimensions
        pairs = zip(promised, outputs, strict=False)
        fits = len(outputs) == len(promised)
        if not fits or not all(dimensions.admits(axes, t.shape) for axes, t in pairs):
            raise ValueError(self._broken_promise(result, outputs))
        self.outputs = len(outputs)
        self.output_bytes = sum(part.nbytes for part in chain(*map(parts_of, outputs)))
        self._summarize(self._tensors, outputs)

    def _broken_promise(self, result: Any, outputs: list[torch.Tensor]) -> str:
        """What the signature says, what came instead, and what to write where that is meant."""
        op, dimensions = self._bound.op, self._bound.dimensions
        expected = [dimensions.shape(axes) for axes in op.parsed.outputs]
        shapes = [tuple(t.shape) for t in outputs]
        gave, advice = f"gave {shapes}", ""
        if not outputs:
            gave = f"returned {'None' if result is None else f'a {type(result).__name__}'}"
            advice = "; where that is meant, write -> none"
        elif list(map(len, shapes)) == list(map(len, expected)):
            advice = "; for a length that the numbers decide, write ?"
        whose = f"op {op.name}: its signature {op.signature!r}"
        return f"{whose} promises outputs {expected}, the call {gave}{advice}"

    def summarize_gradients(self, cotangents: list[torch.Tensor], result: Any) -> None:
        """Look at what a backward pass returned: how right it is, is checked elsewhere."""
        self._summarize([*self._tensors, *cotangents], outputs_of(result))

    def _summarize(self, read: list[torch.Tensor], returned: list[torch.Tensor]) -> None:
        """Look at what was read and returned; what cannot be looked at is not known."""
        read, returned = (list(chain(*map(parts_of, tensors))) for tensors in (read, returned))
        try:
            self.denormal = denormal(read + returned, self._device)
            self.finite_fraction = finite_fraction(returned)
            storages = {storage_of(t) for t in read if t.numel()}
            moved = [t for t in returned if t.numel()]
            self.view = bool(moved) and all(storage_of(t) in storages for t in moved)
        except (RuntimeError, TypeError) as error:  # of a dtype or device that lacks such a look
            print(f"the output is not known: {error}")


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The strided tensors that a tensor is made of: itself, or a sparse one's indices and numbers.

    None of a layout whose parts nobody knows, of which nothing is said then.
    """
    if tensor.layout is torch.strided and not tensor.is_nested:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    names = SPARSE_PARTS.get(tensor.layout, ())
    return [getattr(tensor, name)() for name in names]


def counted_flop(bound: BoundOperation, tensors: list[torch.Tensor]) -> int | None:
    """What PyTorch counts, on tensors that have a shape and no data, so that it costs nothing."""
    without_data = [t.to("meta") for t in tensors]
    try:
        with FlopCounterMode(display=False) as counter:
            bound.outputs(without_data)
    except Exception:  # the operation needs data
        return None
    return int(counter.get_total_flops()) or None  # 0 means that it knows none of the kernels
