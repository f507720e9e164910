"""Ratios as bars on one logarithmic scale, which a page shows beside their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from runner.stats.estimate import Estimate

LEAST_SCALE = 2.0  # so that a difference of a few percent looks like one


@dataclass(frozen=True)
class Bar:
    """Where a ratio and its interval lie on a scale, in percent of its length."""

    value: float
    low: float | None
    high: float | None


class Bars:
    """A scale from 1 to the largest of some ratios, on which each has its bar."""

    def __init__(self, ratios: Iterable[Estimate | None]) -> None:
        ends = [of.high or of.value for of in ratios if of is not None]
        self.are_any = bool(ends)
        self.most = max([LEAST_SCALE, *filter(math.isfinite, ends)])

    def of(self, ratio: Estimate) -> Bar:
        """The bar of one of these ratios."""
        ends = (None, None) if not ratio.has_interval else (ratio.low, ratio.high)
        return Bar(self._place(ratio.value), *(end and self._place(end) for end in ends))

    def _place(self, ratio: float) -> float:
        inside = min(max(ratio, 1.0), self.most)
        return round(100 * math.log(inside) / math.log(self.most), 2)
