"""The fields of op and case files: each is read from YAML as its dataclass declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from runner.config.renamed import refusal
from runner.errors import ConfigError, one_line, suggestion

Declared = TypeVar("Declared")
Reader = Callable[[str, object], object]


def check_fields(
    names: Iterable[object],
    declared: type,
    kind: str,
    source: str,
    *,
    listed: str = "the fields are",
) -> None:
    """Refuse a field that there is not, or not any more, with its new name or a similar one."""
    allowed = [field.name for field in fields(declared)]
    for name in map(str, names):
        if name not in allowed:
            hint = suggestion(name, allowed)
            unknown = f"unknown field {name!r}{hint}; {listed} {', '.join(allowed)}"
            raise ConfigError(f"{source}: {refusal(name, kind) or unknown}")


def read_fields(declared: type[Declared], values: Mapping[str, object]) -> Declared:
    """A record of these fields; ConfigError where one is of the wrong type.

    A field's metadata may have a reader of its own, where its type does not say how it is read.
    """
    kind: type = declared
    readers = _readers(kind)
    filled = {key: value for key, value in values.items() if value is not None}
    return declared(**{key: readers[key](key, value) for key, value in filled.items()})


def text(key: str, value: object) -> str:
    """Text; a number is taken as it would be written."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        if key == "name" and not str(value).isprintable():
            shown = one_line(repr(value), 60)
            raise ConfigError(f"name: {shown} has signs that no terminal shows; leave them out")
        return str(value)
    raise ConfigError(f"{key}: {value!r} is not text")


def texts_by_name(key: str, value: object) -> dict[str, str]:
    """A mapping of names to text."""
    return {name: text(f"{key}.{name}", item) for name, item in mapping(key, value).items()}


def mapping(key: str, value: object) -> dict[str, object]:
    """A mapping of names to anything."""
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    raise ConfigError(f"{key}: {value!r} is not a mapping")


def _flag(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{key}: {value!r} is neither true nor false")


def _list(key: str, value: object) -> tuple[object, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise ConfigError(f"{key}: {value!r} is not a list")


def _texts(key: str, value: object) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else _list(key, value)
    return tuple(text(key, item) for item in items)


_READER_OF: dict[object, Reader] = {
    str: text,
    bool: _flag,
    tuple[str, ...]: _texts,
    tuple[Any, ...]: _list,
    Mapping[str, str]: texts_by_name,
    Mapping[str, Any]: mapping,
}


@lru_cache
def _readers(declared: type) -> dict[str, Reader]:
    hints = get_type_hints(declared)
    return {
        field.name: field.metadata.get("reader") or _READER_OF[hints[field.name]]
        for field in fields(declared)
    }
