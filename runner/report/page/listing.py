"""The page's tables: each number with the row that it comes from, each row with the command that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.config.axes import NAMED
from runner.config.schema import Report
from runner.report.language import Words, amount, ratio_text
from runner.report.page.command import Reproducer
from runner.rows.flags import FLAGS
from runner.rows.rows import FILE_OF_JOB, BenchmarkRow, Row
from runner.units import digits

MOST_LINES = 1000  # of a table: a browser sorts and searches them at once; the CSV has them all
UNITS = {"flop_per_s": "FLOP/s", "bytes_per_s": "B/s", "_bytes": "B", "_s": "s"}  # by a column's ending
RAW = ("points",)  # columns for programs


@dataclass(frozen=True)
class Entry:
    """What stands in a table's cell.

    Attributes:
        sort: what it is sorted by; blank: its text.
        href: the row, on this page, that it comes from.
        code: whether the text is a command.
    """

    text: str
    sort: float | str | None = None
    href: str | None = None
    code: bool = False


@dataclass(frozen=True)
class Listing:
    """A table.

    Attributes:
        key: its id on the page.
        header: each column's name, and what it holds: name, number, text or command.
        lines: the id of each line's row, or nothing, and its cells.
        file: the CSV that has all of its lines.
        total: how many there are in it.
    """

    key: str
    title: str
    header: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str | None, tuple[Entry, ...]], ...]
    file: str
    total: int


def comparison_listing(
    speedups: Sequence[Speedup], lesser: Sequence[str], report: Report, words: Words
) -> Listing | None:
    """Both times and their ratio; ``lesser`` are the columns that are shown besides since rows differ in them."""
    if not speedups:
        return None
    axis = report.axis
    shown = [key for key in NAMED if key != axis]
    shown += [key for key in lesser if key != axis]
    lines = []
    for s in speedups[:MOST_LINES]:
        base, other = (
            f"#{cell}" if (cell := getattr(s, f"{side}_cell", None)) else None for side in ("baseline", "other")
        )
        ratio = _interval(s.speedup, s.low, s.high, "", words)
        verdict = words[f"verdict_{s.verdict}"] if s.verdict else ""
        entries = [
            *_names(s, shown),
            Entry(s.other),
            _number(s.baseline_s, "s", words, base),
            _number(s.other_s, "s", words, other),
            Entry(ratio_text(s.speedup, words) if s.speedup else "–", s.speedup or -1.0, other),
            Entry(ratio, s.low or -1.0),
            Entry(verdict or "–"),
            Entry(_reason(s.reason or "", words)),
        ]
        lines.append((None, tuple(entries)))
    header = [(_head(key, words), "name") for key in shown]
    header += [(axis, "name"), (f"{axis}={report.value}", "number"), (words["other_time"], "number")]
    header += [(words["speedup"], "number"), (words["interval"], "number"), (words["verdict"], "name")]
    header += [(words["why_no_ratio"], "text")]
    return Listing("comparison", words["comparison"], tuple(header), tuple(lines), "speedup.csv", len(speedups))


def row_listing(
    rows: Sequence[BenchmarkRow], lesser: Sequence[str], reproducer: Reproducer, words: Words
) -> Listing | None:
    """Every cell: its time, what was checked, its flags, or why it did not run."""
    if not rows:
        return None
    shown = [*NAMED, *lesser]
    lines = []
    for row in rows[:MOST_LINES]:
        error = (row.max_relative_error, row.allowed_relative_error)
        checked = f"{error[0]:.1e} / {error[1]:.1e}" if error[0] is not None and error[1] is not None else ""
        entries = [
            *_names(row, shown),
            _number(row.median_s, "s", words, None),
            Entry(_interval(row.median_s, row.ci_low_s, row.ci_high_s, "s", words), row.ci_low_s or -1.0),
            _number(row.flop_per_s, "FLOP/s", words, None),
            _number(row.bytes_per_s, "B/s", words, None),
            Entry(checked.replace(".", words["decimal"]), error[0] if error[0] is not None else -1.0),
            Entry(words[f"gradient_{row.gradient}"] if row.gradient else ""),
            Entry(" ".join(row.flags)),
            Entry(words[f"status_{row.status}"] + (f": {row.reason}" if row.reason else ""), row.status),
            Entry(reproducer.command(row), code=True),
        ]
        lines.append((row.cell, tuple(entries)))
    header = [(_head(key, words), "name") for key in shown]
    header += [(words[key], "number") for key in ("time", "interval", "rate", "bytes_rate", "error")]
    header += [(words[key], "name") for key in ("gradient", "flags")]
    header += [(words["status"], "text"), (words["command"], "command")]
    return Listing("rows", words["rows"], tuple(header), tuple(lines), "results.csv", len(rows))


def crossover_listing(crossings: Sequence[Crossover], lesser: Sequence[str], words: Words) -> Listing | None:
    """From which size on the other side wins, for each operation; only of those that have two sizes to tell from."""
    curves = [one for one in crossings if one.sizes > 1]
    if not curves:
        return None
    axis = curves[0].axis
    shown = [key for key in ("op", "dtype", "device", *lesser) if key not in (axis, "size")]
    lines = []
    for one in curves[:MOST_LINES]:
        square = one.side_high is not None
        ends = [getattr(one, f"{'side' if square else 'elements'}{end}") for end in ("", "_low", "_high")]
        at, low, high = (_count(end, square, words) for end in ends)
        wins = at or (words["at_latest"].format(size=high) if high else words[f"state_{one.state}"])
        entries = [
            *_names(one, shown),
            Entry(one.other),
            Entry(words[f"moved_{one.transfers}"]),
            Entry(wins, one.elements or -1.0),
            Entry(words["from_to"].format(low=low, high=high) if at else "", one.elements_low or -1.0),
            Entry(words["from_to"].format(low=one.smallest, high=one.largest)),
            Entry(str(one.sizes), one.sizes, f"#{one.cells.split()[0]}" if one.cells else None),
        ]
        lines.append((None, tuple(entries)))
    header = [(_head(key, words), "name") for key in shown] + [(axis, "name"), (words["transfers"], "name")]
    header += [(words["wins_from"], "number"), (words["interval"], "number"), (words["measured"], "name")]
    header += [(words["sizes"], "number")]
    return Listing("crossovers", words["crossovers"], tuple(header), tuple(lines), "crossover.csv", len(curves))


def job_listing(rows: Sequence[Row], reproducer: Reproducer, words: Words) -> Listing:
    """The rows of any other job, with each column that holds anything."""
    known = {f.name for f in fields(Row)}
    named = [*NAMED, *(f.name for f in fields(rows[0]) if f.name not in (*known, *RAW))]
    shown = [key for key in named if any(getattr(row, key) is not None for row in rows)]
    lines, seen = [], set()
    for row in rows[:MOST_LINES]:
        entries = [_plain(key, getattr(row, key), words) for key in shown]
        status = words[f"status_{row.status}"] + (f": {row.reason}" if row.reason else "")
        id_ = None if row.cell in seen else row.cell  # a cell may have several rows
        seen.add(row.cell)
        lines.append((id_, (*entries, Entry(status), Entry(reproducer.command(row), code=True))))
    numbers = {key for key in shown if any(isinstance(getattr(row, key), int | float) for row in rows)}
    header = [(_head(key, words), "number" if key in numbers else "name") for key in shown]
    header += [(words["status"], "text"), (words["command"], "command")]
    job = rows[0].job
    title = words.get(f"job_{job}", job)
    return Listing(job, title, tuple(header), tuple(lines), FILE_OF_JOB[job], len(rows))


def _reason(reason: str, words: Words) -> str:
    """Why there is no ratio, in the language; what a row's own reason says stays as it was recorded."""
    if words["language"] == "en":
        return reason
    for name, flag in FLAGS.items():
        reason = reason.replace(flag.why, words.get(f"flag_{name}", flag.why))
    side, colon, status = reason.rpartition(": ")
    reason = f"{side}{colon}{words.get(f'status_{status}', status)}"
    return reason.replace("was not measured", words["not_measured"]).replace("was not timed", words["not_timed"])


