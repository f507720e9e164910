"""Whether a side of a run's comparison is slower than its baseline, by more than is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.analysis.changes import ENOUGH, GATE_ERROR
from runner.analysis.comparison import Speedup
from runner.stats.holm import holding_together
from runner.stats.log_estimate import LogEstimate


@dataclass(frozen=True)
class BaselineGate:
    """What a run's comparisons say to a gate."""

    slower: Sequence[Speedup]  # surely slower than their baseline by more than allowed
    could_show: int  # comparisons that could have shown such a difference
    asked: int  # of so many whose two sides have a time

    @property
    def can_see(self) -> bool:
        """Whether enough of them could, and there are any."""
        return 0 < ENOUGH * self.asked <= self.could_show


def baseline_gate(compared: Sequence[Speedup], slower_than: float) -> BaselineGate:
    """Judge comparisons by a gate that allows a relative difference of ``slower_than``.

    The chance that any of them is wrongly called slower is 1 %.
    """
    asked = [one for one in compared if one.baseline_s is not None and one.other_s is not None]
    could_show = sum((one.smallest_difference or math.inf) <= slower_than for one in asked)
    p_values = {
        position: LogEstimate.of_interval(one.speedup, one.low, one.high).p_slower(slower_than)
        for position, one in enumerate(asked)
        if one.speedup is not None and one.low is not None and one.high is not None
    }
    found = holding_together(p_values, GATE_ERROR, len(p_values))
    return BaselineGate([asked[position] for position in sorted(found)], could_show, len(asked))
