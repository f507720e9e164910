"""The small fixed kernels that tell how slow the machine is, and how they are timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from runner.calls import Thunk
from runner.measure.host_clock import Clock

BLOCK_S = 0.0001
FEWEST_BLOCKS = 3
LONGEST_S = 0.005  # of blocks that wait for their launches as well
EDGE = 1024  # of the matrices that are added
ADDED_BYTES = 3 * EDGE * EDGE * 4  # that an addition of two of them moves


class Kernels(NamedTuple):
    """Calls that are read together, one after the other."""

    name: str
    calls_on: Callable[[torch.device], list[Thunk]]
    untimed_s: float  # of calls before the blocks: what ran before has left its own state
    timed_s: float  # of blocks, of which the median counts: each varies by a tenth in calm moments
    low: float  # quantile of the runs' bests that counts: the luckiest of many is not it
    kept_after: int  # seconds in which they were read, before what was seen is kept again

    def on(self, device: torch.device, clock: Clock) -> list[Kernel]:
        """The calls, each with its number of calls in a block and of blocks."""
        times = self.untimed_s, self.timed_s
        return [Kernel.of(call, clock, *times) for call in self.calls_on(device)]


class Kernel(NamedTuple):
    """A call that is timed, and how often."""

    call: Thunk
    calls: int  # of a block
    untimed: int  # calls before the blocks
    blocks: int

    @classmethod
    def of(cls, call: Thunk, clock: Clock, untimed_s: float, timed_s: float) -> Kernel:
        """With as many calls as take their time here."""
        for _ in range(10):
            call()
        begun = clock.now()
        call_s = min(clock.time(call, 5).wall_s for _ in range(5)) / 5
        block_s = (clock.now() - begun) / 5  # an accelerator is kept busy while they are launched
        if call_s <= 0:
            return cls(call, 1, 1, FEWEST_BLOCKS)
        most = getattr(clock, "most_calls", 1000)
        calls, untimed = (max(1, min(most, round(s / call_s))) for s in (BLOCK_S, untimed_s))
        blocks = min(timed_s / (calls * call_s), LONGEST_S / max(block_s, call_s))
        return cls(call, calls, untimed, max(FEWEST_BLOCKS, round(blocks)))

    def read(self, clock: Clock) -> float:
        """Seconds of a call now."""
        for _ in range(self.untimed):
            self.call()
        blocks_s = [clock.time(self.call, self.calls).wall_s for _ in range(self.blocks)]
        return median(blocks_s) / self.calls


def _of_machine(device: torch.device) -> list[Thunk]:
    """A sum of 4 MB, additions of 64x64, and last products of 128x128, slowest to settle."""
    draw = partial(torch.randn, dtype=torch.float32, device=device)
    product, small, many = draw(128, 128), draw(64, 64), draw(1024 * 1024)
    return [many.sum, lambda: torch.add(small, small), lambda: torch.mm(product, product)]


def _of_memory(device: torch.device) -> list[Thunk]:
    """Additions that read 8 MB and write 4 MB.

    After a rest they are fast for 5 ms, whatever follows.
    """
    a, b, out = torch.ones(3, EDGE, EDGE, dtype=torch.float32, device=device)
    return [lambda: torch.add(a, b, out=out)]


OF_MACHINE = Kernels(
    "machine", _of_machine, untimed_s=0.001, timed_s=0.001, low=0.25, kept_after=10
)
"""Bound by arithmetic, by memory and by what a call costs, as an operation may be."""

OF_MEMORY = Kernels("memory", _of_memory, untimed_s=0.01, timed_s=0.003, low=0.05, kept_after=2)
"""Bound by memory alone, which may be slow for minutes, and in most runs."""
