"""The processes that a cell has started, none of which outlives it; Linux alone tells them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROUNDS = 20  # of looking for what was started meanwhile


def adopt_orphans() -> None:
    """Have what this process' children start become its children where those end before it."""
    set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
    ask_linux(set_child_subreaper, 1)


def ask_linux(option: int, value: int) -> None:
    """Set what Linux does with this process, see prctl(2); nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def children_of(process: int | str) -> list[int]:
    """The children of a process, or of this one ("self"), that have not ended."""
    found: list[int] = []
    with suppress(AttributeError):  # macOS has no such call
        try:  # whether this process has any at all costs but one call of the system
            if process == "self":
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
    for table in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            found += map(int, table.read_text().split())
    return [child for child in found if not _has_ended(child)]


def descendants_of(processes: Iterable[int | str], but: Collection[int] = ()) -> list[int]:
    """What processes, or this one ("self"), have started, and what those have, ``but`` for some."""
    level: dict[int, None] = {}
    parents = list(processes)
    for parent in parents:  # which grows meanwhile
        found = [child for child in children_of(parent) if child not in but and child not in level]
        level |= dict.fromkeys(found)
        parents += found
    return list(level)


class CoreTime(NamedTuple):
    """What threads have had of cores, and what they wanted of them."""

    computed_s: float
    wanted_s: float  # seconds that they computed, or waited for a core


def core_time_of(process: int, but: int | None = None) -> CoreTime:
    """What a process's threads, ``but`` one, have had of cores since they began.

    Nothing of one that has ended, and where Linux keeps no such count.
    """
    computed_ns = wanted_ns = 0
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(OSError, ValueError):
            of_thread_ns, waited_ns, _ = map(int, path.read_text().split())
            if path.parent.name != str(but):
                computed_ns += of_thread_ns
                wanted_ns += of_thread_ns + waited_ns
    return CoreTime(computed_ns / 1e9, wanted_ns / 1e9)


def end_descendants(process: int, but: Collection[int] = ()) -> None:
    """End all that a process has started, and what those have, but these children of it."""
    found: dict[int, None] = {}
    for _ in range(ROUNDS):
        new = [child for child in descendants_of([process, *found], but) if child not in found]
        for child in new:  # so that it starts no more
            _signal(child, "SIGSTOP")
        found |= dict.fromkeys(new)
        if not new:
            break
    for child in found:
        _signal(child, "SIGKILL")
        with suppress(OSError):  # it is another's to wait for
            os.waitpid(child, 0 if process == os.getpid() else os.WNOHANG)


def _has_ended(process: int) -> bool:
    with suppress(OSError):
        return _status(process)[0] == "Z"
    return True


def _status(process: int) -> list[str]:
    """What the kernel says of a process after its name (proc_pid_stat(5))."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _signal(process: int, name: str) -> None:
    with suppress(OSError, AttributeError):  # it has ended; Windows has no such signal
        os.kill(process, getattr(signal, name))
