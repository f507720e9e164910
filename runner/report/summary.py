"""The end of a run: ``speedup.csv``, ``report.md``, the table on the screen, and what did not run and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from runner.config import Report
from runner.report.cases import derivations_table, tensors_table
from runner.report.comparison import Speedup, compare
from runner.report.roofs import roof_table
from runner.report.table import Table, autograd_table, benchmark_table, print_table, transfer_table
from runner.results import AutogradRow, BenchmarkRow, RoofRow, Row, TensorRow, TransferRow, csv_text, write_atomically

NAMED_AT_MOST = 2


def show(root: Path, rows: Sequence[Row], damaged: Sequence[str], report: Report, cells: int | None = None) -> None:
    """Write the report's files into a run's folder and print its tables.

    Args:
        root: the run's folder.
        rows: all of its rows.
        damaged: a line for each file that could not be read.
        report: what to compare with what.
        cells: how many the run is to hold in the end, where that is known.

    Raises:
        OSError: the folder cannot be written.
    """
    benchmarks = [row for row in rows if isinstance(row, BenchmarkRow)]
    gradients = [row for row in rows if isinstance(row, AutogradRow)]
    speedups = compare(benchmarks, report)
    (root / "speedup.csv").unlink(missing_ok=True)
    if speedups:
        header = [f.name for f in fields(Speedup)]
        write_atomically(root / "speedup.csv", csv_text([header, *map(astuple, speedups)]))
    tables = [benchmark_table(benchmarks, speedups, report)] * bool(benchmarks)
    tables += [autograd_table(gradients)] * bool(gradients)
    derivations = derivations_table(gradients)
    tables += [derivations] if derivations else []
    tensors = [row for row in rows if isinstance(row, TensorRow)]
    tables += [tensors_table(tensors)] * bool(tensors)
    roofs = [row for row in rows if isinstance(row, RoofRow)]
    tables += [roof_table(roofs)] * bool(roofs)
    transfers = [row for row in rows if isinstance(row, TransferRow) and row.status != "unavailable"]
    tables += [transfer_table(transfers)] * bool(transfers)
    missing = (cells or 0) - len({row.cell for row in rows})
    notes = [f"{missing} of {cells} cells are not there: resume={shown_path(root)} runs them"] * (missing > 0)
    notes += [*what_is_missing(rows), *what_is_wrong(benchmarks), *(f"damaged, not used: {line}" for line in damaged)]
    write_atomically(root / "report.md", _markdown(root, rows, tables, notes))
    for table in tables:
        print_table(table)
    for note in notes:
        print(note)
    print(f"{len(rows)} rows in {shown_path(root)}", flush=True)
    if damaged:
        print("some files are damaged; their rows are missing above", file=sys.stderr)


def what_is_wrong(rows: Sequence[BenchmarkRow]) -> list[str]:
    """What is measured and should not be trusted, by flag, with the figures where they say more."""
    notes = []
    for flag, what in {
        "wrong_values": "the values are off by more than the dtype explains",
        "wrong_gradient": "the gradient is wrong; job=autograd says by how much",
        "mutates_input": "the operation changes its input",
        "contended": "something else kept the machine busy; these times say little",
    }.items():
        found = [row for row in rows if flag in (row.flags or "").split()]
        error = ""
        if flag == "wrong_values" and found and found[0].max_relative_error is not None:
            error = f": by {found[0].max_relative_error:.2g}, with {found[0].allowed_relative_error:.2g} allowed"
        notes += [f"{len(found)} {flag}{_named(found)}: {what}{error}"] * bool(found)
    return notes


def shown_path(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def what_is_missing(rows: Sequence[Row]) -> list[str]:
    """What did not end in ``ok``, counted by status and reason, the commonest first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.status != "ok":
            groups.setdefault((row.status, row.reason or ""), []).append(row)
    commonest = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [f"{len(group)} {status}{_named(group)}: {reason}" for (status, reason), group in commonest]


def _named(rows: Sequence[Row]) -> str:
    """The cells by name, where they are few."""
    names = [f"{row.op} {row.size} {row.dtype} {row.device}" for row in rows]
    return f" ({', '.join(names)})" if len(names) <= NAMED_AT_MOST else ""


def _markdown(root: Path, rows: Sequence[Row], tables: Sequence[Table], notes: Sequence[str]) -> str:
    lines = ["# opsweep report", "", f"{len(rows)} rows; machine, versions and command in `environment.json`.", ""]
    if notes:
        lines += ["## What did not run, or should not be trusted", "", *(f"- {note}" for note in notes), ""]
    for table in tables:
        lines += [f"## {table.title}", "", "| " + " | ".join(table.header) + " |", "|" + " --- |" * len(table.header)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table.lines]
        lines += [""]
    return "\n".join(lines)
