"""The tables that people read, on the screen and in ``report.md``."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from runner.analysis.bill import OF_SIDES, Charge
from runner.analysis.changes import Change
from runner.analysis.comparison import OF_MOMENTS, Speedup, cost_of
from runner.analysis.crossover import Crossover
from runner.analysis.questions import Answer
from runner.config.axes import FURTHER, NAMED, OF_GRADIENTS, values_of
from runner.config.schema import Report
from runner.errors import printable
from runner.report.language import sentence_text
from runner.rows.rows import (
    STATUSES,
    AutogradRow,
    BenchmarkRow,
    NoiseRow,
    PeaksRow,
    TensorRow,
    TransferRow,
    grouped,
    varying,
)
from runner.units import digits

MOST_LINES = 200  # on the screen
MOST_IN_FILE = 2_000  # in report.md; who wants more of them reads the CSV
NARROWEST_LAST = 10  # characters of the column of flags, which may take several lines
IMPORTANCE = {"wrong": 0, "slower": 1, "faster": 2, "unclear": 4, "same": 5}
"""The order of a comparison's lines; what cannot be compared comes between."""
TONES = {"faster": "green", "slower": "red"}
PIPED_WIDTH = 160  # where nobody's terminal limits the line


@dataclass(frozen=True)
class Table:
    """Text in columns."""

    title: str
    header: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]
    words: int  # how many of the first columns are words, aligned to the left; the last is too
    more: int = 0  # how many lines there would be beyond these; the CSV has them
    # what each line's speed-up says, faster, slower or nothing; blank without a speed-up
    tones: tuple[str | None, ...] = ()


def benchmark_table(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], report: Report
) -> Table:
    """Names, milliseconds for each value of the compared axis, speed-up, flags."""
    axis = report.axis
    values = list(dict.fromkeys(map(str, dict.fromkeys(map(attrgetter(axis), rows)))))
    values.sort(key=lambda value: value != report.value)
    compared = len(values) > 1
    shown = _shown_columns(rows, axis)

    # rows that differ along the compared axis alone share a line
    names_of = values_of(*shown)
    by_names: dict[tuple[object, ...], dict[str, BenchmarkRow]] = {}
    for row in rows:
        by_names.setdefault(names_of(row), {})[str(getattr(row, axis))] = row
    ratios = {(names_of(speedup), speedup.other): speedup for speedup in speedups}

    # a ratio stands beside its time, and a flag names its side
    lines, tones = [], []
    for names, by_value in islice(by_names.items(), MOST_IN_FILE):
        line, flags = list(map(str, names)), []
        for value in values:
            side, speedup = by_value.get(value), ratios.get((names, value))
            line.append(_milliseconds(side))
            if value != report.value and compared:
                line.append(_ratio(speedup) or "-")
            if side is not None and side.flags:
                flags.append(" ".join([f"{value}:", *side.flags] if compared else side.flags))
        claimed = {ratios[names, v].verdict for v in values if (names, v) in ratios}
        tones.append(claimed.pop() if len(claimed) == 1 else None)
        lines.append((*line, "; ".join(flags)))

    header = list(map(_head, shown))
    for value in values:
        header.append(f"{value.upper() if axis == 'device' else f'{axis}={value}'} ms")
        header += ["speed-up"] if value != report.value and compared else []
    header.append("flags")
    more = len(by_names) - len(lines)
    return Table("Times", tuple(header), lines, len(shown), more, tuple(tones) if compared else ())


def _shown_columns(rows: Sequence[BenchmarkRow], axis: str) -> list[str]:
    """What names a line: what always does, what else varies, and if need be the variant."""
    shown = [key for key in (*NAMED, *varying(rows, FURTHER)) if key != axis]
    if len(set(map(attrgetter(*shown, axis), rows))) < len(rows):
        shown.append("variant")  # of the op file or the timing
    return shown


