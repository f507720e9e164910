"""The page's tables: each number with its row, each row with the command that repeats it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from runner.analysis.analysis import Analysis
from runner.analysis.changes import Change
from runner.analysis.comparison import UNCLEAR, Speedup, is_disturbed
from runner.analysis.findings import is_its_own_reference
from runner.analysis.operation_changes import NAMES, OperationChange
from runner.config.axes import FURTHER, NAMED
from runner.report.figures.names import anchor
from runner.report.language import Words, amount, ratio_text
from runner.report.page.command import Reproducer
from runner.report.tables import Table, translated
from runner.rows.flags import FLAGS
from runner.rows.rows import FILE_OF_JOB, BenchmarkRow, Row, varying
from runner.units import digits, unit_of

MOST_LINES = 1000  # of a table: a browser sorts and searches them at once; the CSV has them all
RAW = ("points", "script")  # columns for programs


@dataclass(frozen=True)
class Entry:
    """What stands in a table's line below one of its columns."""

    text: str
    sort: float | str | None = None  # what it is sorted by; None: its text
    href: str | None = None  # the row, on this page, that it comes from
    code: bool = False  # whether the text is a command


@dataclass(frozen=True)
class Listing:
    """A table."""

    key: str  # its id on the page
    title: str
    # each column's name, and what it holds: name, number, text or command
    header: tuple[tuple[str, str], ...]
    # the id of each line's row, or nothing, and its entries
    lines: tuple[tuple[str | None, tuple[Entry, ...]], ...]
    file: str  # the CSV that has all of its lines
    total: int  # how many there are in it
    common: str = ""  # what all lines share


Item = TypeVar("Item")


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column: its name, what it holds, and how an item's entry is made."""

    head: str
    kind: str
    entry: Callable[[Item], Entry]


def comparison_listing(
    analysis: Analysis, distinguishing: Sequence[str], words: Words
) -> Listing | None:
    """Both times and their ratio; ``distinguishing`` are the columns in which rows differ too."""
    speedups, report = analysis.speedups, analysis.report
    if not speedups:
        return None
    disturbed = {row.cell for row in analysis.benchmarks if is_disturbed(row)}

    # both sides lead to their rows, and so does the ratio
    def time(seconds: float | None, cell: str | None) -> Entry:
        return _number(seconds, "s", words, _link(cell), doubtful=cell in disturbed)

    def baseline(pair: Speedup) -> Entry:
        return time(pair.baseline_s, pair.baseline_cell)

    def other(pair: Speedup) -> Entry:
        return time(pair.other_s, pair.other_cell)

    axis = report.axis
    columns: list[Column[Speedup]] = [
        *_named([key for key in (*NAMED, *distinguishing) if key != axis], words),
        Column(axis, "name", lambda pair: Entry(pair.other)),
        Column(f"{axis}={report.value}", "number", baseline),
        Column(words["other_time"], "number", other),
        Column(words["speedup"], "number", lambda pair: _ratio(pair, words)),
        Column(words["interval"], "number", lambda pair: _ends(pair, words)),
        Column(words["verdict"], "name", lambda pair: _verdict(pair, words)),
        Column(words["smallest_difference"], "number", lambda pair: _seen(pair, words)),
        Column(
            words["in_turn"], "number", lambda pair: Entry(str(pair.paired or "–"), pair.paired)
        ),
        Column(
            words["why_no_ratio"], "text", lambda pair: Entry(_reason(pair.reason or "", words))
        ),
    ]
    return _listing("comparison", words["comparison"], columns, speedups, file="speedup.csv")


def table_listing(table: Table, words: Words) -> Listing:
    """A table of the terminal as it is, with what its lines have in common in its title."""
    kinds = ["name" if n < table.words else "number" for n in range(len(table.header))]
    header = tuple(
        (translated(head, words), kind) for head, kind in zip(table.header, kinds, strict=True)
    )
    lines = tuple(
        (None, tuple(Entry(translated(text, words)) for text in line))
        for line in table.lines[:MOST_LINES]
    )
    title, common = translated(table.title, words), ", ".join(map("=".join, table.common))
    total = len(table.lines) + table.more
    return Listing(table.title.lower(), title, header, lines, "report.md", total, common)


