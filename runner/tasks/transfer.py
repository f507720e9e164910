"""``job=transfer``: bytes moved between host and device, a row for each way and kind of memory."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from runner.cells.cell import Cell
from runner.errors import one_line
from runner.measure.device import Device
from runner.measure.engine import measure
from runner.measure.host_clock import HostClock
from runner.measure.host_memory import free_memory_bytes
from runner.rows.rows import TransferRow
from runner.stats.line_fit import FEWEST_POINTS, fit_line
from runner.tasks.task import Function, Task, TaskResult

SMALLEST_BYTES = 1_024
STEP = 4  # from one size to the next: 11 sizes from 1 KB to 1 GB
# whether to the device, and which memory of the host's
WAYS = [(True, "pageable"), (False, "pageable"), (True, "pinned"), (False, "pinned")]
SHARE_OF_LIMIT = 0.5  # of limit.time_s, for the timed copies; the rest is for making buffers
SHARE_OF_MEMORY = 0.25  # of the host's free memory, for a buffer


class PinnedMemory(Exception):
    """The system does not pin so much of the host's memory."""


class TransferSample(NamedTuple):
    """The time of copies of one size: the median's seconds, and the ends of its interval."""

    size: int
    median_s: float
    low_s: float | None
    high_s: float | None


def run(task: Task) -> TaskResult:
    """Time copies of growing size each way, and fit ``time = latency + bytes / bandwidth``.

    The cell's one dimension is the largest size in bytes; its device is an accelerator; its
    function copies one tensor into another, ``to.copy_(source)``.
    """
    sizes = _sizes(task.cell)
    rows: list[TransferRow] = []
    for to_device, memory in WAYS:
        to = "to the device" if to_device else "to the host"
        task.report_step(f"copying {to}, {memory} memory")
        row = replace(task.blank(TransferRow), to_device=to_device, memory=memory)
        # a device without pinned memory has the other two ways all the same
        try:
            samples = _samples(task, sizes, to_device=to_device, pinned=memory == "pinned")
            rows.append(_fitted(row, samples))
        except (NotImplementedError, PinnedMemory) as error:
            rows.append(replace(row, status="unsupported", reason=one_line(error)))
    return TaskResult(rows)


def _sizes(cell: Cell) -> list[int]:
    """Bytes of the copies, up to the size asked for or to what fits into memory."""
    assert cell.dimensions is not None
    (largest,) = cell.dimensions.lengths.values()
    free = cell.limit.memory_bytes or free_memory_bytes()
    if free is not None:
        largest = min(largest, int(SHARE_OF_MEMORY * free))
    sizes = [SMALLEST_BYTES]
    while sizes[-1] * STEP <= largest:
        sizes.append(sizes[-1] * STEP)
    return sizes


def _samples(
    task: Task, sizes: list[int], *, to_device: bool, pinned: bool
) -> list[TransferSample]:
    """The time of a copy by its size, up to the first that does not fit or takes too long."""
    cell, device, function = task.cell, task.device, task.function
    assert function is not None
    seconds = SHARE_OF_LIMIT * cell.limit.time_s / len(WAYS) / len(sizes)
    timing = replace(cell.timing, max_time_s=min(seconds, cell.timing.max_time_s))
    clock = HostClock(single_threaded=False)
    samples: list[TransferSample] = []
    for size in sizes:
        try:
            on_host, on_device = _buffers(size, device, pinned=pinned)
        except torch.OutOfMemoryError:
            break
        except PinnedMemory:  # its limit; a line through the smaller ones is an answer too
            if not samples:
                raise
            break
        to, source = (on_device, on_host) if to_device else (on_host, on_device)
        device.synchronize()
        measured = measure(partial(_copy, function, to, source, device), clock, timing)
        interval = measured.interval or (None, None)
        samples.append(TransferSample(size, measured.median_s, *interval))
        if measured.median_s > timing.max_time_s:
            break
    return samples


def _buffers(size: int, device: Device, *, pinned: bool) -> tuple[torch.Tensor, torch.Tensor]:
    on_host = torch.zeros(size, dtype=torch.uint8)  # written to, so that its pages are there
    if pinned:
        try:
            on_host = on_host.pin_memory()
        except NotImplementedError:
            raise
        except RuntimeError as error:
            raise PinnedMemory(f"{size} bytes cannot be pinned: {one_line(error)}") from error
    return on_host, torch.zeros(size, dtype=torch.uint8, device=device.torch)


def _copy(function: Function, to: torch.Tensor, source: torch.Tensor, device: Device) -> None:
    function(to, source, non_blocking=True)
    device.synchronize()


def _fitted(row: TransferRow, samples: list[TransferSample]) -> TransferRow:
    sizes = [sample.size for sample in samples]
    line = fit_line([float(size) for size in sizes], [sample.median_s for sample in samples])
    row = replace(row, sizes=len(sizes), points=json.dumps(samples))
    if sizes:
        row = replace(row, smallest_bytes=min(sizes), largest_bytes=max(sizes))

    # two points make a line without a remainder, which would say nothing of its interval
    if line is None:
        few = f"{len(sizes)} sizes fit into the memory and the time, and a line takes"
        reason = f"{few} {FEWEST_POINTS}; raise limit.time_s or limit.memory_bytes"
        return replace(row, status="unsupported", reason=reason)

    # the bandwidth is the slope's inverse, and so are its interval's ends, the other way round
    low, high = line.slope_interval
    return replace(
        row,
        latency_s=line.at_zero,
        latency_low_s=line.at_zero_interval[0],
        latency_high_s=line.at_zero_interval[1],
        bandwidth_bytes_per_s=1 / line.slope if line.slope > 0 else None,
        bandwidth_low_bytes_per_s=1 / high if high > 0 else None,
        bandwidth_high_bytes_per_s=1 / low if low > 0 else None,
        max_relative_residual=line.max_relative_residual,
    )
