"""The CSVs of a run: written whole or not at all, and read with care."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache, partial
from io import StringIO
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TextIO, TypeVar

from runner.cells.cell import SCHEMA_VERSION
from runner.config.renamed import RENAMED
from runner.errors import one_line
from runner.files import (
    LARGEST_BYTES,
    LONGEST_LINE,
    bounded_lines,
    refuse_larger,
    write_atomically,
)
from runner.rows.columns import columns_in, filled, numbers_of, out_of_range, problem_in, problem_of
from runner.rows.environment_file import code_order
from runner.rows.other_schemas import other_row_type, schema_of, with_own_columns
from runner.rows.rows import (
    FILE_OF_JOB,
    PAIRS_FILE,
    ROW_OF_JOB,
    AnyRow,
    PairVisit,
    Row,
    Sample,
    grouped,
)

Record = TypeVar("Record", Sample, PairVisit)
LINES_AT_ONCE = 1_000
BLOCK_BYTES = 2**16  # of a file, at once
MOST_NAMED = 3  # damaged lines of a file
Rank = tuple[bool, bool, int, bool, int]  # which of a cell's rows counts: the highest
IDENTITY = re.compile(rb"^([\w-]+),", re.MULTILINE)  # what a line of rows begins with
CHECKSUM = re.compile(rb",\d{1,9},x[0-9a-f]+\r?$")  # what a row's last line ends with
# which may have several lines; one that a row seems to end in has lost its own end
QUOTED = re.compile(rb'"[^"\n]*(?:(?<!,x[0-9a-f]{12})(?<!,x[0-9a-f]{12}\r)\n[^"\n]*)*"')
FORMULA = re.compile(r"'?[=+@\t\r-]")  # how a text begins that a spreadsheet would calculate
csv.field_size_limit(LONGEST_LINE)


class DamagedFile(Exception):
    """A CSV is not as it was written: cut short, altered, or of another schema."""


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with a header and a checksum each; a reader sees all, or the file before."""
    rows = [with_own_columns(row) for row in rows]
    # those, and rows of a newer release, have columns that others do not have
    types = dict.fromkeys(map(type, rows))
    columns = list(dict.fromkeys(f.name for f in chain.from_iterable(map(fields, types))))
    values_of: Callable[[Row], Sequence[Any]] = attrgetter(*columns)
    if len(types) > 1:
        values_of = partial(_values_where_there, columns)
    texts = ([*map(_text, values_of(row)), str(SCHEMA_VERSION)] for row in rows)
    lines = ([*of, _checksum(of, n, len(rows))] for n, of in enumerate(texts, start=1))
    write_atomically(path, csv_text(chain([[*columns, "schema", "checksum"]], lines)))


def write_records(path: Path, records: Sequence[Any], *, durable: bool = False) -> None:
    """Write records of a kind, a line each: raw measurements, or a report's ``durable`` tables."""
    names = [field.name for field in columns_in(records[0])]
    numbers, values_of = numbers_of(type(records[0])), attrgetter(*names)

    def lines() -> Iterator[Iterable[object]]:
        yield names
        for start in range(0, len(records), LINES_AT_ONCE):
            of_columns = zip(*map(values_of, records[start : start + LINES_AT_ONCE]), strict=True)
            pairs = zip(names, of_columns, strict=True)
            cells = (of if name in numbers else _texts(of) for name, of in pairs)
            yield from zip(*cells, strict=True)

    write_atomically(path, csv_text(lines()), durable=durable)


