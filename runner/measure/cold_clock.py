"""The CPU's caches: how large they are, and a clock that finds them cold at every call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.calls import Thunk
from runner.measure.host_clock import Block, Clock

SYSFS = Path("/sys/devices/system/cpu")
UNKNOWN_BYTES = 64 * 1024**2  # on macOS, Windows and in some containers; most have less
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


def last_level_cache_bytes(sysfs: Path = SYSFS) -> int:
    """Bytes of the last-level caches of this process's cores, each shared one counted once."""
    all_cores = range(os.cpu_count() or 1)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else all_cores
    caches: dict[str, int] = {}
    for core in cores:
        levels = [_cache(index) for index in sorted(sysfs.glob(f"cpu{core}/cache/index*"))]
        readable = [cache for cache in levels if cache is not None]
        if readable:
            _, shared_by, size = max(readable)
            caches[shared_by] = size
    return sum(caches.values()) or UNKNOWN_BYTES


def _cache(index: Path) -> tuple[int, str, int] | None:
    """Level, who shares it, and bytes."""
    try:
        names = ("level", "shared_cpu_list", "size")
        level, shared_by, size = ((index / name).read_text().strip() for name in names)
        return int(level), shared_by, int(size.rstrip("KMG")) * UNITS.get(size[-1], 1)
    except (OSError, ValueError, IndexError):
        return None


class ColdClock:
    """Times each call of a block alone, after ``flush``, which is not in the times.

    A call that has a ``restore`` has its inputs put back before. With a cold cache everything is
    cold: the inputs, the output's memory and the code. Each call's time holds one reading of the
    clock, some 0.1 us on a CPU, which is left in: how long it takes when cold cannot be told.
    """

    most_calls = 1  # in a block: flushing takes longer than most calls

    def __init__(self, clock: Clock, flush: Callable[[], None]) -> None:
        self._clock, self._flush = clock, flush

    def now(self) -> float:
        """Seconds since some moment, flushing included: budgets are of the time that passes."""
        return self._clock.now()

    def time(
        self, call: Thunk, calls: int, untimed: int = 0, before: Thunk = lambda: None
    ) -> Block:
        """Flush and time, one call after the other; an untimed one would be of no use."""

        def make_cold() -> None:
            before()
            getattr(call, "restore", lambda: None)()
            self._flush()

        blocks = [self._clock.time(call, 1, before=make_cold) for _ in range(calls)]
        return Block(
            sum(block.wall_s for block in blocks),
            _sum([block.cpu_s for block in blocks]),
            _sum([block.preemptions for block in blocks]),
            _sum([block.waiting_s for block in blocks]),
        )


def _sum(values: list[Any]) -> Any:
    """The sum, or None where a clock does not tell."""
    return None if None in values else sum(values)
