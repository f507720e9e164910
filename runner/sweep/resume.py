"""Taking up a sweep where it was left: what is done stays, and what it was done with has to be the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from runner.cells.cell import Cell
from runner.config.axes import AXES, label
from runner.config.cases import Case, read_case
from runner.config.operation import Operation
from runner.config.renamed import with_todays_names
from runner.errors import ConfigError
from runner.rows.csv_store import collect
from runner.rows.environment_file import read_environment
from runner.rows.rows import FILE_OF_JOB, NON_FAILURES, BenchmarkRow, Row


def measured(root: Path) -> list[Row]:
    """Every row that can be read below ``root``, of all jobs."""
    return [row for job in FILE_OF_JOB for row in collect(root, job)[0]]


def unfinished(there: Sequence[Row], cells: Sequence[Cell]) -> list[int]:
    """Which of the cells have to run, by their positions: those without final rows from as many processes as asked."""
    rows: dict[str, list[Row]] = {}
    for row in there:
        rows.setdefault(row.cell, []).append(row)

    def is_final(row: Row, cell: Cell) -> bool:
        short = row.status == "ok" and isinstance(row, BenchmarkRow) and (row.processes or 1) < cell.processes
        return row.status in NON_FAILURES and not short

    return [
        number
        for number, cell in enumerate(cells)
        if cell.identity not in rows or not all(is_final(row, cell) for row in rows[cell.identity])
    ]


def check_same_sweep(root: Path, there: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to add a sweep to another one's folder.

    Raises:
        ConfigError: none of the cells' names is among those that were measured there.
    """
    names = {_name(cell) for cell in cells}
    if there and not any(_name(row) in names for row in there):
        raise ConfigError(
            f"resume={root}: none of this command's {len(cells)} cells is among the {len(there)} there; {_advice(root)}"
        )


def check_grid_holds(root: Path, there: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse a folder in which there is more than the grid has; it may have less, as where the grid has grown.

    Raises:
        ConfigError: the message says how many cells are another sweep's, and names one.
    """
    grid = {cell.identity for cell in cells}
    others = {row.cell: row for row in there if row.cell not in grid}
    if others:
        row = next(iter(others.values()))
        threads_tell = any(cell.threads for cell in cells)  # a row has them even where nobody asked for any
        name = label(row.job, row, lambda axis: axis != "threads" or threads_tell)
        raise ConfigError(
            f"resume={root}: {len(others)} of the {len({row.cell for row in there})} cells there are none of this "
            f"command's {len(cells)}, such as {name}; {_advice(root)}, or say resume_force=true to have "
            "them all in one report"
        )


def is_damaged(root: Path) -> bool:
    """Whether there are rows that cannot be read."""
    return any(collect(root, job)[1] for job in FILE_OF_JOB)


def _advice(root: Path) -> str:
    command = read_environment(root).get("command", [])
    return f"add resume= to the sweep's own command: python -m runner {shlex.join(command[2:])}"


def check_same_cells(root: Path, there: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to mix cells that bear the same name and are not the same.

    Raises:
        ConfigError: a finished cell was of another op file or timing than the one that now has its name.
    """
    now = {_name(cell): cell for cell in cells}
    identities = {cell.identity for cell in cells}
    for row in there:
        cell = now.get(_name(row))
        if row.cell not in identities and cell is not None and cell.threads in (None, row.threads):
            raise ConfigError(
                f"resume={root}: {cell.label} was not the same cell when it was measured: "
                f"{_difference(root, row, cell)}; give that back, or say resume_force=true to measure it again"
            )


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for path in root.rglob(".*.csv.*"):
        path.unlink(missing_ok=True)


def _name(of: Row | Cell) -> tuple[Any, ...]:
    """The job and the value on each axis but the threads, which a cell may leave to the machine; blank is a default."""
    values = {name: getattr(of, name) for name in AXES if name != "threads"}
    return of.job, *(AXES[name].default if value is None else value for name, value in values.items())


def _difference(root: Path, row: Row, cell: Cell) -> str:
    """What of the configuration in a finished job's folder differs from the cell's."""
    for folder in root.iterdir():
        written = folder / FILE_OF_JOB[cell.job]
        if not written.is_file() or row.cell not in written.read_text(encoding="utf-8"):
            continue
        written = folder / ".hydra" / "config.yaml"
        if not written.is_file():
            break
        before = yaml.safe_load(written.read_text(encoding="utf-8"))
        kind = "case" if cell.case else "op"
        was = asdict(_definition(before, kind))
        changed = _changes(kind, was, asdict(cell.definition))
        changed += _changes("timing", before["timing"], asdict(cell.timing))
        return "; ".join(changed) or "the program has changed"
    return "what it was is not written down"


def _definition(config: Mapping[str, Any], kind: str) -> Operation | Case:
    """The operation or case of a configuration as it was written down, perhaps by an older release."""
    fields = with_todays_names(config[kind], kind)
    if kind == "op":
        return Operation.from_mapping(fields, "op file")
    if fields.get("expect"):
        fields["expect"] = with_todays_names(fields["expect"], "case expect")
    return read_case(fields)


def _changes(key: str, before: Any, now: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            text for name in {**before, **now} for text in _changes(f"{key}.{name}", before.get(name), now.get(name))
        ]
    return [] if before == now else [f"{key} was {before} and is {now}"]