def change_listing(changes: Sequence[Change], words: Words, file: str) -> Listing:
    """Each cell of two runs: both times, their ratio, and what else is not as it was."""

    def said(change: Change) -> Entry:
        return Entry("; ".join(filter(None, (change.reason, change.changed))))

    further = varying(changes, FURTHER)
    columns: list[Column[Change]] = [
        *_named([*NAMED, *further], words),
        Column(words["before"], "number", lambda change: _number(change.before_s, "s", words)),
        Column(words["after"], "number", lambda change: _number(change.after_s, "s", words)),
        Column(words["speedup"], "number", lambda change: _ratio(change, words)),
        Column(words["interval"], "number", lambda change: _ends(change, words)),
        Column(words["smallest_difference"], "number", lambda change: _seen(change, words)),
        Column(words["verdict"], "name", lambda change: _verdict(change, words)),
        Column(words["changed"], "text", said),
    ]
    ids = [change.after_cell for change in changes]  # which the findings lead to
    return _listing("changes", words["table_changes"], columns, changes, file=file, ids=ids)


def operation_listing(operations: Sequence[OperationChange], words: Words, file: str) -> Listing:
    """Each operation of two runs: the mean speed-up of its cells."""
    named = [*NAMES[:1], *varying(operations, NAMES[1:])]
    columns: list[Column[OperationChange]] = [
        *_named(named, words),
        Column(words["table_cells"], "number", lambda of: Entry(of.of_cells, of.cells)),
        Column(words["speedup"], "number", lambda of: _ratio(of, words)),
        Column(words["interval"], "number", lambda of: _ends(of, words)),
        Column(words["smallest_difference"], "number", lambda of: _seen(of, words)),
        Column(words["verdict"], "name", lambda of: _verdict(of, words)),
    ]
    return _listing("operations", words["table_operations"], columns, operations, file=file)


def row_listing(
    rows: Sequence[BenchmarkRow],
    distinguishing: Sequence[str],
    reproducer: Reproducer,
    words: Words,
) -> Listing | None:
    """Every cell: its time, what was checked, its flags, or why it did not run."""
    if not rows:
        return None

    def of_time(value: float | None, unit: str, row: BenchmarkRow) -> Entry:
        return _number(value, unit, words, doubtful=is_disturbed(row))

    def gradient(row: BenchmarkRow) -> Entry:
        return Entry(words.get(f"gradient_{row.gradient}", row.gradient or ""))

    known = {f.name for f in fields(BenchmarkRow)}
    types = dict.fromkeys(map(type, rows))  # of a newer release, with columns of its own
    further = dict.fromkeys(f.name for f in chain.from_iterable(map(fields, types)))
    columns: list[Column[BenchmarkRow]] = [
        *_named([*NAMED, *distinguishing], words),
        Column(words["time"], "number", lambda row: of_time(row.median_s, "s", row)),
        Column(words["interval"], "number", lambda row: _time_interval(row, words)),
        Column(words["rate"], "number", lambda row: of_time(row.flop_per_s, "FLOP/s", row)),
        Column(words["bytes_rate"], "number", lambda row: of_time(row.bytes_per_s, "B/s", row)),
        Column(words["error"], "number", lambda row: _checked(row, words)),
        Column(words["gradient"], "name", gradient),
        Column(words["flags"], "name", lambda row: Entry(" ".join(row.flags))),
        *_named([name for name in further if name not in known], words),
        Column(words["status"], "text", lambda row: Entry(_status(row, words), row.status)),
        Column(words["command"], "command", lambda row: Entry(reproducer.command(row), code=True)),
    ]
    ids = [row.cell for row in rows]  # which the other tables lead to
    return _listing("rows", words["rows"], columns, rows, file="results.csv", ids=ids)


def job_listing(rows: Sequence[Row], reproducer: Reproducer, words: Words) -> Listing:
    """The rows of any other job, with each column that holds anything."""
    of_every_job = {f.name for f in fields(Row)}
    all_fields = chain.from_iterable(map(fields, dict.fromkeys(map(type, rows))))
    names = dict.fromkeys(f.name for f in all_fields)
    of_this_job = [name for name in names if name not in (*of_every_job, *RAW)]
    columns: list[Column[Row]] = []
    for key in (*NAMED, *of_this_job):
        values = [getattr(row, key, None) for row in rows]
        if any(value is not None for value in values):
            number = any(isinstance(value, int | float) for value in values)
            entry = partial(_plain, key, words)
            columns.append(Column(_head(key, words), "number" if number else "name", entry))
    columns += [
        Column(words["status"], "text", lambda row: Entry(_status(row, words))),
        Column(words["command"], "command", lambda row: Entry(reproducer.command(row), code=True)),
    ]

    # a cell may have several rows, of which the first has its id
    ids: list[str | None] = []
    for row in rows[:MOST_LINES]:
        ids.append(None if row.cell in ids else row.cell)
    job = rows[0].job
    title = words.get(f"job_{job}", job)
    return _listing(job, title, columns, rows, file=FILE_OF_JOB[job], ids=ids)


