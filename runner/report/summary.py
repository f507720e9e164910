"""The end of a run: its files, the table on the screen, and what did not run and why."""

from __future__ import annotations

import csv
import multiprocessing
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from importlib import import_module
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from runner.analysis.analysis import Analysis, analyse
from runner.analysis.comparison import OF_MOMENTS, Speedup
from runner.analysis.findings import has_reference
from runner.analysis.pairs import Pairs
from runner.config.axes import label
from runner.config.schema import Report
from runner.errors import printable, tell
from runner.files import bounded_lines, write_atomically
from runner.report import place
from runner.report.language import ENGLISH, Words, finding_text, first_of, sentence_text, words_of
from runner.report.markdown import markdown_of
from runner.report.page.facts import noise_of
from runner.report.publish import draw_figures, pictures_of, write_page
from runner.report.tables import (
    MOST_IN_FILE,
    TONES,
    Table,
    autograd_table,
    benchmark_table,
    bill_table,
    condensed,
    crossover_table,
    derivations_table,
    fastest_table,
    legend,
    noise_table,
    peaks_table,
    print_note,
    print_table,
    simplest,
    tensors_table,
    transfer_table,
)
from runner.rows.columns import out_of_range
from runner.rows.csv_store import read_records, write_records
from runner.rows.flags import FLAGS, OF_CONDUCT
from runner.rows.other_schemas import own_columns
from runner.rows.rows import (
    BAD,
    LEARNED_AGAIN,
    ROW_OF_JOB,
    SAMPLES_FILE,
    SCRIPT_FILE,
    STATUSES,
    AutogradRow,
    BenchmarkRow,
    NoiseRow,
    PairVisit,
    PeaksRow,
    Row,
    Sample,
    TensorRow,
    TraceRow,
    TransferRow,
    grouped,
)
from runner.units import counted

MANY = 5_000  # rows, beside which the figures are worth a process of their own
DRAWING = "runner.report.figures.prints"  # the module that it imports
NAMED_AT_MOST = 2
MOST_OF_A_KIND = 20  # notes; who wants more of them reads the CSVs
NUMBER = re.compile(r"(?<![A-Za-z_])(0x[0-9a-f]+|\d+([.,x]\d+)*(e[+-]?\d+)?)")  # no float16
FLAGS_OF_CHECKS = ("wrong_values", "unchecked", "wrong_gradient")  # a row's reason says more
EXPLAINED = (*FLAGS_OF_CHECKS, "mutates_input", *OF_CONDUCT, "contended", "slow_machine")
"""Flags of which a note says what they mean, and of how many cells."""
# the tables that the page has as they are
ON_PAGE = ("Bill", "Derivations", "Fastest", "Crossovers")
IN_FILES_ALONE = ("Fastest",)  # tables that the screen does without
UNDECIDED = ("inconclusive", "unsupported")  # verdicts
FAR, NEAR = 4.0, 1 / 32  # times the baseline's error; of what is allowed, where that is next to 0


