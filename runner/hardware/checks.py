"""What the rows of a step must say, as its stage's file declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from runner.config.formula import evaluate, names_in
from runner.hardware.stages import Step
from runner.rows.flags import has_failed_check
from runner.rows.rows import BAD, Row

MOST_NAMED = 3  # rows that are not as they have to be
Rows = Sequence[Row]  # of one job


@dataclass(frozen=True)
class Finding:
    """What was looked at, what came, and what has to come; a figure has nothing of that."""

    check: str
    got: str
    expected: str = ""
    passed: bool | None = None  # None: it is a figure


def findings_of(step: Step, rows: Rows) -> Iterator[Finding]:
    """Whether the cells of the device ended well, what else was asked of them, and figures."""
    rows = [row for row in rows if row.device != "cpu"]
    lacking = [row for row in rows if step.may_lack and row.status == "unsupported" and row.reason]
    for reason in dict.fromkeys(row.reason for row in lacking):
        yield Finding("unsupported here", str(reason))
    rows = [row for row in rows if row not in lacking]
    if rows or not lacking:
        ended = "cells ended as they have to"
        yield _all(ended, rows, lambda row: row.status in step.statuses.get(row.op, ("ok",)))
        yield _all("values and gradients are right", rows, _is_right)

    ok = [row for row in rows if row.status == "ok"]
    for name, check in step.checks.items():
        chosen = [row for row in ok if _is_chosen(check, row)]
        if ok:
            yield _all(name, chosen, partial(_holds, check))
    for name, figure in step.figures.items():
        values = [(row, _value(figure["value"], row)) for row in ok]
        known = [(row, value) for row, value in values if value is not None]
        for row, value in known if "each" in figure else ():
            of = ", ".join(f"{column}={getattr(row, column)}" for column in figure["each"])
            yield Finding(f"{name}: {of}", f"{value:.4g}")
        if known and "each" not in figure:
            yield Finding(f"{name}: median", f"{median(value for _, value in known):.4g}")


def _all(check: str, rows: Rows, is_right: Callable[[Row], object]) -> Finding:
    """Whether all rows are right, of which there must be one."""
    wrong = [row for row in rows if not is_right(row)]
    named = "".join(
        f"; not {row.op} {row.size} {row.dtype}: {row.reason or row.status}"
        for row in wrong[:MOST_NAMED]
    )
    got = f"{len(rows) - len(wrong)} of {len(rows)}{named}"
    return Finding(check, got, "all", bool(rows) and not wrong)


def _is_right(row: Row) -> bool:
    return not has_failed_check(getattr(row, "flags", ())) and (
        row.status != "ok" or getattr(row, "verdict", None) not in BAD
    )


def _is_chosen(check: Mapping[str, Any], row: Row) -> bool:
    """Whether a check is of this row, which knows the numbers for it."""
    reached = _value(str(check.get("when", "0")), row)
    is_meant = row.op in check.get("of", (row.op,)) and reached is not None and reached >= 0
    return is_meant and _value(check["value"], row) is not None


def _holds(check: Mapping[str, Any], row: Row) -> bool:
    value = _value(check["value"], row)
    least, most = (_value(str(check[end]), row) if end in check else value for end in ENDS)
    return None not in (least, most) and least <= value <= most  # type: ignore[operator]


ENDS = ("least", "most")


def _value(formula: str, row: Row) -> float | None:
    """A formula's value for a row; None where a column that it names is blank."""
    numbers = {k: value for k, value in vars(row).items() if isinstance(value, int | float)}
    return evaluate(formula, numbers) if names_in(formula) <= numbers.keys() else None
