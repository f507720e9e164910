"""The tables that people read, on the screen and in ``report.md``."""

from __future__ import annotations

import math
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from operator import attrgetter

from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from runner.analysis.bill import OF_SIDES
from runner.analysis.changes import Change
from runner.analysis.charge import Charge
from runner.analysis.comparison import Speedup, cost_of, is_disturbed, objection
from runner.analysis.crossover import Crossover
from runner.analysis.operation_changes import NAMES, OperationChange
from runner.config.axes import COMPARED, FURTHER, NAMED, OF_GRADIENTS, values_of
from runner.config.schema import Report
from runner.errors import printable
from runner.report.language import ENGLISH, Words, said
from runner.rows.flags import FLAGS, merged
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
from runner.stats.estimate import Estimate
from runner.units import digits

MOST_LINES = 200  # on the screen
MOST_IN_FILE = 2_000  # in report.md; who wants more of them reads the CSV
BILL_PARTS = {
    "sum": "all calls",
    "model": "the model itself",
    "caches": "more in the model: caches",
    "page_faults": "more in the model: new pages",
    "outside": "outside its calls",
    "untimed": "calls without a time",
    "unexplained": "not explained",
    "all_moved": "all calls, with transfers",
    "best_plan": "best choice, with transfers",
}
NARROWEST_LAST = 10  # characters of the column of flags, which may take several lines
GATED = attrgetter("is_slower", "became_wrong", "has_more_instructions")
IMPORTANCE = {"slower": 0, "faster": 1, "unclear": 3, "same": 4}
"""The order of a comparison's lines behind those of the gate, what cannot be compared between."""
TONES = {"faster": "green", "slower": "red", "right": "green", "wrong": "red", "unclear": "yellow"}
TONED = ("speed-up", "verdict")  # columns
CHECKED, MEMORY = ("values", "error u", "gradient"), ("peak MB", "saved MB")


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
    common: tuple[tuple[str, str], ...] = ()  # names that all lines share, and so no columns
    spare: tuple[str, ...] = ()  # the columns that a narrow terminal leaves out first

    def shortened(self, most: int) -> Table:
        """With so many lines at most."""
        more = self.more + max(0, len(self.lines) - most)
        return replace(self, lines=self.lines[:most], tones=self.tones[:most], more=more)

    def without(self, heads: Sequence[str]) -> Table:
        """Without these columns."""
        kept = [head not in heads for head in self.header]
        lines = [tuple(compress(line, kept)) for line in self.lines]
        return replace(
            self,
            header=tuple(compress(self.header, kept)),
            lines=lines,
            words=sum(kept[: self.words]),
        )


def condensed(table: Table) -> Table:
    """Without names that are the same in all lines, which are said once, and without blanks."""
    values_of_head: dict[str, set[str]] = {}
    for head, entries in zip(table.header[:-1], zip(*table.lines, strict=True), strict=False):
        values_of_head.setdefault(head, set()).update(entries)
    blank = [head for head, values in values_of_head.items() if values == {""}]
    if table.more:
        return table
    if len(table.lines) < 2:
        return table.without(blank)
    names = [head for head in table.header[: table.words] if len(values_of_head[head]) == 1]
    common = tuple((head, *values_of_head[head]) for head in names if head not in blank)
    return replace(table.without([*blank, *names]), common=common)  # type: ignore[arg-type]  # pairs


def translated(text: str, words: Words) -> str:
    """A heading, state, verdict or status; names, numbers and flags are the same everywhere."""
    if text.endswith(" ms"):
        head = translated(text.removesuffix(" ms"), words)
        return f"{head}, {words['prefix_m']}{words['unit_s']}"
    key = text.replace(" ", "_").replace("-", "_").lower()
    for kind in ("table", "state", "verdict", "status", "moved"):
        if f"{kind}_{key}" in words:
            return words[f"{kind}_{key}"]
    return text


