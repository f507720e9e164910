"""The end of a run: its files, the table on the screen, and what did not run and why."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import chain
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import Any

from runner.analysis import bill, comparison, crossover
from runner.analysis.analysis import Analysis, analyse
from runner.analysis.comparison import Speedup
from runner.analysis.pairs import Pairs
from runner.config.axes import label
from runner.config.schema import Report
from runner.errors import printable
from runner.files import write_atomically
from runner.report import place
from runner.report.language import ENGLISH, Words, finding_text, words_of
from runner.report.markdown import markdown_of
from runner.report.page.facts import noise_of
from runner.report.publish import draw_figures, pictures_of, write_page
from runner.report.tables import (
    Table,
    autograd_table,
    benchmark_table,
    bill_table,
    crossover_table,
    derivations_table,
    implementations_table,
    noise_table,
    peaks_table,
    print_answers,
    print_table,
    simplest,
    tensors_table,
    transfer_table,
)
from runner.rows.csv_store import write_table
from runner.rows.flags import FLAGS, OF_CONDUCT
from runner.rows.other_schemas import own_columns
from runner.rows.rows import (
    BAD,
    LEARNED_AGAIN,
    ROW_OF_JOB,
    SCRIPT_FILE,
    STATUSES,
    AutogradRow,
    BenchmarkRow,
    NoiseRow,
    PairVisit,
    PeaksRow,
    Row,
    TensorRow,
    TraceRow,
    TransferRow,
    grouped,
)
from runner.stats.sequential import ERROR

NAMED_AT_MOST = 2
FLAGS_OF_CHECKS = ("wrong_values", "unchecked", "wrong_gradient")  # a row's reason says more
CLAIMS_WITH_CHANCE = 10  # verdicts from which on it is said how many of them may be chance
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
) -> None:
    """Write the report's files into a run's folder and print its tables.

    ``damaged`` has a line for each file that could not be read, ``pairs`` is what was measured in
    turn; None: all rows are of one moment. ``rounds`` are visits to all calls of a workload.
    """
    words = words_of(report.language or "en")
    environment = environment or {}
    analysis = analyse(rows, damaged, report, pairs, rounds)
    pictures = pictures_of(analysis, words)
    tables = _tables(analysis)
    notes = _notes(root, analysis, environment, words)

    # the figures are drawn beside all else, by a library that leaves Python free meanwhile
    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(draw_figures, root, pictures, words)
        _write_tables(root, analysis)
        text = markdown_of(analysis, tables, notes, pictures.titles, words)
        write_atomically(root / "report.md", text)

        # the terminal speaks English, whatever the language of the files
        _print(analysis, tables, _notes(root, analysis, environment, ENGLISH))
        write_page(
            root,
            analysis=analysis,
            pictures=pictures,
            environment=environment,
            notes=notes,
            words=words,
        )
        drawn.result()

    print(f"{len(rows)} rows in {shown_path(root)}", flush=True)
    if damaged:
        print("some files are damaged; what they held is missing above", file=sys.stderr)


def _write_tables(root: Path, analysis: Analysis) -> None:
    for name in ("speedup.csv", "crossover.csv", "bill.csv", place.FILE):
        (root / name).unlink(missing_ok=True)
    if analysis.speedups:
        write_table(root / "speedup.csv", comparison.COLUMNS, analysis.speedups)
    if analysis.crossovers:
        write_table(root / "crossover.csv", crossover.COLUMNS, analysis.crossovers)
    if text := place.placements(analysis):
        write_atomically(root / place.FILE, text)
    if analysis.bill:
        write_table(root / "bill.csv", bill.COLUMNS, analysis.bill)


def _print(analysis: Analysis, tables: Sequence[Table], notes: Sequence[str]) -> None:
    for table in tables:
        print_table(table)
    if analysis.bill or any(speedup.speedup is not None for speedup in analysis.speedups):
        print_answers(analysis.answers)
    for note in notes:
        print(printable(note))
    for finding in analysis.findings:
        _, number, interval, text, _ = finding_text(finding, ENGLISH)
        print(printable(" ".join(filter(None, (number, interval and f"({interval})", text)))))
    sys.stdout.flush()


def _tables(analysis: Analysis) -> list[Table]:
    curves = [crossing for crossing in analysis.crossovers if crossing.sizes > 1]
    tensors = [row for row in analysis.rows if isinstance(row, TensorRow)]
    peaks = [row for row in analysis.rows if isinstance(row, PeaksRow)]
    noise = [row for row in analysis.rows if isinstance(row, NoiseRow)]
    transfers = [row for row in analysis.rows if isinstance(row, TransferRow)]
    transfers = [row for row in transfers if row.status != "unavailable"]
    times, gradients = analysis.benchmarks, analysis.gradients
    of_each = implementations_table(times, analysis.speedups)  # which has all of the other then
    has_times = times and not (of_each and analysis.report.axis == "impl")
    tables = (
        benchmark_table(times, analysis.speedups, analysis.report) if has_times else None,
        of_each,
        bill_table(analysis.bill) if analysis.bill else None,
        crossover_table(curves) if curves else None,
        autograd_table(gradients) if gradients else None,
        derivations_table(gradients),
        tensors_table(tensors) if tensors else None,
        peaks_table(peaks) if peaks else None,
        noise_table(noise) if noise else None,
        transfer_table(transfers) if transfers else None,
    )
    return [table for table in tables if table]


def _notes(
    root: Path, analysis: Analysis, environment: Mapping[str, Any], words: Words
) -> list[str]:
    """What a reader has to know first: what is not there, did not run, or should not be trusted."""
    notes = []
    cells, excluded = environment.get("cells"), environment.get("excluded")
    missing = (cells or 0) - len({row.cell for row in analysis.rows})
    if missing > 0:
        numbers = {"missing": missing, "cells": cells}
        notes.append(words["note_absent"].format(**numbers, path=shown_path(root)))
    if excluded:
        notes.append(words["left_out"].format(count=excluded))
    notes += what_is_missing(analysis.rows, words)
    notes += which_gradients_fail(analysis.gradients, words)
    notes += what_is_wrong(analysis.benchmarks, words)
    notes += what_is_not_known(analysis.rows, words)
    notes += what_was_not_saved(analysis.rows, words)
    notes += what_was_traced(analysis.rows, words)
    notes += how_noisy_it_is(analysis.rows, environment, words)
    notes += how_exact_others_are(analysis.benchmarks, analysis.speedups, words)
    notes += how_it_was_compared(analysis.speedups, words)
    notes += what_is_newer(analysis.rows, words)
    notes += [words["note_damaged"].format(line=line) for line in analysis.damaged]
    return notes


def what_is_wrong(rows: Sequence[BenchmarkRow], words: Words) -> list[str]:
    """What is measured and should not be trusted, by flag, with the figures where they say more."""
    notes = []
    flagged = [row for row in rows if row.flags]
    for flag in (*FLAGS_OF_CHECKS, "mutates_input", *OF_CONDUCT, "contended", "slow_machine"):
        with_flag = [row for row in flagged if flag in row.flags]
        if not with_flag:
            continue
        why = words.get(f"note_{flag}") or words[f"flag_{flag}"]
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
        numbers = {"failed": len(failed), "count": len(checks), "named": _named([first])}
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


def what_is_not_known(rows: Sequence[Row], words: Words = ENGLISH) -> list[str]:
    """Gradients of which no check could say anything, by the reason, each once."""
    whole = (row for row in rows if row.status == "ok" and row.reason and _of_gradient(row))
    groups = grouped(whole, lambda row: row.reason or "")
    return [
        f"{words['note_no_gradient'].format(count=len(group))}{_named(group)}: {reason}"
        for reason, group in groups.items()
    ]


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
            notes.append(words[key].format(**{**vars(row), **share}))
    return notes


def how_noisy_it_is(
    rows: Sequence[Row], environment: Mapping[str, Any], words: Words = ENGLISH
) -> list[str]:
    """What a calibration shows, what makes the machine noisy, and whether its best is new."""
    relearned = sum(getattr(row, "slowdown_against", None) == LEARNED_AGAIN for row in rows)
    notes = [words["note_relearned"].format(count=relearned)] if relearned else []
    calibrated = [vars(row) for row in rows if isinstance(row, NoiseRow)]
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


def how_it_was_compared(speedups: Sequence[Speedup], words: Words = ENGLISH) -> list[str]:
    """What verdicts rest on: visits in turn, in how many processes, and how many may be chance."""
    notes = []
    with_ratio = [speedup for speedup in speedups if speedup.speedup is not None]
    one_process = sum(speedup.pair_processes == 1 for speedup in with_ratio)
    if one_process:
        notes.append(words["note_one_process"].format(count=one_process))
    not_paired = sum(speedup.paired is None for speedup in with_ratio)
    if not_paired:
        notes.append(words["note_not_in_turn"].format(count=not_paired))
    claims = sum(speedup.verdict in ("faster", "slower") for speedup in with_ratio)
    if claims >= CLAIMS_WITH_CHANCE:
        by_chance = ceil(ERROR * claims)
        notes.append(words["note_chance"].format(count=claims, chance=by_chance))
    return notes


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
    groups = grouped(not_ok, lambda row: (row.status, row.reason or ""))
    commonest = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        f"{len(group)} {words.get(f'status_{status}', status)}{_named(group)}: {reason}"
        for (status, reason), group in commonest
    ]


def _named(rows: Sequence[Row]) -> str:
    """The cells by name, where they are few."""
    names = [label("benchmark", row, lambda axis: axis != "threads") for row in rows]
    return f" ({', '.join(names)})" if len(names) <= NAMED_AT_MOST else ""
