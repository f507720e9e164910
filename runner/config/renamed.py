"""What schema 3 renamed, old -> new: rows and files of older releases are read by it, old keys are refused by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, Mapping[str, str]] = {
    "autograd.csv": {"layout": "memory_layout"},
}
"""By where the name stands: a CSV's columns (or, after the CSV's name, the values of one), keys, fields of a file."""


def renamed(mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A mapping of an older release with today's names.

    Args:
        mapping: by names, old or new.
        where: where the names stand, a key of :data:`RENAMED`.
    """
    names = RENAMED.get(where, {})
    return {names.get(name, name): value for name, value in mapping.items()}
