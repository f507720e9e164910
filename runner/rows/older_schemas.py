"""The columns of older releases' rows, so that their runs can still be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path


@cache
def _columns() -> dict[str, dict[str, str]]:
    """By schema and file, as they were; ``config/renamed.py`` says what they are called now."""
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
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
