"""Resuming a sweep: finished cells stay, and what they were measured with has to be the same."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.cells.cell import Cell
from runner.cells.comparison import process_count
from runner.config.axes import AXES, label
from runner.config.cases import Case, read_case
from runner.config.hydra_internals import check_size
from runner.config.implementation import DEFAULT
from runner.config.operation import Operation
from runner.config.renamed import with_todays_names
from runner.config.schema import Compare
from runner.errors import ConfigError, one_line, unknown
from runner.execute.user_code import edited, packages_of
from runner.files import LEFTOVER, bounded_text
from runner.rows.csv_store import collect, files_of_jobs, read_visits
from runner.rows.environment_file import all_environments, read_environment
from runner.rows.flags import FLAGS
from runner.rows.rows import (
    FILE_OF_JOB,
    NON_FAILURES,
    PAIRS_FILE,
    STATUSES,
    BenchmarkRow,
    Row,
    grouped,
)

NAMING = tuple(axis for axis in AXES.values() if axis.name != "threads")
BUILD_LIMIT = re.compile(r"stopped after limit\.build_time_s=(\S+) s")
"""What the reason of a row says that was ended by it, and not by ``limit_time_s``."""
LEFT = ("timeout", "out_of_memory", "unsupported", "unavailable", "contended", "slow_machine")


def read_all_rows(root: Path) -> list[Row]:
    """Every row that can be read below ``root``, of all jobs.

    The run's own tables do not stand in for folders that are damaged or gone: these run again.
    """
    files = files_of_jobs(root).items()
    found = (collect(root, job, of_job).rows for job, of_job in files)
    return list(chain.from_iterable(found))


def is_damaged(root: Path) -> bool:
    """Whether there are rows that cannot be read."""
    files = files_of_jobs(root).items()
    return any(collect(root, job, of_job).damaged for job, of_job in files)


def words_to_retry(retry: str | Sequence[object] | None) -> set[str]:
    """The statuses and flags of ``retry``; ConfigError where one is none."""
    words = {retry} if isinstance(retry, str) else set(map(str, retry or ()))
    allowed = [*STATUSES[1:], *FLAGS]
    for word in words - set(allowed):
        raise unknown(f"retry={word} is no status and no flag", word, allowed)
    return words


def unfinished(
    rows_on_disk: Sequence[Row], cells: Sequence[Cell], again: Collection[str], retry: set[str]
) -> list[int]:
    """The positions of the cells without final rows, and of those that are to run ``again``.

    The latter are identities; statuses and flags of ``retry`` are not final.
    """
    rows_of = grouped(rows_on_disk, attrgetter("cell"))

    def is_finished(cell: Cell) -> bool:
        rows = rows_of.get(cell.identity) if cell.identity not in again else None
        return rows is not None and all(_is_final(row, cell, retry) for row in rows)

    return [number for number, cell in enumerate(cells) if not is_finished(cell)]


def _is_final(row: Row, cell: Cell, retry: set[str]) -> bool:
    if not retry.isdisjoint({row.status, *getattr(row, "flags", ())}):
        return False
    if isinstance(row, BenchmarkRow) and row.status == "ok":
        return (row.processes or 1) >= cell.processes
    before, now = row.limit_memory_bytes, cell.limit.memory_bytes
    if row.status == "out_of_memory" and before is not None:
        return now is not None and now <= before
    if row.status == "timeout" and (built := BUILD_LIMIT.search(row.reason or "")):
        return float(f"{cell.limit.build_time_s:g}") <= float(built[1])  # as it is written
    if row.status == "timeout" and row.limit_time_s is not None:
        return cell.limit.time_s <= row.limit_time_s
    return row.status in NON_FAILURES


def half_compared(root: Path, cells: Sequence[Cell], compare: Compare) -> set[str]:
    """The cells of which not all processes have made their visits, by identity.

    Rounds are in the order of the cells: what lies before one that has had its turn in the last
    process has had it too, and where it has no visits of it, that process has died.
    """
    cell_of = {cell.identity: cell for cell in cells}
    found: set[str] = set()
    for table in reversed(files_of_jobs(root)["benchmark"]):
        visits, _ = read_visits(table.with_name(PAIRS_FILE))
        latest = {visit.other_cell: visit.process for visit in visits}
        lacking = [
            name
            for name, process in latest.items()
            if name in cell_of and process < process_count([cell_of[name]] * 2, compare)
        ]
        if latest and not lacking:
            break
        found |= set(lacking)
    return found


def depends_on_machine(row: Row, cell: Cell) -> bool:
    """Whether a cell that did not run might do so with other devices, compilers or versions."""
    return row.status in ("unavailable", "unsupported") and not cell.infeasible_reason


def measured_with_other_code(
    root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]
) -> dict[str, str]:
    """The cells that were measured with other code than there is now: what has changed of it."""
    environments = all_environments(root)
    cell_of = {cell.identity: cell for cell in cells}
    changes = cache(
        lambda made_with, packages: edited(environments[made_with].get("code") or {}, packages)
    )
    changed = {}
    for row in rows_on_disk:
        cell = cell_of.get(row.cell)
        if cell and row.environment in environments:
            packages = frozenset(packages_of(cell.definition, cell.backend_module))
            if names := changes(row.environment, packages):
                changed[row.cell] = ", ".join(names)
    return changed


def what_was_left(rows: Sequence[Row]) -> str:
    """What a resumed sweep has left as it was, and what would run it again; blank: nothing."""
    told = chain(*((row.status, *getattr(row, "flags", ())) for row in rows))
    counts = Counter(word for word in told if word in LEFT)
    if not counts:
        return ""
    counted = ", ".join(f"{count} {word}" for word, count in counts.items())
    because = "nothing that decides them has changed"
    return f"left as they are: {counted}, as {because}; retry=[{','.join(counts)}] runs them again"


def check_same_sweep(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to add a sweep to another one's folder, in which no row has the name of a cell."""
    names = {_name(cell) for cell in cells}
    if rows_on_disk and not any(_name(row) in names for row in rows_on_disk):
        there = len({row.cell for row in rows_on_disk})
        none = (
            f"none of this command's cells ({len(cells)}) exists in that folder (which has {there})"
        )
        raise ConfigError(f"resume={root}: {none}; {_advice(root)}")


