"""``environment.json``: what a run was made with, and whether that is still so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.rows.csv_store import write_atomically

SAME = (
    *("torch.version", "torch.threads", "torch.cuda", "torch.hip", "precision"),
    *("host.name", "host.machine", "host.cores", "python", "env_set"),
)
"""What of ``environment.json`` has to be the same for rows of one machine to stand in one table."""
EVERYWHERE = ("torch.version", "python", "env_set")
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
        environment = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        environment = None
    if not isinstance(environment, dict):
        remedy = "remove it to go on without knowing what the rows were made with"
        raise ConfigError(f"{path} is damaged; {remedy}")
    return environment


def all_environments(root: Path) -> dict[str, dict[str, Any]]:
    """All that a run's rows were measured with, by the ``environment`` of the rows.

    Raises:
        ConfigError: ``environment.json`` is damaged.
    """
    first = read_environment(root)
    every = [first, *first.get("resumed", []), *first.get("nodes", {}).values()]
    return {environment["id"]: environment for environment in every if "id" in environment}


def check_same_environment(root: Path, now: dict[str, Any]) -> None:
    """Refuse to put rows of different machines or versions into one table.

    Raises:
        ConfigError: something that times depend on has changed; the message says from what to what.
    """
    before = read_environment(root)
    if not before:
        return  # nothing was measured yet
    if before.get("cluster") or now.get("cluster"):
        # rows say which machine they are of; only versions are common
        changed = _changed(before, now, EVERYWHERE)
        here = before.get("nodes", {}).get(now["node"])
        if here and not now.get("cluster"):
            changed += _changed(here, now, SAME)
    else:
        changed = _changed(before, now, SAME)
    if changed:
        remedy = "resume there, or say resume_force=true"
        raise ConfigError(f"resume={root}: {'; '.join(changed)}; {remedy}")


def add_node(root: Path, node: str, environment: dict[str, Any]) -> list[str]:
    """Write down what one of a cluster's machines is.

    Returns:
        what has changed there since it was written down before.

    Raises:
        OSError: the folder cannot be written.
    """
    known = read_environment(root)
    before = known.get("nodes", {}).get(node)
    if before and before.get("id") != environment.get("id"):
        known.setdefault("resumed", []).append(before)  # there may be rows of it
    if not before and known.get("node") == node and not known["cluster"]:
        before = known
    changed = _changed(before, environment, SAME) if before else []
    known.setdefault("nodes", {})[node] = environment
    write_atomically(root / "environment.json", json.dumps(known, indent=2, default=str) + "\n")
    return changed


def _changed(before: dict[str, Any], now: dict[str, Any], what: Sequence[str]) -> list[str]:
    now = json.loads(json.dumps(now, default=str))  # as it reads after it was written
    pairs = {key: (_at(before, key), _at(now, key)) for key in what}
    if what is EVERYWHERE:  # where a CPU's torch and an accelerator's differ in their build alone
        pairs = {key: (_release(old), _release(new)) for key, (old, new) in pairs.items()}
    else:
        old_names, new_names = _device_names(before), _device_names(now)
        common = old_names.keys() & new_names.keys()
        pairs |= {device: (old_names[device], new_names[device]) for device in common}
    return [f"{key} was {old} and is {new}" for key, (old, new) in pairs.items() if old != new]


def _release(version: object) -> str:
    """``2.9.0`` of ``2.9.0+cu128``."""
    return str(version).partition("+")[0]


def _device_names(tree: dict[str, Any]) -> dict[str, str]:
    return {device["device"]: device["name"] for device in tree.get("devices", [])}


def _at(tree: object, key: str) -> object:
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
