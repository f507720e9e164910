"""Whether sides of a run's comparison are slower than their baseline, by more than is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.analysis.changes import Changes, changes
from runner.analysis.comparison import Speedup
from runner.analysis.pairs import Pairs
from runner.config.schema import Compare
from runner.rows.rows import BenchmarkRow, PairVisit, Row, grouped


def against_baseline(
    compared: Sequence[Speedup],
    rows: Iterable[Row],
    visits: Iterable[PairVisit],
    margin: float,
    settings: Compare,
) -> Changes:
    """The comparisons as changes from the baseline to the other side, by the rules of ``job=ab``.

    What was not measured in turn has no verdict there, so that it could show nothing.
    """
    benchmarks = (row for row in rows if isinstance(row, BenchmarkRow))
    rows_of = grouped(benchmarks, lambda row: row.cell)
    before: list[BenchmarkRow] = []
    after: list[BenchmarkRow] = []
    baseline_of: dict[str, str] = {}
    for one in compared:
        if one.baseline_cell is not None:
            baseline_of[one.other_cell] = one.baseline_cell
            after += rows_of[one.other_cell]
            before += [replace(row, cell=one.other_cell) for row in rows_of[one.baseline_cell]]
    as_one_cell = [
        replace(visit, baseline_cell=visit.other_cell)
        for visit in visits
        if baseline_of.get(visit.other_cell) == visit.baseline_cell
    ]
    return changes(
        [before],
        [after],
        margin=margin,
        slower_than=settings.slower_than,
        more_instructions=math.inf,
        pairs=Pairs(as_one_cell),
    )
