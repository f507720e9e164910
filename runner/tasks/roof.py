"""``job=roof``: the most FLOP and bytes a second that a device reaches here, by measuring and not from a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation
from runner.cells.cell import Cell
from runner.measure.cold_clock import last_level_cache_bytes
from runner.measure.device import Device
from runner.measure.engine import Measurement, measure
from runner.measure.host_memory import free_memory_bytes
from runner.measure.peaks import Peak, Peaks, identity_of, save_peaks
from runner.rows.rows import PeaksRow, identified
from runner.tasks.task import Function, ReportStep, TaskResult
from runner.tasks.worker_state import WorkerState

SMALLEST = (
    256  # the edge of the smallest product: below it, a call's overhead is what would be measured
)
# of a tensor that a cache holds, and long enough for its kernel to count and not the call
ELEMENTS = 2**16
PATIENCE = 4  # times timing.max_time_s: a product that would take longer than this is left out
# times the last-level cache: what a tensor has to hold so that next to nothing of it is found there
CACHES = 4
ACCELERATOR_BYTES = 256 * 1024**2  # of a tensor there: several times any cache of today
MEMORY_SHARE = 1 / 8  # of the free memory that one of three tensors may take


def run(
    cell: Cell,
    device: Device,
    function: Function | None,
    state: WorkerState,
    report_step: ReportStep,
) -> TaskResult:
    """Measure a device's peaks in one dtype; save them unless something else kept it busy.

    Args:
        cell: its op is matmul; its size is the largest product that is tried.
        device: where.
        function: the operation's callable.
        state: has the bandwidth of devices, which does not depend on the dtype.
        report_step: is called with each step as it begins.

    Raises:
        RuntimeError: the device has no product in this dtype.
        OSError: the peaks cannot be saved.
    """
    assert function is not None

    # products are not the fastest arithmetic of every dtype
    compute = _best(
        [*_products(cell, device, function, report_step), _multiply_add(cell, device, report_step)]
    )
    memory = _memory_peak(cell, device, state, report_step)

    # what was measured on a busy machine would make later rows look better than they are
    disturbed = compute.disturbed or memory.disturbed
    saved_to = None
    if not disturbed:
        peaks = Peaks(
            **identity_of(cell, device), flop_per_s=compute.per_s, bytes_per_s=memory.per_s
        )
        saved_to = str(save_peaks(peaks))

    row = replace(
        identified(PeaksRow, cell),
        device_name=device.name,
        threads=torch.get_num_threads(),
        flop_per_s=compute.per_s,
        flop_by=compute.by,
        bytes_per_s=memory.per_s,
        bytes_by=memory.by,
        saved_to=saved_to,
        flags=("contended",) if disturbed else (),
    )
    return TaskResult([row])


def _products(
    cell: Cell, device: Device, function: Function, report_step: ReportStep
) -> Iterator[Peak]:
    """Square products of ever larger size, up to the one asked for or to what would take too long."""
    edge, last_flop, last_s = SMALLEST, 0, 0.0
    while True:
        dimensions = cell.operation.bind(cell.requested_size.at_most(edge, edge))
        flop = cell.operation.work(cell.operation.flop, dimensions)
        assert flop is not None
        if last_flop and last_s * flop / last_flop > PATIENCE * cell.timing.max_time_s:
            return
        bound = BoundOperation(
            cell.operation, function, dimensions, getattr(torch, cell.dtype), cell.seed
        )
        size = cell.operation.size_text(dimensions)
        report_step(f"multiplying {size}")
        measured = _measured(
            bound.call_with([t.to(device.torch) for t in bound.draw()]), cell, device
        )
        yield _peak(flop, size, measured)
        if dimensions == cell.dimensions:
            return
        edge, last_flop, last_s = 2 * edge, flop, measured.median_s


def _multiply_add(cell: Cell, device: Device, report_step: ReportStep) -> Peak:
    """Elementwise, in place, from a cache: the better one for a dtype whose products have no fast kernel."""
    report_step("multiplying and adding elements")
    a, b, c = (
        torch.ones(ELEMENTS, dtype=getattr(torch, cell.dtype), device=device.torch)
        for _ in range(3)
    )
    measured = _measured(partial(torch.addcmul, a, b, c, out=a), cell, device)
    return _peak(2 * ELEMENTS, f"addcmul of {ELEMENTS} elements", measured)


def _memory_peak(cell: Cell, device: Device, state: WorkerState, report_step: ReportStep) -> Peak:
    """The best of the kernels of STREAM (McCalpin, 1995) and of reading alone, once for a device and its threads.

    The bytes are those that a kernel reads and writes, as STREAM counts them: a cache that reads a
    line before it writes it moves more.
    """
    key = (
        str(device.torch),
        torch.get_num_threads(),
        cell.timing.max_time_s,
        cell.timing.precision,
    )
    if key not in state.memory_peaks:
        state.memory_peaks[key] = _best(_kernels(cell, device, report_step))
    return state.memory_peaks[key]


def _kernels(cell: Cell, device: Device, report_step: ReportStep) -> Iterator[Peak]:
    size = _tensor_bytes(device)
    a, b, c = (torch.ones(size // 4, dtype=torch.float32, device=device.torch) for _ in range(3))
    kernels: dict[str, tuple[int, Thunk]] = {
        "copy": (2, partial(a.copy_, b)),
        "add": (3, partial(torch.add, b, c, out=a)),
        "triad": (3, partial(torch.add, b, c, alpha=3.0, out=a)),
        "sum": (1, partial(torch.sum, b)),
    }
    for name, (tensors, call) in kernels.items():
        report_step(f"moving memory: {name}")
        measured = _measured(call, cell, device)
        yield _peak(tensors * a.nbytes, f"{name} of {size}-byte tensors", measured)


def _tensor_bytes(device: Device) -> int:
    """Bytes of a tensor that no cache holds, a multiple of 4."""
    size = CACHES * last_level_cache_bytes() if device.is_cpu else ACCELERATOR_BYTES
    free = free_memory_bytes()
    if free is not None:
        size = min(size, int(free * MEMORY_SHARE))
    return size // 4 * 4


def _measured(call: Thunk, cell: Cell, device: Device) -> Measurement:
    return measure(call, device.clock(torch.get_num_threads()), cell.timing)


def _peak(work: int, by: str, measured: Measurement) -> Peak:
    return Peak(work / measured.min_s, by, "contended" in measured.flags)


def _best(peaks: Iterable[Peak]) -> Peak:
    return max(peaks, key=lambda peak: peak.per_s)
