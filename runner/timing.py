"""The sampling engine: warm up until steady, time short blocks, set aside interrupted ones, stop when sure.

Blocks are short because a block that outlasts a scheduler's slice is as likely as not to contain a pause: on a loaded
machine that, not the operation, is what differs between runs. The clock is an argument, so that tests are exact.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from runner.config import Timing
from runner.intervals import median_interval, quantile
from runner.results import Sample
from runner.scheduler import involuntary_switches, waiting_time

STEADY_WITHIN = 0.05  # two successive windows of warm-up this close count as steady
WARMUP_WINDOW = 5  # blocks in a window of warm-up
LOST_AT_MOST = 0.02  # of a block's time may go to waiting for a core, or to something else than the calling thread
MIN_CLEAN_SHARE = 0.2  # of blocks: with fewer undisturbed ones, setting the others aside would choose, not clean
MOST_WINDOWS = 1_000  # of warm-up, for a clock by which the time is never over
MOST_CALLS = 1_000_000  # in a block
TRIALS = 3  # of a number of calls, before it is believed that they take that long
LONG_CALL = 5  # a first call of this many times the time allowed is the only one
CHECK_EVERY = 1.25  # the interval is computed when the samples have grown by this factor, not after each one

Call = Callable[[], Any]


@dataclass(frozen=True)
class Block:
    """What a clock saw of some calls in a row.

    Attributes:
        wall_s: seconds from the first call's start to the last one's end on the device.
        cpu_s: CPU seconds of the calling thread, or None.
        preemptions: involuntary context switches of the process, or None.
        waiting_s: seconds that the process's threads were ready and had no core, or None.
    """

    wall_s: float
    cpu_s: float | None = None
    preemptions: int | None = None
    waiting_s: float | None = None


class Clock(Protocol):
    """Times calls on a device, in seconds."""

    def now(self) -> float:
        """Seconds since some moment, for budgets."""

    def time(self, call: Call, calls: int) -> Block:
        """Run ``call`` that many times and wait for the last one to end."""


class HostClock:
    """The CPU's clock, which knows where the platform can tell that the scheduler interfered."""

    def __init__(self, *, single_threaded: bool) -> None:
        # CPU time tells of a pause only where one thread does all the work: otherwise it may wait for the others.
        self._thread_time = time.thread_time if single_threaded else None
        self._switches = involuntary_switches()
        self._waiting = waiting_time()

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(self, call: Call, calls: int) -> Block:
        """Time calls by the wall clock, with what the scheduler did meanwhile."""
        switches, waiting, thread_time = self._switches, self._waiting, self._thread_time
        waited = waiting() if waiting else 0.0
        switched = switches() if switches else 0
        used = thread_time() if thread_time else 0.0
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wall_s = time.perf_counter() - start
        return Block(
            wall_s,
            thread_time() - used if thread_time else None,
            switches() - switched if switches else None,
            waiting() - waited if waiting else None,
        )


@dataclass(frozen=True)
class Measurement:
    """What the engine found: seconds a call.

    Attributes:
        interval: the median's 95 % interval; None with too few samples for one.
        interrupted: how many of the samples were not left alone by the scheduler.
        disturbed: whether those were so many that all of them had to be taken.
        stop: precision, time, samples or first_call.
    """

    median_s: float
    interval: tuple[float, float] | None
    min_s: float
    q1_s: float
    q3_s: float
    first_call_s: float
    samples: tuple[Sample, ...]
    calls_per_sample: int
    timing_s: float
    interrupted: int
    disturbed: bool
    stop: str


