"""Threads and children that stay busy after a call: they would take time from the next cell.

Linux tells of them; elsewhere none is seen.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

LOOK_S = 0.01
LOOKS = 6  # the threads of a parallel region spin for some milliseconds after it
BUSY_SHARE = 0.2  # of a look on a core, or ready for one at its end, in half of the looks
OWN_THREADS = Path("/proc/self/task")


class Bystanders:
    """What else runs in this process, and below it."""

    def __init__(self) -> None:
        with suppress(OSError, AttributeError):  # a child's orphans become this process's children
            import ctypes

            ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
        self._known = _threads(OWN_THREADS)

    def end_busy(self) -> list[str]:
        """Which of both stay busy; children are ended, and threads end with the process."""
        new, children = _threads(OWN_THREADS) - self._known, _descendants()
        looks: Counter[Path] = Counter()
        used_s = _used_s(new, children)
        for look in range(LOOKS if new or children else 0):
            time.sleep(LOOK_S)
            children = _descendants()
            now_s = _used_s(new, children)
            for task, seconds in now_s.items():
                looks[task] += seconds - used_s.get(task, seconds) > BUSY_SHARE * LOOK_S
            used_s = now_s
            if look and not any(looks.values()):
                break
        busy = {task for task, count in looks.items() if count >= LOOKS / 2}
        self._known |= new
        if busy - new:
            _end(children)
        names = {"busy_threads": busy & new, "busy_children": busy - new}
        return [name for name, tasks in names.items() if tasks]


def _threads(folder: Path) -> set[Path]:
    with suppress(OSError):
        return {folder / name for name in os.listdir(folder)}
    return set()


def _used_s(threads: set[Path], children: set[int]) -> dict[Path, float]:
    """The seconds that each thread of this process, and all of the children's, have computed."""
    used_s = {}
    for task in threads.union(*(_threads(Path(f"/proc/{child}/task")) for child in children)):
        with suppress(OSError, ValueError, IndexError):
            used_s[task] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return used_s


def _descendants() -> set[int]:
    """The children, their children and so on; none where nothing tells, or there are none."""
    if not _has_children():
        return set()
    found: set[int] = set()
    tasks = _threads(OWN_THREADS)
    while tasks:
        named = set()
        for task in tasks:
            with suppress(OSError):
                named |= set(map(int, (task / "children").read_text().split()))
        tasks = set().union(*(_threads(Path(f"/proc/{child}/task")) for child in named - found))
        found |= named
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return False
    return True


def _end(children: set[int]) -> None:
    for child in children:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