def implementations_table(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup]
) -> Table | None:
    """What is known of each implementation at each shape and dtype; None where there is but one."""
    if len({row.impl for row in rows}) < 2:
        return None
    ratios = {speedup.other_cell: _ratio(speedup) for speedup in speedups}
    lines = []
    for row in rows[:MOST_IN_FILE]:
        values = row.checked or "-"
        if "wrong_values" in row.flags:
            values = f"wrong ({values})"
        error = "" if row.error_roundoffs is None else digits(row.error_roundoffs, 2)
        sizes = (row.peak_memory_bytes, row.saved_bytes)
        memory = ["" if size is None else digits(size / 1e6, 3) for size in sizes]
        side = (row.op, str(row.impl), row.size, row.dtype, row.device)
        found = (values, error, row.gradient or "-", _milliseconds(row), *memory)
        lines.append((*side, *found, ratios.get(row.cell) or "-", " ".join(row.flags)))
    names = ("operation", "impl", "size", "dtype", "device", "values", "error u", "gradient")
    header = (*names, "time ms", "peak MB", "saved MB", "speed-up", "flags")
    return Table("Implementations", header, lines, 6, len(rows) - len(lines))


def bill_table(bill: Sequence[Charge]) -> Table:
    """What each call of a model costs, as often as it makes it, the dearest first on each side."""
    further = varying(bill, OF_SIDES)
    lines = []
    for line in bill[:MOST_IN_FILE]:
        names = (line.workload, *(str(getattr(line, name)) for name in further))
        call = {"sum": "all calls", "model": "the model itself"}.get(line.part)
        name = call or line.op.removeprefix(f"{line.workload}.")
        seconds = (line.call_s, line.total_s, line.saved_s)
        each, all_s, saved = ["" if s is None else digits(1_000 * s) for s in seconds]
        share = "" if line.share is None else f"{100 * line.share:.1f}%"
        numbers = (str(line.count), each, all_s, share, _ratio(line) or "-", saved)
        lines.append((*names, name, line.size, *numbers, line.modules or line.reason or ""))
    found = ("count", "call ms", "total ms", "share", "speed-up", "saved ms", "modules")
    header = ("workload", *map(_head, further), "call", "size", *found)
    return Table("Bill", header, lines, 3 + len(further), len(bill) - len(lines))


def crossover_table(crossings: Sequence[Crossover]) -> Table:
    """From which size on the other side wins: a line for each of one curve or more."""
    # the columns that name a curve, and no more of them than tell the curves apart
    axis = crossings[0].axis
    named = [key for key in ("op", "dtype") if key != axis]
    named += [key for key in varying(crossings, ("device", *FURTHER, "node")) if key != axis]
    compared = ["other", *varying(crossings, ["transfers"])]
    if len(set(map(values_of(*named, *compared), crossings))) < len(crossings):
        named.append("variant")

    names_of = values_of(*named, *compared)
    lines = [
        (*map(str, names_of(curve)), _wins_from(curve), f"{curve.smallest} .. {curve.largest}")
        for curve in crossings
    ]
    header = (*map(_head, named), axis, *compared[1:], "wins from", "measured")
    return Table("Crossovers", header, lines, len(named) + len(compared))


def changes_table(changes: Sequence[Change]) -> Table:
    """A line for each cell of two runs: both times, the speed-up, and what else changed."""
    ordered = sorted(changes, key=lambda change: IMPORTANCE.get(_said_first(change), 3))
    further = varying(changes, FURTHER)
    names_of = values_of(*NAMED, *further)
    lines = []
    for change in ordered[:MOST_IN_FILE]:
        times = (change.before_s, change.after_s)
        shown = ["-" if cost is None else digits(cost * 1_000) for cost in times]
        verdict = (_ratio(change), change.verdict or "-")
        said = "; ".join(filter(None, (change.reason, change.changed)))
        lines.append((*map(str, names_of(change)), *shown, *verdict, said))
    header = (*map(_head, (*NAMED, *further)), "before ms", "after ms", "speed-up", "verdict")
    more = len(changes) - len(lines)
    return Table("Changes", (*header, "changed"), lines, len(NAMED) + len(further), more)


def _said_first(change: Change) -> str:
    return "wrong" if change.became_wrong else change.verdict or ""


def _head(key: str) -> str:
    return "operation" if key == "op" else key


