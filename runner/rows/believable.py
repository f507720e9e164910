"""Which values a column can have: what else stands in a file is damage, however it came about."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

from runner.config.axes import NAMED
from runner.errors import one_line
from runner.rows.rows import Row

COUNTS = (0, 1e100)  # what a number is that is said nothing of below: never less than nothing
POSITIVE = (1e-30, 1e30)  # times and rates, of which ratios and logarithms are taken
SIGNED = (-1e30, 1e30)
RANGES = {
    r"(baseline|other|median|ci_low|ci_high|min|q1|q3|first_call|wall)_s": POSITIVE,
    r"launch(_low|_high)?_s": POSITIVE,
    r".*_per_s": POSITIVE,
    r"latency(_low|_high)?_s": SIGNED,
    # of values that may be anything themselves, NaN among them
    r"got|expected|ulp|.*_error|tolerance|max_relative_residual": None,
}
LONGEST_NAME = 10_000  # characters
LONG = ("reason", "expression", "got", "expected", "got_values", "expected_values", "derivation")
"""Columns that hold whole tensors, or what somebody's function said."""

Limit = tuple[str, float, float]


def out_of_range(record: object) -> str:
    """The first number of a row, or of a visit, that cannot be; blank where all can."""
    values_of, limits = _numbers(type(record))
    for value, (name, low, high) in zip(values_of(record), limits, strict=True):
        if value is not None and not low <= value <= high:
            return f"{name} is {one_line(value, 40)}"
    return ""


def problem_of(row: Row, job: str) -> str:
    """What of a row of a job's file cannot be; blank where all can."""
    if row.job != job:
        return f"job is {one_line(row.job, 40)}, not {job}"
    if not re.fullmatch(r"[\w-]{1,64}", row.cell or ""):
        return f"cell is {one_line(row.cell, 40)}"
    for name in (*NAMED, "status"):
        if not getattr(row, name):
            return f"{name} is blank"
    for name in _names(type(row)):
        text = getattr(row, name)
        if text is not None and len(text) > LONGEST_NAME:
            return f"{name} has {len(text):,} characters"
    points = getattr(row, "points", None)
    if points is not None and not _are_points(points):
        return f"points are {one_line(points, 40)}"
    return out_of_range(row)


def _are_points(text: str) -> bool:
    """Whether these are a transfer's sizes with their times, as JSON."""
    try:
        points = json.loads(text)
        numbers = [tuple(map(float, point)) for point in points]
    except (ValueError, TypeError, RecursionError):
        return False
    low, high = POSITIVE
    return all(len(point) == 4 and low <= min(point) <= max(point) <= high for point in numbers)


@cache
def _numbers(record: type[Any]) -> tuple[Callable[[object], tuple[Any, ...]], list[Limit]]:
    """How the numbers of a record are read, and the name and range of each."""
    limits = []
    for field in fields(record):
        of_name = [limit for names, limit in RANGES.items() if re.fullmatch(names, field.name)]
        limit = of_name[0] if of_name else COUNTS
        if str(field.type).startswith(("int", "float")) and limit is not None:
            limits.append((field.name, *limit))
    return attrgetter(*(name for name, *_ in limits)), limits


@cache
def _names(record: type[Any]) -> tuple[str, ...]:
    """The columns of texts that are shown in a table."""
    texts = (field.name for field in fields(record) if str(field.type).startswith(("str", "tuple")))
    return tuple(name for name in texts if name not in (*LONG, "points"))
