"""What a run found, in a few numbers: they are read first, on the page and in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover, curve_of
from runner.analysis.questions import Sentence, cells_of, estimate_of
from runner.rows.flags import has_failed_check
from runner.rows.rows import BAD, AutogradRow, BenchmarkRow, Row, grouped
from runner.stats.estimate import Estimate

MOST_SIDES = 4  # that are compared with the baseline, each with its best and worst
NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Finding:
    """A number and what it is of.

    Attributes:
        tone: faster, slower, unclear, wrong or right.
        number: a ratio with its interval, or a count.
        sentence: what follows the number.
    """

    tone: str
    number: Estimate | int
    sentence: Sentence


def findings(
    rows: Sequence[Row], speedups: Sequence[Speedup], crossings: Iterable[Crossover]
) -> list[Finding]:
    """The surest gain and loss of each side that is compared, and whether results are right."""
    curves = {
        curve_of(crossing): crossing for crossing in crossings if crossing.transfers == "none"
    }
    found: list[Finding] = []
    for of_side in list(grouped(speedups, lambda speedup: speedup.other).values())[:MOST_SIDES]:
        faster = [speedup for speedup in of_side if speedup.verdict == "faster"]
        slower = [speedup for speedup in of_side if speedup.verdict == "slower"]
        if faster:
            # by the interval's near end: the luckiest of many lead by value
            found.append(_gain(max(faster, key=lambda speedup: speedup.low or 0.0), curves))
        if slower:
            found.append(_loss(min(slower, key=lambda speedup: speedup.high or 1.0)))
    if speedups and not found:
        found.append(_none(speedups))
    return [*found, *_checked(rows)]


def _none(speedups: Sequence[Speedup]) -> Finding:
    verdicts = Counter(speedup.verdict for speedup in speedups)
    baseline = f"{speedups[0].axis}={speedups[0].baseline}"
    counts = {"same": verdicts["same"], "unclear": verdicts["unclear"], "none": verdicts[None]}
    values = {"count": len(speedups), "baseline": baseline, **counts}
    return Finding("unclear", 0, Sentence("find_none", values))


def _gain(speedup: Speedup, curves: Mapping[Any, Crossover]) -> Finding:
    ratio, values = estimate_of(speedup), _values(speedup)
    curve = curves.get(curve_of(speedup))
    if curve is None or curve.state != "found":
        return Finding("faster", ratio, Sentence("find_faster", values, cells_of(speedup)))
    unit, at, _, _ = curve.location
    values["at"] = Sentence(unit, {"count": at})
    return Finding("faster", ratio, Sentence("find_faster_from", values, cells_of(speedup)))


def _loss(speedup: Speedup) -> Finding:
    low, high = (1 / end if end else None for end in (speedup.high, speedup.low))
    ratio = Estimate(1 / (speedup.speedup or 1.0), low, high)
    return Finding("slower", ratio, Sentence("find_slower", _values(speedup), cells_of(speedup)))


def _values(speedup: Speedup) -> dict[str, object]:
    names = [speedup.op, speedup.size, speedup.dtype][: 2 if speedup.axis == "dtype" else 3]
    sides = {"other": speedup.other, "baseline": speedup.baseline}
    said = {side: f"{speedup.axis}={value}" for side, value in sides.items()}
    return {"what": " ".join(names), **said}


def _checked(rows: Sequence[Row]) -> list[Finding]:
    """How many cells fail a check, or how many were checked and are right."""
    timed = [row for row in rows if isinstance(row, BenchmarkRow) and row.status == "ok"]
    wrong: list[Row] = [row for row in timed if has_failed_check(row.flags)]
    gradients = [row for row in rows if isinstance(row, AutogradRow)]
    wrong += [row for row in gradients if row.verdict in BAD]
    by_cell = {row.cell: row for row in wrong}
    if by_cell:
        names = [f"{row.op} {row.size} {row.dtype} {row.device}" for row in by_cell.values()]
        named = ", ".join(
            [*names[:NAMED_AT_MOST], *(["..."] if len(names) > NAMED_AT_MOST else [])]
        )
        sentence = Sentence("find_wrong", {"named": named}, tuple(by_cell)[:NAMED_AT_MOST])
        return [Finding("wrong", len(by_cell), sentence)]

    compared = [row for row in timed if row.max_relative_error is not None]
    if not compared:
        return []
    shares = [
        (row.max_relative_error or 0.0) / row.allowed_relative_error
        for row in compared
        if row.allowed_relative_error
    ]
    passed = sum(row.gradient == "pass" for row in timed)
    values = {"count": len(timed), "worst": max(shares, default=0.0), "gradients": passed}
    return [Finding("right", len(compared), Sentence("find_right", values))]
