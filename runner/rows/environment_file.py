"""``environment.json``: what a run was made with, and whether that is still so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.rows.csv_store import write_atomically

SAME = (
    ("torch", "version"),
    ("torch", "threads"),
    ("torch", "cuda"),
    ("torch", "hip"),
    ("precision",),
    ("host", "name"),
    ("host", "machine"),
    ("host", "cores"),
    ("python",),
)
"""What of ``environment.json`` has to be the same for rows of one machine to stand in one table."""


EVERYWHERE = (("torch", "version"), ("python",))
"""The same for rows of a cluster's machines."""


def read_environment(root: Path) -> dict[str, Any]:
    """A run's ``environment.json``; nothing where it was not written yet.

    Raises:
        ConfigError: it is damaged.
    """
    path = root / "environment.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise ConfigError(
        f"{path} is damaged; remove it to go on without knowing what the rows were made with"
    )


def check_same_environment(root: Path, now: dict[str, Any]) -> None:
    """Refuse to put rows of different machines or versions into one table.

    Raises:
        ConfigError: something that times depend on has changed; the message says from what to what.
    """
    before = read_environment(root)
    if not before:
        return  # nothing was measured yet
    if before.get("cluster") or now.get(
        "cluster"
    ):  # rows say which machine they are of; only versions are common
        changed = _changed(before, now, EVERYWHERE)
        here = before.get("nodes", {}).get(now["node"])
        if here and not now.get("cluster"):
            changed += _changed(here, now, SAME)
    else:
        changed = _changed(before, now, SAME)
    if changed:
        raise ConfigError(
            f"resume={root}: {'; '.join(changed)}; resume there, or say resume_force=true"
        )


def add_node(root: Path, node: str, environment: dict[str, Any]) -> list[str]:
    """Write down what one of a cluster's machines is.

    Returns:
        what has changed there since it was written down before.

    Raises:
        OSError: the folder cannot be written.
    """
    known = read_environment(root)
    before = known.get("nodes", {}).get(node) or (
        known if known.get("node") == node and not known["cluster"] else None
    )
    known.setdefault("nodes", {})[node] = environment
    write_atomically(root / "environment.json", json.dumps(known, indent=2, default=str) + "\n")
    return _changed(before, environment, SAME) if before else []


def _changed(
    before: dict[str, Any], now: dict[str, Any], what: Sequence[Sequence[str]]
) -> list[str]:
    changed = []
    for keys in what:
        old, new = _at(before, keys), _at(json.loads(json.dumps(now, default=str)), keys)
        if what is EVERYWHERE:
            old, new = (
                str(value).partition("+")[0] for value in (old, new)
            )  # a CPU's torch, and an accelerator's
        if old != new:
            changed.append(f"{'.'.join(keys)} was {old} and is {new}")
    names = [
        {device["device"]: device["name"] for device in tree.get("devices", [])}
        for tree in (before, now)
    ]
    for device in names[0].keys() & names[1].keys() if what is SAME else ():
        if names[0][device] != names[1][device]:
            changed.append(f"{device} was {names[0][device]} and is {names[1][device]}")
    return changed


def _at(tree: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
