"""What the scheduler did to this process: how long its threads waited for a core, how often they lost one.

Linux says both; other POSIX systems the second; Windows neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

TASKS = Path("/proc/self/task")


def waiting_time() -> Callable[[], float] | None:
    """A clock of the seconds that this process's threads were ready to run and had no core; None where none is kept.

    Linux keeps it for each thread as the second number of ``schedstat`` (Documentation/scheduler/sched-stats.rst).
    """
    try:
        return _WaitingTime()
    except (OSError, IndexError, ValueError):
        return None


def involuntary_switches() -> Callable[[], int] | None:
    """A counter of this process's involuntary context switches; None where the platform has none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    getrusage, whole_process = resource.getrusage, resource.RUSAGE_SELF
    return lambda: getrusage(whole_process).ru_nivcsw


class _WaitingTime:
    """Keeps each thread's file open: reading it anew costs a few microseconds then."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._ended_ns = 0  # of threads that are no more
        self._last_ns: dict[str, int] = {}
        self()

    def __call__(self) -> float:
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