def show(
    root: Path,
    rows: Sequence[Row],
    damaged: Sequence[str],
    report: Report,
    environment: Mapping[str, Any] | None = None,
    *,
    pairs: Pairs | None = None,
    rounds: Sequence[PairVisit] = (),
    quiet: bool = False,
    before_printing: Callable[[], object] = lambda: None,
) -> Sequence[Speedup]:
    """Write the report's files into a run's folder and print its tables; the comparisons asked for.

    ``damaged`` has a line for each file that could not be read, ``pairs`` is what was measured in
    turn; None: all rows are of one moment. ``rounds`` are visits to all calls of a workload;
    ``quiet``: of the tables and notes nothing is printed. ``before_printing`` is called once,
    before the first of what was found.
    """
    words = words_of(report.language or "en")
    environment = environment or {}

    with _drawing(rows) as pool:
        analysis = analyse(rows, damaged, report, pairs, rounds)
        pictures = pictures_of(analysis, words, blocks=_blocks_of_one(root, analysis.benchmarks))
        if pictures.titles and not quiet:
            tell("drawing figures ...")
        if replaced := _what_is_replaced(root, (report, analysis.report)):
            tell(printable(replaced))

        drawn = pool.submit(draw_figures, root, pictures, words)
        tables = _tables(analysis, words)
        notes = _notes(root, analysis, environment, words)
        _write_tables(root, analysis)
        text = markdown_of(analysis, tables, notes, pictures.titles, words)
        write_atomically(root / "report.md", text)

        before_printing()
        # the terminal speaks English, whatever the language of the files
        if not quiet:
            shown = tables, notes
            if words is not ENGLISH:
                shown = _tables(analysis, ENGLISH), _notes(root, analysis, environment, ENGLISH)
            _print(analysis, *shown)
        print_headline(analysis)
        write_page(
            root,
            analysis=analysis,
            pictures=pictures,
            environment=environment,
            notes=notes,
            tables=[table for table in tables if table.title in ON_PAGE],
            words=words,
        )
        drawn.result()

    print(f"{counted(len(rows), 'row')} in {shown_path(root)}", flush=True)
    if damaged:
        tell("some files are damaged; what they held is missing above")
    return analysis.asked


@contextmanager
def _drawing(rows: Sequence[Row]) -> Iterator[Executor]:
    """What draws the figures of rows beside the rest, and leaves its end by a signal to this one.

    The library that draws lets nothing else of its process run meanwhile: of many rows it has a
    process of its own, which starts while the rows are compared.
    """
    if len(rows) <= MANY:
        with ThreadPoolExecutor(1) as thread:
            yield thread
        return
    ignore = signal.signal, (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), *ignore) as process:
        process.submit(import_module, DRAWING)
        yield process


def _what_is_replaced(root: Path, reports: Iterable[Report]) -> str:
    """That the files here are of another comparison, and how they are made again."""
    try:
        with (root / "speedup.csv").open(newline="", encoding="utf-8") as file:
            first = next(csv.DictReader(bounded_lines(file)), {})
    except (OSError, ValueError, csv.Error):  # there are none, or they are damaged
        return ""
    axis, value = first.get("axis"), first.get("baseline")
    if not axis or (axis, value) in [(report.axis, report.value) for report in reports]:
        return ""
    again = f"'report.baseline={{{axis}: {value}}}' makes it again"
    return f"the page and tables here compared with {axis}={value}, and are replaced; {again}"


def _blocks_of_one(root: Path, rows: Sequence[BenchmarkRow]) -> Sequence[Sample]:
    """The blocks that a single cell's time is the median of; of several, or damaged, none."""
    found = [root / SAMPLES_FILE, *root.glob(f"*/{SAMPLES_FILE}")] if len(rows) == 1 else []
    found = list(filter(Path.is_file, found))
    if len(found) != 1:
        return ()
    try:
        blocks = read_records(found[0], Sample)
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return ()
    return () if any(map(out_of_range, blocks)) else blocks


def _write_tables(root: Path, analysis: Analysis) -> None:
    for name in ("speedup.csv", "crossover.csv", "bill.csv", place.FILE):
        (root / name).unlink(missing_ok=True)
    # of what was asked and of what is shown in its place
    in_its_place = [] if analysis.speedups is analysis.asked else analysis.speedups
    speedups = [*analysis.asked, *in_its_place]
    tables = {"speedup": speedups, "crossover": analysis.crossovers, "bill": analysis.bill}
    for name, records in tables.items():
        if records:
            write_records(root / f"{name}.csv", records, durable=True)
    if text := place.placements(analysis):
        write_atomically(root / place.FILE, text)


def _print(analysis: Analysis, tables: Sequence[Table], notes: Sequence[str]) -> None:
    shown = [table for table in tables if table.title not in IN_FILES_ALONE]
    for table in shown:
        print_table(table, titled=len(shown) > 1)
    for note in filter(None, (legend(analysis.benchmarks, EXPLAINED), *notes)):
        print_note(note)