def measure(call: Call, clock: Clock, timing: Timing, look: Callable[[Any], None] = lambda result: None) -> Measurement:
    """Measure the time of a call.

    Args:
        call: what to time.
        clock: how to time it.
        timing: when to stop.
        look: is given the first call's result, outside the clock; all other results are dropped.
    """
    start = clock.now()
    results: list[Any] = []
    with _no_garbage_collection():
        first = clock.time(lambda: results.append(call()), 1)
        look(results.pop())
        blocks, calls, stop = [first], 1, "first_call"
        if first.wall_s < LONG_CALL * timing.max_time_s:  # otherwise waiting for a second one would cost too much
            second = clock.time(call, 1)
            if second.wall_s >= timing.max_time_s:  # a warm call is worth more than warming up
                blocks, stop = [second], "time"
            else:
                calls = _calls_per_block(call, clock, timing)
                _warm_up(call, clock, timing, calls)
                blocks, stop = _sample(call, clock, timing, calls)
    kept = _undisturbed(blocks)
    disturbed = not any(kept)
    if disturbed:
        kept = [True] * len(blocks)
    times = sorted(block.wall_s / calls for block, keep in zip(blocks, kept, strict=True) if keep)
    return Measurement(
        median_s=median(times),
        interval=median_interval(times),
        min_s=times[0],
        q1_s=quantile(times, 0.25),
        q3_s=quantile(times, 0.75),
        first_call_s=first.wall_s,
        samples=tuple(
            Sample(calls, block.wall_s, block.cpu_s, block.preemptions, block.waiting_s, keep)
            for block, keep in zip(blocks, kept, strict=True)
        ),
        calls_per_sample=calls,
        timing_s=clock.now() - start,
        interrupted=sum(not _had_its_cores(block) for block in blocks),
        disturbed=disturbed,
        stop=stop,
    )


def _calls_per_block(call: Call, clock: Clock, timing: Timing) -> int:
    """Calls that fill a block, from ever longer trials, each the shortest of a few, since any may be interrupted."""
    block_s = min(timing.block_s, timing.max_time_s / timing.min_samples)
    end = clock.now() + timing.max_time_s
    calls = 1
    while True:
        trial_s = _shortest_trial(call, clock, calls, block_s)
        if trial_s >= block_s / 2 or calls >= MOST_CALLS or clock.now() >= end:
            return min(MOST_CALLS, max(1, round(calls * block_s / trial_s))) if trial_s > 0 else calls
        calls = min(MOST_CALLS, calls * (4 if trial_s * 8 < block_s else 2))


def _shortest_trial(call: Call, clock: Clock, calls: int, enough_s: float) -> float:
    shortest = clock.time(call, calls).wall_s
    for _ in range(TRIALS - 1):
        if shortest < enough_s / 2:  # too short, whether or not it was interrupted
            break
        shortest = min(shortest, clock.time(call, calls).wall_s)
    return shortest


def _warm_up(call: Call, clock: Clock, timing: Timing, calls: int) -> None:
    """Run blocks until two windows of them agree, or the time for warming up is over."""
    end = clock.now() + timing.warmup_s
    before: float | None = None
    for _ in range(MOST_WINDOWS):
        window: list[float] = []
        while len(window) < WARMUP_WINDOW and clock.now() < end:
            window.append(clock.time(call, calls).wall_s)
        if not window or clock.now() >= end:
            return
        now = median(window)
        if before is not None and abs(now - before) <= STEADY_WITHIN * abs(before):
            return
        before = now


def _sample(call: Call, clock: Clock, timing: Timing, calls: int) -> tuple[list[Block], str]:
    start = clock.now()
    blocks: list[Block] = []
    check_at = timing.min_samples
    while True:
        blocks.append(clock.time(call, calls))
        if len(blocks) >= check_at:
            if _precise(blocks, timing):
                return blocks, "precision"
            check_at = max(check_at + 1, int(check_at * CHECK_EVERY))
        if len(blocks) >= timing.max_samples:
            return blocks, "samples"
        if clock.now() - start >= timing.max_time_s:
            return blocks, "time"


def _precise(blocks: list[Block], timing: Timing) -> bool:
    times = sorted(block.wall_s for block, keep in zip(blocks, _undisturbed(blocks), strict=True) if keep)
    interval = median_interval(times) if len(times) >= timing.min_samples else None
    return interval is not None and (interval[1] - interval[0]) / 2 <= timing.precision * median(times)


def _undisturbed(blocks: list[Block]) -> list[bool]:
    """Which blocks the scheduler left alone; none of them where they are too few to speak for all."""
    clean = [_had_its_cores(block) for block in blocks]
    return clean if sum(clean) >= MIN_CLEAN_SHARE * len(clean) else [False] * len(clean)


def _had_its_cores(block: Block) -> bool:
    """Whether waiting cost a block next to nothing; by the switches alone where the platform does not say how long."""
    if block.waiting_s is not None:
        return block.waiting_s <= LOST_AT_MOST * block.wall_s
    lost = 0.0 if block.cpu_s is None else block.wall_s - block.cpu_s
    return not block.preemptions and lost <= LOST_AT_MOST * block.wall_s


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled() and threading.current_thread() is threading.main_thread()
    if was_on:
        gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
