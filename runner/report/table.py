"""The tables that people read, on the screen and in ``report.md``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config import HOW, Report
from runner.report.comparison import Speedup
from runner.results import AutogradRow, BenchmarkRow, TransferRow
from runner.units import digits

MOST_LINES = 200  # on the screen; the files have them all
NARROWEST_LAST = 10  # characters of the column of flags, which may take several lines
PIPED_WIDTH = 160  # where nobody's terminal limits the line


@dataclass(frozen=True)
class Table:
    """Text in columns.

    Attributes:
        words: how many of the first columns are words, and so aligned to the left; the last is too.
    """

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    words: int


def benchmark_table(rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], report: Report) -> Table:
    """Operation, size, dtype, a column of milliseconds for each value of the compared axis, speed-up, flags."""
    axis = report.axis
    values = list(dict.fromkeys(str(getattr(row, axis)) for row in rows))
    values.sort(key=lambda value: value != report.value)
    shown = [key for key in ("op", "size", "dtype", "device") if key != axis]
    varying = [key for key in ("threads", "direction", *HOW, "seed") if len({getattr(row, key) for row in rows}) > 1]
    shown += [key for key in varying if key != axis]
    if len({tuple(getattr(row, key) for key in (*shown, axis)) for row in rows}) < len(rows):
        shown += ["variant"]  # of the op file or the timing; the rows could not be told apart without it
    lines: dict[tuple[str, ...], dict[str, BenchmarkRow]] = {}
    for row in rows:
        lines.setdefault(tuple(str(getattr(row, key)) for key in shown), {})[str(getattr(row, axis))] = row
    ratios = {(tuple(str(getattr(s, key)) for key in shown), s.other): s for s in speedups}
    table = []
    for key, by_value in lines.items():
        claimed = [ratios[key, value] for value in values if (key, value) in ratios]
        flags = dict.fromkeys(flag for row in by_value.values() for flag in (row.flags or "").split())
        speedup = [", ".join(filter(None, map(_ratio, claimed)))] if len(values) > 1 else []
        table.append((*key, *(_milliseconds(by_value.get(value)) for value in values), *speedup, " ".join(flags)))
    heads = {"op": "operation"}
    unit = [f"{value.upper() if axis == 'device' else f'{axis}={value}'} ms" for value in values]
    header = (*(heads.get(key, key) for key in shown), *unit, *(["speed-up"] if len(values) > 1 else []), "flags")
    return Table("Times", header, table, len(shown))


def autograd_table(rows: Sequence[AutogradRow]) -> Table:
    """A line for each operation, dtype and device: how many checks came out how, and the one nearest its bound."""
    groups: dict[tuple[str, str, str], list[AutogradRow]] = {}
    for row in rows:
        groups.setdefault((row.op, row.dtype, row.device), []).append(row)
    lines: list[tuple[str, ...]] = []
    for key, checks in groups.items():
        verdicts = Counter(row.verdict or row.status for row in checks)
        measured = [row for row in checks if row.oracle == "float64_reference"] or checks  # the other is of float64
        worst = max(measured, key=lambda row: (row.max_relative_error or 0.0) / (row.tolerance or 1.0))
        numbers = [f"{v:.1e}" if v is not None else "" for v in (worst.max_relative_error, worst.tolerance)]
        lines.append((*key, *numbers, ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())))
    return Table("Gradients", ("operation", "dtype", "device", "error", "allowed", "verdicts"), lines, 3)


def transfer_table(rows: Sequence[TransferRow]) -> Table:
    """A line for each way between the host and a device."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        way = "" if row.to_device is None else "to device" if row.to_device else "to host"
        latency = [_within(row.latency_low_s, row.latency_s, row.latency_high_s, 1e6)]
        gigabytes = (row.bandwidth_low_bytes_per_s, row.bandwidth_bytes_per_s, row.bandwidth_high_bytes_per_s)
        off = f"{100 * row.off:.1f}" if row.off is not None else ""
        lines.append((row.device, way, row.memory or row.status, *latency, _within(*gigabytes, 1e-9), off))
    return Table("Transfers", ("device", "way", "memory", "latency us", "GB/s", "off the line by %"), lines, 3)


def _within(low: float | None, value: float | None, high: float | None, scale: float) -> str:
    """``5.00 (4.90 to 5.10)``: a value and its interval, in a unit."""
    if value is None:
        return ""
    ends = [digits(end * scale, 3) if end is not None else "?" for end in (low, high)]
    return f"{digits(value * scale, 3)} ({ends[0]} to {ends[1]})"


def print_table(table: Table) -> None:
    """Print within the width of the terminal, in colour there, plain when piped."""
    from rich.console import Console
    from rich.table import Table as RichTable

    widths = [max(map(len, column)) + 1 for column in zip(table.header, *table.lines, strict=True)]
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH, no_color=True)
    if sum(widths[:-1]) + NARROWEST_LAST > console.width:  # a line that wraps is better than a number that is cut off
        console = Console(width=sum(widths), soft_wrap=True)
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    last = len(table.header) - 1
    for position, name in enumerate(table.header):
        words = position < table.words or position == last
        drawn.add_column(name, justify="left" if words else "right", no_wrap=position != last, overflow="fold")
    for line in table.lines[:MOST_LINES]:
        drawn.add_row(*(part.replace("[", "\\[") for part in line))
    console.print(drawn)
    if len(table.lines) > MOST_LINES:
        print(f"... and {len(table.lines) - MOST_LINES} lines more in the CSV")


def _milliseconds(row: BenchmarkRow | None) -> str:
    if row is None or row.status == "unavailable":  # why is said once, beside the table
        return "-"
    return digits(row.median_s * 1_000) if row.median_s is not None else row.status


def _ratio(speedup: Speedup) -> str:
    """``12.3x ±0.5%``: the ratio, and the farther end of its interval."""
    if speedup.speedup is None or speedup.low is None or speedup.high is None:
        return "" if speedup.speedup is None else f"{digits(speedup.speedup, 3)}x"
    apart = max(speedup.high / speedup.speedup, speedup.speedup / speedup.low) - 1
    return f"{digits(speedup.speedup, 3)}x ±{digits(100 * apart, 2)}%"
