"""The end of a run: its tables put together from its cells' files, shown, and the exit code settled."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.renamed import with_todays_names
from runner.config.schema import Report
from runner.garbage import uncollected
from runner.rows.flags import FLAGS

if TYPE_CHECKING:  # the rest is imported where it is used: a typing error on the command line needs none of it
    from runner.rows.rows import Row


ANSWERS = ("unavailable", "unsupported", "timeout", "out_of_memory")  # statuses that are findings, not failures


@uncollected()  # the rows stay until the end, and each look through 100,000 of them takes a while
def conclude(root: Path, report: Report, *, strict: bool, measured: bool = True, asked: Collection[str] = ()) -> int:
    """Rebuild a run's tables from its cells' files alone, show them, and say what the exit code is.

    Args:
        root: the folder of the run or sweep.
        report: what to compare with what.
        strict: whether findings such as ``timeout`` count as failures.
        asked: the keys of ``report`` that the user gave, which count more than what the run was made with.
        measured: whether this was measured just now; where it was not, a report of nothing would replace a good one.

    Raises:
        ConfigError: the baseline is none of what was measured before.
        OSError: the folder cannot be written.
    """
    from runner.report.summary import show
    from runner.rows.csv_store import collect, files_of_jobs, write_rows
    from runner.rows.rows import FILE_OF_JOB

    found: dict[str, tuple[list[Row], list[str]]] = {job: collect(root, job) for job in FILE_OF_JOB}
    rows: list[Any] = [row for of_job, _ in found.values() for row in of_job]
    damaged = [line for _, of_job in found.values() for line in of_job]
    if not rows and not damaged:
        print(f"no cell has ended in {root}", file=sys.stderr)
        return 0
    if not rows:
        print(*damaged, f"nothing in {root} can be read; what is there is left as it is", sep="\n", file=sys.stderr)
        return 1
    timed = [row for row in rows if row.job == "benchmark"]
    if timed and not measured:
        report.check_baseline((str(getattr(row, report.axis)) for row in timed), "row", "the rows'")
    environment: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        environment = json.loads((root / "environment.json").read_text(encoding="utf-8"))
    if environment.get("report"):
        given = {key: value for key, value in vars(report).items() if key in asked or value != getattr(Report, key)}
        stored = with_todays_names({f"report.{key}": value for key, value in environment["report"].items()}, "key")
        stored = {name.removeprefix("report."): value for name, value in stored.items()}
        stored = {key: value for key, value in stored.items() if key in vars(report)}
        report = Report(**{**stored, **given})
    for job, (of_job, _) in found.items():
        if of_job and files_of_jobs(root, job):
            write_rows(root / FILE_OF_JOB[job], of_job)
    show(root, rows, damaged, report, environment.get("cells"))
    bad = [row for row in rows if row.status in ("failed", "crashed") or (strict and row.status in ANSWERS)]
    flagged = [row for row in rows for name in getattr(row, "flags", ()) if FLAGS[name].fails]
    return 1 if bad or flagged or damaged else 0
