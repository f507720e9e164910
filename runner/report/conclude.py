"""The end of a run: its tables put together from its cells' files and shown, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from runner.analysis.baseline_gate import against_baseline
from runner.analysis.changes import ENOUGH, Changes, summary_of
from runner.analysis.comparison import is_disturbed
from runner.analysis.pairs import Pairs
from runner.config.schema import Compare, Report, settings_of
from runner.errors import ConfigError, printable, tell
from runner.garbage import uncollected
from runner.report.export import export
from runner.report.summary import show, shown_path
from runner.rows.csv_store import (
    collect,
    collect_pairs,
    files_of_jobs,
    loses_nothing,
    read_visits,
    write_records,
    write_rows,
)
from runner.rows.environment_file import read_environment
from runner.rows.flags import has_failed_check
from runner.rows.rows import (
    FILE_OF_JOB,
    NON_FAILURES,
    PAIRS_FILE,
    ROUNDS_FILE,
    BenchmarkRow,
    PairVisit,
    Row,
)
from runner.units import counted

SLOWER = 3  # the exit code of a gate
MOST_NAMED = 10  # sides that are slower than their baseline


@dataclass(frozen=True)
class Run:
    """What a run's folder holds."""

    rows_of_job: Mapping[str, list[Row]]  # the rows of each job; none of one that did not run
    damaged: list[str]  # a line for each file that could not be read
    environment: Mapping[str, Any]  # ``environment.json``; nothing where it is not there or damaged
    pairs: list[PairVisit]  # the visits of what was measured in turn
    rounds: list[PairVisit]  # those to all calls of a workload
    files: Mapping[str, list[Path]]  # what the cells' folders have of each job


@uncollected()  # the rows stay until the end, and each look through 100,000 of them takes a while
def conclude(
    root: Path,
    report: Report,
    *,
    strict: bool,
    unclear_exit: int = Compare.unclear_exit,
    gate: Compare | None = None,
    measured: bool = True,
    explicit: Collection[str] = (),
    quiet: bool = False,
    before_printing: Callable[[], object] = lambda: None,
) -> int:
    """Rebuild a run's tables from its cells' files alone, show them, and say what the exit code is.

    ``strict`` counts findings such as ``timeout`` as failures, and ends with ``unclear_exit`` where
    too many times were disturbed. ``gate`` asks by these settings whether a side is slower than its
    baseline. Where nothing was ``measured`` just now, a report of nothing would replace a good one.
    The ``explicit`` keys of ``report``, which the user gave, count more than what the run was made
    with. ConfigError where the baseline is none of what was measured before. ``quiet``: only what
    was found is printed. ``before_printing`` is called once, before the first of what the run found
    is shown.
    """
    run = load_run(root)
    rows = list(chain.from_iterable(run.rows_of_job.values()))
    if not rows and not run.damaged:
        tell(f"no cell has ended in {root}")
        return gate.unclear_exit if gate else 0
    if not rows:
        last = f"nothing in {root} can be read; what is there is left as it is"
        tell(*run.damaged, last)
        return 1

    if run.rows_of_job["benchmark"] and not measured:
        values = map(attrgetter(report.axis), run.rows_of_job["benchmark"])
        report.check_baseline(map(str, values), "row", "the rows'")
    report = effective_report(report, run.environment.get("report") or {}, explicit)
    if gate and not measured:
        gate.check_gate(report)

    _write_tables(root, run)
    pairs = Pairs(run.pairs, run.environment.get("calibration") or ())
    compared = show(
        root,
        rows,
        run.damaged,
        report,
        run.environment,
        pairs=pairs,
        rounds=run.rounds,
        quiet=quiet,
        before_printing=before_printing,
    )
    _export(root, report, run)
    if run.damaged:
        return 1
    code = exit_code(rows, strict=strict)
    if code == 0 and gate:
        found = against_baseline(compared, rows, run.pairs, report.same_within, gate)
        code = _judged(found, gate)
    return unclear_exit if strict and code == 0 and _tell_of_disturbed(rows) else code


def _write_tables(root: Path, run: Run) -> None:
    """Replace each table that the cells' own files can make again, and all of it."""
    for job, rows_of_job in run.rows_of_job.items():
        table = root / FILE_OF_JOB[job]
        if rows_of_job and run.files[job] and loses_nothing(table, rows_of_job):
            write_rows(table, rows_of_job)
            if job == "benchmark" and run.pairs:
                write_records(root / PAIRS_FILE, run.pairs)


