"""What each column of each table holds: its type, its unit, and what is said beside its field."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from runner.analysis.changes import Change
from runner.analysis.charge import Charge
from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.analysis.operation_changes import OperationChange
from runner.config.axes import AXES
from runner.files import COMPARED, CONF, beside
from runner.report.environments import EnvironmentChange
from runner.rows.columns import columns_in
from runner.rows.rows import (
    FILE_OF_JOB,
    PAIRS_FILE,
    ROUNDS_FILE,
    ROW_OF_JOB,
    SAMPLES_FILE,
    SHARES_FILE,
    PairVisit,
    Row,
    Sample,
    Share,
)
from runner.units import unit_of

PANDAS = {"str": "string", "int": "Int64", "float": "float64", "bool": "boolean"}
"""The dtype that has a column's values and blanks; several words are text with spaces."""
SIGNED = {
    "schema": ("int", "version of the columns and of what a cell's identity covers"),
    "checksum": ("str", "checksum of the row's values, its place and the number of rows"),
}
"""What every table of rows ends with."""
FIELD_NAMES = re.compile(r"([a-z_0-9]+(?:, [a-z_0-9]+)*): ")


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
    compared = {"speedup.csv": Speedup, "crossover.csv": Crossover}
    compared |= {**dict.fromkeys(COMPARED, Change), "bill.csv": Charge}
    further = {"operations": OperationChange, "environments": EnvironmentChange}
    for what, record in further.items():
        compared |= {beside(file, what): record for file in COMPARED}
    visits = {PAIRS_FILE: PairVisit, ROUNDS_FILE: PairVisit}
    return {**rows, **compared, **visits, SAMPLES_FILE: Sample, SHARES_FILE: Share}


def columns_of(record: type) -> list[ColumnReference]:
    """The columns of a record's table, in their order."""
    said = {**_in_config(), **explained(Row), **explained(Speedup), **explained(record)}
    columns = []
    for field in columns_in(record):
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
            meaning = column.meaning.replace("`", "")
            lines.append(f"  {column.name:<26} {unit:<14} {meaning}")
    return "\n".join(lines)


def as_json() -> str:
    """The same for programs: a list of columns for each table."""
    described = {
        file: [{**vars(column), "pandas": column.pandas} for column in columns_of(record)]
        for file, record in tables().items()
    }
    return json.dumps(described, indent=1)


@cache
def explained(record: type) -> Mapping[str, str]:
    """What the comment beside each field says, or the one above it."""
    said: dict[str, str] = {}
    for parent in reversed(record.__mro__):
        if hasattr(parent, "__dataclass_fields__"):
            said |= _of_comments(textwrap.dedent(inspect.getsource(parent)))
    return {name: without_roles(text).removesuffix(".") for name, text in said.items()}


def without_roles(text: str) -> str:
    """A sentence of a docstring as Markdown, without the marks of references to code."""
    text = re.sub(r":\w+:`[\w.]*?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`")


def _of_comments(source: str) -> Iterator[tuple[str, str]]:
    """The comment above a field or behind it; one above several says of which it is."""
    lines = source.splitlines()
    (declared,) = ast.parse(source).body
    assert isinstance(declared, ast.ClassDef)
    for node in declared.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        behind = re.search(r"  # (.*)$", lines[(node.end_lineno or node.lineno) - 1])
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("# "):
                break
            above.insert(0, line.strip()[2:])
        text = behind[1] if behind else " ".join(above)
        of_several = FIELD_NAMES.match(text)
        if of_several and node.target.id in of_several[1].split(", "):
            yield from ((name, text[of_several.end() :]) for name in of_several[1].split(", "))
        elif text:
            yield node.target.id, text


def _in_config() -> dict[str, str]:
    """What ``config.yaml`` says of a key for each axis, and of the job."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    said = re.findall(r"^(\w+): .*?  # (.+)$", text, re.MULTILINE)
    return {key: meaning for key, meaning in said if key in (*AXES, "job")}
