"""What a stage leaves: a CSV of its findings, and an archive of its runs without their pages."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from runner.files import bounded_lines, write_atomically
from runner.rows.csv_store import csv_text

PASSED = {True: "yes", False: "no", None: ""}
LARGEST_BYTES = 16 * 1024**2  # of an archive
# of a run, what goes into it, the first to be left out last
KEPT = ("environment.json", "multirun.yaml", "*.csv", "report.md", "*/run.log", "*/samples.csv")


@dataclass(frozen=True)
class Found:
    """A line of a stage's CSV: a finding, and where and when it was made."""

    stage: str
    step: str
    check: str
    got: str
    expected: str
    passed: str  # yes, no; blank: it is a figure
    at: str  # when the step had ended, in UTC
    seconds: str  # that the step took
    machine: str  # the device and what it was used with
    simulated: str  # yes, no: whether the device is


COLUMNS = [field.name for field in fields(Found)]


def table_of(out: Path, stage: str) -> Path:
    """Where a stage's findings are."""
    return out / f"{stage}.csv"


def read_found(path: Path) -> list[Found]:
    """The lines of a stage's CSV; none where there is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Found(*(line[name] for name in COLUMNS)) for line in csv.DictReader(bounded_lines(file))
        ]


def write_found(path: Path, found: Iterable[Found]) -> None:
    """Write them, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, csv_text([COLUMNS, *map(list, map(astuple, found))]))


def pack(runs: Path, archive: Path) -> None:
    """Put a stage's runs into an archive, leaving out more where it would be too large."""
    for count in range(len(KEPT), 0, -1):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            for pattern in KEPT[:count]:
                for path in sorted(runs.glob(f"*/{pattern}")):
                    tar.add(path, path.relative_to(runs))
        if content.tell() <= LARGEST_BYTES:
            write_atomically(archive, content.getvalue())
            return


def unpack(archive: Path, runs: Path) -> None:
    """Put back the runs of an earlier call that are not there, as on a machine that is another."""
    # of Python's releases of 3.10 and 3.11 the first ones have no filters
    only_data: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with suppress(OSError, tarfile.TarError), tarfile.open(archive) as tar:
        for member in tar:
            path = (runs / member.name).resolve()
            if member.isfile() and path.is_relative_to(runs.resolve()) and not path.exists():
                tar.extract(member, runs, **only_data)
