"""Flags for misleading times, detected by extra calls outside the timed region.

Each one costs nothing but a look where it cannot apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.bound_operation import (
    BoundOperation,
    is_differentiable,
    outputs_of,
    storage_of,
)
from runner.cells.cell import Cell
from runner.config.axes import BENCHMARK_ONLY
from runner.measure.device import Device
from runner.measure.engine import Measurement
from runner.measure.host_clock import Clock
from runner.measure.page_faults import Probe, fault_s, is_counted, least, touched
from runner.measure.precision import flushes_denormals, uses_reduced_precision

DENORMAL_SHARE = 0.01  # of the elements looked at
SAMPLED_ELEMENTS = 65_536  # elements of a tensor: a share of 1 % is then known to within 0.1 %
DOMINATED = 0.5  # of the time
SMALLEST_FRESH_BYTES = 128 * 1024  # below, no allocator gives memory back, so that none is fresh
# a page's first touch takes 0.1 to 3 us: fewer pages than this allows cannot be most of a call
SLOWEST_FAULT_S = 5e-6
PROBE_BYTES = (32 * 1024**2, 128 * 1024**2)  # least and most, to see what a first touch takes
PROBES = 4  # in turns
FALLBACK_FACTOR = 2.0  # times what the width explains: vector units are no slower with narrow ones
SHORTEST_FALLBACK_S = 5e-5  # below, most of a call is its overhead, which differs by dtype too
# for float32's time beside a cell's, which is taken once for an operation and size
FLOAT32_BUDGET_S = 0.02
FLOAT32_TRIALS = 10
AFFORDABLE = 0.1  # of limit.time_s: what a further call may take
Float32Times = dict[tuple[Any, ...], float | None]
"""Seconds of float32 calls by operation, size and how it is called; None: it has no float32."""


@dataclass(frozen=True)
class TimedCall:
    """A cell's call, as it was timed."""

    call: Thunk
    bound: BoundOperation
    tensors: list[torch.Tensor]  # its inputs on the device
    # makes such a call (forward, backward or both) of an operation and inputs
    make_call: Callable[[BoundOperation, list[torch.Tensor]], Thunk]
    clock: Clock
    measured: Measurement
    cell: Cell
    output_bytes: int  # of one call's result

    @property
    def takes_long(self) -> bool:
        """Whether a further call, to find a flag, would take too much time."""
        return self.measured.median_s > AFFORDABLE * self.cell.limit.time_s


def flags_after(
    timed: TimedCall,
    device: Device,
    float32_times: Float32Times,
    further: Mapping[str, Callable[[], bool]],
) -> list[str]:
    """The flags that take further calls to find, after the timing; an error in these is no flag.

    ``float32_times`` are of earlier cells; this one's is added. ``further`` detectors come first.
    """
    detectors = dict(further)
    detectors["reduced_precision"] = partial(reduced_precision, timed, device.torch)
    if device.is_cpu:
        detectors["first_touch"] = partial(first_touch, timed)
        detectors["cpu_fallback"] = partial(cpu_fallback, timed, float32_times)
    flags = []
    for name, applies in detectors.items():
        try:
            if applies():
                flags.append(name)
        except (RuntimeError, MemoryError, NotImplementedError, TypeError, ValueError) as error:
            print(f"{name}: not known: {error}")  # into the cell's log
    return flags


def denormal(tensors: list[torch.Tensor], device: Device) -> bool:
    """Whether a noticeable share of a tensor is denormal, on a CPU that does not take it for 0.

    float16 does not count: the CPU computes it in float32, where its denormals are ordinary
    numbers.
    """
    of_float = [t for t in tensors if is_differentiable(t.dtype) and t.dtype is not torch.float16]
    wide = [t for t in of_float if t.element_size() > 1]  # neither are those of 8 bits
    candidates = [t for t in wide if t.numel()]
    if not device.is_cpu or not candidates or flushes_denormals():
        return False
    return any(denormal_share(t) >= DENORMAL_SHARE for t in candidates)


def denormal_share(tensor: torch.Tensor) -> float:
    """The share of elements that are not 0 and smaller than the dtype's smallest normal number.

    Of a large tensor it is taken over elements at random, the same ones each time.
    """
    flat = tensor.detach()
    if tensor.numel() > SAMPLED_ELEMENTS:
        seeded = torch.Generator().manual_seed(0)
        indices = torch.randint(tensor.numel(), (SAMPLED_ELEMENTS,), generator=seeded)
        flat = flat.take(indices)  # by logical position, without a copy of a transposed tensor
    parts = torch.view_as_real(flat) if flat.is_complex() else flat
    if not parts.numel():
        return 0.0
    sizes = parts.abs()
    return ((sizes > 0) & (sizes < torch.finfo(parts.dtype).tiny)).float().mean().item()


