"""A number with its 95 % interval, also of sums, differences and ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runner.stats.intervals import ratio_interval


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval, which are blank where nothing is known of it.

    In sums and differences the distances from the value to the ends add in quadrature, each side
    with its own, and in ratios the same on logarithms (MOVER, as in ``intervals.ratio_interval``).
    The values are taken to be independent.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return self.low is not None and self.high is not None

    def times(self, factor: float) -> Estimate:
        """Multiplied by a positive number without an error."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, low, high)

    def plus(self, other: Estimate) -> Estimate:
        """The sum."""
        value = self.value + other.value
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Estimate(value)
        below = math.hypot(self.value - self.low, other.value - other.low)
        above = math.hypot(self.high - self.value, other.high - other.value)
        return Estimate(value, value - below, value + above)

    def minus(self, other: Estimate) -> Estimate:
        """The difference."""
        low, high = (None if end is None else -end for end in (other.high, other.low))
        return self.plus(Estimate(-other.value, low, high))

    def over(self, other: Estimate) -> Estimate:
        """The ratio of positive values, with an interval only where all ends are positive too."""
        value = self.value / other.value
        ends = (self.low, self.high, other.low, other.high)
        if any(end is None or end <= 0 for end in ends):
            return Estimate(value)
        low, high = ratio_interval((self.value, *ends[:2]), (other.value, *ends[2:]))  # type: ignore[arg-type]
        return Estimate(value, low, high)


def extreme(which: Callable[[Iterable[float]], float], estimates: Sequence[Estimate]) -> Estimate:
    """The least (``min``) or largest (``max``) of several, with ends where all of them have any."""

    def of(ends: list[float | None]) -> float | None:
        known = [end for end in ends if end is not None]
        return which(known) if len(known) == len(ends) else None

    low = of([estimate.low for estimate in estimates])
    high = of([estimate.high for estimate in estimates])
    return Estimate(which(estimate.value for estimate in estimates), low, high)
