"""A ratio whose logarithm is normally distributed, and what can be said of it. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.stats.intervals import NORMAL, student_quantile, student_tails
from runner.stats.sequential import ERROR

REACH = NORMAL.inv_cdf(1 - ERROR / 2)  # standard deviations, of a 95 % interval to each side


@dataclass(frozen=True)
class LogEstimate:
    """The natural logarithm of a ratio, such as a speed-up, and its standard deviation.

    Where the deviation is itself known from a few values only, their degrees of freedom count:
    then it is Student's distribution.
    """

    value: float
    deviation: float
    freedom: int | None = None  # degrees of freedom of the deviation; None: it is known

    @classmethod
    def of_interval(
        cls, value: float, low: float, high: float, freedom: int | None = None
    ) -> LogEstimate:
        """That of a ratio with its 95 % interval."""
        reach = cls(0.0, 1.0, freedom).reach(ERROR / 2)
        return cls(math.log(value), math.log(high / low) / (2 * reach), freedom)

    def reach(self, error: float) -> float:
        """What the truth lies beyond, to one side, with such a probability at most."""
        if self.freedom is None:
            return NORMAL.inv_cdf(1 - error) * self.deviation
        return student_quantile(self.freedom, 2 * error) * self.deviation

    @property
    def low(self) -> float:
        """The lower end of the ratio's 95 % interval."""
        return math.exp(self.value - self.reach(ERROR / 2))

    @property
    def high(self) -> float:
        """The upper end of the ratio's 95 % interval."""
        return math.exp(self.value + self.reach(ERROR / 2))

    def p_value(self, margin: float) -> float:
        """The two-sided p value of the hypothesis that the ratio lies within the margin."""
        return min(1.0, 2 * self._tail(abs(self.value) - math.log1p(margin)))

    def p_slower(self, allowed: float) -> float:
        """The p value of the hypothesis that a speed-up is no slowdown by more than is allowed."""
        return self._tail(-self.value - math.log1p(allowed))

    def _tail(self, distance: float) -> float:
        """How likely chance alone lies so far from the truth, to one side."""
        if not self.deviation:
            return float(distance <= 0)
        deviations = distance / self.deviation
        if self.freedom is None:
            return NORMAL.cdf(-deviations)
        tail = student_tails(abs(deviations), self.freedom) / 2
        return tail if deviations > 0 else 1 - tail