def print_headline(analysis: Analysis) -> None:
    """Print what was found, as the page has it at its top; on a terminal wrapped, in colour."""
    for headline, found in [(analysis.headline, analysis.findings), *analysis.further]:
        title = printable(sentence_text(headline))
        texts = [finding_text(finding, ENGLISH) for finding in found]
        if not sys.stdout.isatty():
            print(title, *(f"  {printable(str(text))}" for text in texts), sep="\n")
            continue
        console = Console(highlight=False)
        console.print(Text(title, "bold"))
        for text in texts:
            line = Text(printable(str(text)))
            line.stylize(TONES.get(text.tone, ""), 0, len(text.number))
            console.print(Padding(line, (0, 0, 0, 2)))
    for answer in (answer for answer in analysis.answers if answer.key == "bill"):
        print(*(printable(sentence_text(s)) for s in (answer.question, *answer.sentences)))
    sys.stdout.flush()


def _tables(analysis: Analysis, words: Words) -> list[Table]:
    curves = [crossing for crossing in analysis.crossovers if crossing.sizes > 1]
    tensors = [row for row in analysis.rows if isinstance(row, TensorRow)]
    peaks = [row for row in analysis.rows if isinstance(row, PeaksRow)]
    noise = [row for row in analysis.rows if isinstance(row, NoiseRow)]
    transfers = [row for row in analysis.rows if isinstance(row, TransferRow)]
    transfers = [row for row in transfers if row.status != "unavailable"]
    times, gradients = analysis.benchmarks, analysis.gradients
    tables = (
        benchmark_table(times, analysis.speedups, analysis.report) if times else None,
        bill_table(analysis.bill) if analysis.bill else None,
        fastest_table(times),
        crossover_table(curves, words) if curves else None,
        derivations_table(gradients),
        autograd_table(gradients) if gradients else None,
        tensors_table(tensors) if tensors else None,
        peaks_table(peaks) if peaks else None,
        noise_table(noise) if noise else None,
        transfer_table(transfers) if transfers else None,
    )
    return [condensed(table.shortened(MOST_IN_FILE)) for table in tables if table]


def _notes(
    root: Path, analysis: Analysis, environment: Mapping[str, Any], words: Words
) -> list[str]:
    """What a reader has to know first: what is not there, did not run, or should not be trusted."""
    notes, first = [], partial(first_of, most=MOST_OF_A_KIND, words=words)
    cells, excluded = environment.get("cells"), environment.get("excluded")
    missing = (cells or 0) - len({row.cell for row in analysis.rows})
    if missing > 0:
        numbers = {"missing": missing, "cells": cells}
        notes.append(words["note_absent"].format(**numbers, path=shown_path(root)))
    if excluded:
        notes.append(words["left_out"].format(count=excluded))
    notes += first(what_is_missing(analysis.rows, words))
    notes += first(which_gradients_fail(analysis.gradients, words))
    notes += what_is_wrong(analysis.benchmarks, words)
    notes += first(what_is_not_known(analysis.rows, words))
    notes += what_was_not_saved(analysis.rows, words)
    notes += what_was_traced(analysis.rows, words)
    notes += how_noisy_it_is(analysis.rows, environment, words)
    notes += first(how_exact_others_are(analysis.benchmarks, analysis.speedups, words))
    notes += what_was_not_compared(analysis.benchmarks, analysis.speedups, words)
    notes += what_is_newer(analysis.rows, words)
    notes += first([words["note_damaged"].format(line=line) for line in analysis.damaged])
    return notes


