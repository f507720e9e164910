"""Resuming a sweep: finished cells stay, and what they were measured with has to be the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from runner.cells.cell import Cell
from runner.config.axes import AXES, label
from runner.config.cases import Case, read_case
from runner.config.operation import Operation
from runner.config.renamed import with_todays_names
from runner.errors import ConfigError
from runner.files import LEFTOVER
from runner.rows.csv_store import collect, write_rows
from runner.rows.environment_file import read_environment
from runner.rows.rows import FILE_OF_JOB, NON_FAILURES, BenchmarkRow, Row


def read_all_rows(root: Path) -> list[Row]:
    """Every row that can be read below ``root``, of all jobs.

    Where files are damaged, the run's own tables do not stand in for them: they are made again.
    """
    own_table = not is_damaged(root)
    found = (collect(root, job, own_table=own_table)[0] for job in FILE_OF_JOB)
    return list(chain.from_iterable(found))


def is_damaged(root: Path) -> bool:
    """Whether there are rows that cannot be read."""
    return any(collect(root, job)[1] for job in FILE_OF_JOB)


def unfinished(rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> list[int]:
    """The positions of the cells without final rows from as many processes as they ask for."""
    rows_of: dict[str, list[Row]] = {}
    for row in rows_on_disk:
        rows_of.setdefault(row.cell, []).append(row)

    def is_finished(cell: Cell) -> bool:
        rows = rows_of.get(cell.identity)
        return rows is not None and all(_is_final(row, cell) for row in rows)

    return [number for number, cell in enumerate(cells) if not is_finished(cell)]


def _is_final(row: Row, cell: Cell) -> bool:
    if isinstance(row, BenchmarkRow) and row.status == "ok":
        return (row.processes or 1) >= cell.processes
    return row.status in NON_FAILURES


def check_same_sweep(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to add a sweep to another one's folder.

    Raises:
        ConfigError: no cell has the name of one that was measured there.
    """
    names = {_name(cell) for cell in cells}
    if rows_on_disk and not any(_name(row) in names for row in rows_on_disk):
        none = f"none of this command's {len(cells)} cells exist in that folder"
        has = f"(which has {len(rows_on_disk)})"
        raise ConfigError(f"resume={root}: {none} {has}; {_advice(root)}")


def check_grid_holds(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse a folder with cells that the grid lacks; it may have fewer, as of a grid that grew.

    Raises:
        ConfigError: the message says how many cells are another sweep's, and names one.
    """
    grid = {cell.identity for cell in cells}
    others = {row.cell: row for row in rows_on_disk if row.cell not in grid}
    if not others:
        return
    row = next(iter(others.values()))
    # a row has threads even where the cell left them open
    names_threads = any(cell.threads for cell in cells)
    name = label(row.job, row, lambda axis: axis != "threads" or names_threads)
    count = f"{len(others)} of the {len({row.cell for row in rows_on_disk})} cells there"
    raise ConfigError(
        f"resume={root}: {count} are none of this command's {len(cells)}, such as {name}; "
        f"{_advice(root)}, or say resume_force=true to have them all in one report"
    )


def check_same_cells(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to mix cells of the same name with different definitions.

    Raises:
        ConfigError: a finished cell was of another op file or timing than the one that now has its
            name.
    """
    for row, cell in _redefined(rows_on_disk, cells):
        how = f"was measured with a different definition ({_difference(root, row, cell)})"
        advice = "restore it, or say resume_force=true to measure it again"
        raise ConfigError(f"resume={root}: {cell.label} {how}; {advice}")


def forget_redefined(root: Path, cells: Sequence[Cell]) -> None:
    """Take out of the run's own tables what is to be measured again by another definition."""
    for job, file in FILE_OF_JOB.items():
        rows = collect(root, job, own_table=True)[0] if (root / file).is_file() else []
        old = {row.cell for row, _ in _redefined(rows, cells)}
        kept = [row for row in rows if row.cell not in old]
        if old and kept:
            write_rows(root / file, kept)
        elif old:
            (root / file).unlink()


def _redefined(rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> Iterator[tuple[Row, Cell]]:
    """The rows that are of another definition than the cell that now has their name."""
    cell_named = {_name(cell): cell for cell in cells}
    identities = {cell.identity for cell in cells}
    for row in rows_on_disk:
        cell = cell_named.get(_name(row))
        if row.cell not in identities and cell is not None and cell.threads in (None, row.threads):
            yield row, cell


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for path in root.rglob(".*.opsweep"):
        if LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _advice(root: Path) -> str:
    command = read_environment(root).get("command") or []
    return f"add resume= to the sweep's own command: python -m runner {shlex.join(command[2:])}"


def _name(item: Row | Cell) -> tuple[Any, ...]:
    """The job and the value on each axis but the threads, which a cell may leave open."""
    names = [name for name in AXES if name != "threads"]
    values = {name: getattr(item, name) for name in names}
    return item.job, *(AXES[n].default if values[n] is None else values[n] for n in names)


def _difference(root: Path, row: Row, cell: Cell) -> str:
    """How the configuration in a finished job's folder differs from the cell's."""
    config_file = _config_file(root, row)
    if config_file is None or not config_file.is_file():
        return "which was not written down"
    before = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    kind = "case" if cell.case else "op"
    changes = chain(
        _changes(kind, asdict(_definition(before, kind)), asdict(cell.definition)),
        _changes("timing", before["timing"], asdict(cell.timing)),
    )
    return "; ".join(changes) or "the program has changed"


def _config_file(root: Path, row: Row) -> Path | None:
    """Where the configuration of a row's job is, if written; None where no folder has the row."""
    for folder in root.iterdir():
        table = folder / FILE_OF_JOB[row.job]
        if table.is_file() and row.cell in table.read_text(encoding="utf-8"):
            return folder / ".hydra" / "config.yaml"
    return None


def _definition(config: Mapping[str, Any], kind: str) -> Operation | Case:
    """The operation or case as it was written down, perhaps by an older release."""
    fields = with_todays_names(config[kind], kind)
    if kind == "op":
        return Operation.from_mapping(fields, "op file")
    if fields.get("expect"):
        fields["expect"] = with_todays_names(fields["expect"], "case expect")
    return read_case(fields)


def _changes(key: str, before: Any, now: Any) -> Iterator[str]:
    """Each value that changed, by its dotted key."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _changes(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield f"{key}: {before!r} -> {now!r}"
