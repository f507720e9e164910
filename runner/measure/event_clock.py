"""The clock of a device that works on its own: its events' time, without gaps between launches.

A host that launches slowly leaves the device idle between small kernels, and events round them
would time the gaps. So the device is given other work first, and the block's launches queue up
behind it: when the first event's moment comes, all that is to be timed waits already. Whether it
did is asked of the event, not assumed.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import torch
from torch import Event, Tensor

from runner.calls import Thunk
from runner.measure.host_clock import Block
from runner.measure.switches import neutral
from runner.stats.intervals import median_interval

MOST_AHEAD = 100  # calls behind other work: devices take some thousand before the host waits
TRIES = 6  # of a block that the device got ahead of, each with twice the work before it
FEWER = 10  # times as few calls ahead, where so many cannot be
MARGIN = 1.5  # more work than the launches are expected to take
LAUNCHES_IN_WORK = 10  # a product that keeps the device busy takes as long as these, or longer
WORK_TRIALS, WORK_IN_A_ROW = 5, 4  # of products: their launch may be interrupted
WORK_SIDE, LONGEST_SIDE = 64, 8_192  # of its square matrices
CALIBRATING_S = 1.0  # for trying them; the next larger product takes eight times as long
ASYNCHRONOUS = 2  # times its launch: what takes less is computed by the host as it is launched
MOST_WORK = 2_000  # products in a row, so that a clock that errs cannot fill the queue for minutes
LAUNCHES = 50  # of which the launch's time is the median
LAUNCHING_S = 0.2  # the longest that these may take


@dataclass(frozen=True)
class BusyWork:
    """What keeps a device busy: the product of a matrix with itself."""

    seconds: float  # of a product; 0 where the device has none that goes on without the host
    matrix: Tensor | None  # None where it has no memory for one


class Queue:
    """A device's queue of work, in the terms of its module, ``torch.cuda`` or another."""

    def __init__(self, module: Any, device: torch.device, busy_work: dict[str, BusyWork]) -> None:
        # busy_work is of devices by name, from earlier cells; this one's is added
        self._module, self._device, self._busy_work = module, device, busy_work
        takes_device = inspect.signature(module.synchronize).parameters  # torch.mps has but one
        self._synchronized: tuple[Any, ...] = (device,) if takes_device else ()
        stream = getattr(module, "current_stream", None)
        self._stream: tuple[Any, ...] = (stream(device),) if stream is not None else ()

    @property
    def own_bytes(self) -> int:
        """Device memory that the work to keep it busy holds."""
        work = self._busy_work.get(str(self._device))
        return work.matrix.nbytes if work is not None and work.matrix is not None else 0

    def synchronize(self) -> None:
        """Wait until all that was launched has ended."""
        self._module.synchronize(*self._synchronized)

    def event(self) -> Any:
        """An event that knows its time; None where the device has none."""
        event = getattr(self._module, "Event", None)
        return event(enable_timing=True) if event else None

    def record(self, event: Event) -> None:
        """Mark the moment when all that was launched until now has ended."""
        event.record(*self._stream)

    def keep_busy(self, seconds: float) -> None:
        """Launch work of about this length, one piece at least; nothing where there is none."""
        name = str(self._device)
        if name not in self._busy_work:
            self._busy_work[name] = self._measured_work()
        work = self._busy_work[name]
        if work.matrix is not None and work.seconds:
            # as it was measured, whatever the cell is cast to or forbids
            with neutral(self._device):
                for _ in range(max(1, min(MOST_WORK, ceil(seconds / work.seconds)))):
                    torch.mm(work.matrix, work.matrix)

    def _measured_work(self) -> BusyWork:
        """A product of matrices so large that a launch is short beside it.

        Of a device whose products are slow it is the largest that is known in time, and none where
        the host computes it.
        """
        start, end = self.event(), self.event()
        side, seconds, launch_s, matrix = WORK_SIDE, 0.0, 0.0, None
        begun = time.perf_counter()
        while start is not None:
            try:
                matrix = torch.zeros(side, side, device=self._device)
                seconds, launch_s, trial_s = self._timed_work(matrix, start, end)
            except (NotImplementedError, torch.OutOfMemoryError):
                break
            spent_s = time.perf_counter() - begun
            is_long = seconds >= LAUNCHES_IN_WORK * launch_s
            if is_long or side >= LONGEST_SIDE or spent_s + 8 * trial_s > CALIBRATING_S:
                break
            side *= 2
        is_asynchronous = seconds >= ASYNCHRONOUS * launch_s
        return BusyWork(seconds, matrix) if is_asynchronous else BusyWork(0.0, None)

    def _timed_work(self, matrix: Tensor, start: Event, end: Event) -> tuple[float, float, float]:
        """Seconds of a product and of its launch, and those that a trial of several took."""
        trials: list[tuple[float, float]] = []
        begun = time.perf_counter()
        with neutral(self._device):
            while len(trials) < WORK_TRIALS and time.perf_counter() - begun < CALIBRATING_S:
                trials.append(self._time_products(matrix, start, end))
        trial_s = (time.perf_counter() - begun) / len(trials)
        # whatever interrupts the host only lengthens a time: the shortest ones are compared
        seconds, launch_s = map(min, zip(*trials, strict=True))
        return seconds, launch_s, trial_s

    def _time_products(self, matrix: Tensor, start: Event, end: Event) -> tuple[float, float]:
        self.record(start)
        begun = time.perf_counter()
        for _ in range(WORK_IN_A_ROW):
            torch.mm(matrix, matrix)
        launching_s = time.perf_counter() - begun
        self.record(end)
        self.synchronize()
        return _seconds_between(start, end) / WORK_IN_A_ROW, launching_s / WORK_IN_A_ROW