def what_is_wrong(rows: Sequence[BenchmarkRow], words: Words) -> list[str]:
    """What is measured and should not be trusted, by flag, with the figures where they say more."""
    notes = []
    flagged = [row for row in rows if row.flags]
    key = "note_retry" if len({row.cell for row in rows}) > 1 else "note_again"
    for flag in EXPLAINED:
        with_flag = [row for row in flagged if flag in row.flags]
        if not with_flag:
            continue
        why = words.get(f"note_{flag}") or words[f"flag_{flag}"]
        if flag in OF_MOMENTS:  # only a sweep can be taken up
            why += f"; {words[key].format(flag=flag)}"
        note = f"{len(with_flag)} {flag}{_named(with_flag)}: {why}"
        first = with_flag[0]
        error, allowed = first.max_relative_error, first.allowed_relative_error
        if flag == "wrong_values" and error is not None and allowed is not None:
            numbers = {"error": f"{error:.2g}", "allowed": f"{allowed:.2g}"}
            note += f": {words['note_by'].format(**numbers)}"
        if flag in FLAGS_OF_CHECKS and first.reason:
            note += f"; {first.reason}"
        notes.append(note)
    return notes


def which_gradients_fail(rows: Sequence[AutogradRow], words: Words = ENGLISH) -> list[str]:
    """A line for each cell: how many checks of its gradient fail, and the simplest of them."""
    notes = []
    for checks in grouped(rows, attrgetter("cell")).values():
        failed = [row for row in checks if row.verdict in BAD]
        if not failed:
            continue
        first = simplest(failed)
        where = ", ".join(filter(None, (first.probe, first.shape, first.oracle)))
        ended = sum(bool(row.verdict) for row in checks)
        numbers = {"failed": len(failed), "count": ended, "named": _named([first])}
        note = words["note_gradient_fails"].format(**numbers, where=where)
        shown = words["note_script"].format(file=SCRIPT_FILE)
        end = f"; {shown}" if any(row.script for row in checks) else ""
        notes.append(f"{note}: {first.reason}{end}")
    return notes


def how_exact_others_are(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], words: Words = ENGLISH
) -> list[str]:
    """Operations that are far less exact than the one they are compared with, and pass."""
    by_cell = {row.cell: row for row in rows}
    notes = []
    for speedup in speedups:
        other, usual = by_cell.get(speedup.other_cell), by_cell.get(speedup.baseline_cell or "")
        if speedup.axis != "op" or other is None or usual is None or "wrong_values" in other.flags:
            continue
        error, least = other.max_relative_error or 0.0, usual.max_relative_error or 0.0
        if error > FAR * max(least, (other.allowed_relative_error or 0.0) * NEAR):
            numbers = {"named": _named([other]), "baseline": usual.op}
            figures = {"error": f"{error:.2g}", "least": f"{least:.2g}"}
            notes.append(words["note_less_exact"].format(**numbers, **figures))
    return notes


def what_was_not_compared(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], words: Words = ENGLISH
) -> list[str]:
    """Operations that are compared in time alone: each one's values were with its own function."""
    sides = {speedup.other_cell for speedup in speedups if speedup.axis == "op"}
    alone = [row.op for row in rows if row.cell in sides and row.checked and not has_reference(row)]
    if not alone:
        return []
    ops = first_of(list(dict.fromkeys(alone)), MOST_OF_A_KIND, words)
    named = {"ops": ", ".join(ops), "baseline": speedups[0].baseline}
    return [words["note_not_compared"].format(**named)]