def read_records(path: Path, record: type[Record]) -> list[Record]:
    """Read what :func:`write_records` wrote; KeyError, ValueError, TypeError: it did not."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(bounded_lines(file))
        renamed = RENAMED.get(path.name, {})
        header = [renamed.get(name, name) for name in next(lines, [])]
        parse = _parsers(record, header)
        return [record(**dict(zip(header, _values(parse, line), strict=True))) for line in lines]


def read_rows(path: Path, row_type: type[AnyRow]) -> list[AnyRow]:
    """Read what :func:`write_rows` wrote, now or in another release with other columns.

    DamagedFile where the header is no schema's, or a row is not what was written.
    """
    rows = []
    for row in _read_lines(path, row_type):
        if isinstance(row, str):
            raise DamagedFile(f"{path}: {row}")
        rows.append(row)
    return rows


def _read_lines(path: Path, row_type: type[AnyRow], job: str = "") -> list[AnyRow | str]:
    """What each line of a file holds: a row, or why it is none; DamagedFile where all is lost.

    With a ``job`` a row whose values cannot be is none, either.
    """
    try:
        refuse_larger(path)
        with path.open("rb") as file_of_bytes:
            blocks = iter(partial(file_of_bytes.read, BLOCK_BYTES), b"")
            first = next(blocks, b"")
            lines = first.count(b"\n") + sum(block.count(b"\n") for block in blocks)
        file: TextIO
        within_bounds: Callable[[TextIO], Iterator[str]] = bounded_lines
        if len(first) < BLOCK_BYTES:  # as thousands of cells' files are
            file, within_bounds = StringIO(first.decode(), newline=""), iter
        else:
            file = path.open(newline="", encoding="utf-8")
        with file:
            rows = _read(csv.reader(within_bounds(file)), row_type, lines - 1, job)
            if len(rows) != lines - 1:  # a value has several lines, or the last one was cut short
                file.seek(0)
                rows = _read(csv.reader(within_bounds(file)), row_type, len(rows), job)
            return rows
    except (csv.Error, ValueError) as error:  # of another encoding, or beyond what is read
        raise DamagedFile(f"{path}: {error}") from error


def _read(
    lines: Iterator[list[str]], row_type: type[AnyRow], total: int, job: str
) -> list[AnyRow | str]:
    """The rows, some lines at a time; checksums hold the ``total`` number of all rows."""
    header, first = next(lines, []), next(lines, [])
    kind: Any = row_type  # for which lru_cache has no type
    layout = _layout(tuple(header), kind)
    if layout is None:
        schema, kind = other_row_type(header, first, kind, SCHEMA_VERSION)
        layout = Layout("", schema, kind, tuple(header[:-2]), _parsers(kind, header[:-2]))
    lines = chain([first] if first else [], lines)
    rows: list[AnyRow | str] = []
    while some := list(islice(lines, LINES_AT_ONCE)):
        for line, row in zip(some, layout.rows(some, job), strict=True):
            rows.append(_unharmed(row, line, len(rows) + 1, total, layout.schema))
    if not rows:
        raise ValueError("no row is left")
    return rows


def _unharmed(
    row: AnyRow | str, line: Sequence[str], position: int, total: int, schema: int
) -> AnyRow | str:
    """A row, or why it is not what was written."""
    if [_checksum(line[:-1], position, total)] != line[-1:]:
        return f"line {position + 1} was altered, or lines after it are missing"
    if line[-2:-1] != [str(schema)]:
        return f"line {position + 1} is of schema {line[-2]}, not {schema}"
    return f"line {position + 1}: {row}" if isinstance(row, str) else row


class Layout(NamedTuple):
    """How the lines of a file are read."""

    file: str
    schema: int
    row_type: Any
    columns: tuple[str, ...]  # by today's names
    parse: Sequence[Parser]  # of each

    def rows(self, lines: Sequence[list[str]], job: str) -> list[Any]:
        """What each line holds: a row, or why it is none; column by column where all are well."""
        if len(lines) > 1 and self.schema >= SCHEMA_VERSION:
            with suppress(ValueError, TypeError):  # a word for a number, or too few of them
                texts = dict(zip(self.columns, list(zip(*lines, strict=True))[:-2], strict=True))
                values = dict(zip(texts, map(_values_of, self.parse, texts.values()), strict=True))
                every = {name: of_text.values() for name, of_text in values.items()}
                if not (job and problem_in(self.row_type, job, lambda n: every.get(n, ()))):
                    return filled(self.row_type, texts, values)
        return [self._row(line, job) for line in lines]

    def _row(self, line: Sequence[str], job: str) -> object:
        try:
            row = dict(zip(self.columns, _values(self.parse, line[:-2]), strict=True))
            if self.schema < SCHEMA_VERSION:
                row = _with_todays_values(self.file, row)
            made = self.row_type(**row)
            return (job and problem_of(made, job)) or made
        except (ValueError, TypeError):
            return _wrong_column(self.columns, self.parse, line)


@lru_cache(maxsize=64)  # thousands of files have few headers
def _layout(header: tuple[str, ...], row_type: type[Row]) -> Layout | None:
    """The layout of a file of this release, or of an earlier one; None: it is of neither."""
    file = next(FILE_OF_JOB[job] for job, of_job in ROW_OF_JOB.items() if of_job is row_type)
    schema = schema_of(header, [f.name for f in fields(row_type)], file, SCHEMA_VERSION)
    if schema is None:
        return None
    renamed = RENAMED.get(file, {}) if schema < SCHEMA_VERSION else {}
    # Python looks a name up by what it is, before it compares its letters with every other one's
    columns = tuple(sys.intern(renamed.get(name, name)) for name in header[:-2])
    return Layout(file, schema, row_type, columns, _parsers(row_type, columns))


def _values_of(read: Parser, texts: Sequence[str]) -> dict[str, Any]:
    """The values of a column's texts, of which most have few."""
    return {text: read(text) if text or read is _words else None for text in set(texts)}


