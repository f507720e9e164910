"""What a job gives Hydra: a failure where it failed, or the value of the column ``objective``."""

from __future__ import annotations

from collections.abc import Sequence

from runner.cells.cell import Cell
from runner.errors import CellFailed, ConfigError, suggestion
from runner.rows.columns import numbers_of
from runner.rows.rows import NON_FAILURES, ROW_OF_JOB, Row


def check_objective(column: str | None) -> None:
    """Refuse an objective that is no column of numbers."""
    numbers = set[str]().union(*map(numbers_of, ROW_OF_JOB.values()))
    if column is not None and column not in numbers:
        problem = f"objective={column} is no column of numbers{suggestion(column, numbers)}"
        raise ConfigError(f"{problem}; give one such as median_s (job=schema lists them)")


def raise_failure(cell: Cell, rows: Sequence[Row]) -> None:
    """CellFailed where the cell failed or crashed; its row says so too."""
    for row in rows:
        if row.status not in NON_FAILURES:
            raise CellFailed(f"{cell.label}: {row.status}, {row.reason}")


def objective_of(cell: Cell, rows: Sequence[Row], column: str) -> float:
    """A cell's value in that column; CellFailed where it has none, or has not run."""
    for row in rows:
        if (value := getattr(row, column, None)) is not None:
            return float(value)
    why = "it is left out by exclude"
    if rows:
        why = ", ".join(filter(None, (rows[0].status, rows[0].reason)))
    raise CellFailed(f"{cell.label}: objective={column} is blank: {why}")