class EventClock:
    """Times calls by a device's events, or by a synchronized wall clock where it has none.

    As many launches as possible queue up behind other work; fewer where the device gets ahead of
    the host all the same; at last one at a time, for calls that wait for the device themselves. A
    block in which the device may have waited for the host counts as waiting as a whole, so that it
    is set aside like one that the scheduler interrupted.
    """

    # in a block: a call that launches nothing, such as a view, would otherwise never fill one
    most_calls = MOST_AHEAD

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._start, self._end = queue.event(), queue.event()
        self._ahead = MOST_AHEAD
        self._launch_s = 0.0  # the least that a call has kept the host for
        self._used = False

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(
        self, call: Thunk, calls: int, untimed: int = 0, before: Thunk = lambda: None
    ) -> Block:
        """The device's time for these calls; of the first one the host's, as it is paid there."""
        if self._start is None or not self._used:
            self._used = True
            before()
            return Block(self._time_by_wall(call, calls))
        seconds, remaining, waited = 0.0, calls, False
        while remaining:
            launches = min(remaining, self._ahead)
            launches_s, idle = self._time_by_events(call, launches, before)
            seconds, waited, remaining = seconds + launches_s, waited or idle, remaining - launches
        # the call itself waits for the device, so that this is its time
        if waited and self._ahead == 1:
            return Block(seconds)
        return Block(seconds, waiting_s=seconds if waited else 0.0)

    def _time_by_wall(self, call: Thunk, calls: int) -> float:
        self._queue.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self._queue.synchronize()
        return time.perf_counter() - start

    def _time_by_events(self, call: Thunk, calls: int, before: Thunk) -> tuple[float, bool]:
        """The device's seconds, and whether it may have waited for the host meanwhile."""
        for turn in range(TRIES):
            before()
            idle = self._launch(call, calls, MARGIN * calls * self._launch_s * 2**turn)
            if not idle:
                self._ahead = min(MOST_AHEAD, max(self._ahead, FEWER * calls))
                break
            if self._ahead == 1:
                break
        else:  # it waits for the device, or launches more than the queue holds, or the host is busy
            self._ahead = max(1, min(calls, self._ahead) // FEWER)
        return _seconds_between(self._start, self._end), idle

    def _launch(self, call: Thunk, calls: int, busy_s: float) -> bool:
        """Launch calls between the events, behind other work; whether the device was early."""
        queue, start, end = self._queue, self._start, self._end
        queue.synchronize()
        queue.keep_busy(busy_s)
        if calls > 1:
            call()  # leaves the caches as calls in a row do
        queue.record(start)
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        queue.record(end)
        each_s = (time.perf_counter() - begun) / calls
        idle = bool(start.query())
        queue.synchronize()
        self._launch_s = min(self._launch_s or each_s, each_s)
        return idle


def _seconds_between(start: Event, end: Event) -> float:
    return float(start.elapsed_time(end)) / 1_000  # events count in milliseconds


def launch_and_wall(
    call: Thunk, synchronize: Callable[[], None], most: int = LAUNCHES
) -> dict[str, Any]:
    """Host seconds to launch a call, and to its end, one call at a time on an idle device.

    They are by the row's columns.
    """
    launch: list[float] = []
    wall: list[float] = []
    end = time.perf_counter() + LAUNCHING_S
    while len(launch) < most and (not launch or time.perf_counter() < end):
        synchronize()
        begun = time.perf_counter()
        result = call()
        launched = time.perf_counter()
        synchronize()
        wall.append(time.perf_counter() - begun)
        launch.append(launched - begun)
        del result
    low, high = median_interval(sorted(launch)) or (None, None)
    ends = {"launch_low_s": low, "launch_high_s": high}
    return {"launch_s": median(launch), **ends, "wall_s": median(wall)}
