"""Fixed small kernels that tell how slow the machine is at a moment.

A machine that others share has phases of seconds in which everything takes longer, and nothing in
it says so. The kernels are bound by arithmetic, by memory and by what a call costs: phases slow
them as they slow an operation that is bound alike.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch

from runner.measure.host_clock import Clock
from runner.measure.kernels import OF_MACHINE, Kernels
from runner.measure.switches import neutral
from runner.stats.intervals import quantile

CALM = 1.15  # slower than at the machine's best by less than this: calm
BEST = 0.05  # quantile of whole seconds that stands for the best: one lucky moment is not it
SECONDS_KEPT = 600
FEWEST_SECONDS = 20  # of which a low quantile is more than one lucky second
RELEARN_AFTER_S = 300  # seconds of looking: a bad minute is no other machine


class Sentinel:
    """The kernels on one device, with one number of threads, and what they took so far.

    Args:
        device: where they run.
        clock: that of what is measured there.
        best: seconds of each kernel when this machine is at its best; None: not known yet.
        is_of_latest: whether that is of the latest runs alone, which gave an older one up.
        kernels: what is timed.
    """

    calm_within = CALM

    def __init__(
        self,
        device: torch.device,
        clock: Clock,
        best: Sequence[float] | None,
        *,
        is_of_latest: bool = False,
        kernels: Kernels = OF_MACHINE,
    ) -> None:
        self._clock, self.known = clock, best
        self._neutral = partial(neutral, device)
        with self._neutral():
            self._kernels = kernels.on(device, clock)
        # of the seconds that are over, and the readings of the one that is not
        self._of_seconds: deque[tuple[float, ...]] = deque(maxlen=SECONDS_KEPT - 1)
        self._in_second: list[tuple[float, ...]] = []
        self._second = -1
        self.own_best: tuple[float, ...] = ()  # a low quantile of whole seconds of this process
        self._readings_s: deque[float] = deque(maxlen=5)  # that the latest readings took
        self.began_s = time.time()
        self.seconds = self.kept_seconds = 0  # in which it was read, and until it was last kept
        self._last_s = -math.inf
        self.has_relearned = False  # whether the known best was given up
        self.is_of_latest = is_of_latest

    @property
    def rested_s(self) -> float:
        """Seconds since the last reading."""
        return self._clock.now() - self._last_s

    @property
    def reading_s(self) -> float:
        """Seconds that a reading takes, as a rule."""
        return median(self._readings_s) if self._readings_s else 0.0

    @property
    def latest(self) -> tuple[float, ...]:
        """The latest reading; nothing before the first."""
        return self._in_second[-1] if self._in_second else ()

    def read(self) -> tuple[float, ...]:
        """Seconds that a call of each kernel takes now."""
        begun = self._clock.now()
        with self._neutral():
            reading = tuple(kernel.read(self._clock) for kernel in self._kernels)
        self._last_s = self._clock.now()
        self._readings_s.append(self._last_s - begun)
        if int(self._last_s) != self._second:
            if self._in_second:
                self._of_seconds.append(_medians(self._in_second))
            self._second, self._in_second = int(self._last_s), []
            self.seconds += 1
        self._in_second.append(reading)
        of_seconds = zip(*self._of_seconds, _medians(self._in_second), strict=True)
        self.own_best = tuple(quantile(sorted(times), BEST) for times in of_seconds)
        return reading

    def slowdown(self, reading: Sequence[float]) -> float:
        """How many times longer than at its best the slowest kernel took."""
        return max(map(_over, reading, self.best))

    def relearn(self) -> None:
        """Forget the known best where minutes have passed in which nothing came near it."""
        if self.known is not None and self.seconds >= RELEARN_AFTER_S:
            self.has_relearned = max(map(_over, self.own_best, self.known)) > self.calm_within
            self.known = None if self.has_relearned else self.known

    @property
    def best(self) -> tuple[float, ...]:
        """Seconds of each kernel at this machine's best, as far as it has been seen."""
        if self.known is None:
            return self.own_best
        if self.seconds < FEWEST_SECONDS:
            return tuple(self.known)
        return tuple(map(min, self.known, self.own_best))


def _medians(readings: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(map(median, zip(*readings, strict=True)))


def _over(seconds: float, best: float) -> float:
    return seconds / best if best > 0 else 1.0
