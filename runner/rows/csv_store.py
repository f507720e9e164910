"""The CSVs of a run: written whole or not at all, and read with care."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from functools import cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from runner.cells.cell import SCHEMA_VERSION
from runner.config.renamed import RENAMED
from runner.rows.older_schemas import schema_of
from runner.rows.rows import (
    FILE_OF_JOB,
    PAIRS_FILE,
    ROW_OF_JOB,
    AnyRow,
    BenchmarkRow,
    PairVisit,
    Row,
    Sample,
    columns_of,
    grouped,
)

Record = TypeVar("Record", Sample, PairVisit)


class DamagedFile(Exception):
    """A CSV is not as it was written: cut short, altered, or of another schema."""


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with a header and a checksum each; a reader sees all of them or the file before.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    columns = columns_of(type(rows[0]))
    values_of = attrgetter(*columns)
    owns: list[Mapping[str, Any]] = [getattr(row, "own", {}) for row in rows]
    own_columns = list(dict.fromkeys(chain.from_iterable(owns)))
    lines = [[*columns, *own_columns, "schema", "checksum"]]
    for position, (row, own) in enumerate(zip(rows, owns, strict=True), start=1):
        values = [_text(value) for value in (*values_of(row), *map(own.get, own_columns))]
        values.append(str(SCHEMA_VERSION))
        lines.append([*values, _ended(_begun(values, position), len(rows))])
    write_atomically(path, csv_text(lines))


def write_table(path: Path, columns: Sequence[str], items: Iterable[object]) -> None:
    """Write the named attributes of each item as a line of a CSV.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    write_atomically(path, csv_text([columns, *map(attrgetter(*columns), items)]))


def write_records(path: Path, records: Sequence[Sample] | Sequence[PairVisit]) -> None:
    """Write raw measurements: the blocks of a cell, or the visits of a pair.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    header = [f.name for f in fields(records[0])]
    write_atomically(path, csv_text([header, *map(astuple, records)]), durable=False)


def read_records(path: Path, record: type[Record]) -> list[Record]:
    """Read what :func:`write_records` wrote.

    Raises:
        OSError: the file cannot be read.
        KeyError, ValueError, TypeError: it is not what was written.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        renamed = RENAMED.get(path.name, {})
        header = [renamed.get(name, name) for name in next(lines, [])]
        parse = _parsers(record, header)
        return [record(**dict(zip(header, _values(parse, line), strict=True))) for line in lines]


def read_rows(path: Path, row_type: type[AnyRow]) -> list[AnyRow]:
    """Read what :func:`write_rows` wrote, now or in an older release with fewer columns.

    Raises:
        DamagedFile: the header is no schema's, or a row is not what was written.
        OSError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _read(path, csv.reader(file), row_type)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path}: {error}") from error


def _read(path: Path, lines: Iterator[list[str]], row_type: type[AnyRow]) -> list[AnyRow]:
    """Rows one by one, so that only they are kept; checksums hold their number, and come last."""
    header = next(lines, [])
    file = next(FILE_OF_JOB[job] for job, of_job in ROW_OF_JOB.items() if of_job is row_type)
    own_columns = header[len(columns_of(row_type)) : -2] if row_type is BenchmarkRow else []
    known = [name for name in header if name not in own_columns]
    schema = schema_of(known, columns_of(row_type), file, SCHEMA_VERSION)
    if schema is None:
        whose = f"that of schema {SCHEMA_VERSION}, nor of an older one"
        raise DamagedFile(f"{path}: the header is not {whose}")
    older = schema != SCHEMA_VERSION
    renamed = RENAMED.get(file, {}) if older else {}
    columns = [renamed.get(name, name) for name in known[:-2]]
    parse = [*_parsers(row_type, columns), *([_number_or_text] * len(own_columns))]
    rows: list[AnyRow] = []
    sums = []
    for position, line in enumerate(lines, start=1):
        try:
            values = _values(parse, line[:-2])
        except ValueError as error:
            raise _altered(path, position) from error
        sums.append((_begun(line[:-1], position), line[-1], line[-2]))
        row = dict(zip(columns, values, strict=False))
        if own_columns:
            row["own"] = dict(zip(own_columns, values[len(columns) :], strict=True))
        rows.append(row_type(**(_with_todays_values(file, row) if older else row)))
    if not rows:
        raise DamagedFile(f"{path}: no row is left")
    for position, (begun, written, of_schema) in enumerate(sums, start=1):
        if _ended(begun, len(rows)) != written:
            raise _altered(path, position)
        if of_schema != str(schema):
            raise DamagedFile(f"{path}: line {position + 1} is of schema {of_schema}, not {schema}")
    return rows


def _with_todays_values(file: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of an older release with today's names of what stands in its columns."""
    for column, value in row.items():
        row[column] = RENAMED.get(f"{file} {column}", {}).get(value, value)
    return row