def autograd_table(rows: Sequence[AutogradRow]) -> Table:
    """A line for each operation, dtype and device: its verdicts, and the check nearest its bound.

    That one is of the dtype itself where there is such a check; differences are of float64.
    """
    shown = ["op", "dtype", "device", *varying(rows, OF_GRADIENTS)]
    lines = []
    for names, checks in grouped(rows, values_of(*shown)).items():
        decided = [row for row in checks if row.verdict in ("pass", "kink", "fail")] or checks
        failed = [row for row in decided if row.verdict == "fail"]
        of_dtype = [row for row in decided if row.oracle == "float64_reference"]
        worst = max(of_dtype or decided, key=_share_of_tolerance)
        worst = simplest(failed) if failed else worst
        bounds = worst.max_relative_error, worst.tolerance
        numbers = ["" if number is None else f"{number:.1e}" for number in bounds]
        lines.append((*map(str, names), *numbers, _counted_verdicts(checks)))
    header = (*map(_head, shown), "error", "allowed", "verdicts")
    return Table("Gradients", header, lines, len(shown))


def simplest(checks: Sequence[AutogradRow]) -> AutogradRow:
    """The check of the smallest input, and an oracle's before that of a property."""

    def size(row: AutogradRow) -> tuple[bool, int]:
        lengths = map(int, filter(str.isdigit, (row.shape or "").split("x")))
        return row.oracle == "invariant", math.prod(lengths)

    return min(checks, key=size)


def _share_of_tolerance(row: AutogradRow) -> float:
    return (row.max_relative_error or 0.0) / (row.tolerance or 1.0)


def _counted_verdicts(checks: Sequence[AutogradRow] | Sequence[TensorRow]) -> str:
    verdicts = Counter(row.verdict or row.status for row in checks)
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())


def transfer_table(rows: Sequence[TransferRow]) -> Table:
    """A line for each way between the host and a device."""
    lines = []
    for row in rows:
        way = {None: "", True: "to device", False: "to host"}[row.to_device]
        latency = _within(row.latency_s, row.latency_low_s, row.latency_high_s, 1e6)
        ends = row.bandwidth_low_bytes_per_s, row.bandwidth_high_bytes_per_s
        bandwidth = _within(row.bandwidth_bytes_per_s, *ends, 1e-9)
        off = row.max_relative_residual
        residual = "" if off is None else f"{100 * off:.1f}"
        lines.append((row.device, way, row.memory or row.status, latency, bandwidth, residual))
    header = ("device", "way", "memory", "latency us", "GB/s", "off the line by %")
    return Table("Transfers", header, lines, 3)


def _within(value: float | None, low: float | None, high: float | None, scale: float) -> str:
    """``5.00 (4.90 to 5.10)``: a value and its interval, in a unit."""
    if value is None:
        return ""
    ends = [digits(end * scale, 3) if end is not None else "?" for end in (low, high)]
    return f"{digits(value * scale, 3)} ({ends[0]} to {ends[1]})"


def tensors_table(rows: Sequence[TensorRow]) -> Table:
    """A line for each case and device: its code, what was checked, and how that came out."""
    ran = [row for row in rows if row.status != "unavailable"]
    lines = []
    for (case, device), checks in grouped(
        ran, lambda row: (row.case or row.op, row.device)
    ).items():
        checked = dict.fromkeys(row.check for row in checks if row.check)
        code = next((row.expression for row in checks if row.expression), "")
        lines.append((case, device, code, " ".join(checked), _counted_verdicts(checks)))
    return Table("Tensors", ("case", "device", "code", "checked", "verdicts"), lines, 4)


def derivations_table(rows: Sequence[AutogradRow]) -> Table | None:
    """SymPy's derivative of each formula beside autograd's at the declared inputs, if any."""
    lines = []
    for row in rows:
        if row.derivation and row.probe == "example":
            gradients = (row.expected_values or "", row.got_values or "")
            names = (row.case or row.op, row.dtype, row.device)
            lines.append((*names, row.derivation, *gradients, row.verdict or row.status))
    header = ("case", "dtype", "device", "derivative", "exact", "autograd", "verdict")
    return Table("Derivations", header, lines, 6) if lines else None


def peaks_table(rows: Sequence[PeaksRow]) -> Table:
    """A line for each dtype, device and number of threads: both peaks, and what reached them."""
    lines = []
    for row in rows:
        flop = _billions(row, row.flop_per_s), row.flop_by or ""
        moved = _billions(row, row.bytes_per_s), row.bytes_by or ""
        names = row.dtype, row.device, str(row.threads or "")
        lines.append((*names, *flop, *moved, " ".join(row.flags)))
    header = ("dtype", "device", "threads", "GFLOP/s", "by", "GB/s", "by", "flags")
    return Table("Peaks", header, lines, 3)


