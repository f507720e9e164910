"""Pages of memory that the system provides at their first touch, and what such a touch takes."""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from runner.calls import Thunk
from runner.measure.host_clock import usage_of_process


class Touched(NamedTuple):
    """What a call touched first, of the whole process."""

    faults: int
    seconds: float  # that the call took


def is_counted() -> bool:
    """Whether the platform counts page faults."""
    return usage_of_process() is not None


def faults_so_far() -> int:
    """How many pages this process was the first to touch; 0 where the platform does not count."""
    usage = usage_of_process()
    return 0 if usage is None else usage().ru_minflt


def touched(call: Thunk) -> Touched:
    """The page faults of a call, and its seconds."""
    before, start = faults_so_far(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return Touched(faults_so_far() - before, seconds)


def least(touches: Sequence[Touched]) -> Touched:
    """The fewest faults and the least time: whatever else runs only adds to them."""
    return Touched(min(t.faults for t in touches), min(t.seconds for t in touches))


class Probe:
    """Memory that is filled fresh and again, by as many threads as an operation has."""

    def __init__(self, size: int) -> None:
        self._size, self._memory = size, torch.empty(0)

    def fresh(self) -> None:
        """Fill new memory; an allocator may hand out what was freed and touched."""
        self._memory = torch.frombuffer(_new_memory(self._size), dtype=torch.uint8).fill_(1)

    def again(self) -> None:
        """Fill the same memory."""
        self._memory.fill_(2)


def _new_memory(size: int) -> mmap.mmap:
    """Memory as an allocator gets it: shared with no other process, whose pages cost more."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def fault_s(fresh: Sequence[Touched], again: Sequence[Touched]) -> float:
    """Seconds of the first touch of a page, from what a probe took in several turns."""
    first = least(fresh)
    return (first.seconds - least(again).seconds) / max(1, first.faults)
