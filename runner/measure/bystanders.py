"""Threads and children that stay busy after a call: they would take time from the next cell.

Linux tells of them; elsewhere none is seen.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from itertools import compress

from runner.measure.process_tree import descendants_of, wanted_s

LOOK_S = 0.1  # the threads of a parallel region spin for some milliseconds after it
BUSY_SHARE = 0.2  # of a look, on one core


class Bystanders:
    """What else runs in this process, and below it, as far as the system tells."""

    def __init__(self) -> None:
        self._threads = _thread_count()

    def end_busy(self) -> list[str]:
        """Which of both stay busy; children are ended, and threads end with the process."""
        children_s = _below_s()
        if not children_s and _thread_count() <= self._threads:
            return []
        own = os.getpid(), threading.get_native_id()
        own_s = wanted_s(*own)
        time.sleep(LOOK_S)
        threads_are_busy = wanted_s(*own) - own_s > BUSY_SHARE * LOOK_S
        now_s = _below_s()
        used_s = [seconds - children_s.get(child, 0.0) for child, seconds in now_s.items()]
        children_are_busy = sum(used_s) > BUSY_SHARE * LOOK_S
        for child in now_s if children_are_busy else ():
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)
        self._threads = _thread_count()
        busy = {"busy_threads": threads_are_busy, "busy_children": children_are_busy}
        return list(compress(busy, busy.values()))


def _thread_count() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 0


def _below_s() -> dict[int, float]:
    """The processes below this one, with the seconds that each wanted a core."""
    return {process: wanted_s(process) for process in descendants_of(["self"])}