def noise_table(rows: Sequence[NoiseRow]) -> Table:
    """A line for each operation and size: what can be seen, and what equal sides differed by."""
    lines = []
    for row in rows:
        shares = row.smallest_difference, row.largest_difference, row.calm_share
        seen, equal, calm = ("" if n is None else f"{digits(100 * n, 2)}%" for n in shares)
        names = (row.op, row.size, row.dtype, row.device, row.threads)
        counts = (row.pairs, row.visits, row.alarms)
        numbers = ["" if value is None else str(value) for value in (*names, *counts)]
        lines.append((*numbers, seen, equal, calm))
    names_of = ("operation", "size", "dtype", "device", "threads")
    found = ("pairs", "visits", "alarms", "seen from", "equal sides", "calm")
    return Table("Noise", (*names_of, *found), lines, 5)


def _billions(row: PeaksRow, value: float | None) -> str:
    if value is not None:
        return digits(value / 1e9)
    return "-" if row.status == "unavailable" else row.status


def print_table(table: Table) -> None:
    """Print within the width of the terminal, in colour there, plain when piped."""
    # a line that wraps is better than a number that is cut off
    shown = [tuple(map(printable, line)) for line in table.lines[:MOST_LINES]]
    widths = [max(map(len, column)) + 1 for column in zip(table.header, *shown, strict=True)]
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH, no_color=True)
    if sum(widths[:-1]) + NARROWEST_LAST > console.width:
        console = Console(width=sum(widths), soft_wrap=True)

    # the words are on the left, the numbers on the right, and the flags take what is left
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    last = len(table.header) - 1
    for position, name in enumerate(table.header):
        side: JustifyMethod = "left" if position < table.words or position == last else "right"
        drawn.add_column(name, justify=side, no_wrap=position != last, overflow="fold")

    # statuses, flags and surely faster or slower ratios have their colours
    for number, line in enumerate(shown):
        parts = [Text(part, "yellow" if part in STATUSES else "") for part in line]
        parts[last].stylize("yellow")
        if table.tones:
            parts[last - 1].stylize(TONES.get(table.tones[number] or "", ""))
        drawn.add_row(*parts)

    console.print(drawn)
    more = max(0, len(table.lines) - MOST_LINES) + table.more
    if more:
        print(f"... and {more} lines more in the CSV")


def print_answers(answers: Sequence[Answer]) -> None:
    """Print each question with its shortest answer, which of a bill is all of it.

    It is wrapped on a terminal, and a line each if piped.
    """
    for answer in answers:
        said = answer.sentences if answer.key == "bill" else answer.sentences[:1]
        question = printable(sentence_text(answer.question))
        short = printable(" ".join(map(sentence_text, said)))
        if sys.stdout.isatty():
            Console().print(Text.assemble((question, "bold"), " ", short))
        else:
            print(question, short)


def _milliseconds(row: BenchmarkRow | None) -> str:
    if row is None or row.status == "unavailable":  # why is said once, beside the table
        return "-"
    cost = cost_of(row)
    if cost is None:
        return row.status
    text = digits(cost.value * 1_000)
    return f"({text})" if set(OF_MOMENTS) & set(row.flags) else text  # which says little


def _wins_from(crossing: Crossover) -> str:
    """``n = 181 (150 to 200)``, in elements where the sizes are not n x n."""
    unit, at, low, high = crossing.location
    if high is None:
        return crossing.state.replace("_", " ")
    size = f"{high:,.0f} at the latest"
    if at is not None and low is not None:
        size = f"{at:,.0f} ({low:,.0f} to {high:,.0f})"
    return f"n = {size}" if unit == "side" else f"{size} elements"


def _ratio(speedup: Speedup | Change | Charge | None) -> str:
    """``12.3x ±0.5%``: the ratio, and the farther end of its interval."""
    if speedup is None or speedup.speedup is None:
        return ""
    text = f"{digits(speedup.speedup, 3)}x"
    if speedup.low is None or speedup.high is None:
        return text
    apart = max(speedup.high / speedup.speedup, speedup.speedup / speedup.low) - 1
    return f"{text} ±{digits(100 * apart, 2)}%"
