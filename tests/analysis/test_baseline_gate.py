"""A gate on a run's comparisons with their baseline."""

import math
from dataclasses import replace
from random import Random
from typing import Any

from runner.analysis.baseline_gate import against_baseline
from runner.analysis.changes import Changes, summary_of
from runner.analysis.comparison import compare
from runner.config.schema import Compare, Report
from runner.rows.rows import BenchmarkRow, PairVisit
from tests.support.factories import row

GATE = Compare(gate=True, slower_than=0.05)
BY_DTYPE = Report(baseline={"dtype": "float32"})


def sides(size: int, **other: Any) -> tuple[BenchmarkRow, BenchmarkRow]:
    """A baseline and its other side."""
    names = [f"{dtype}-{size}" for dtype in ("a", "b")]
    first = row(dtype="float32", size=f"{size}x{size}", cell=names[0])
    return first, row(dtype="float64", size=f"{size}x{size}", cell=names[1], **other)


def visits(size: int, ratio: float, noise: float = 0.01, **of: Any) -> list[PairVisit]:
    """Visits in which the other side is so many times as fast, more or less."""
    draw = Random(size)
    return [
        PairVisit(
            baseline_cell=f"a-{size}",
            other_cell=f"b-{size}",
            visit=number,
            baseline_turn=number % 2,
            other_turn=1 - number % 2,
            baseline_allocation=0,
            other_allocation=1,
            baseline_s=1e-3,
            other_s=1e-3 / ratio * math.exp(draw.gauss(0, noise)),
            machine_slowdown=1.0,
            **{"calm": True, "undisturbed": True, **of},
        )
        for number in range(40)
    ]


def judged(rows: list[BenchmarkRow], pairs: list[PairVisit]) -> tuple[Changes, float]:
    """What became of it, and which share could have shown what is asked."""
    speedups = compare(rows, BY_DTYPE)
    found = against_baseline(speedups, rows, pairs, BY_DTYPE.same_within, GATE)
    return found, summary_of(found, [0.05], 0.05).could_show[0.05]


def test_the_side_that_is_surely_slower_than_allowed_is_named() -> None:
    rows = [side for size in (1, 2, 3) for side in sides(size)]
    pairs = [*visits(1, 1.0), *visits(2, 0.8), *visits(3, 0.97)]
    found, could_show = judged(rows, pairs)
    assert [change.size for change in found.cells if change.is_slower] == ["2x2"]
    assert could_show == 1.0
    restless = [*visits(1, 1.0, 0.3), *visits(2, 0.8, 0.5), *visits(3, 0.97, 0.3)]
    found, could_show = judged(rows, restless)
    assert not any(change.is_slower for change in found.cells) and could_show == 0.0


def test_what_was_withheld_or_not_measured_in_turn_shows_nothing_and_names_nothing() -> None:
    rows = [*sides(1), *sides(2, median_s=9.0)]
    busy = visits(1, 0.5, undisturbed=False, calm=False)
    found, could_show = judged(rows, busy)
    assert not any(change.is_slower for change in found.cells) and could_show == 0.0


def test_a_side_that_is_no_longer_timed_fails_and_one_that_never_is_does_not_count() -> None:
    rows = [*sides(1), *sides(2, status="timeout", median_s=None), *sides(3, flags=("view",))]
    found, _ = judged(rows, visits(1, 1.0))
    ok, timeout, view = found.cells
    assert timeout.became_wrong and not ok.became_wrong
    assert "view" in (view.lost or "")

    both_views = [replace(side, flags=("view",)) for side in sides(2)]
    assert judged([*sides(1), *both_views], visits(1, 1.0))[1] == 1.0
