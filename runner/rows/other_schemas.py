"""The columns of other releases' rows, so that their runs can still be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runner.config.axes import NAMED
from runner.rows.rows import AnyRow


@cache
def _columns() -> dict[str, dict[str, str]]:
    """By schema and file, as they were; ``config/renamed.py`` says what they are called now."""
    text = Path(__file__).with_name("older_schemas.json").read_text(encoding="utf-8")
    columns: dict[str, dict[str, str]] = json.loads(text)
    return columns


def schema_of(header: Sequence[str], now: Sequence[str], file: str, version: int) -> int | None:
    """Which schema a file's header is of; None where it is none's.

    Args:
        header: the file's first line.
        now: this release's columns.
        file: the name that a run gives such a file.
        version: this release's schema.
    """
    *columns, schema, checksum = header if len(header) > 1 else ["", ""]
    if (schema, checksum) != ("schema", "checksum"):
        return None
    if columns == list(now):
        return version
    older = (old for old, files in _columns().items() if files.get(file, "").split() == columns)
    return next(map(int, older), None)


def newer_row_type(
    header: Sequence[str], first: Sequence[str], row_type: type[AnyRow], version: int
) -> tuple[int, type[AnyRow]]:
    """The schema of a newer release's file, and a row with the columns that we do not know.

    They are kept as the text that they hold. What we have and a newer schema lacks is blank.

    Args:
        header: the file's first line.
        first: its second line, whose last but one value is the schema.
        row_type: this release's row.
        version: its schema.

    Raises:
        ValueError: it is no such file.
    """
    *columns, schema, checksum = header if len(header) > 1 else ["", ""]
    number = first[-2] if len(first) > 1 and first[-2].isdecimal() else "0"
    is_newer = len(number) < 9 and int(number) > version
    own = [f.name for f in fields(row_type)]
    needed = {"cell", "job", *NAMED} if is_newer else set(own)
    further = tuple(name for name in columns if name not in own)
    readable = needed <= set(columns) and len(set(columns)) == len(columns)
    readable = readable and (is_newer or int(number[:9]) == version)
    usable = all(name.isidentifier() and not hasattr(row_type, name) for name in further)
    if not (readable and usable and (schema, checksum) == ("schema", "checksum")):
        raise ValueError(f"the header is not that of schema {version}, nor of an older one")
    ours: Any = row_type
    return int(number), _with_columns(ours, further)


@cache
def _with_columns(row_type: Any, names: tuple[str, ...]) -> Any:
    further = [(name, "str | None", None) for name in names]
    return make_dataclass(row_type.__name__, further, bases=(row_type,), frozen=True)
