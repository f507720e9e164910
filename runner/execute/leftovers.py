"""What a cell's function leaves in its process: with any of it the next cell has a new process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from runner.cells.cell import Cell
from runner.execute.process_tree import children_of

REPLACEABLE = (torch, torch.Tensor, torch.nn.functional, torch.autograd)
"""What holds functions that everything calls."""


class Leftovers:
    """Compares the process with what it was before its last cell."""

    def __init__(self) -> None:
        self._settings = _settings()
        self._company = _company()
        self._functions = [(home, _functions(home)) for home in REPLACEABLE]

    def found(self, cells: Sequence[Cell]) -> bool:
        """Whether cells have left anything, which goes into the log too."""
        settings, company = _settings(), _company()
        left = [name for name, value in settings.items() if value != self._settings[name]]
        if any(cell.compile for cell in cells):
            self._company |= company  # of the compiler, which keeps processes and threads
        left += [kind for kind, _ in company - self._company][:1]
        for home, functions in self._functions:
            now = vars(home)
            changed = (name for name, value in functions.items() if now.get(name) is not value)
            left += [f"{home.__name__}.{name}" for name in changed]
        if left:
            with suppress(Exception):  # the streams are whatever the cell has made of them
                print(f"{cells[0].label}: it left {', '.join(left)}; its process is replaced")
        return bool(left)


def _settings() -> dict[str, Any]:
    """What calls of this process depend on, that no cell has a right to."""
    values: dict[str, Any] = {
        "the recursion limit": sys.getrecursionlimit(),
        "the default device": str(torch.get_default_device()),
        "signal handlers": [signal.getsignal(number) for number in _SIGNALS],
        "the clock": [getattr(sys.modules["time"], name) for name in _CLOCKS],
        "the folder": None,
    }
    with suppress(OSError):  # it was removed
        values["the folder"] = os.getcwd()
    with suppress(AttributeError):  # Windows has neither
        values["an alarm"] = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        values["the cores"] = os.sched_getaffinity(0)
        values["the nice value"] = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(ImportError):
        import resource

        values["limits"] = [resource.getrlimit(getattr(resource, name)) for name in _LIMITS]
    return values


_CLOCKS = ("perf_counter", "perf_counter_ns", "monotonic", "thread_time", "sleep")
_LIMITS = ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_STACK")
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD", "SIGSEGV", "SIGFPE", "SIGPIPE")
    if hasattr(signal, name)
)


def _company() -> set[tuple[str, int]]:
    """The other threads of Python, and the processes that this one has started."""
    threads = (t for t in threading.enumerate() if not isinstance(t, threading._DummyThread))
    company = {("a thread", thread.ident or 0) for thread in threads}
    if _may_have_children():
        company |= {("a process", child) for child in children_of("self")}
    return company


def _may_have_children() -> bool:
    """Whether this process has any, at the cost of a single call of the system."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _functions(home: Any) -> Mapping[str, Callable[..., Any]]:
    public = ((name, value) for name, value in vars(home).items() if not name.startswith("_"))
    return {name: value for name, value in public if callable(value)}
