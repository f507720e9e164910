"""The processes that a cell has started, none of which outlives it; Linux alone tells them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
SIGSTOP = getattr(signal, "SIGSTOP", None)
ROUNDS = 20  # of looking for what was started meanwhile


def adopt_orphans() -> None:
    """Have what this process' children start become its children where those end before it."""
    if sys.platform == "linux":
        import ctypes

        set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
        ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def children_of(process: int | str) -> list[int]:
    """The children of a process, or of this one ("self"); those that have ended are none."""
    found: list[int] = []
    for table in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            found += map(int, table.read_text().split())
    return [child for child in found if not _has_ended(child)]


def end_descendants(process: int | None) -> None:
    """End all that a process has started, and what those have: each is stopped before it is."""
    found: dict[int, None] = {}
    for _ in range(ROUNDS):
        new = [pid for pid in _descendants(process or 0) if pid not in found]
        for pid in new:
            _signal(pid, SIGSTOP)
        found |= dict.fromkeys(new)
        if not new:
            break
    for pid in found:
        _signal(pid, SIGKILL)


def end_orphans(known: Collection[int]) -> None:
    """End what this process has adopted: all of its children that are not known."""
    for pid in children_of("self"):
        if pid not in known:
            end_descendants(pid)
            _signal(pid, SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _descendants(process: int) -> Iterator[int]:
    for child in children_of(process):
        yield child
        yield from _descendants(child)


def _has_ended(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _signal(process: int, number: int | None) -> None:
    with suppress(OSError):  # it has ended
        if number is not None:
            os.kill(process, number)
