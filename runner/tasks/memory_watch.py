"""How slow memory was around a cell that moves much of it, as fast as it can.

On a machine that others share such a call has one of two times, a fifth apart, for seconds or
minutes, while sums and products are as fast as ever. No moment is waited for: it would be long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.measure.kernels import ADDED_BYTES, OF_MEMORY
from runner.measure.sentinel import Sentinel
from runner.tasks.calm import has_time_to_look, sentinel_of
from runner.tasks.task import Task

# of the bytes that the kernel moves, and of those that it moves a second: smaller calls find their
# data nearer, and slower ones wait for something else
LIKE = 0.5


@dataclass
class MemoryWatch:
    """Readings of the kernel that is bound by memory, shortly before and after."""

    moved_bytes: int  # by a call, its inputs and outputs
    sentinel: Sentinel | None  # None: it is not looked at
    readings: list[tuple[float, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task) -> MemoryWatch:
        """That of a cell: on the CPU, where it moves so much and there is time to look."""
        moved_bytes = task.cell.tensor_bytes
        moves_enough = moved_bytes >= LIKE * ADDED_BYTES
        is_watched = task.device.is_cpu and moves_enough and has_time_to_look(task)
        return cls(moved_bytes, sentinel_of(task, OF_MEMORY) if is_watched else None)

    def look(self) -> None:
        """Read the kernel."""
        if self.sentinel is not None:
            self.readings.append(self.sentinel.read())

    @property
    def slowdown(self) -> float | None:
        """How many times longer than at its best it took, at most; None: it was not read."""
        if self.sentinel is None:
            return None
        return max(map(self.sentinel.slowdown, self.readings), default=None)

    def slows(self, call_s: float) -> bool:
        """Whether a call of so many seconds may have been slowed by it."""
        if (slowdown := self.slowdown) is None:
            return False
        (reading_s,) = self.readings[-1]
        is_bound = self.moved_bytes * reading_s >= LIKE * ADDED_BYTES * call_s
        return is_bound and slowdown > Sentinel.calm_within
