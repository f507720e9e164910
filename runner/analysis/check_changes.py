"""Checks of gradients and tensors in two runs: which of them fail now and did not before?"""

from __future__ import annotations

from collections.abc import Iterable

from runner.analysis.changes import WORSE
from runner.config.axes import AXES, label
from runner.rows.rows import BAD, NON_FAILURES, CaseRow, Row

CHECK = ("probe", "oracle", "argument", "memory_layout", "check", "expression")
"""What tells the checks of a cell apart; jobs differ in which of these they have."""


def newly_wrong(before: Iterable[Row], after: Iterable[Row]) -> list[str]:
    """Each check that fails in one of the later rows and in none of the earlier ones, in words.

    Only of cells that both have. The size does not count, as gradients are checked at sizes that
    nobody asked for.
    """
    earlier = [row for row in before if isinstance(row, CaseRow)]
    known, failed = set(map(_cell_of, earlier)), set(map(_check_of, filter(_is_wrong, earlier)))
    wrong = (row for row in after if isinstance(row, CaseRow) and _is_wrong(row))
    new = (row for row in wrong if _cell_of(row) in known and _check_of(row) not in failed)
    return list(dict.fromkeys(map(_in_words, new)))


def _cell_of(row: CaseRow) -> tuple[object, ...]:
    return (row.job, row.case, *(getattr(row, name) for name in AXES if name != "size"))


def _check_of(row: CaseRow) -> tuple[object, ...]:
    return (*_cell_of(row), *(getattr(row, name, None) for name in CHECK))


def _is_wrong(row: CaseRow) -> bool:
    is_worse = row.status in WORSE or row.status not in NON_FAILURES
    return is_worse or getattr(row, "verdict", None) in BAD


def _in_words(row: CaseRow) -> str:
    said = (getattr(row, name, None) for name in CHECK)
    return ": ".join(filter(None, [label(row.job, row), " ".join(filter(None, said))]))
