"""What there is to know of an operation's output, without keeping it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch.utils.flop_counter import FlopCounterMode

from runner.calls.bound_operation import (
    BoundOperation,
    is_differentiable,
    outputs_of,
    storage_of,
)
from runner.calls.layouts import stored
from runner.measure.detectors import denormal
from runner.measure.device import Device
from runner.verify.values import finite_fraction

COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


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

    def summarize(self, result: object) -> None:
        """Look at what a call returned; ValueError where its shapes are not the signature's."""
        outputs, promised = outputs_of(result), self._bound.op.parsed.outputs
        dimensions = self._bound.dimensions
        pairs = zip(promised, outputs, strict=False)
        fits = len(outputs) == len(promised) or self._bound.op.parsed.is_open
        if not fits or not all(dimensions.admits(axes, t.shape) for axes, t in pairs):
            raise ValueError(self._broken_promise(result, outputs))
        self.outputs = len(outputs)
        self.output_bytes = sum(part.nbytes for part in chain(*map(parts_of, outputs)))
        self._summarize(self._tensors, outputs)

    def _broken_promise(self, result: object, outputs: list[torch.Tensor]) -> str:
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

    def summarize_gradients(self, cotangents: list[torch.Tensor], result: object) -> None:
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
    """The strided tensors that a tensor is made of: itself, or the numbers of a sparse one."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in COMPRESSED:
        return [tensor.values()]
    return [tensor] if tensor.layout is torch.strided and not tensor.is_nested else []


def bytes_read(bound: BoundOperation, tensors: list[torch.Tensor]) -> int:
    """The bytes of the inputs in memory; of a table that positions point into, those read."""
    op, lengths = bound.op, bound.dimensions
    total = sum(stored(part).nbytes for part in chain(*map(parts_of, tensors)))
    produced = set(chain.from_iterable(op.parsed.outputs))
    for index, axis in op.index_inputs.items():
        of_index = op.parsed.inputs[op.inputs.index(index)]
        for position, axes in enumerate(op.parsed.inputs):
            if axis not in axes or axis in produced:
                continue
            table, others = tensors[position], [a for a in axes if a not in (axis, *of_index)]
            read = math.prod(lengths.shape((*of_index, *others))) * table.element_size()
            held = stored(table).nbytes
            if read < held and _is_lookup(bound, tensors, index, position):
                total += read - held
    return total


def _is_lookup(
    bound: BoundOperation, tensors: list[torch.Tensor], index: str, position: int
) -> bool:
    """Whether what no position points at is not read: NaN there changes nothing."""
    table, op = tensors[position].detach().clone(), bound.op
    if not is_differentiable(table.dtype):
        return True
    axes = op.parsed.inputs[position]
    dim = axes.index(op.index_inputs[index]) - len(axes)
    unread = torch.ones(table.shape[dim], dtype=torch.bool, device=table.device)
    try:
        unread[tensors[op.inputs.index(index)].flatten()] = False
        table.index_fill_(dim, unread.nonzero().flatten(), math.nan)
        with torch.no_grad():
            results = bound.outputs([table if i == position else t for i, t in enumerate(tensors)])
        return not any(bool(t.isnan().any()) for t in results)
    except (RuntimeError, TypeError) as error:  # of a look, which is none of the operation's
        print(f"what is read is not known: {error}")
        return False


@contextmanager
def counted_savings() -> Iterator[dict[int, int]]:
    """The bytes of each storage that calls keep for a backward pass, meanwhile."""
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.update(_storages_of(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def stored_bytes(tensors: Sequence[torch.Tensor]) -> int:
    """The bytes of the storages of some tensors, each counted once."""
    stored: dict[int, int] = {}
    for tensor in tensors:
        stored |= _storages_of(tensor)
    return sum(stored.values())


def _storages_of(tensor: torch.Tensor) -> dict[int, int]:
    return {storage_of(part): part.untyped_storage().nbytes() for part in parts_of(tensor)}


def counted_flop(bound: BoundOperation, tensors: list[torch.Tensor]) -> int | None:
    """What PyTorch counts, on tensors that have a shape and no data, so that it costs nothing."""
    without_data = [t.to("meta") for t in tensors]
    try:
        with FlopCounterMode(display=False) as counter:
            bound.outputs(without_data)
    except Exception:  # the operation needs data
        return None
    return int(counter.get_total_flops()) or None  # 0 means that it knows none of the kernels
