"""The most that this machine was measured to reach, saved by ``+sweep=roof`` for later runs.

Peaks are in one file a user, ``roofs.csv`` in the folder for caches, a line for each machine,
device, dtype, number of threads, version of PyTorch and precision of products; measuring again
replaces the line.
"""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from runner.cells.cell import Cell
from runner.files import bounded_lines, is_own, write_atomically
from runner.measure.device import Device
from runner.measure.precision import allowed_products
from runner.rows.csv_store import csv_text

HIGHEST_PER_S = 1e21  # of a single device, by far
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
        """How near a call comes to the peak that bounds it: the least time there, over its time.

        The peak is the one at which the call's work takes longer (Williams, Waterman and Patterson,
        "Roofline", 2009). Above 1 the data came from a cache, which is faster than the memory that
        was measured. FLOP that are not known are taken for none.

        Returns:
            the fraction, and ``compute`` or ``memory``; None where no bytes are ``moved``.
        """
        if not moved or seconds <= 0:
            return None
        compute_s, memory_s = (flop or 0) / self.flop_per_s, moved / self.bytes_per_s
        bound = "compute" if compute_s > memory_s else "memory"
        return max(compute_s, memory_s) / seconds, bound


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


def peaks_file() -> Path:
    """Where they are saved: below ``XDG_CACHE_HOME``, or where the system has its caches."""
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    return Path(base or Path.home() / ".cache") / "opsweep" / "roofs.csv"


def find_peaks(cell: Cell, device: Device) -> Peaks | None:
    """The peaks that hold for a cell, where they were measured."""
    identity = identity_of(cell, device)
    wanted = tuple(identity[key] for key in KEY)
    return next((peaks for peaks in saved_peaks() if _key(peaks) == wanted), None)


def saved_peaks() -> list[Peaks]:
    """All that are saved and can be; a file that is not there, or is another's, holds none."""
    path, saved = peaks_file(), []
    with suppress(OSError, ValueError, TypeError, csv.Error):
        if not is_own(path):
            return []
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(bounded_lines(file)):
                with suppress(ValueError, TypeError, KeyError):
                    saved.append(_peaks(line))
    return saved


def _peaks(line: Mapping[str, str]) -> Peaks:
    """What a line of the file holds; ValueError where no machine can be so."""
    parse: dict[str, Any] = {"threads": int, "flop_per_s": float, "bytes_per_s": float}
    peaks = Peaks(*(parse.get(f.name, str)(line[f.name]) for f in fields(Peaks)))
    if not all(1e-9 <= peak <= HIGHEST_PER_S for peak in (peaks.flop_per_s, peaks.bytes_per_s)):
        raise ValueError(line)
    return peaks


def save_peaks(peaks: Peaks) -> Path:
    """Add peaks, in place of those measured before; returns the file.

    Raises:
        OSError: it cannot be written.
    """
    path = peaks_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=10):
        others = [saved for saved in saved_peaks() if _key(saved) != _key(peaks)]
        lines = map(astuple, sorted([*others, peaks], key=astuple))
        write_atomically(path, csv_text([[f.name for f in fields(Peaks)], *lines]))
    return path


_key = attrgetter(*KEY)
