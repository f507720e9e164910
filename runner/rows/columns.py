"""What a record's columns can hold, by their names: all else is damage, however it came about.

Records cross the worker's pipe as lists of their values, and are made again of nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from runner.config.axes import NAMED
from runner.errors import one_line
from runner.rows.rows import Row

COUNT = (0, 1e100)  # a number that is said nothing of below: never less than nothing
POSITIVE = (1e-30, 1e30)  # times and rates, of which ratios and logarithms are taken
RANGES = {
    r"(baseline|other|median|ci_low|ci_high|min|q1|q3|first_call|wall)_s": POSITIVE,
    r"launch(_low|_high)?_s|.*_per_s": POSITIVE,
    r"latency(_low|_high)?_s|temperature_c": (-1e30, 1e30),
    # of values that may be anything themselves, NaN among them
    r"got|expected|ulp|.*_error|error_roundoffs|tolerance|max_relative_residual": None,
}
# on a device a call that launches nothing, such as a view, takes no time
MAY_BE_ZERO = re.compile(r"(median|ci_low|ci_high|min|q1|q3|first_call|wall)_s")
LONGEST_NAME = 10_000  # characters
# whole tensors, or foreign words
LONG = r"reason|expression|derivation|points|kernels|aten_calls|own|got.*|expected.*"
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "tuple[str, ...]": (list,),
}
"""What a column's value is in JSON, by its type here."""


class Column(NamedTuple):
    """A column: its name and type, whether it may be blank, and the range of its numbers."""

    name: str
    kind: str
    optional: bool
    range: tuple[float, float] | None


class Columns(NamedTuple):
    """Those of a record, and what of them is looked at in each row."""

    every: tuple[Column, ...]
    limits: list[tuple[str, float, float]]  # the names and the ranges of numbers
    words: list[str]  # the names of texts that are never long


@cache
def _columns(record: type) -> Columns:
    columns = []
    for field in fields(record):
        kind, _, blank = str(field.type).partition(" | ")
        named = [limit for names, limit in RANGES.items() if re.fullmatch(names, field.name)]
        limit = (named or [COUNT])[0] if kind in ("int", "float") else None
        optional = blank == "None" or field.default is None
        columns.append(Column(field.name, kind, optional, limit))
    limits = [(column.name, *column.range) for column in columns if column.range]
    words = [column.name for column in columns if column.kind in ("str", "tuple[str, ...]")]
    foreign = {field.name for field in fields(record) if field.metadata.get("foreign")}
    short = [name for name in words if not (name in foreign or re.fullmatch(LONG, name))]
    return Columns(tuple(columns), limits, short)


def columns_in(record: type) -> list[Field[Any]]:
    """The fields of a record that are columns of its table; one that is none says so."""
    return [field for field in fields(record) if field.metadata.get("column", True)]


def numbers_of(record: type) -> set[str]:
    """The names of a record's columns that hold numbers."""
    return {column.name for column in _columns(record).every if column.kind in ("int", "float")}


def packed(records: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The values of records of a kind, column by column; nothing of no records."""
    if not records:
        return []
    values_of = attrgetter(*(column.name for column in _columns(records[0].__class__).every))
    return list(zip(*map(values_of, records), strict=True))


def unpacked(record: type, values: Sequence[Any]) -> list[Any]:
    """Records of what :func:`packed` made; ValueError where that is anything else."""
    if values == []:
        return []
    for column, of_column in zip(_columns(record).every, values, strict=True):
        allowed = {*TYPES[column.kind], *([type(None)] if column.optional else [])}
        if not isinstance(of_column, list) or not set(map(type, of_column)) <= allowed:
            raise ValueError(f"{column.name} holds what it cannot hold")
        if list in allowed:
            of_column[:] = [tuple(map(str, words)) for words in of_column]
    return [record(*of_record) for of_record in zip(*values, strict=True)]


def filled(
    record: type, texts: Mapping[str, Sequence[str]], values: Mapping[str, Mapping[str, Any]]
) -> list[Any]:
    """Records of a kind from each column's texts and their values, in a third of the usual time.

    TypeError where the columns are others. A column of nothing is left to the class, as with all
    of them a record takes twice the memory.
    """
    if values.keys() != {column.name for column in _columns(record).every}:
        raise TypeError(f"the columns are not those of {record.__name__}")
    is_blank = {name: set(of_text.values()) == {None} for name, of_text in values.items()}
    names = [n for n in values if not is_blank[n] or getattr(record, n, "needed") is not None]
    # half of the columns have one value, which is filled in once
    varying = [name for name in names if len(values[name]) > 1] or names[:1]
    alike = {name: next(iter(values[name].values())) for name in names if name not in varying}
    made = []
    columns = [map(values[name].__getitem__, texts[name]) for name in varying]
    for of_record in zip(*columns, strict=True):
        item: Any = object.__new__(record)
        own = alike.copy()
        own.update(zip(varying, of_record, strict=True))
        object.__setattr__(item, "__dict__", own)
        made.append(item)
    return made


def out_of_range(record: object) -> str:
    """The first number of a row, or of a visit, that cannot be; blank where all can."""
    return _out_of_range(type(record), lambda name: (getattr(record, name),))


def _out_of_range(kind: type, values_of: Callable[[str], Iterable[Any]]) -> str:
    for name, low, high in _columns(kind).limits:
        for value in values_of(name):
            if value is None or low <= value <= high:
                continue
            if value != 0 or not MAY_BE_ZERO.fullmatch(name):
                return f"{name} is {one_line(value, 40)}"
    return ""


def problem_of(row: Row, job: str) -> str:
    """What of a row of a job's file cannot be; blank where all can."""
    return problem_in(type(row), job, lambda name: (getattr(row, name, None),))


def problem_in(kind: type, job: str, values_of: Callable[[str], Iterable[Any]]) -> str:
    """What of the values of each column of such rows cannot be; blank where all can."""
    for name in values_of("job"):
        if name != job:
            return f"job is {one_line(name, 40)}, not {job}"
    for cell in values_of("cell"):
        if not re.fullmatch(r"[\w-]{1,64}", cell or ""):
            return f"cell is {one_line(cell, 40)}"
    for points in values_of("points"):
        if points is not None and not _are_points(points):
            return f"points is {one_line(points, 40)}"
    for name in _columns(kind).words:
        for text in values_of(name):
            if (not text and name in (*NAMED, "status")) or len(text or "") > LONGEST_NAME:
                return f"{name} has {len(text or ''):,} characters"
    return _out_of_range(kind, values_of)


def _are_points(text: str) -> bool:
    try:
        points = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(points, list) and all(map(_is_point, points))


def _is_point(point: object) -> bool:
    """Whether it is a size and its time, and the ends of an interval, which may be blank."""
    if not isinstance(point, list) or len(point) != 4 or None in point[:2]:
        return False
    low, high = POSITIVE
    return all(n is None or (type(n) in (int, float) and low <= n <= high) for n in point)