def _judged(found: Changes, gate: Compare) -> int:
    """Say what is slower than its baseline, or that too little could be told; the exit code."""
    allowed = f"compare.slower_than={gate.slower_than:.4g}"
    judged = [(one.label, one.speedup) for one in found.cells if one.is_slower]
    judged += [(one.label, one.speedup) for one in found.operations if one.is_slower]
    slower = [
        f"{label}: slower than its baseline by more than {allowed} ({speedup:.3g}x)"
        for label, speedup in judged
    ]
    failed = [
        f"{one.label}: worse than its baseline: {one.lost or one.changed}"
        for one in found.cells
        if one.became_wrong or one.lost
    ]
    lines = [*slower, *failed]
    further = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    tell(*map(printable, lines[:MOST_NAMED]), *further)
    if lines:
        return SLOWER
    share = summary_of(found, [gate.slower_than], gate.slower_than).could_show[gate.slower_than]
    if share >= ENOUGH:
        return 0
    of_all = f"of {counted(len(found.cells), 'comparison')} with a baseline"
    tell(f"compare.gate=true: {100 * share:.0f} % {of_all} could have shown {allowed}")
    return gate.unclear_exit


def _tell_of_disturbed(rows: Sequence[Row]) -> bool:
    """Say that a strict run has too few times that nothing disturbed; whether it does."""
    timed = [row for row in rows if isinstance(row, BenchmarkRow) and row.median_s is not None]
    disturbed = sum(map(is_disturbed, timed))
    if len(timed) - disturbed >= ENOUGH * len(timed):
        return False
    advice = "run it again on a quieter machine"
    tell(f"strict=true: something disturbed {disturbed} of {len(timed)} times; {advice}")
    return True


def _export(root: Path, report: Report, run: Run) -> None:
    """Write the run in the formats that were asked for, and say what is not in them."""
    rows = [row for row in run.rows_of_job["benchmark"] if isinstance(row, BenchmarkRow)]
    if not report.export or not rows:
        return
    left_out = export(root, report.export, rows, run.environment)
    for name in report.export:
        print(shown_path(root / f"{name}.json"))
    if left_out:
        cells = f"{left_out} of {len(rows)} cells"
        tell(f"report.export: {cells} have no time that can be compared, and are left out")


def load_run(root: Path) -> Run:
    """Read all that a run's cells left; what is damaged is passed over, and named."""
    files = files_of_jobs(root)
    collected = {job: collect(root, job, of_job, own_table=True) for job, of_job in files.items()}
    rows_of_job = {job: of_job.rows for job, of_job in collected.items()}
    damaged = list(chain.from_iterable(of_job.damaged for of_job in collected.values()))

    pairs, damaged_files = collect_pairs(root, collected["benchmark"].homes, files["benchmark"])
    rounds, problems_of_rounds = read_visits(root / ROUNDS_FILE)
    damaged += [*damaged_files, *problems_of_rounds]
    environment: dict[str, Any] = {}
    problems: list[str] = []
    try:  # a damaged file has no say in whether there is a report
        environment = read_environment(root, problems)
    except (ConfigError, OSError) as error:
        problems.append(str(error))
    stored, wrong = settings_of(environment.get("report") or {})
    environment["report"] = stored
    damaged += [f"environment.json: {problem}" for problem in (*problems, *wrong)]
    return Run(rows_of_job, damaged, environment, pairs, rounds, files)


def effective_report(
    report: Report, stored: Mapping[str, Any], explicit: Collection[str]
) -> Report:
    """What the user wants to be compared; where that is not said, what the run was made with.

    The latter is ``stored`` by today's names or those of an older release; ``explicit`` are the
    keys that the user gave, among them defaults.
    """
    made_with, _ = settings_of(stored)
    for field in fields(Report):
        name = field.name
        if name in made_with and name not in explicit and getattr(report, name) == field.default:
            report = replace(report, **{name: made_with[name]})
    return report


def exit_code(rows: Sequence[Row], *, strict: bool) -> int:
    """1 where a cell or a check of its values failed; with ``strict`` also where one is not ok."""
    for row in rows:
        if row.status not in NON_FAILURES or (strict and row.status != "ok"):
            return 1
        if has_failed_check(getattr(row, "flags", ())):
            return 1
    return 0