def _plain(key: str, value: object, words: Words) -> Entry:
    """A value of any column; the unit of a number is in the column's name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Entry(
            "" if value is None else words["yes" if value else "no"] if isinstance(value, bool) else str(value)
        )
    unit = next((unit for end, unit in UNITS.items() if key.endswith(end)), None)
    if unit is not None and value:
        return Entry(amount(value, unit, words, 4), value)
    return Entry(f"{value:.4g}".replace(".", words["decimal"]), value)


def _count(value: float | None, square: bool, words: Words) -> str:
    """``n = 181``, or elements where the sizes are not n x n."""
    if value is None:
        return ""
    return f"n = {value:.0f}" if square else amount(value, "", words)


def _names(item: BenchmarkRow | Speedup | Crossover, keys: Sequence[str]) -> list[Entry]:
    return [Entry("" if (value := getattr(item, key, None)) is None else str(value)) for key in keys]


def _head(key: str, words: Words) -> str:
    return words.get({"op": "operation"}.get(key, key), key)


def _number(value: float | None, unit: str, words: Words, href: str | None) -> Entry:
    return Entry("–", -1.0, href) if value is None else Entry(amount(value, unit, words, 4), value, href)


def _interval(value: float | None, low: float | None, high: float | None, unit: str, words: Words) -> str:
    if value is None or low is None or high is None:
        return ""
    if unit:
        return f"{amount(low, unit, words, 4)} – {amount(high, unit, words, 4)}"
    return f"{digits(low, 3)} – {digits(high, 3)}".replace(".", words["decimal"])
