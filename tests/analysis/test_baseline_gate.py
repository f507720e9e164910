"""A gate on a run's comparisons with their baseline."""

import math
from dataclasses import replace

from runner.analysis.baseline_gate import baseline_gate
from runner.analysis.comparison import Speedup, compare
from runner.config.schema import Report
from tests.support.factories import row


def compared(*of: tuple[float, float]) -> list[Speedup]:
    """Comparisons with these speed-ups and half widths of their intervals."""
    rows = [row(dtype=dtype) for dtype in ("float32", "float64")]
    (one,) = compare(rows, Report(baseline={"dtype": "float32"}))
    return [
        replace(
            one,
            speedup=value,
            low=value * math.exp(-width),
            high=value * math.exp(width),
            smallest_difference=2 * width,
        )
        for value, width in of
    ]


def test_what_is_surely_slower_than_allowed_is_named() -> None:
    fine = [(1.0, 0.01)] * 18
    found = baseline_gate(compared(*fine, (0.8, 0.01), (0.5, 0.3)), 0.05)
    assert [round(one.speedup or 0, 2) for one in found.slower] == [0.8, 0.5]
    assert found.can_see and (found.could_show, found.asked) == (19, 20)
    # slower, but not surely by more than 5 %; and among so many one of 1 % is chance
    assert not baseline_gate(compared(*fine, (0.95, 0.02), (0.93, 0.019)), 0.05).slower
    assert baseline_gate(compared((0.93, 0.015)), 0.05).slower
    assert not baseline_gate(compared((0.93, 0.015)), 0.1).slower


def test_a_gate_needs_comparisons_that_could_have_shown_it() -> None:
    assert not baseline_gate([], 0.05).can_see
    assert not baseline_gate(compared(*[(1.0, 0.01)] * 8, *[(1.0, 0.1)] * 2), 0.05).can_see
    assert baseline_gate(compared(*[(1.0, 0.01)] * 9, (1.0, 0.1)), 0.05).can_see
    # what has no interval could have shown nothing, what has no time is not asked
    (one,) = compared((1.0, 0.01))
    blank = replace(one, speedup=None, low=None, high=None, smallest_difference=None)
    assert not baseline_gate([one, blank], 0.05).can_see
    assert baseline_gate([one, replace(blank, other_s=None)], 0.05).can_see
