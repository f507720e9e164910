"""What the sentinels took when this machine was at its best, kept for later runs.

A line for each run is in ``machine_best.csv``, and in ``memory_best.csv``, in the folder for
caches: by machine, device, threads and version of PyTorch, with the number of seconds that it
looked. Old lines count less and less, so that a machine which has become slower is believed after
some weeks.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import accumulate
from operator import attrgetter, truediv
from typing import Any

import torch

from runner.measure.cache_table import CacheTable
from runner.measure.kernels import OF_MACHINE, OF_MEMORY, Kernels
from runner.measure.sentinel import CALM, RELEARN_AFTER_S

HALF_LIFE_S = 7 * 24 * 3600.0
MOST_LINES = 200  # in the file, the newest


@dataclass(frozen=True)
class Best:
    """A line of a file: what one run saw; further columns are of the kernels, in their order."""

    host: str
    device_name: str  # as in results
    threads: int  # 0 on an accelerator
    torch: str  # its version
    at_s: float  # seconds since 1970
    seconds: int  # that it looked

    @property
    def of(self) -> tuple[object, ...]:
        """What it holds for."""
        return self.host, self.device_name, self.threads, self.torch

    @property
    def kernels(self) -> dict[str, float]:
        """Seconds of a call of each kernel, by column."""
        names = (column.name for column in fields(self)[len(fields(Best)) :])
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class BestOfMachine(Best):
    """That of the kernels that are read between blocks."""

    sum_s: float
    add_s: float
    product_s: float


@dataclass(frozen=True)
class BestOfMemory(Best):
    """That of the kernel which is read around rows that are bound by memory."""

    addition_s: float


def known_best(
    device_name: str, threads: int, kernels: Kernels = OF_MACHINE
) -> tuple[float, ...] | None:
    """Seconds of each kernel when this machine is at its best; None: no run has told.

    Where the latest runs, which have looked long enough together, all never came near what the runs
    before them saw, these count no more (:func:`is_of_latest`).
    """
    latest, before = _latest_and_before(device_name, threads, kernels)
    if not latest:
        return None
    is_given_up = _are_all_slower(latest, before, kernels.low)
    return _best_of(latest if is_given_up else latest + before, kernels.low)


def is_of_latest(device_name: str, threads: int, kernels: Kernels = OF_MACHINE) -> bool:
    """Whether the known best is that of the latest runs alone, which never came near an older."""
    return _are_all_slower(*_latest_and_before(device_name, threads, kernels), kernels.low)


def _latest_and_before(
    device_name: str, threads: int, kernels: Kernels
) -> tuple[list[Best], list[Best]]:
    """The runs, newest first: those that have looked long enough together, and the others."""
    of = (platform.node(), device_name, threads, str(torch.__version__))
    lines = [line for line in KEPT[kernels].read() if line.of == of]
    lines.sort(key=attrgetter("at_s"), reverse=True)
    looked_s = accumulate(line.seconds for line in lines)
    count = 1 + sum(seconds < RELEARN_AFTER_S for seconds in looked_s)
    return lines[:count], lines[count:]


def _are_all_slower(latest: Sequence[Best], before: Sequence[Best], low: float) -> bool:
    if not before:
        return False
    old = _best_of(before, low)
    return all(max(map(truediv, _kernels_of(line), old)) > CALM for line in latest)


def _kernels_of(line: Best) -> tuple[float, ...]:
    return tuple(line.kernels.values())


def _best_of(lines: Sequence[Best], low: float) -> tuple[float, ...]:
    now = time.time()
    weights = [line.seconds * 0.5 ** (max(0.0, now - line.at_s) / HALF_LIFE_S) for line in lines]
    return tuple(_low(times, weights, low) for times in zip(*map(_kernels_of, lines), strict=True))


def remember(
    device_name: str,
    threads: int,
    began_s: float,
    seconds: int,
    best: Sequence[float],
    *,
    relearned: bool = False,
    kernels: Kernels = OF_MACHINE,
) -> None:
    """Keep what this process saw since it began, in place of what it said before.

    Where the best was learned again (``relearned``), what earlier runs saw counts no more.
    """
    of = (platform.node(), device_name, threads, str(torch.__version__))
    line = RECORDS[kernels](*of, began_s, seconds, *best)

    def counting(others: list[Best]) -> list[Best]:
        kept = [
            other for other in others if not relearned or other.of != of or other.at_s > began_s
        ]
        return sorted(kept, key=attrgetter("at_s"))[1 - MOST_LINES :]

    with suppress(OSError):  # the next run has to learn it again
        KEPT[kernels].put(line, patience_s=1, keep=counting, durable=False)


def _can_be(line: Best) -> bool:
    return all(0 < seconds < 1e9 for seconds in _kernels_of(line))


RECORDS: dict[Kernels, type[Any]] = {OF_MACHINE: BestOfMachine, OF_MEMORY: BestOfMemory}
KEPT: dict[Kernels, CacheTable[Best]] = {
    kernels: CacheTable(f"{kernels.name}_best.csv", record, _can_be, attrgetter("at_s", "of"))
    for kernels, record in RECORDS.items()
}


def _low(values: Sequence[float], weights: Sequence[float], low: float) -> float:
    """The values' low quantile, each with its weight."""
    ordered = sorted(zip(values, weights, strict=True))
    total = sum(weights)
    reached = accumulate(weight for _, weight in ordered)
    position = sum(weight_so_far < low * total for weight_so_far in reached)
    return ordered[position][0]