def benchmark_table(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], report: Report
) -> Table:
    """A line for each cell: its names, milliseconds, speed-up, verdict and flags.

    Of several implementations it says too what was checked. Cells that are compared with each other
    follow their baseline. What is unavailable has no line: a note says why, once.
    """
    axis = report.axis
    rows = [row for row in rows if row.status != "unavailable"]
    is_compared = bool(speedups) and bool(varying(rows, [axis]))
    several = bool(varying(rows, ["impl"]))
    shown = _shown_columns(rows, axis)
    names_of = values_of(*shown)
    ratios = {(names_of(speedup), speedup.other): speedup for speedup in speedups}

    # in chunks of what differs along the axis alone, with the baseline first
    ordered: list[BenchmarkRow] = []
    for of_names in islice(grouped(rows, names_of).values(), MOST_IN_FILE):
        ordered += sorted(of_names, key=lambda row: str(getattr(row, axis)) != report.value)
    lines, tones = [], []
    for row in ordered[:MOST_IN_FILE]:
        names, value = names_of(row), str(getattr(row, axis))
        speedup = ratios.get((names, value))
        verdict = (speedup.verdict if speedup else None) or ""
        ratio = [_ratio(speedup) or "-", verdict] if value != report.value else ["", "baseline"]
        found = [*(_checked(row) if several else ()), _milliseconds(row)]
        found += [*(_memory(row) if several else ()), *(ratio if is_compared else ())]
        lines.append((*map(str, names), value, *found, " ".join(row.flags)))
        tones.append(verdict)
    header = [*map(_head, (*shown, axis)), *(CHECKED if several else ()), "time ms"]
    header += [*(MEMORY if several else ()), *(TONED if is_compared else ()), "flags"]
    more, words = len(rows) - len(lines), len(shown) + 1
    told = tuple(tones) if is_compared else ()
    return Table("Times", tuple(header), lines, words, more, told, spare=(*MEMORY, "error u"))


def _checked(row: BenchmarkRow) -> list[str]:
    values = "wrong" if "wrong_values" in row.flags else row.checked or "-"
    error = "" if row.error_roundoffs is None else digits(row.error_roundoffs, 2)
    return [values, error, row.gradient or "-"]


def _memory(row: BenchmarkRow) -> list[str]:
    sizes = (row.peak_memory_bytes, row.saved_bytes)
    return ["" if size is None else digits(size / 1e6, 3) for size in sizes]


def _shown_columns(rows: Sequence[BenchmarkRow], axis: str) -> list[str]:
    """What names a line: what always does, what else varies, and if need be the variant."""
    shown = [key for key in (*NAMED, *varying(rows, FURTHER)) if key != axis]
    if len(set(map(attrgetter(*shown, axis), rows))) < len(rows):
        shown.append("variant")  # of the op file or the timing
    return shown


def fastest_table(rows: Sequence[BenchmarkRow]) -> Table | None:
    """The fastest cell of each operation and size that nothing speaks against.

    None where cells differ in one axis at most: then its comparison says it.
    """
    axes = varying(rows, [axis for axis in COMPARED if axis not in ("op", "size")])
    if len(axes) < 2:
        return None
    lines: list[tuple[str, ...]] = []
    more = 0
    for (op, size), cells in grouped(rows, values_of("op", "size")).items():
        trusted = ((cost, row) for row in cells if not objection(row) and (cost := cost_of(row)))
        if len(lines) == MOST_IN_FILE:
            more += next(trusted, None) is not None
        elif costs := list(trusted):
            cost, best = min(costs, key=lambda pair: pair[0].value)
            names = (op, size, *(str(getattr(best, axis)) for axis in axes))
            lines.append((*names, digits(cost.value * 1_000), f"{len(costs)} / {len(cells)}"))
    header = ("operation", "size", *axes, "time ms", "trusted")
    return Table("Fastest", header, lines, 2 + len(axes), more) if lines else None


def bill_table(bill: Sequence[Charge]) -> Table:
    """What each call of a model costs, as often as it makes it, the dearest first on each side."""
    further = varying(bill, OF_SIDES)
    lines = []
    for line in bill[:MOST_IN_FILE]:
        names = (line.workload, *(str(getattr(line, name)) for name in further))
        name = BILL_PARTS.get(line.part) or line.op.removeprefix(f"{line.workload}.")
        seconds = (line.call_s, line.in_model_s, line.total_s, line.saved_s)
        *of_call, saved = ["" if s is None else digits(1_000 * s) for s in seconds]
        share = "" if line.share is None else f"{100 * line.share:.1f}%"
        count = "" if line.count is None else str(line.count)
        numbers = (count, *of_call, share, _ratio(line) or "-", saved)
        lines.append((*names, name, line.size, *numbers, line.modules or line.reason or ""))
    found = (
        "count",
        "call ms",
        "in model ms",
        "total ms",
        "share",
        "speed-up",
        "saved ms",
        "modules",
    )
    header = ("workload", *map(_head, further), "call", "size", *found)
    return Table(
        "Bill",
        header,
        lines,
        3 + len(further),
        len(bill) - len(lines),
        spare=("modules", "saved ms", "in model ms"),
    )