def _wrong_column(columns: Sequence[str], parse: Sequence[Parser], line: Sequence[str]) -> str:
    for column, read, text in zip(columns, parse, line, strict=False):
        try:
            _values([read], [text])
        except ValueError:
            return f"{column} is {one_line(text, 40)}"
    return f"it has not {len(columns)} columns"


def _with_todays_values(file: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of an older release with today's names of what stands in its columns."""
    for column, value in row.items():
        row[column] = RENAMED.get(f"{file} {column}", {}).get(value, value)
    return row


class Collected(NamedTuple):
    """What stands below a run's folder."""

    rows: list[Row]
    damaged: list[str]  # a line for each damaged file
    homes: dict[str, Path]  # of each cell that stands in several folders, that whose row counts


def collect(
    root: Path, job: str, in_folders: Sequence[Path] | None = None, *, own_table: bool = False
) -> Collected:
    """Every row of a job below a run's folder, once; ``in_folders`` is what the folders have of it.

    A cell whose folder is gone has its row in the run's own table, which counts beside the folders
    with ``own_table``. Where a cell stands in several folders, as after a sweep was taken up again
    in another order, one of the latest code counts, of several such one that ended well, and of
    these the last to be written. The rows are in the order of the jobs' numbers.
    """
    of_cell: dict[str, tuple[Rank, list[Row]]] = {}
    folder_of: dict[str, Path] = {}
    repeated: set[str] = set()
    code_number = code_order(root)
    damaged: list[str] = []
    table = root / FILE_OF_JOB[job]
    in_folders = files_of_jobs(root)[job] if in_folders is None else in_folders
    paths = [*in_folders, table] if own_table or not in_folders else in_folders
    for path in paths:
        if path is table and not _has_more(table, of_cell):
            continue
        try:
            rows, problems = _believed(path, job)
            written_ns = path.stat().st_mtime_ns
        except (DamagedFile, OSError) as error:
            damaged.append(str(error))
            continue
        if problems:
            more = len(problems) - MOST_NAMED
            named = [*problems[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
            damaged.append(f"{path}: {'; '.join(named)}")
        by_cell = grouped(rows, attrgetter("cell"))
        for cell, its_rows in by_cell.items():
            ended_well = all(row.status == "ok" for row in its_rows)
            of_code = max(code_number.get(row.environment or "", 0) for row in its_rows)
            rank = (not problems, path is not table, of_code, ended_well, written_ns)
            if cell in of_cell:
                repeated.add(cell)
                if of_cell[cell][0] >= rank:
                    continue
            of_cell[cell], folder_of[cell] = (rank, its_rows), path.parent
        if path is table:  # whose order was that of all folders, when they were there
            of_cell = {cell: of_cell[cell] for cell in (*by_cell, *of_cell)}
    rows = list(chain.from_iterable(its_rows for _, its_rows in of_cell.values()))
    return Collected(rows, damaged, {cell: folder_of[cell] for cell in repeated})


def _believed(path: Path, job: str) -> tuple[list[Row], list[str]]:
    """The rows of a file that can be as they stand there, and what is wrong with the others."""
    rows = _read_lines(path, ROW_OF_JOB[job], job)
    problems = [row for row in rows if isinstance(row, str)]
    return [row for row in rows if not isinstance(row, str)], problems


def _has_more(table: Path, of_cell: Mapping[str, tuple[Rank, Any]]) -> bool:
    """Whether a table may hold what no folder holds whole."""
    whole = {cell for cell, (rank, _) in of_cell.items() if rank[0]}
    return table.is_file() and not (whole and _cells_named(_bytes_of(table)) <= whole)


def loses_nothing(table: Path, rows: Sequence[Row]) -> bool:
    """Whether a table may be replaced by these rows: they are of every cell that it names.

    A line whose name is damaged is counted, so that it is not replaced by nothing.
    """
    if not table.is_file():
        return True
    text = _bytes_of(table)
    named = _cells_named(text)
    of_every_cell = bool(named) and named <= {row.cell for row in rows}
    return of_every_cell and _rows_begun(text) <= len(rows)


def _bytes_of(table: Path) -> bytes:
    """What a table holds but within quotes; nothing of one that is larger than any of ours."""
    return QUOTED.sub(b"", table.read_bytes()) if table.stat().st_size <= LARGEST_BYTES else b""


def _rows_begun(table: bytes) -> int:
    """The lines that begin as a row does, or follow the end of one; a row may have several."""
    lines = table.splitlines()[1:]
    follows = [True, *(bool(CHECKSUM.search(line)) for line in lines)]
    return sum(bool(IDENTITY.match(line)) or end for line, end in zip(lines, follows, strict=False))


def _cells_named(table: bytes) -> set[str]:
    """The cells that a table's lines begin with, also where they are damaged."""
    return {name.decode() for name in IDENTITY.findall(table)} - {"cell"}


def collect_pairs(
    root: Path, homes: Mapping[str, Path], in_folders: Sequence[Path] | None = None
) -> tuple[list[PairVisit], list[str]]:
    """Every visit to pairs of cells below a run's folder, and a line for each unreadable file.

    Of a cell that stands in several folders it is those of the row that counts (``homes``): others
    are of other code, of another node, or of another day.
    """
    in_folders = files_of_jobs(root)["benchmark"] if in_folders is None else in_folders
    visits: list[PairVisit] = []
    damaged = []
    for path in [table.with_name(PAIRS_FILE) for table in in_folders] + [root / PAIRS_FILE]:
        read, problems = read_visits(path)
        damaged += problems
        if path.parent == root and in_folders:
            known = {visit.other_cell for visit in visits}
            read = [visit for visit in read if visit.other_cell not in known]
            if read:  # of cells that were measured again without taking turns they say nothing
                named = map(_cells_named, map(_bytes_of, in_folders))
                known |= set(chain.from_iterable(named))
                read = [visit for visit in read if visit.other_cell not in known]
        folder = path.parent
        visits += [visit for visit in read if homes.get(visit.other_cell, folder) == folder]
    return visits, damaged


def read_visits(path: Path) -> tuple[list[PairVisit], list[str]]:
    """The visits of a file, if there is one, and a line where it is damaged."""
    if not path.is_file():
        return [], []
    try:
        read = read_records(path, PairVisit)
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        return [], [f"{path}: is not what was written: {error!r}"]
    problems = list(filter(None, map(out_of_range, read)))
    if not problems:
        return read, []
    right = [visit for visit in read if not out_of_range(visit)]
    return right, [f"{path}: {len(problems)} visits cannot be: {problems[0]}"]


def files_of_jobs(root: Path) -> dict[str, list[Path]]:
    """What a sweep's cells, but no run within it, left of each job, in order.

    Nothing for a run of one cell.
    """
    found: dict[str, list[Path]] = {job: [] for job in FILE_OF_JOB}
    with os.scandir(root) as entries:  # thousands, for which Path takes its time
        folders = [entry.path for entry in entries if entry.is_dir()]
    for folder in sorted(folders, key=lambda path: _job_number(os.path.basename(path))):
        with suppress(OSError):
            names = set(os.listdir(folder))
            for job, name in FILE_OF_JOB.items():
                is_there = name in names and os.path.isfile(os.path.join(folder, name))
                if is_there and "environment.json" not in names:
                    found[job].append(Path(folder, name))
    return found


def csv_text(table: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table as CSV, some lines at a time: blank for None, every digit of a float."""
    written: list[str] = []
    # what it ends lines with here are the signs that it puts within quotes; all of them end lines
    writer = csv.writer(SimpleNamespace(write=written.append), lineterminator="\r\n")
    lines = iter(table)
    while some := list(islice(lines, LINES_AT_ONCE)):
        writer.writerows(some)
        yield "".join([f"{line[:-2]}\n" for line in written])
        written.clear()


def _checksum(values: Sequence[str], position: int, total: int) -> str:
    """Of a row's values, its place, and the number of all rows, so that a missing one is noticed.

    Of the schema, too, which is the last of the values.
    """
    content = "\x1f".join([*values, f"{position}/{total}"])
    return f"x{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _text(value: object) -> str:
    """A value as a CSV has it: blank for None, every digit of a float, a tuple's items spaced."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _inert(value) if FORMULA.match(value) else value
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _texts(values: Sequence[Any]) -> Iterator[str]:
    """The texts of a column, of which most have few values."""
    return map({value: _text(value) for value in set(values)}.__getitem__, values)


def _inert(text: str) -> str:
    """A text that spreadsheets do not calculate; a number is one, and stays as it is."""
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _plain(text: str) -> str:
    """A text as it was before :func:`_inert`; those that recur are kept only once."""
    return sys.intern(text[1:] if text[:1] == "'" and FORMULA.match(text, 1) else text)


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{text} is neither True nor False")
    return text == "True"


def _values_where_there(columns: Sequence[str], row: Row) -> list[object]:
    return [getattr(row, column, None) for column in columns]


def _job_number(name: str) -> tuple[int, str]:
    number = name.partition("_")[0]
    return (int(number) if re.fullmatch("[0-9]{1,18}", number) else 0, name)


Parser = Callable[[str], Any]


def _parsers(
    record: type[Row] | type[Sample] | type[PairVisit], columns: Sequence[str]
) -> list[Parser]:
    types = {f.name: str(f.type).partition(" | ")[0] for f in fields(record)}
    return [_PARSE[types[name]] for name in columns]


def _values(parse: Sequence[Parser], line: Sequence[str]) -> list[Any]:
    pairs = zip(parse, line, strict=True)
    return [read(text) if text or read is _words else None for read, text in pairs]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PARSE: dict[str, Parser] = {
    "str": _plain,
    "int": int,
    "float": float,
    "bool": _truth,
    "tuple[str, ...]": _words,
}
"""How a column's text is read where it is not blank."""