def what_is_not_known(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """Gradients of which no check could say anything, by the reason, each once.

    Of single checks that could not decide, there is a line for each verdict, with the first's.
    """
    whole = (row for row in rows if row.status == "ok" and row.reason and _of_gradient(row))
    groups = grouped(whole, _kind_of_reason)
    what = words["note_no_gradient"]
    notes = [_of_kind(group, what.format(count=len(group)), words) for group in groups.values()]
    checks = [row for row in rows if isinstance(row, AutogradRow) and not _of_gradient(row)]
    for verdict, undecided in grouped(checks, attrgetter("verdict")).items():
        if verdict in UNDECIDED and (first := next(filter(attrgetter("reason"), undecided), None)):
            where = ", ".join(filter(None, (first.probe, first.shape)))
            count = f"{len(undecided)} {words[f'gradient_{verdict}']}{_named([first])}"
            notes.append(f"{count}, {where}: {first.reason}")
    return notes


def _kind_of_reason(row: Row) -> str:
    """A row's reason without its numbers: those that differ in one alone are told together."""
    return NUMBER.sub("0", row.reason or "")


def _of_kind(rows: Sequence[Row], what: str, words: Words) -> str:
    """``what`` there is of rows with reasons of one kind: which cells, and the first reason."""
    differ = words["note_numbers_differ"] if len({row.reason for row in rows}) > 1 else ""
    return f"{what}{_named(rows)}: {rows[0].reason or ''}{differ}"


def _of_gradient(row: Row) -> bool:
    """Whether a row's reason is of its gradient as a whole, and of nothing else."""
    if isinstance(row, BenchmarkRow):
        return not set(FLAGS_OF_CHECKS) & set(row.flags)
    if not isinstance(row, AutogradRow) or row.argument is not None:
        return False
    return row.probe in ("example", "repeatable")


def what_was_not_saved(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """Peaks that no later run will be compared with."""
    disturbed = sum(isinstance(row, PeaksRow) and "contended" in row.flags for row in rows)
    return [words["note_peaks"].format(count=disturbed)] if disturbed else []


def what_was_traced(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """The calls that were recorded of a model, and which share of its time they cover."""
    notes = []
    for row in rows:
        if isinstance(row, TraceRow) and row.status == "ok":
            key = "note_traced" if row.covered is None else "note_trace"
            share = {"covered": f"{100 * (row.covered or 0.0):.0f}"}
            values = {field.name: getattr(row, field.name) for field in fields(row)}
            notes.append(words[key].format(**values | share))
    return notes


def how_noisy_it_is(
    rows: Sequence[Row], environment: Mapping[str, Any], words: Words = ENGLISH
) -> list[str]:
    """What a calibration shows, what makes the machine noisy, and whether its best is new."""
    relearned = sum(getattr(row, "slowdown_against", None) in LEARNED_AGAIN for row in rows)
    notes = [words["note_relearned"].format(count=relearned)] if relearned else []
    day = str(environment.get("started") or "")[: len("2026-12-01")]
    calibrated = [{**asdict(row), "date": day} for row in rows if isinstance(row, NoiseRow)]
    here = {**environment, "calibration": calibrated}
    return notes + (noise_of(here, words) if calibrated else [])


def what_is_newer(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """What a newer release calls by names that we do not know, in one sentence."""
    known = {f.name for f in chain.from_iterable(map(fields, ROW_OF_JOB.values()))}
    known.update(*map(own_columns, rows))
    names = [f.name for f in chain.from_iterable(map(fields, dict.fromkeys(map(type, rows))))]
    names += [row.status for row in rows if row.status not in STATUSES]
    names += chain.from_iterable(getattr(row, "flags", ()) for row in rows)
    unknown = [name for name in dict.fromkeys(names) if name not in {*known, *FLAGS}]
    return [words["note_newer"].format(names=", ".join(unknown))] if unknown else []


def shown_path(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def what_is_missing(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """What did not end in ``ok``, counted by status and reason, the commonest first."""
    # a gradient's checks that fail have a line of their own
    failed = [row for row in rows if isinstance(row, AutogradRow) and row.verdict in BAD]
    shown = {id(row) for row in failed}
    not_ok = (row for row in rows if row.status != "ok" and id(row) not in shown)
    groups = grouped(not_ok, lambda row: (row.status, _kind_of_reason(row)))
    notes = []
    for group in sorted(groups.values(), key=len, reverse=True):
        status = group[0].status
        what = f"{len(group)} {words.get(f'status_{status}', status)}"
        notes.append(_of_kind(group, what, words))
    return notes


def _named(rows: Sequence[Row]) -> str:
    """The cells by name, where they are few."""
    names = [label("benchmark", row, lambda axis: axis != "threads") for row in rows]
    return f" ({', '.join(names)})" if len(names) <= NAMED_AT_MOST else ""
