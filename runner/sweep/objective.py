"""``objective``: the column whose value a job returns, for a sweeper that looks for the best."""

from __future__ import annotations

from collections.abc import Sequence

from runner.cells.cell import Cell
from runner.errors import CellFailed, ConfigError, suggestion
from runner.rows.columns import numbers_of
from runner.rows.rows import ROW_OF_JOB, Row


def check_objective(column: str | None) -> None:
    """Refuse an objective that is no column of numbers."""
    numbers = set[str]().union(*map(numbers_of, ROW_OF_JOB.values()))
    if column is not None and column not in numbers:
        problem = f"objective={column} is no column of numbers{suggestion(column, numbers)}"
        raise ConfigError(f"{problem}; give one such as median_s (job=schema lists them)")


def objective_of(cell: Cell, rows: Sequence[Row], column: str) -> float:
    """A cell's value in that column; CellFailed where it has none, or has not run."""
    for row in rows:
        if (value := getattr(row, column, None)) is not None:
            return float(value)
    why = "it is left out by exclude"
    if rows:
        why = ", ".join(filter(None, (rows[0].status, rows[0].reason)))
    raise CellFailed(f"{cell.label}: objective={column} is blank: {why}")