def crossover_table(crossings: Sequence[Crossover], words: Words) -> Table:
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
        (
            *map(str, names_of(curve)),
            _wins_from(curve, words),
            f"{curve.smallest} .. {curve.largest}",
        )
        for curve in crossings
    ]
    header = (*map(_head, named), axis, *compared[1:], "wins from", "measured")
    return Table("Crossovers", header, lines, len(named) + len(compared))


def by_importance(changes: Sequence[Change]) -> list[Change]:
    """The cells of two runs, what fails the gate first."""

    def rank(change: Change) -> tuple[bool, int]:
        return not any(GATED(change)), IMPORTANCE.get(change.verdict or "", 2)

    return sorted(changes, key=rank)


def changes_table(changes: Sequence[Change], most: int = MOST_IN_FILE) -> Table:
    """A line for each cell of two runs: both times, the speed-up, and what else changed."""
    further = varying(changes, FURTHER)
    names_of = values_of(*NAMED, *further)
    lines = []
    for change in changes[:most]:
        times = (change.before_s, change.after_s)
        shown = ["-" if cost is None else digits(cost * 1_000) for cost in times]
        verdict = (_ratio(change), change.verdict or "-")
        said = "; ".join(filter(None, (change.reason, change.changed)))
        lines.append((*map(str, names_of(change)), *shown, *verdict, said))
    header = (*map(_head, (*NAMED, *further)), "before ms", "after ms", "speed-up", "verdict")
    more = len(changes) - len(lines)
    return Table("Changes", (*header, "changed"), lines, len(NAMED) + len(further), more)


def operations_table(operations: Sequence[OperationChange], most: int = MOST_IN_FILE) -> Table:
    """A line for each operation of two runs: the mean speed-up of its cells."""
    lines, tones = [], []
    for of in operations[:most]:
        seen_from = f"{digits(100 * of.smallest_difference, 2)} %"
        lines.append(
            (*(name or "" for name in of.names), of.of_cells, _ratio(of), seen_from, of.verdict)
        )
        tones.append(of.verdict)
    header = (*map(_head, NAMES), "cells", "speed-up", "seen from", "verdict")
    more = len(operations) - len(lines)
    return condensed(Table("Operations", header, lines, len(NAMES), more, tuple(tones)))


def _head(key: str) -> str:
    return "operation" if key == "op" else key


def autograd_table(rows: Sequence[AutogradRow]) -> Table:
    """A line for each operation, dtype and device: its verdicts, and the check nearest its bound.

    That one is of the dtype itself where there is such a check; differences are of float64.
    """
    # a case has none of these axes
    shown = ["op", "dtype", "device", *varying([r for r in rows if not r.case], OF_GRADIENTS)]
    lines = []
    for names, checks in grouped(rows, values_of(*shown)).items():
        decided = [row for row in checks if row.verdict in ("pass", "kink", "fail")] or checks
        failed = [row for row in decided if row.verdict == "fail"]
        of_dtype = [row for row in decided if row.oracle == "float64_reference"]
        worst = max(of_dtype or decided, key=_share_of_tolerance)
        worst = simplest(failed) if failed else worst
        bounds = worst.max_relative_error, worst.tolerance
        numbers = ["" if number is None else f"{number:.1e}" for number in bounds]
        said = ["" if name is None else str(name) for name in names]
        lines.append((*said, *numbers, _counted_verdicts(checks)))
    header = (*map(_head, shown), "error", "allowed", "verdicts")
    return Table("Gradients", header, lines, len(shown))


def simplest(checks: Sequence[AutogradRow]) -> AutogradRow:
    """The check of the smallest input, and an oracle's before that of a property."""

    def size(row: AutogradRow) -> tuple[bool, int]:
        lengths = map(int, re.findall("[0-9]{1,18}", row.shape or ""))
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
        task = checks[0].description or ""
        lines.append((case, device, task, code, " ".join(checked), _counted_verdicts(checks)))
    return Table("Tensors", ("case", "device", "task", "code", "checked", "verdicts"), lines, 5)


def derivations_table(rows: Sequence[AutogradRow]) -> Table | None:
    """SymPy's derivative of each formula beside autograd's at the declared inputs, if any."""
    lines = []
    for row in rows:
        if row.derivation and row.probe == "example":
            gradients = (row.expected_values or "", row.got_values or "")
            names = (row.case or row.op, row.dtype, row.device, row.description or "")
            lines.append((*names, row.derivation, *gradients, row.verdict or row.status))
    header = ("case", "dtype", "device", "task", "derivative", "exact", "autograd", "verdict")
    return Table("Derivations", header, lines, 5) if lines else None


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


