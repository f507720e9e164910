"""A ratio whose logarithm is normally distributed, and what can be said of it. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from runner.stats.sequential import ERROR

NORMAL = NormalDist()
REACH = NORMAL.inv_cdf(1 - ERROR / 2)  # standard deviations, of a 95 % interval to each side


@dataclass(frozen=True)
class LogEstimate:
    """A logarithm and its standard deviation."""

    value: float
    deviation: float

    @classmethod
    def of_interval(cls, value: float, low: float, high: float) -> LogEstimate:
        """That of a ratio with its 95 % interval."""
        return cls(math.log(value), math.log(high / low) / (2 * REACH))

    @property
    def low(self) -> float:
        """The lower end of the ratio's 95 % interval."""
        return math.exp(self.value - REACH * self.deviation)

    @property
    def high(self) -> float:
        """The upper end of the ratio's 95 % interval."""
        return math.exp(self.value + REACH * self.deviation)

    def smallest_difference(self, margin: float) -> float:
        """The least relative difference that the interval tells from what counts as the same."""
        return math.expm1(math.log1p(margin) + REACH * self.deviation)

    def p_value(self, margin: float) -> float:
        """The two-sided p value of the hypothesis that the ratio lies within the margin."""
        return min(1.0, 2 * self.tail(abs(self.value) - math.log1p(margin)))

    def p_slower(self, allowed: float) -> float:
        """The p value of the hypothesis that a speed-up is no slowdown by more than is allowed."""
        return self.tail(-self.value - math.log1p(allowed))

    def tail(self, distance: float) -> float:
        """How likely chance alone lies so far from the truth, to one side."""
        return NORMAL.cdf(-distance / self.deviation) if self.deviation else float(distance <= 0)
