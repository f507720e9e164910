"""The columns of other releases' rows, so that their runs can still be read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field, fields, make_dataclass
from functools import cache
from keyword import iskeyword
from pathlib import Path
from typing import Any

from runner.config.axes import NAMED
from runner.rows.rows import AnyRow


def _columns() -> dict[str, dict[str, str]]:
    """By schema and file, as they were; ``config/renamed.py`` says what they are called now."""
    text = Path(__file__).with_name("older_schemas.json").read_text(encoding="utf-8")
    columns: dict[str, dict[str, str]] = json.loads(text)
    return columns


def schema_of(header: Sequence[str], now: Sequence[str], file: str, version: int) -> int | None:
    """Which schema a file's header is of; None where it is none's.

    ``now`` and ``version`` are this release's columns and schema.
    """
    *columns, schema, checksum = header if len(header) > 1 else ["", ""]
    if (schema, checksum) != ("schema", "checksum"):
        return None
    if columns == list(now):
        return version
    older = (old for old, files in _columns().items() if files.get(file, "").split() == columns)
    return next(map(int, older), None)


def other_row_type(
    header: Sequence[str], first: Sequence[str], row_type: type, version: int
) -> tuple[int, type[AnyRow]]:
    """The schema of another build's file, by its header and first line, and a row of it.

    The columns that we do not know are kept as text; what it lacks of ours is blank. ValueError
    where it is no such file, or of an older schema.
    """
    columns, own = header[:-2], [f.name for f in fields(row_type)]
    schema = int(first[-2]) if len(first) > 1 and re.fullmatch("[0-9]{1,9}", first[-2]) else 0
    needed = {"cell", "job", *NAMED}
    further = tuple(name for name in columns if name not in own)
    # within a schema columns come; a file with others instead of ours is of another kind
    is_of_kind = schema > version or not further or set(own) <= set(columns)
    usable = is_of_kind and all(_is_free(name, row_type) for name in further)
    unique = len(set(columns)) == len(columns) and list(header[-2:]) == ["schema", "checksum"]
    if schema < version or not (needed <= set(columns) and usable and unique):
        raise ValueError(f"the header is not that of schema {version}, nor of an older one")
    return schema, _with_columns(row_type, further) if further else row_type


def own_columns(row: object) -> dict[str, Any]:
    """The columns that a row's op file, or its workload, declares, with their values."""
    return json_object(getattr(row, "own", None))


def json_object(text: str | None) -> dict[str, Any]:
    """The JSON object that a column holds; nothing where it is blank, or has been altered."""
    found: Any = {}
    with suppress(ValueError, TypeError, RecursionError):
        found = json.loads(text) if text else found
    return found if isinstance(found, dict) else {}


def with_own_columns(row: AnyRow) -> AnyRow:
    """A row with the columns that its op file declares."""
    own = own_columns(row)
    names = tuple(name for name in own if _is_free(name, row))
    if not names:
        return row
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    of_today: type = type(row)
    kind: type[AnyRow] = _with_columns(of_today, names)
    return kind(**values, **{name: own[name] for name in names})


def _is_free(name: str, row: object) -> bool:
    """Whether a column may have a name that comes from a file."""
    return name.isidentifier() and not iskeyword(name) and not hasattr(row, name)


@cache
def _with_columns(row_type: type, names: tuple[str, ...]) -> type:
    further = [(n, "str | None", field(default=None, metadata={"foreign": True})) for n in names]
    return make_dataclass(row_type.__name__, further, bases=(row_type,), frozen=True)
