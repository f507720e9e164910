"""What the page says first of how a run was measured."""

from collections.abc import Sequence

from runner.report.language import ENGLISH
from runner.report.page.facts import facts_of
from runner.rows.rows import AutogradRow, BenchmarkRow, Row, TensorRow
from tests.support.factories import row


def fact(heading: str, found: Sequence[Row], **environment: object) -> str:
    """What the page says below a heading."""
    return dict(facts_of(found, environment, ENGLISH))[heading]


def sure(found: Sequence[BenchmarkRow]) -> str:
    """How surely the times are known."""
    return fact("How surely", found)


def test_intervals_are_told_of_calm_times_and_of_few_the_widest_alone() -> None:
    narrow, wide = row(spread=0.0095), row(spread=0.011)
    assert sure([narrow, wide]) == "2 of 2 times have a 95 % interval, the widest ±1.1 %."
    assert sure([*[narrow] * 18, *[wide] * 12]) == (
        "30 of 30 times have a 95 % interval, within ±0.95 % for half of them and within ±1.1 % "
        "for 95 of 100."
    )
    # of 30 the 29th is the first that 95 of 100 are within
    assert "±1.1 % for 95 of 100" in sure([*[narrow] * 28, wide, row(spread=0.02)])
    short, busy = row(ci_low_s=None, ci_high_s=None), row(spread=0.5, flags=("contended",))
    assert sure([narrow, short, busy]) == (
        "1 of 3 times have a 95 % interval, the widest ±0.95 %. 1 has too few samples for one "
        "(timing.max_time_s=5 takes more). 1 is flagged contended or slow_machine, and "
        "not counted among the intervals."
    )
    assert sure([busy]).startswith("No time of a calm moment has an interval. 1 is flagged")


def test_timed_cells_and_what_was_checked_beside_them_are_counted_apart() -> None:
    names = ("f", "3x5", "float64", "cpu")
    checks = [AutogradRow("a", "autograd", *names) for _ in range(3)]
    tensors = [TensorRow("t", "tensors", *names)]
    assert fact("What was measured", [row(), *checks, *tensors]) == (
        "1 of 1 cell was timed. Operations: add. Sizes: 8x8. Dtypes: float32. Devices: cpu. "
        "Beside them: Gradients: 3, Tensors: 1."
    )
    assert "Beside them" not in fact("What was measured", [row()])


def test_further_axes_of_the_run_are_named_with_their_values() -> None:
    found = [row(threads=1), row(threads=2), row(threads=None)]
    assert fact("What was measured", found).endswith("Devices: cpu. Further axes: threads 1, 2.")
    assert "Further" not in fact("What was measured", found[1:])


def test_a_calibration_says_what_could_be_seen_and_how_calm_it_was() -> None:
    line = {"date": "2026-11-30", "pairs": 8, "alarms": 0}
    # of an earlier release
    assert fact("What can be seen here", [row()], calibration=[line]).endswith("95 % confidence).")
    lines = [
        {**line, "smallest_difference": seen, "calm_share": share}
        for seen, share in ((0.015, 0.9), (0.032, 0.7), (None, 0.2))
    ]
    told = fact("What can be seen here", [row()], calibration=lines)
    assert told.startswith("2026-11-30: In 0 of 24 pairs")
    assert "Differences from 1.5 to 3.2 % could be seen" in told
    assert "60 % of the visits were calm" in told


def test_cells_that_a_rule_leaves_out_are_counted_with_what_was_not_measured() -> None:
    assert fact("What was not measured", [row()], excluded=2) == "left out by exclude: 2"
    assert fact("What was not measured", [row()]) == "Nothing: every cell has a result."