def _altered(path: Path, position: int) -> DamagedFile:
    line = f"line {position + 1} was altered, or lines after it are missing"
    return DamagedFile(f"{path}: {line}")


def collect(root: Path, job: str) -> tuple[list[Row], list[str]]:
    """Every row of a job below a run's folder, and what could not be read.

    Where a cell stands in several folders, as after a sweep was taken up again in another order,
    the last to be written counts.

    Returns:
        the rows in the order of the jobs' numbers, and a line for each damaged file.
    """
    of_cell: dict[str, tuple[int, list[Row]]] = {}
    damaged: list[str] = []
    whole = root / FILE_OF_JOB[job]
    for path in files_of_jobs(root, job) or ([whole] if whole.is_file() else []):
        try:
            rows = read_rows(path, ROW_OF_JOB[job])
            written_ns = path.stat().st_mtime_ns
        except (DamagedFile, OSError) as error:
            damaged.append(str(error))
            continue
        for cell, its_rows in grouped(rows, attrgetter("cell")).items():
            if cell not in of_cell or of_cell[cell][0] < written_ns:
                of_cell[cell] = (written_ns, its_rows)
    return list(chain.from_iterable(its_rows for _, its_rows in of_cell.values())), damaged


def collect_pairs(root: Path) -> tuple[list[PairVisit], list[str]]:
    """Every visit to pairs of cells below a run's folder, and a line for each unreadable file."""
    folders = [path.parent for path in files_of_jobs(root, "benchmark")] or [root]
    visits: list[PairVisit] = []
    damaged = []
    for path in (folder / PAIRS_FILE for folder in folders):
        if not path.is_file():
            continue
        try:
            visits += read_records(path, PairVisit)
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            damaged.append(f"{path}: is not what was written: {error!r}")
    return visits, damaged


def files_of_jobs(root: Path, job: str) -> list[Path]:
    """What a sweep's cells left, in the order of their numbers; nothing for a run of one cell."""
    with os.scandir(root) as entries:
        names = sorted((entry.name for entry in entries if entry.is_dir()), key=_job_number)
    # thousands, for which Path takes its time
    paths = (os.path.join(root, name, FILE_OF_JOB[job]) for name in names)
    return [Path(path) for path in paths if os.path.isfile(path)]


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file's content in one step.

    Args:
        path: the file.
        text: its new content.
        durable: wait until the content is on the disk.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def csv_text(table: Iterable[Iterable[object]]) -> str:
    """A table as CSV: blank for None, every digit of a float, as :func:`_text` has it."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


def _begun(values: Sequence[str], position: int) -> hashlib._Hash:
    """The beginning of a row's checksum, which covers its values and its place among all."""
    return hashlib.sha256("\x1f".join([*values, f"{position}/"]).encode())


def _ended(begun: hashlib._Hash, total: int) -> str:
    """The checksum, with the number of all rows, so that a missing one is noticed too."""
    begun.update(str(total).encode())
    return f"x{begun.hexdigest()[:12]}"


def _text(value: object) -> str:
    """A value as a CSV has it: blank for None, every digit of a float, a tuple's items spaced."""
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _job_number(name: str) -> tuple[int, str]:
    number = name.partition("_")[0]
    return (int(number) if number.isdigit() else 0, name)


Parser = Callable[[str], Any]


def _parsers(
    record: type[Row] | type[Sample] | type[PairVisit], columns: Sequence[str]
) -> list[Parser]:
    types = {f.name: str(f.type).partition(" | ")[0] for f in fields(record)}
    return [_PARSE[types[name]] for name in columns]


def _values(parse: Sequence[Parser], line: Sequence[str]) -> list[Any]:
    pairs = zip(parse, line, strict=True)
    return [read(text) if text or read is _words else None for read, text in pairs]


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@cache
def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PARSE: dict[str, Parser] = {
    "str": sys.intern,
    "int": int,
    "float": float,
    "bool": "True".__eq__,
    "tuple[str, ...]": _words,
}
"""How a column's text is read where it is not blank; texts that recur are kept only once."""
