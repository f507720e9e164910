"""Threads and children that stay busy after a call: they would take time from the next cell.

Linux tells of them; elsewhere none is seen.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from runner.measure.process_tree import CoreTime, core_time_of, descendants_of

LOOK_S = 0.1
LEAST_S = 0.02  # of a look, on one core
MOST_LOOKS = 30  # on a machine so busy that what wants a core gets next to nothing of it
THREADS, CHILDREN = "busy_threads", "busy_children"
CoreTimes = Mapping[str, Mapping[int, CoreTime]]  # of both kinds, by process


class Bystanders:
    """What else runs in this process, and below it, as far as the system tells."""

    def __init__(self) -> None:
        self._threads = _thread_count()

    def end_busy(self) -> list[str]:
        """Which of both stay busy; children are ended, and threads end with the process."""
        if not descendants_of(["self"]) and _thread_count() <= self._threads:
            return []
        busy = _that_stay_busy()
        if CHILDREN in busy:
            for child in descendants_of(["self"]):
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
        self._threads = _thread_count()
        return busy


def _that_stay_busy() -> list[str]:
    """Which kinds want a core on and on.

    The threads of a parallel region spin for some milliseconds after it, for which they may wait
    long where the machine is busy: what has computed little yet is looked at again.
    """
    first = before = _core_times()
    busy, undecided = list[str](), list(first)
    for _ in range(MOST_LOOKS):
        time.sleep(LOOK_S)
        now = _core_times()
        for kind in tuple(undecided):
            computed_s, wanted_s = _growth(first[kind], now[kind], before[kind])
            if wanted_s > LEAST_S >= computed_s:
                continue
            undecided.remove(kind)
            busy += [kind] if wanted_s > LEAST_S else []
        if not undecided:
            break
        before = now
    return [kind for kind in first if kind in (*busy, *undecided)]


def _core_times() -> CoreTimes:
    own, this_thread = os.getpid(), threading.get_native_id()
    children = {child: core_time_of(child) for child in descendants_of(["self"])}
    return {THREADS: {own: core_time_of(own, this_thread)}, CHILDREN: children}


def _growth(
    first: Mapping[int, CoreTime], now: Mapping[int, CoreTime], before: Mapping[int, CoreTime]
) -> CoreTime:
    """What was computed since the first look, and wanted since the one before."""
    nothing = CoreTime(0.0, 0.0)
    computed_s = sum(t.computed_s - first.get(of, nothing).computed_s for of, t in now.items())
    wanted_s = sum(t.wanted_s - before.get(of, nothing).wanted_s for of, t in now.items())
    return CoreTime(computed_s, wanted_s)


def _thread_count() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 0
