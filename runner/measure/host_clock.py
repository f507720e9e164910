"""A clock is what times calls; the host's knows where the scheduler interfered.

Linux says how long threads waited for a core and how often they lost one; other POSIX systems the
second; Windows neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from runner.calls import Thunk

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Block:
    """What a clock saw of some calls in a row; None where it does not tell."""

    wall_s: float  # from the first call's start to the last one's end on the device
    cpu_s: float | None = None  # of the calling thread
    preemptions: int | None = None  # involuntary context switches of the process
    waiting_s: float | None = None  # that the process's threads were ready and had no core
    allocation: int | None = None  # its number, where the calls are timed on several
    machine_slowdown: float | None = None  # around it, over the machine's best
    calm: bool = True  # whether that was little, as far as it is known


class Clock(Protocol):
    """Times calls on a device, in seconds."""

    def now(self) -> float:
        """Seconds since some moment, for budgets."""

    def time(
        self, call: Thunk, calls: int, untimed: int = 0, before: Thunk = lambda: None
    ) -> Block:
        """Run ``call`` that many times and wait for the last one to end.

        So many ``untimed`` calls come right before, where what the clock reads slows a call. What
        has to be done ``before`` the first one is not timed; it is done again where the clock has
        to try again.
        """


class HostClock:
    """The CPU's clock, which knows where the platform can tell that the scheduler interfered.

    It does not ask where it is not ``watched``, which disturbs calls of a few microseconds less.
    """

    def __init__(self, *, single_threaded: bool, watched: bool = True) -> None:
        # CPU time tells of a pause only where one thread does all the work: otherwise it may wait
        # for the others.
        self._thread_time = time.thread_time if single_threaded and watched else None
        self._usage = usage_of_process() if watched else None
        self._waiting = waiting_time() if watched else None

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(
        self, call: Thunk, calls: int, untimed: int = 0, before: Thunk = lambda: None
    ) -> Block:
        """Time calls by the wall clock, with what the scheduler did meanwhile."""
        before()
        usage, waiting, thread_time = self._usage, self._waiting, self._thread_time
        waited = waiting() if waiting else 0.0
        switched = usage().ru_nivcsw if usage else 0
        # asking the kernel costs the next calls their caches and their memory: a row of sums of
        # 4 MB took 169, 121, 110 and 106 us
        for _ in range(untimed):
            call()
        used = thread_time() if thread_time else 0.0
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wall_s = time.perf_counter() - start
        return Block(
            wall_s,
            thread_time() - used if thread_time else None,
            usage().ru_nivcsw - switched if usage else None,
            waiting() - waited if waiting else None,
        )


def waiting_time() -> Callable[[], float] | None:
    """A clock of the seconds that this process's threads waited for a core; None: none is kept.

    Linux keeps it for each thread as the second number of ``schedstat``
    (Documentation/scheduler/sched-stats.rst).
    """
    try:
        return _WaitingTime()
    except (OSError, IndexError, ValueError):
        return None


def usage_of_process() -> Callable[[], resource.struct_rusage] | None:
    """Tells what the system counts for this process; None: the platform counts nothing."""
    return None if resource is None else partial(resource.getrusage, resource.RUSAGE_SELF)


class _WaitingTime:
    """Keeps each thread's file open, so that reading it again costs a few microseconds."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._ended_ns = 0  # of threads that are no more
        self._last_ns: dict[str, int] = {}
        self()

    def __call__(self) -> float:
        names = list(self._files)
        # the folder has two links, and one for each thread, where none has begun or ended; of two
        # that did, the file of the one tells so, and the next reading finds the other
        if os.stat(TASKS).st_nlink != len(names) + 2:
            names = os.listdir(TASKS)
            for name in self._files.keys() - set(names):
                self._forget(name)
        for name in names:
            try:
                if name not in self._files:
                    self._files[name] = os.open(TASKS / name / "schedstat", os.O_RDONLY)
                self._last_ns[name] = int(os.pread(self._files[name], 100, 0).split()[1])
            except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
                self._forget(name)
        return (self._ended_ns + sum(self._last_ns.values())) / 1e9

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)

    def _forget(self, name: str) -> None:
        self._ended_ns += self._last_ns.pop(name, 0)
        if name in self._files:
            os.close(self._files.pop(name))
