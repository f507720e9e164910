"""``job=transfer``: bytes moved between the host and a device, a row for each way and kind of host memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from runner.cells.cell import Cell
from runner.errors import one_line
from runner.measure.device import Device
from runner.measure.engine import measure
from runner.measure.host_clock import HostClock
from runner.measure.host_memory import free_memory_bytes
from runner.rows.rows import Sample, TransferRow, identified
from runner.stats.line_fit import FEWEST_POINTS, fit_line

SMALLEST_BYTES = 1_024
STEP = 4  # from one size to the next: 11 sizes from 1 KB to 1 GB
WAYS = [(to_device, memory) for memory in ("pageable", "pinned") for to_device in (True, False)]
SHARE_OF_LIMIT = 0.5  # of limit.time_s, for the copies that are timed; the rest is for making buffers
SHARE_OF_MEMORY = 0.25  # of the host's free memory, for a buffer
TransferSample = tuple[int, float, float | None, float | None]  # bytes, the median's seconds and its interval's ends


def run(
    cell: Cell, device: Device, function: Callable[..., Any], report_step: Callable[[str], None]
) -> tuple[list[TransferRow], list[Sample]]:
    """Time copies of growing size each way and fit ``time = latency + bytes / bandwidth`` to their medians.

    A size that would take too long, or does not fit into memory, and all larger ones are left out.

    Args:
        cell: its one dimension is the largest size in bytes.
        device: an accelerator.
        function: copies one tensor into another, ``to.copy_(source)``.
        report_step: is told each step as it begins.
    """
    assert cell.dimensions is not None
    (largest,) = cell.dimensions.lengths.values()
    free = cell.limit.memory_bytes or free_memory_bytes()
    if free is not None:
        largest = min(largest, int(SHARE_OF_MEMORY * free))
    rows: list[TransferRow] = []
    for to_device, memory in WAYS:
        report_step(f"copying {'to the device' if to_device else 'to the host'}, {memory} memory")
        row = replace(
            identified(TransferRow, cell),
            device_name=device.name,
            threads=torch.get_num_threads(),
            to_device=to_device,
            memory=memory,
        )
        try:
            row = _fitted(
                row, _transfer_samples(cell, device, function, largest, to_device=to_device, pinned=memory == "pinned")
            )
        except NotImplementedError as error:
            row = replace(row, status="unsupported", reason=one_line(error))
        rows.append(row)
    return rows, []


def _transfer_samples(
    cell: Cell, device: Device, function: Callable[..., Any], largest: int, *, to_device: bool, pinned: bool
) -> list[TransferSample]:
    """The time of a copy by its size."""
    sizes = [SMALLEST_BYTES]
    while sizes[-1] * STEP <= largest:
        sizes.append(sizes[-1] * STEP)
    seconds = SHARE_OF_LIMIT * cell.limit.time_s / len(WAYS) / len(sizes)
    timing = replace(cell.timing, max_time_s=min(seconds, cell.timing.max_time_s))
    points: list[TransferSample] = []
    for size in sizes:
        try:
            host = torch.zeros(size, dtype=torch.uint8)  # written to, so that its pages are there
            host = host.pin_memory() if pinned else host
            there = torch.zeros(size, dtype=torch.uint8, device=device.torch)
        except torch.OutOfMemoryError:
            break
        to, source = (there, host) if to_device else (host, there)
        device.synchronize()

        def call(to: torch.Tensor = to, source: torch.Tensor = source) -> None:
            function(to, source, non_blocking=True)
            device.synchronize()

        measured = measure(call, HostClock(single_threaded=False), timing)
        points.append((size, measured.median_s, *(measured.interval or (None, None))))
        if measured.median_s > timing.max_time_s:
            break
    return points


def _fitted(row: TransferRow, points: list[TransferSample]) -> TransferRow:
    sizes = [point[0] for point in points]
    line = fit_line([float(size) for size in sizes], [point[1] for point in points])
    row = replace(row, sizes=len(sizes), points=json.dumps(points))
    if sizes:
        row = replace(row, smallest_bytes=min(sizes), largest_bytes=max(sizes))
    if line is None:
        reason = f"{len(sizes)} sizes fit into the memory and the time, and a line takes {FEWEST_POINTS}"
        return replace(row, status="unsupported", reason=f"{reason}; raise limit.time_s or limit.memory_bytes")
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