def first_touch(timed: TimedCall) -> bool:
    """Whether most of a call's time goes to pages that the system provides at their first touch.

    The page faults of a call, times what a fault takes, against the call's time: each the least of
    a few in turns, since whatever else runs only lengthens them.
    """
    pages_at_most = timed.output_bytes / 4096
    if not is_counted() or timed.output_bytes < SMALLEST_FRESH_BYTES or timed.takes_long:
        return False
    if pages_at_most * SLOWEST_FAULT_S < DOMINATED * timed.measured.median_s:
        return False
    if not touched(timed.call).faults:
        return False

    # memory is filled fresh and again, in turns with the call, so that all see the same machine
    smallest, largest = PROBE_BYTES
    probe = Probe(min(max(timed.output_bytes, smallest), largest))
    turns = [tuple(map(touched, (timed.call, probe.fresh, probe.again))) for _ in range(PROBES)]
    of_call, fresh, again = zip(*turns, strict=True)
    faults, call_s = least(of_call)
    return faults * fault_s(fresh, again) >= DOMINATED * min(call_s, timed.measured.min_s)


def reduced_precision(timed: TimedCall, device: torch.device) -> bool:
    """Whether the operation's float32 products are rounded to fewer digits, as a switch allows."""
    bound = timed.bound
    if bound.dtype not in (torch.float32, torch.complex64) or timed.takes_long:
        return False
    # a compiled one would be compiled again for each switch
    run = bound.expected if bound.is_compiled else bound.outputs
    return uses_reduced_precision(lambda: run(timed.tensors), device)


def cpu_fallback(timed: TimedCall, float32_times: Float32Times) -> bool:
    """Whether the call takes far longer than float32, and than the width of its dtype explains.

    The shortest times of both are compared, which noise only lengthens; where they are apart the
    call is timed once more, unless it is so long that noise cannot double its time.
    """
    if not _may_fall_back(timed):
        return False
    float32_s = _float32_s(timed, float32_times)
    if float32_s is None:
        return False
    explained = max(1.0, timed.bound.dtype.itemsize / torch.float32.itemsize)
    longest_s = FALLBACK_FACTOR * explained * float32_s
    min_s = timed.measured.min_s
    if min_s <= longest_s:
        return False
    if min_s > AFFORDABLE * timed.cell.limit.time_s:
        return True
    # the samples may be few
    return _shortest(timed.make_call(timed.bound, timed.tensors), timed) > longest_s


def _may_fall_back(timed: TimedCall) -> bool:
    """Whether it may be: of half precision and integers alone, where the speed can be known."""
    dtype, measured, cell = timed.bound.dtype, timed.measured, timed.cell
    if "contended" in measured.flags:
        return False
    if dtype in (torch.float32, torch.float64, torch.bool) or dtype.is_complex:
        return False
    # compiling once more takes seconds
    if measured.median_s > cell.limit.time_s / 2 or cell.is_compiled:
        return False
    return measured.min_s >= SHORTEST_FALLBACK_S


def _float32_s(timed: TimedCall, float32_times: Float32Times) -> float | None:
    """The shortest time of the same call in float32; None where the operation has none."""
    cell = timed.cell
    options = [getattr(cell, name) for name in BENCHMARK_ONLY]
    key = (repr(cell.operation), cell.size, *options, torch.get_num_threads())
    if key not in float32_times:
        bound = replace(timed.bound, dtype=torch.float32)
        try:
            inputs = _in_float32(timed)
            call = timed.make_call(bound, inputs)
            held = {storage_of(tensor) for tensor in inputs}
            works = any(storage_of(t) not in held for t in outputs_of(call()))  # or it is a view
            float32_times[key] = _shortest(call, timed) if works else None
        except (RuntimeError, TypeError, NotImplementedError):
            float32_times[key] = None
    return float32_times[key]


def _in_float32(timed: TimedCall) -> list[torch.Tensor]:
    inputs = []
    for tensor, name in zip(timed.tensors, timed.bound.names, strict=True):
        is_own = tensor.dtype is timed.bound.dtype and name not in timed.bound.op.index_inputs
        single = tensor.detach().to(torch.float32) if is_own else tensor.detach()
        inputs.append(single.requires_grad_() if tensor.requires_grad else single)
    return inputs


def _shortest(call: Thunk, timed: TimedCall) -> float:
    """The shortest time of a warm call in a few blocks; of the first one where it takes long."""
    clock, calls = timed.clock, timed.measured.calls_per_sample
    shortest = clock.time(call, 1).wall_s
    if shortest > AFFORDABLE * timed.cell.limit.time_s:
        return shortest
    end = clock.now() + FLOAT32_BUDGET_S
    for _ in range(FLOAT32_TRIALS):
        shortest = min(shortest, clock.time(call, calls).wall_s / calls)
        if clock.now() >= end:
            break
    return shortest
