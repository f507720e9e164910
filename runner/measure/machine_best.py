"""What the sentinels took when this machine was at its best, kept for later runs.

A line for each run is in ``machine_best.csv`` in the folder for caches: by machine, device, threads
and version of PyTorch, with the number of seconds that it looked. Old lines count less and less, so
that a machine which has become slower is believed after some weeks.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter, truediv

import torch

from runner.measure.cache_table import CacheTable
from runner.measure.sentinel import CALM, RELEARN_AFTER_S

HALF_LIFE_S = 7 * 24 * 3600.0
LOW = 0.25  # quantile of the runs' bests that counts: the luckiest of them is not it
MOST_LINES = 200  # in the file, the newest
KERNELS = ("sum_s", "add_s", "product_s")  # the columns that tell of them, in the sentinels' order


@dataclass(frozen=True)
class Best:
    """A line of the file: what one run saw."""

    host: str
    device_name: str  # as in results
    threads: int  # 0 on an accelerator
    torch: str  # its version
    at_s: float  # seconds since 1970
    seconds: int  # that it looked
    sum_s: float
    add_s: float
    product_s: float

    @property
    def of(self) -> tuple[object, ...]:
        """What it holds for."""
        return self.host, self.device_name, self.threads, self.torch


def known_best(device_name: str, threads: int) -> tuple[float, ...] | None:
    """Seconds of each kernel when this machine is at its best; None: no run has told.

    Where the latest runs, which have looked long enough together, all never came near what the runs
    before them saw, these count no more (:func:`is_of_latest`).
    """
    latest, before = _latest_and_before(device_name, threads)
    if not latest:
        return None
    return _best_of(latest if _are_all_slower(latest, before) else latest + before)


def is_of_latest(device_name: str, threads: int) -> bool:
    """Whether the known best is that of the latest runs alone, which never came near an older."""
    return _are_all_slower(*_latest_and_before(device_name, threads))


def _latest_and_before(device_name: str, threads: int) -> tuple[list[Best], list[Best]]:
    """The runs, newest first: those that have looked long enough together, and the others."""
    of = (platform.node(), device_name, threads, str(torch.__version__))
    lines = [line for line in KEPT.read() if line.of == of]
    lines.sort(key=attrgetter("at_s"), reverse=True)
    looked_s = accumulate(line.seconds for line in lines)
    count = 1 + sum(seconds < RELEARN_AFTER_S for seconds in looked_s)
    return lines[:count], lines[count:]


def _are_all_slower(latest: Sequence[Best], before: Sequence[Best]) -> bool:
    if not before:
        return False
    old = _best_of(before)
    return all(max(map(truediv, _kernels_of(line), old)) > CALM for line in latest)


def _kernels_of(line: Best) -> tuple[float, ...]:
    return tuple(getattr(line, name) for name in KERNELS)


def _best_of(lines: Sequence[Best]) -> tuple[float, ...]:
    now = time.time()
    weights = [line.seconds * 0.5 ** (max(0.0, now - line.at_s) / HALF_LIFE_S) for line in lines]
    return tuple(_low(times, weights) for times in zip(*map(_kernels_of, lines), strict=True))


def remember(
    device_name: str,
    threads: int,
    began_s: float,
    seconds: int,
    best: Sequence[float],
    *,
    relearned: bool = False,
) -> None:
    """Keep what this process saw since it began, in place of what it said before.

    Where the best was learned again (``relearned``), what earlier runs saw counts no more.
    """
    of = (platform.node(), device_name, threads, str(torch.__version__))
    line = Best(*of, began_s, seconds, *best)

    def counting(others: list[Best]) -> list[Best]:
        kept = [
            other for other in others if not relearned or other.of != of or other.at_s > began_s
        ]
        return sorted(kept, key=attrgetter("at_s"))[1 - MOST_LINES :]

    with suppress(OSError):  # the next run has to learn it again
        KEPT.put(line, patience_s=1, keep=counting, durable=False)


def _can_be(line: Best) -> bool:
    return all(0 < seconds < 1e9 for seconds in _kernels_of(line))


KEPT = CacheTable("machine_best.csv", Best, _can_be, attrgetter("at_s", "of"))


def _low(values: Sequence[float], weights: Sequence[float]) -> float:
    """The values' low quantile, each with its weight."""
    ordered = sorted(zip(values, weights, strict=True))
    total = sum(weights)
    reached = accumulate(weight for _, weight in ordered)
    position = sum(weight_so_far < LOW * total for weight_so_far in reached)
    return ordered[position][0]
