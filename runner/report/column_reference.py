"""What each column of each table holds: its type, its unit, and what is said beside its field."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from runner.analysis.changes import Change
from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.config.axes import AXES
from runner.files import CONF
from runner.rows.rows import (
    FILE_OF_JOB,
    PAIRS_FILE,
    ROW_OF_JOB,
    SAMPLES_FILE,
    PairVisit,
    Row,
    Sample,
)
from runner.units import unit_of

PANDAS = {"str": "string", "int": "Int64", "float": "float64", "bool": "boolean"}
"""The dtype that has a column's values and blanks; several words are text with spaces."""
SIGNED = {
    "schema": ("int", "of the rows and of what a cell's identity covers: the release's number"),
    "checksum": ("str", "of the row's values, its place and the number of rows"),
}
"""What every table of rows ends with."""
NO_COLUMN: Mapping[Any, tuple[str, ...]] = {Crossover: ("size",)}
FIELD = re.compile(r"    (\w+): [^#]*?(?:  # (?P<beside>.+))?$")
ABOVE = re.compile(r"    # (.*)")
NAMED = re.compile(r"(\w+(?:, \w+)*): (.+)")  # words that say of which columns they are


@dataclass(frozen=True)
class ColumnReference:
    """What is to be known of a column."""

    name: str
    type: str  # str, int, float, bool or words, which spaces divide
    unit: str  # blank where it has none
    meaning: str

    @property
    def pandas(self) -> str:
        """The dtype for pandas."""
        return PANDAS.get(self.type, "string")


def tables() -> Mapping[str, Any]:
    """The record that each file's lines are, by the file's name."""
    rows = {file: ROW_OF_JOB[job] for job, file in FILE_OF_JOB.items()}
    others = {SAMPLES_FILE: Sample, PAIRS_FILE: PairVisit, "compare.csv": Change}
    return {**rows, **others, "speedup.csv": Speedup, "crossover.csv": Crossover}


def columns_of(record: Any) -> list[ColumnReference]:
    """The columns of a record's table, in their order."""
    said = {**_meanings(Row), **_meanings(Speedup), **_meanings(record)}  # of like names
    columns = []
    for field in (field for field in fields(record) if field.name not in NO_COLUMN.get(record, ())):
        kind = str(field.type).partition(" | ")[0]
        kind = "words" if kind.startswith("tuple") else kind
        columns.append(
            ColumnReference(field.name, kind, unit_of(field.name), said.get(field.name, ""))
        )
    if record in ROW_OF_JOB.values():
        columns += [ColumnReference(name, kind, "", text) for name, (kind, text) in SIGNED.items()]
    return columns


def as_text() -> str:
    """All tables for people, a line a column."""
    lines: list[str] = []
    for file, record in tables().items():
        lines += ["", file] if lines else [file]
        for column in columns_of(record):
            unit = f"{column.type} {column.unit}".strip()
            lines.append(f"  {column.name:<26} {unit:<14} {column.meaning}")
    return "\n".join(lines)


def as_json() -> str:
    """The same for programs: a list of columns for each table."""
    described = {
        file: [{**vars(column), "pandas": column.pandas} for column in columns_of(record)]
        for file, record in tables().items()
    }
    return json.dumps(described, indent=1)


@cache
def _meanings(record: Any) -> dict[str, str]:
    """What is said of each field: beside or above it, in the docstring, or in ``config.yaml``."""
    said = dict(_in_config())
    for kind in reversed(record.__mro__):
        if is_dataclass(kind):
            found = dict(_beside(kind)) | dict(_in_docstring(kind))
            said |= {name: _plain(text) for name, text in found.items() if text}
    return said


def _in_docstring(kind: type) -> Iterator[tuple[str, str]]:
    """What stands under ``Attributes``: an entry may go on over further lines."""
    _, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    for entry in re.split(r"\n    (?=\S)", "\n" + listed):
        if match := NAMED.match(" ".join(entry.split())):
            text = match[0] if "," in match[1] else match[2]
            yield from ((name, text) for name in match[1].split(", "))


def _beside(kind: type) -> Iterator[tuple[str, str]]:
    """What comments beside the fields say, or those above them, which may name several."""
    above: list[str] = []
    named: dict[str, str] = {}
    for line in inspect.getsource(kind).splitlines():
        if comment := ABOVE.fullmatch(line):
            above.append(comment[1])
        elif field := FIELD.fullmatch(line):
            text = field["beside"] or " ".join(above)
            match = NAMED.fullmatch(" ".join(above))
            if match and field[1] in match[1].split(", "):
                named |= dict.fromkeys(match[1].split(", "), match[0])
                text = ""
            yield field[1], named.get(field[1]) or text
            above = []
        else:
            above = []


def _plain(text: str) -> str:
    """A text without its marks for documentation."""
    return re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "").rstrip(".")


@cache
def _in_config() -> dict[str, str]:
    """What ``config.yaml`` says of a key for each axis, and of the job."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    said = re.findall(r"^(\w+): .*?  # (.+)$", text, re.MULTILINE)
    return {key: meaning for key, meaning in said if key in (*AXES, "job")}
