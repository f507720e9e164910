"""``job=roof``: the most FLOP and bytes a second that a device reaches here, by measuring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch

from runner.calls import Thunk
from runner.config.size import Size
from runner.measure.device import BEYOND_CACHES_BYTES, Device
from runner.measure.engine import Measurement, measure
from runner.measure.host_memory import free_memory_bytes
from runner.measure.peaks import Peak, Peaks, identity_of, save_peaks
from runner.rows.rows import PeaksRow
from runner.tasks.task import Task, TaskResult

SMALLEST = 256  # the edge of the smallest product: below it, a call's overhead would be measured
ELEMENTS = 2**16  # which a cache holds, and enough for the kernel to count and not the call
LARGEST = 8_192  # the edge of the largest product on an accelerator, which small ones do not fill
STILL_RISING = 1.05  # of the rate, from one product to the next of twice the edge
SLOWED = 2  # times that a busy machine may make a kernel slower
PATIENCE = 4  # times timing.max_time_s: a product that would take longer than this is left out
CACHES = 4  # last-level ones that a tensor would fill: next to nothing of it is found there
MEMORY_SHARE = 1 / 8  # of the free memory that one of three tensors may take


def run(task: Task) -> TaskResult:
    """Measure a device's peaks in one dtype; save them unless something else kept it busy.

    The cell's op is matmul; its size is the largest product that is tried on the CPU.
    """
    # products are not the fastest arithmetic of every dtype
    compute = _best([*_products(task), _multiply_add(task)])
    memory = _memory_peak(task)

    # what was measured on a busy machine would make later rows look better than they are
    disturbed = compute.disturbed or memory.disturbed
    saved_to = None
    if not disturbed:
        identity = identity_of(task.cell, task.device)
        peaks = Peaks(**identity, flop_per_s=compute.per_s, bytes_per_s=memory.per_s)
        saved_to = str(save_peaks(peaks))

    row = replace(
        task.blank(PeaksRow),
        flop_per_s=compute.per_s,
        flop_by=compute.by,
        bytes_per_s=memory.per_s,
        bytes_by=memory.by,
        saved_to=saved_to,
        flags=("contended",) if disturbed else (),
    )
    return TaskResult([row])


def _products(task: Task) -> Iterator[Peak]:
    """Square products of ever larger size, up to the cell's or to what would take too long.

    An accelerator gets larger ones still, as long as these are faster and fit into its memory.
    """
    cell, op, largest = task.cell, task.cell.operation, task.cell.requested_size
    edge, last_flop, last_s, last_per_s = SMALLEST, 0, 0.0, 0.0
    while True:
        dimensions = op.bind(largest.at_most(edge, edge))
        flop = op.work(op.flop, dimensions)
        assert flop is not None
        if last_flop and last_s * flop / last_flop > PATIENCE * cell.timing.max_time_s:
            return
        size = op.size_text(dimensions)
        task.report_step(f"multiplying {size}")
        bound = task.bound(dimensions)
        try:
            tensors = [t.to(task.device.torch) for t in bound.draw()]
            measured = _measured(bound.call_with(tensors), task)
        except torch.OutOfMemoryError:
            if not last_flop:
                raise
            return
        peak = _peak(flop, size, measured)
        yield peak
        if dimensions == op.bind(largest):
            is_faster = peak.per_s > STILL_RISING * last_per_s
            if task.device.is_cpu or largest.square is None or edge >= LARGEST or not is_faster:
                return
            largest = Size(square=2 * edge)
        edge, last_flop, last_s, last_per_s = 2 * edge, flop, measured.median_s, peak.per_s


def _multiply_add(task: Task) -> Peak:
    """Elementwise, in place, from a cache: for a dtype whose products have no fast kernel."""
    task.report_step("multiplying and adding elements")
    ones = partial(torch.ones, ELEMENTS, dtype=task.dtype, device=task.device.torch)
    a, b, c = ones(), ones(), ones()
    measured = _measured(partial(torch.addcmul, a, b, c, out=a), task)
    return _peak(2 * ELEMENTS, f"addcmul of {ELEMENTS} elements", measured)


def _memory_peak(task: Task) -> Peak:
    """The best kernel of STREAM (McCalpin, 1995) or of reading, once for a device and its threads.

    The bytes are those that a kernel reads and writes, as STREAM counts them: a cache that reads a
    line before it writes it moves more.
    """
    device, timing, peaks = task.device.torch, task.cell.timing, task.state.memory_peaks
    key = (str(device), torch.get_num_threads(), timing.max_time_s, timing.precision)
    if key not in peaks:
        peaks[key] = _best(_kernels(task))
    return peaks[key]


def _kernels(task: Task) -> Iterator[Peak]:
    size = _tensor_bytes(task.device)
    ones = partial(torch.ones, size // 4, dtype=torch.float32, device=task.device.torch)
    a, b, c = ones(), ones(), ones()
    kernels: dict[str, tuple[int, Thunk]] = {
        "copy": (2, partial(a.copy_, b)),
        "add": (3, partial(torch.add, b, c, out=a)),
        "triad": (3, partial(torch.add, b, c, alpha=3.0, out=a)),
        "sum": (1, partial(torch.sum, b)),
    }
    for name, (tensors, call) in kernels.items():
        task.report_step(f"moving memory: {name}")
        by = f"{name} of {size}-byte tensors"
        yield _peak(tensors * a.nbytes, by, _measured(call, task))


def _tensor_bytes(device: Device) -> int:
    """Bytes of a tensor that no cache holds, a multiple of 4."""
    size = CACHES * device.cache_bytes
    if not device.is_cpu:
        size = device.share_of(max(size, BEYOND_CACHES_BYTES))
    free = free_memory_bytes()
    if free is not None:
        size = min(size, int(free * MEMORY_SHARE))
    return size // 4 * 4


def _measured(call: Thunk, task: Task) -> Measurement:
    return measure(call, task.device.clock(torch.get_num_threads()), task.cell.timing)


def _peak(work: int, by: str, measured: Measurement) -> Peak:
    return Peak(work / measured.min_s, by, "contended" in measured.flags)


def _best(peaks: Iterable[Peak]) -> Peak:
    """The best one, disturbed also where another was that might have been better undisturbed."""
    found = list(peaks)
    best = max(found, key=lambda peak: peak.per_s)
    near = [peak for peak in found if SLOWED * peak.per_s >= best.per_s]
    return replace(best, disturbed=any(peak.disturbed for peak in near))
