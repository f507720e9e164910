"""The most that this machine was measured to reach, saved by ``+sweep=roof`` for later runs.

Peaks are in one file a user, ``roofs.csv`` in the folder for caches, a line for each machine,
device, dtype, number of threads, version of PyTorch and precision of products; measuring again
replaces the line.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from runner.cells.cell import Cell
from runner.measure.cache_table import CacheTable
from runner.measure.device import Device
from runner.measure.precision import allowed_products

HIGHEST_PER_S = 1e21  # of a single device, by far
IMPOSSIBLE = 1.2  # of a peak of FLOP, which was the best of many products in some calm moment
KEY = ("host", "device_name", "dtype", "threads", "torch", "products")


@dataclass(frozen=True)
class Peak:
    """The best of several measurements."""

    per_s: float  # FLOP or bytes a second, by the shortest sample: what it was seen to reach
    by: str  # what reached it: a size, or a kernel
    disturbed: bool  # whether something else kept the machine busy meanwhile


@dataclass(frozen=True)
class Peaks:
    """A line of the file."""

    host: str  # the machine's name
    device_name: str  # as in results
    dtype: str
    threads: int  # PyTorch's intra-op ones; 0 on an accelerator, whose speed does not depend on it
    torch: str  # its version
    products: str  # what float32 products may be rounded to, or full
    flop_per_s: float  # of the best of several matrix products and an elementwise one
    bytes_per_s: float  # of the best of several kernels on tensors that no cache holds

    def fraction(
        self, flop: int | None, moved: int | None, seconds: float
    ) -> tuple[float, str] | None:
        """How near a call comes to the peak that bounds it, and which that is, compute or memory.

        It is the least time there over the call's time; None where no bytes are ``moved``. The peak
        is the one at which the call's work takes longer (Williams, Waterman and Patterson,
        "Roofline", 2009). Above 1 the data came from a cache, which is faster than the memory that
        was measured. FLOP that are not known are taken for none.
        """
        if not moved or seconds <= 0:
            return None
        compute_s, memory_s = (flop or 0) / self.flop_per_s, moved / self.bytes_per_s
        bound = "compute" if compute_s > memory_s else "memory"
        return max(compute_s, memory_s) / seconds, bound


def above_peak(fraction: float | None, bound: str | None) -> bool:
    """Whether a call computes faster than this machine's best matrix product, which cannot be.

    A rate of bytes may be above its peak: the data came from a cache.
    """
    return bound == "compute" and fraction is not None and fraction > IMPOSSIBLE


def identity_of(cell: Cell, device: Device) -> dict[str, Any]:
    """What of a cell and its device peaks hold for, by the names of :data:`KEY`."""
    return {
        "host": platform.node(),
        "device_name": device.name,
        "dtype": cell.dtype,
        "threads": torch.get_num_threads() if device.is_cpu else 0,
        "torch": str(torch.__version__),
        "products": allowed_products(device.torch) or "full",
    }


def find_peaks(cell: Cell, device: Device) -> Peaks | None:
    """The peaks that hold for a cell, where they were measured."""
    identity = identity_of(cell, device)
    wanted = tuple(identity[key] for key in KEY)
    return next((peaks for peaks in SAVED.read() if _key(peaks) == wanted), None)


def save_peaks(peaks: Peaks) -> Path:
    """Add peaks, in place of those measured before; returns the file.

    Raises:
        OSError: it cannot be written.
    """
    return SAVED.put(peaks, patience_s=10)


def _can_be(peaks: Peaks) -> bool:
    return all(1e-9 <= peak <= HIGHEST_PER_S for peak in (peaks.flop_per_s, peaks.bytes_per_s))


_key = attrgetter(*KEY)
SAVED = CacheTable("roofs.csv", Peaks, _can_be, _key)
