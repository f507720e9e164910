"""Rows and raw measurements as plain lists, as they go through the worker's pipe, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

Record = TypeVar("Record")
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "tuple[str, ...]": (list,),
}
"""What a column's value is in JSON."""


def packed(records: Iterable[object]) -> list[tuple[Any, ...]]:
    """The values of each record, in the order of its fields."""
    return [_reader(type(record))(record) for record in records]


def unpacked(record: type[Record], lists: object) -> list[Record]:
    """Records of what :func:`packed` made; ValueError where that is anything else."""
    if not isinstance(lists, list):
        raise ValueError("no list of records")
    columns = _columns(record)
    return [_record(record, columns, values) for values in lists]


def _record(
    record: type[Record], columns: Sequence[tuple[tuple[type, ...], bool]], values: object
) -> Record:
    if not isinstance(values, list) or len(values) != len(columns):
        raise ValueError(f"no {record.__name__}")
    for position, (value, (types, optional)) in enumerate(zip(values, columns, strict=True)):
        if type(value) not in types and not (value is None and optional):
            raise ValueError(f"{fields(record)[position].name} is a {type(value).__name__}")  # type: ignore[arg-type]  # a dataclass
        if type(value) is list:
            values[position] = tuple(map(str, value))
    return record(*values)


@cache
def _reader(record: type[Any]) -> Callable[[object], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(record)))


@cache
def _columns(record: type[Any]) -> list[tuple[tuple[type, ...], bool]]:
    """Each column's types, and whether it may be blank."""
    kinds = [str(field.type).partition(" | ") for field in fields(record)]
    return [(TYPES[kind], blank == "None") for kind, _, blank in kinds]
