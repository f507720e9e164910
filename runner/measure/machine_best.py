"""What the sentinels took when this machine was at its best, kept for later runs.

A line for each run is in ``calm.csv`` in the folder for caches: by machine, device, threads and
version of PyTorch, with the number of seconds that it looked. Old lines count less and less, so
that a machine which has become slower is believed after some weeks.
"""

from __future__ import annotations

import csv
import platform
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from runner.files import bounded_lines, is_own, write_atomically
from runner.measure.peaks import peaks_file
from runner.rows.csv_store import csv_text

HALF_LIFE_S = 7 * 24 * 3600.0
LOW = 0.25  # quantile of the runs' bests that counts: the luckiest of them is not it
MOST_LINES = 200  # in the file, the newest
KERNELS = ("product_s", "sum_s", "add_s")


@dataclass(frozen=True)
class Best:
    """A line of the file: what one run saw."""

    host: str
    device_name: str  # as in results
    threads: int  # 0 on an accelerator
    torch: str  # its version
    at_s: float  # seconds since 1970
    seconds: int  # that it looked
    product_s: float
    sum_s: float
    add_s: float

    @property
    def of(self) -> tuple[object, ...]:
        """What it holds for."""
        return self.host, self.device_name, self.threads, self.torch


def best_file() -> Path:
    """Where they are kept."""
    return peaks_file().with_name("calm.csv")


def known_best(device_name: str, threads: int) -> tuple[float, ...] | None:
    """Seconds of each kernel when this machine is at its best; None: no run has told."""
    of = (platform.node(), device_name, threads, str(torch.__version__))
    lines = [line for line in _lines() if line.of == of]
    if not lines:
        return None
    now = time.time()
    weights = [line.seconds * 0.5 ** (max(0.0, now - line.at_s) / HALF_LIFE_S) for line in lines]
    return tuple(_low([getattr(line, name) for line in lines], weights) for name in KERNELS)


def remember(
    device_name: str, threads: int, began_s: float, seconds: int, best: Sequence[float]
) -> None:
    """Keep what this process saw since it began, in place of what it said before."""
    of = (platform.node(), device_name, threads, str(torch.__version__))
    line = Best(*of, began_s, seconds, *best)
    path = best_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=1):
            others = [saved for saved in _lines() if (saved.of, saved.at_s) != (of, began_s)]
            kept = sorted([*others, line], key=lambda line: line.at_s)[-MOST_LINES:]
            header = [f.name for f in fields(Best)]
            write_atomically(path, csv_text([header, *map(astuple, kept)]), durable=False)
    except (OSError, Timeout):  # the next run has to learn it again
        return


def _lines() -> list[Best]:
    """All that are kept; a file that is not there, or is damaged, holds none."""
    parse: dict[str, Any] = {"host": str, "device_name": str, "torch": str}
    parse |= {"threads": int, "seconds": int}
    names = [f.name for f in fields(Best)]
    path = best_file()
    try:
        if not is_own(path):
            return []
        with path.open(newline="", encoding="utf-8") as file:
            lines = [_best(line, names, parse) for line in csv.DictReader(bounded_lines(file))]
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return []
    times = [(line, (line.product_s, line.sum_s, line.add_s)) for line in lines]
    return [line for line, of_line in times if all(0 < seconds < 1e9 for seconds in of_line)]


def _best(line: dict[str, str], names: Sequence[str], parse: dict[str, Any]) -> Best:
    return Best(*(parse.get(name, float)(line[name]) for name in names))


def _low(values: Sequence[float], weights: Sequence[float]) -> float:
    """The values' low quantile, each with its weight."""
    ordered = sorted(zip(values, weights, strict=True))
    total = sum(weights)
    reached = accumulate(weight for _, weight in ordered)
    position = sum(weight_so_far < LOW * total for weight_so_far in reached)
    return ordered[position][0]
