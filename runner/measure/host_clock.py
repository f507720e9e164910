"""A clock is what times calls; the host's knows where the scheduler interfered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from runner.measure.scheduler import involuntary_switches, waiting_time

Call = Callable[[], Any]


@dataclass(frozen=True)
class Block:
    """What a clock saw of some calls in a row.

    Attributes:
        wall_s: seconds from the first call's start to the last one's end on the device.
        cpu_s: CPU seconds of the calling thread, or None.
        preemptions: involuntary context switches of the process, or None.
        waiting_s: seconds that the process's threads were ready and had no core, or None.
        place: number of the place in memory, where the calls are timed at several.
    """

    wall_s: float
    cpu_s: float | None = None
    preemptions: int | None = None
    waiting_s: float | None = None
    place: int | None = None


class Clock(Protocol):
    """Times calls on a device, in seconds."""

    def now(self) -> float:
        """Seconds since some moment, for budgets."""

    def time(self, call: Call, calls: int) -> Block:
        """Run ``call`` that many times and wait for the last one to end."""


class HostClock:
    """The CPU's clock, which knows where the platform can tell that the scheduler interfered."""

    def __init__(self, *, single_threaded: bool) -> None:
        # CPU time tells of a pause only where one thread does all the work: otherwise it may wait for the others.
        self._thread_time = time.thread_time if single_threaded else None
        self._switches = involuntary_switches()
        self._waiting = waiting_time()

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(self, call: Call, calls: int) -> Block:
        """Time calls by the wall clock, with what the scheduler did meanwhile."""
        switches, waiting, thread_time = self._switches, self._waiting, self._thread_time
        waited = waiting() if waiting else 0.0
        switched = switches() if switches else 0
        used = thread_time() if thread_time else 0.0
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wall_s = time.perf_counter() - start
        return Block(
            wall_s,
            thread_time() - used if thread_time else None,
            switches() - switched if switches else None,
            waiting() - waited if waiting else None,
        )
