"""The end of a run: its files, the table on the screen, and what did not run and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.analysis import comparison, crossover
from runner.analysis.analysis import Analysis, analyse
from runner.config.schema import Report
from runner.errors import ConfigError
from runner.report.language import Words, words_of
from runner.report.markdown import markdown_of
from runner.report.publish import drawing, pictures_of, write_page
from runner.report.tables import (
    Table,
    autograd_table,
    benchmark_table,
    crossover_table,
    derivations_table,
    peaks_table,
    print_answers,
    print_table,
    tensors_table,
    transfer_table,
)
from runner.rows.csv_store import write_atomically, write_table
from runner.rows.environment_file import read_environment
from runner.rows.rows import BenchmarkRow, RoofRow, Row, TensorRow, TransferRow

NAMED_AT_MOST = 2
ENGLISH = words_of("en")  # what the terminal speaks


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
    words = words_of(report.language or "en")
    environment: dict[str, Any] = {}
    with suppress(ConfigError):  # a damaged file has no say in whether there is a report
        environment = read_environment(root)
    with drawing(root, words, len(rows)) as draw:
        found = analyse(rows, damaged, report)
        pictures = pictures_of(found, words)
        draw(pictures)
        for name, columns, items in (
            ("speedup.csv", comparison.COLUMNS, found.speedups),
            ("crossover.csv", crossover.COLUMNS, found.crossovers),
        ):
            (root / name).unlink(missing_ok=True)
            if items:
                write_table(root / name, columns, items)
        tables = _tables(found)
        notes = {words["language"]: _notes(root, found, cells, words) for words in (ENGLISH, words)}
        about = notes[words["language"]]
        write_atomically(root / "report.md", markdown_of(found, tables, about, pictures.titles, words))
        for table in tables:
            print_table(table)
        if any(one.speedup is not None for one in found.speedups):
            print_answers(found.answers)
        for note in notes["en"]:
            print(note)
        sys.stdout.flush()
        write_page(root, found=found, pictures=pictures, environment=environment, notes=about, words=words)
    print(f"{len(rows)} rows in {shown_path(root)}", flush=True)
    if damaged:
        print("some files are damaged; their rows are missing above", file=sys.stderr)


def _tables(found: Analysis) -> list[Table]:
    """What of a run can be said in columns."""
    curves = [one for one in found.crossovers if one.sizes > 1]
    tensors = [row for row in found.rows if isinstance(row, TensorRow)]
    peaks = [row for row in found.rows if isinstance(row, RoofRow)]
    transfers = [row for row in found.rows if isinstance(row, TransferRow) and row.status != "unavailable"]
    tables = (
        benchmark_table(found.benchmarks, found.speedups, found.report) if found.benchmarks else None,
        crossover_table(curves) if curves else None,
        autograd_table(found.gradients) if found.gradients else None,
        derivations_table(found.gradients),
        tensors_table(tensors) if tensors else None,
        peaks_table(peaks) if peaks else None,
        transfer_table(transfers) if transfers else None,
    )
    return [table for table in tables if table]


def _notes(root: Path, found: Analysis, cells: int | None, words: Words) -> list[str]:
    """What a reader has to know first: what is not there, did not run, or should not be trusted."""
    missing = (cells or 0) - len({row.cell for row in found.rows})
    absent = words["note_absent"].format(missing=missing, cells=cells, path=shown_path(root))
    damaged = [words["note_damaged"].format(line=line) for line in found.damaged]
    return [absent] * (missing > 0) + [
        *what_is_missing(found.rows, words),
        *what_is_wrong(found.benchmarks, words),
        *what_was_not_saved(found.rows, words),
        *damaged,
    ]


def what_is_wrong(rows: Sequence[BenchmarkRow], words: Words) -> list[str]:
    """What is measured and should not be trusted, by flag, with the figures where they say more."""
    notes = []
    flagged = [row for row in rows if row.flags]
    for flag in ("wrong_values", "wrong_gradient", "mutates_input", "contended"):
        found = [row for row in flagged if flag in row.flags]
        by = ""
        if flag == "wrong_values" and found and found[0].max_relative_error is not None:
            numbers = {
                "error": f"{found[0].max_relative_error:.2g}",
                "allowed": f"{found[0].allowed_relative_error:.2g}",
            }
            by = f": {words['note_by'].format(**numbers)}"
        notes += [f"{len(found)} {flag}{_named(found)}: {words[f'note_{flag}']}{by}"] * bool(found)
    return notes


def what_was_not_saved(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """Peaks that no later run will be compared with."""
    disturbed = sum(isinstance(row, RoofRow) and "contended" in row.flags for row in rows)
    return [words["note_peaks"].format(count=disturbed)] if disturbed else []


def shown_path(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def what_is_missing(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """What did not end in ``ok``, counted by status and reason, the commonest first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.status != "ok":
            groups.setdefault((row.status, row.reason or ""), []).append(row)
    commonest = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [f"{len(group)} {words[f'status_{s}']}{_named(group)}: {reason}" for (s, reason), group in commonest]


def _named(rows: Sequence[Row]) -> str:
    """The cells by name, where they are few."""
    names = [f"{row.op} {row.size} {row.dtype} {row.device}" for row in rows]
    return f" ({', '.join(names)})" if len(names) <= NAMED_AT_MOST else ""
