"""What the moments of a measurement pass: a gate that waits for calm ones, and tells them."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # which needs torch
    from runner.measure.sentinel import Sentinel

WAITING = "waiting for a calm moment:"  # begins what a sweep that stands still says
POLL_S = 0.02
SHARE = 0.05  # of the time between readings that they take; with a first and a last one a tenth
MOST_AGE_S = 0.5  # of another gate's reading, to begin with: a phase may last but a second or two
QUICK_POLLS = 2  # after which the machine has recovered as soon as it was left alone
FEWEST_SLOWED = 10  # times that the machine was slow after calm moments, and
MOSTLY = 0.9  # of all such times: it is the doing of what ran there
SILENT_S = 1.0  # of waiting, before it is said, and
AGAIN_S = 10.0  # of further waiting, after which it is said again
WORTH = 0.05  # calm seconds for each that is lost, below which patience is spent in vain


Reading = list[tuple[float, ...]]  # of each sentinel: seconds of each of its kernels


@dataclass
class Gate:
    """Waits for calm moments, and says of each moment afterwards whether it was one."""

    # of those whose moments these are, each with what makes the process its own (its number of
    # threads) before it is read
    sentinels: Sequence[tuple[Sentinel, Callable[[], None]]]
    patience_s: float = 0.0  # seconds that may be lost: waited, or measured in slow moments
    # is called with the slowdown, when that has taken a second, and now and then afterwards
    on_wait: Callable[[float], None] = lambda slowdown: None
    # of the devices, which are asked for more at the same moments
    watch: Sequence[Callable[[], None]] = ()
    waited_s: float = 0.0
    calm_s: float = 0.0  # of measuring in calm moments
    slow_s: float = 0.0  # of measuring in slow ones
    _readings: list[Reading] = field(default_factory=list)
    _after_calm: int = 0  # times that something ran after a calm reading
    # of these, after which the machine was slow, and recovered as soon as it waited, if it did
    _slowed: int = 0
    _next_told_s: float = SILENT_S  # of waiting, when it is said next

    def pass_by(self, *, now: bool = False) -> int:
        """Wait where the machine is slow and patience is left; the number of the moment.

        It is looked at ``now``, or as soon as that takes little of the time.
        """
        if not self.sentinels:
            return 0
        if not self._readings:
            self._take_over()
        if not self._readings or now or self._is_due:
            was_calm = bool(self._readings) and self._is_calm_now()
            self.look()
            self._after_calm += was_calm
            if not (self._is_calm_now() or self.is_own_doing):
                polls = self._wait(at_least_once=was_calm)
                self._slowed += was_calm and self._is_calm_now() and polls <= QUICK_POLLS
            elif was_calm and not self._is_calm_now():  # as before, which waiting does not change
                self._slowed += 1
        return len(self._readings) - 1

    def _take_over(self) -> None:
        """Begin with what another gate has just read, where all of it was calm."""
        age_s = min(MOST_AGE_S, self._cost_s / SHARE)
        latest = [sentinel.latest for sentinel, _ in self.sentinels if sentinel.rested_s < age_s]
        if len(latest) == len(self.sentinels) and self._is_calm(latest):
            self._readings.append(latest)
            for watch in self.watch:
                watch()

    @property
    def set_aside_s(self) -> float:
        """Seconds of measuring in slow moments, as far as patience goes."""
        return max(0.0, min(self.slow_s, self.patience_s - self.waited_s))

    @property
    def lost_s(self) -> float:
        """Seconds that gave nothing that counts, and are no part of the time for measuring."""
        return self.waited_s + self.set_aside_s

    @property
    def is_worth_while(self) -> bool:
        """Whether it has been calm, and for more than a small part of the time."""
        has_been_calm = any(map(self._is_calm, self._readings))
        return has_been_calm and self.calm_s >= WORTH * (self.waited_s + self.slow_s)

    @property
    def _is_due(self) -> bool:
        """Whether so much time has passed since the last readings that they take little of it."""
        age_s = self._cost_s / SHARE
        return all(sentinel.rested_s >= age_s for sentinel, _ in self.sentinels)

    @property
    def _cost_s(self) -> float:
        """Seconds that all readings together take."""
        return sum(sentinel.reading_s for sentinel, _ in self.sentinels)

    @property
    def is_own_doing(self) -> bool:
        """Whether it is what runs here that slows the machine, which recovers as soon as it waits.

        A phase of the machine begins now and then, and not after each calm moment; nor does it end
        whenever it is waited for.
        """
        return self._slowed >= max(FEWEST_SLOWED, MOSTLY * self._after_calm)

    def look(self) -> None:
        """Read all sentinels, and count the seconds since they were read before."""
        seconds = min((sentinel.rested_s for sentinel, _ in self.sentinels), default=0.0)
        self._read()
        if len(self._readings) > 1 and self.around(len(self._readings) - 2)["calm"]:
            self.calm_s += seconds
        elif len(self._readings) > 1:
            self.slow_s += seconds

    def _read(self) -> None:
        reading = []
        for sentinel, enter in self.sentinels:
            enter()
            reading.append(sentinel.read())
        self._readings.append(reading)
        for watch in self.watch:
            watch()

    def around(self, moment: int) -> dict[str, Any]:
        """How slow the machine was between the moment's reading and the next, and if it was calm.

        By the names of :class:`runner.measure.host_clock.Block`.
        """
        readings = self._readings[moment : moment + 2]
        slowdowns = chain.from_iterable(map(self._slowdowns, readings))
        is_calm = self.is_own_doing or all(map(self._is_calm, readings))
        return {"machine_slowdown": max(slowdowns, default=None), "calm": is_calm}

    def _is_calm_now(self) -> bool:
        return self._is_calm(self._readings[-1])

    def _is_calm(self, reading: Reading) -> bool:
        limits = [sentinel.calm_within for sentinel, _ in self.sentinels]
        return all(map(operator.le, self._slowdowns(reading), limits))

    def _slowdowns(self, reading: Reading) -> list[float]:
        pairs = zip(self.sentinels, reading, strict=True)
        return [sentinel.slowdown(seconds) for (sentinel, _), seconds in pairs]

    def _wait(self, *, at_least_once: bool) -> int:
        """Until it is calm, or patience is over; how often it has looked.

        What has just been calm is looked at once more in any case, to see whether that helps.
        """
        waited_before_s, begun, polls = self.waited_s, time.monotonic(), 0
        while not self._is_calm_now():
            if self.lost_s >= self.patience_s and not (at_least_once and polls == 0):
                break
            time.sleep(POLL_S)
            self._read()
            polls += 1
            self.waited_s = waited_before_s + time.monotonic() - begun
            if self.waited_s >= self._next_told_s and not self._is_calm_now():
                self._next_told_s = self.waited_s + AGAIN_S
                self.on_wait(max(self._slowdowns(self._readings[-1])))
        return polls
