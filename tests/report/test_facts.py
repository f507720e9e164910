"""What the page says first of how a run was measured."""

from collections.abc import Sequence

from runner.report.language import ENGLISH
from runner.report.page.facts import facts_of
from runner.rows.rows import BenchmarkRow
from tests.support.factories import row


def sure(found: Sequence[BenchmarkRow]) -> str:
    """How surely the times are known."""
    return dict(facts_of(found, {}, ENGLISH))["How surely"]


def test_intervals_are_told_of_calm_times_and_of_few_the_widest_alone() -> None:
    narrow, wide = row(spread=0.0095), row(spread=0.011)
    assert sure([narrow, wide]) == "2 of 2 times have a 95 % interval, the widest ±1.1 %."
    assert sure([*[narrow] * 18, *[wide] * 12]) == (
        "30 of 30 times have a 95 % interval, within ±0.95 % for half of them and within ±1.1 % "
        "for 95 of 100."
    )
    short, busy = row(ci_low_s=None, ci_high_s=None), row(spread=0.5, flags=("contended",))
    assert sure([narrow, short, busy]) == (
        "1 of 3 times have a 95 % interval, the widest ±0.95 %. 1 have too few samples for one "
        "(timing.max_time_s=5 takes more). 1 are flagged contended or slow_machine, and their "
        "intervals are not counted."
    )
    assert sure([busy]).startswith("No time of a calm moment has an interval. 1 are flagged")