def check_grid_holds(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse a folder with cells that the grid lacks; it may have fewer, as of a grid that grew."""
    grid = {cell.identity for cell in cells}
    others = {row.cell: row for row in rows_on_disk if row.cell not in grid}
    if not others:
        return
    row = next(iter(others.values()))
    # a row has threads even where the cell left them open
    names_threads = any(cell.threads for cell in cells)
    name = label(row.job, row, lambda axis: axis != "threads" or names_threads)
    count = f"{len(others)} of {len({row.cell for row in rows_on_disk})}"
    raise ConfigError(
        f"resume={root}: that folder has cells ({count}) that this command (of {len(cells)}) has "
        f"not, such as {name}; "
        f"{_advice(root)}, or say resume_force=true to have them all in one report"
    )


def check_same_cells(root: Path, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Refuse to mix cells of the same name with different definitions, of op file or timing."""
    cell_named = {_name(cell): cell for cell in cells}
    identities = {cell.identity for cell in cells}
    for row in (row for row in rows_on_disk if row.cell not in identities):
        cell = cell_named.get(_name(row))
        if cell is not None and cell.threads in (None, row.threads):
            how = f"was measured with a different definition ({_difference(root, row, cell)})"
            advice = "restore it, or say resume_force=true to measure it again"
            raise ConfigError(f"resume={root}: {cell.label} {how}; {advice}")


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for folder, _, names in os.walk(root):  # thousands, for which Path takes its time
        for name in filter(LEFTOVER.fullmatch, names):
            Path(folder, name).unlink(missing_ok=True)


def _advice(root: Path) -> str:
    command = read_environment(root).get("command") or []
    return f"add resume= to the sweep's own command: python -m runner {shlex.join(command[2:])}"


def _name(item: Row | Cell) -> tuple[Any, ...]:
    """The job and the value on each axis but the threads, which a cell may leave open."""
    values = ((getattr(item, axis.name), axis.default) for axis in NAMING)
    return item.job, *(default if value is None else value for value, default in values)


def _difference(root: Path, row: Row, cell: Cell) -> str:
    config_file = _config_file(root, row)
    if config_file is None or not config_file.is_file():
        return "which was not written down"
    try:
        text = bounded_text(config_file)
        check_size(text)
        return _changes_since(OmegaConf.create(text), cell)
    except Exception as error:  # the file may hold anything
        return f"{config_file} is damaged: {one_line(error, 100)}"


def _changes_since(raw: Any, cell: Cell) -> str:
    """How a cell is defined otherwise than in the configuration that a job was run with."""
    # by today's values of the environment's variables, as the file keeps their names alone
    before: Any = OmegaConf.to_container(raw, resolve=True)
    kind = "case" if cell.case else "op"
    changes = chain(
        _changes(kind, asdict(_definition(before, kind)), asdict(cell.definition)),
        _changes("timing", before["timing"], asdict(cell.timing)),
    )
    variables = sorted(set(re.findall(r"\$\{oc\.env:(\w+)", OmegaConf.to_yaml(raw[kind]))))
    otherwise = f"another value of {' or '.join(variables)}" if variables else ""
    return "; ".join(changes) or otherwise or "the program has changed"


def _config_file(root: Path, row: Row) -> Path | None:
    """Where the configuration of a row's job is, if written; None where no folder has the row."""
    for folder in root.iterdir():
        table = folder / FILE_OF_JOB[row.job]
        with suppress(OSError, ValueError):  # it may be damaged, as another may be
            if row.cell in bounded_text(table):
                return folder / ".hydra" / "config.yaml"
    return None


def _definition(config: Mapping[str, Any], kind: str) -> Operation | Case:
    """The operation or case as it was written down, perhaps by an older release."""
    fields = with_todays_names(config[kind], kind)
    if kind == "op":
        return Operation.from_mapping(fields, "op file").implemented(config.get("impl", DEFAULT))
    if fields.get("expect"):
        fields["expect"] = with_todays_names(fields["expect"], "case expect")
    return read_case(fields)


def _changes(key: str, before: object, now: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _changes(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now and not (before is None and now is False):  # what asks for nothing
        yield f"{key}: {before!r} -> {now!r}"