def _listing(
    key: str,
    title: str,
    columns: Sequence[Column[Item]],
    items: Sequence[Item],
    *,
    file: str,
    ids: Sequence[str | None] | None = None,
) -> Listing:
    header = tuple((column.head, column.kind) for column in columns)
    shown = items[:MOST_LINES]
    entries = [tuple(column.entry(item) for column in columns) for item in shown]
    anchors = [cell and anchor(cell) for cell in (ids or [None] * len(shown))[:MOST_LINES]]
    lines = tuple(zip(anchors, entries, strict=False))
    return Listing(key, title, header, lines, file, len(items))


def _reason(reason: str, words: Words) -> str:
    """Why there is no ratio or verdict, in the language; a row's own reason stays as it was."""
    if words["language"] == "en":
        return reason
    for name, flag in FLAGS.items():
        reason = reason.replace(flag.why, words.get(f"flag_{name}", flag.why))
    for name, why in UNCLEAR.items():
        reason = reason.replace(why, words[f"unclear_{name}"])
    side, colon, status = reason.rpartition(": ")
    reason = f"{side}{colon}{words.get(f'status_{status}', status)}"
    reason = reason.replace("was not measured", words["not_measured"])
    return reason.replace("was not timed", words["not_timed"])


def _seen(item: Speedup | Change | OperationChange, words: Words) -> Entry:
    """The smallest difference that a verdict could have been given of."""
    if (difference := item.smallest_difference) is None:
        return Entry("–", -1.0)
    return Entry(f"{digits(100 * difference, 2)} %".replace(".", words["decimal"]), difference)


def _verdict(item: Speedup | Change | OperationChange, words: Words) -> Entry:
    return Entry(words[f"verdict_{item.verdict}"] if item.verdict else "–")


def _ratio(item: Speedup | Change | OperationChange, words: Words) -> Entry:
    text = ratio_text(item.speedup, words) if item.speedup else "–"
    return Entry(text, item.speedup or -1.0, _link(getattr(item, "other_cell", None)))


def _ends(item: Speedup | Change | OperationChange, words: Words) -> Entry:
    if item.speedup is None or item.low is None or item.high is None:
        return Entry("", -1.0)
    ends = f"{digits(item.low, 3)} – {digits(item.high, 3)}".replace(".", words["decimal"])
    return Entry(ends, item.low)


def _time_interval(row: BenchmarkRow, words: Words) -> Entry:
    low, high = row.ci_low_s, row.ci_high_s
    if row.median_s is None or low is None or high is None:
        return Entry("", -1.0)
    ends = f"{amount(low, 's', words, 4)} – {amount(high, 's', words, 4)}"
    return Entry(f"({ends})" if is_disturbed(row) else ends, low)


def _checked(row: BenchmarkRow, words: Words) -> Entry:
    error, allowed = row.max_relative_error, row.allowed_relative_error
    if error is None or is_its_own_reference(row):
        return Entry("", -1.0)
    text = "" if allowed is None else f"{error:.1e} / {allowed:.1e}"
    return Entry(text.replace(".", words["decimal"]), error)


def _status(row: Row, words: Words) -> str:
    status = words.get(f"status_{row.status}", row.status)
    return status + (f": {row.reason}" if row.reason else "")


def _plain(key: str, words: Words, row: Row) -> Entry:
    """A value of any column; the unit of a number is in the column's name."""
    value = getattr(row, key, None)
    if value is None:
        return Entry("")
    if isinstance(value, bool):
        return Entry(words["yes" if value else "no"])
    if not isinstance(value, int | float):
        return Entry(str(value))
    unit = unit_of(key)
    if unit and value:
        return Entry(amount(value, unit, words, 4), value)
    return Entry(f"{value:.4g}".replace(".", words["decimal"]), value)


def _named(keys: Sequence[str], words: Words) -> list[Column[Any]]:
    """The columns that name an item, by their keys; blank where it has no such value."""

    def entry(key: str, item: object) -> Entry:
        value = getattr(item, key, None)
        return Entry("" if value is None else str(value))

    return [Column(_head(key, words), "name", partial(entry, key)) for key in keys]


def _head(key: str, words: Words) -> str:
    return words["operation"] if key == "op" else words.get(key, key)


def _link(cell: str | None) -> str | None:
    return f"#{anchor(cell)}" if cell else None


def _number(
    value: float | None, unit: str, words: Words, href: str | None = None, *, doubtful: bool = False
) -> Entry:
    """A number with its unit, in brackets where it says little."""
    if value is None:
        return Entry("–", -1.0, href)
    text = amount(value, unit, words, 4)
    return Entry(f"({text})" if doubtful else text, value, href)