def print_table(table: Table, *, titled: bool = False) -> None:
    """Print within the width of the terminal, in colour there; a line each, plain, when piped.

    What its lines share stands above it; ``titled``: its title does in any case.
    """
    console = Console() if sys.stdout.isatty() else Console(width=sys.maxsize, no_color=True)
    for head in table.spare:
        table = table.without([head]) if _width(table) > console.width else table
    names = ", ".join(f"{head}={value}" for head, value in table.common)
    if names or titled:
        print_note(", ".join(filter(None, (table.title, names))))
    if _width(table) > console.width:
        _print_blocks(table, console.width)
    else:
        console.print(_drawn(table), crop=False, no_wrap=not sys.stdout.isatty())
    more = max(0, len(table.lines) - MOST_LINES) + table.more
    if more:
        print(said(ENGLISH, "more_lines", more=more))


def _width(table: Table) -> int:
    """The least that a table takes, with its flags one below the other."""
    columns = zip(table.header[:-1], *(line[:-1] for line in table.lines[:MOST_LINES]), strict=True)
    return sum(max(map(len, column)) + 1 for column in columns) + NARROWEST_LAST


def _drawn(table: Table) -> RichTable:
    """The words on the left, the numbers on the right; the flags take what is left."""
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    last = len(table.header) - 1
    for position, name in enumerate(table.header):
        side: JustifyMethod = "left" if position < table.words or position == last else "right"
        drawn.add_column(name, justify=side, no_wrap=position != last, overflow="fold")

    # statuses, flags and surely faster or slower ratios have their colours
    for number, line in enumerate(table.lines[:MOST_LINES]):
        parts = [Text(part, "yellow" if part in STATUSES else "") for part in map(printable, line)]
        parts[last].stylize("yellow" if table.header[last] == "flags" else "")
        tone = TONES.get(table.tones[number] or "", "") if table.tones else ""
        for head, part in zip(table.header, parts, strict=True):
            part.stylize(tone if head in TONED else "")
        drawn.add_row(*parts)
    return drawn


def print_note(text: str) -> None:
    """Print a sentence: on a terminal wrapped between words, in one line when piped."""
    text = printable(text)
    print(_filled(text, Console().width, "  ") if sys.stdout.isatty() else text)


def _print_blocks(table: Table, width: int) -> None:
    """Print some lines for each of a table's: a line that wraps is better than a cut number."""
    for line in table.lines[:MOST_LINES]:
        words = list(filter(None, line[: table.words]))
        # a sentence or a formula among them would run into the next
        apart = "; " if any(" " in word for word in words) else " "
        print(_filled(printable(apart.join(words)), width, "  "))
        pairs = zip(table.header[table.words :], line[table.words :], strict=True)
        found = "; ".join(f"{head} {entry}" for head, entry in pairs if entry)
        print(_filled(f"    {printable(found)}", width, "    "))


def _filled(text: str, width: int, indent: str) -> str:
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def legend(rows: Sequence[BenchmarkRow], explained: Sequence[str]) -> str:
    """What the flags of these rows mean, but those that are explained elsewhere."""
    seen = merged(*(row.flags for row in rows))
    return "; ".join(
        f"{flag}: {FLAGS[flag].why}" for flag in seen if flag in FLAGS and flag not in explained
    )


def _milliseconds(row: BenchmarkRow) -> str:
    cost = cost_of(row)
    if cost is None:
        return row.status
    text = digits(cost.value * 1_000)
    return f"({text})" if is_disturbed(row) else text


def _wins_from(crossing: Crossover, words: Words) -> str:
    """``n = 181 (150 to 200)``, in elements where the sizes are not n x n."""
    unit, at, low, high = crossing.location
    if high is None:
        return words[f"state_{crossing.state}"]
    where = Estimate(high) if at is None else Estimate(at, low, high)
    latest = " " + words["at_latest"] if at is None or low is None else ""
    return said(words, f"say_{unit}", count=where) + latest


def _ratio(speedup: Speedup | Change | OperationChange | Charge | None) -> str:
    """``12.3x ±0.5%``: the ratio, and the farther end of its interval."""
    if speedup is None or speedup.speedup is None:
        return ""
    text = f"{digits(speedup.speedup, 3)}x"
    if speedup.low is None or speedup.high is None:
        return text
    apart = max(speedup.high / speedup.speedup, speedup.speedup / speedup.low) - 1
    return f"{text} ±{digits(100 * apart, 2)}%"
