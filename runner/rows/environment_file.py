"""``environment.json``: what a run was made with, and whether that is still so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, one_line
from runner.files import bounded_text, write_atomically

SAME = (
    *("torch.version", "torch.threads", "torch.cuda", "torch.hip", "precision"),
    *("host.name", "host.machine", "host.cores", "python", "env_set", "side"),
)
"""What of ``environment.json`` has to be the same for rows of one machine to stand in one table."""
EVERYWHERE = ("torch.version", "python", "env_set")
"""The same for rows of a cluster's machines."""
DECISIVE = (
    *("torch", "precision", "devices", "python", "packages", "compilers", "variables"),
    *("node", "code"),
)
"""What of it could make a cell end otherwise, or take another time."""


MOST = 10**9  # cells, cores
DEEPEST = 12  # levels of mappings and lists
KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("host", "torch", "precision", "packages", "variables", "git", "code"), dict),
    **dict.fromkeys(("report", "variants", "nodes", "nodes.*", "code.*", "code.*.content"), dict),
    "code.*.git": dict,
    **dict.fromkeys(("resumed[]", "devices[]", "calibration[]", "noise_sources"), dict),
    **dict.fromkeys(("resumed", "devices", "command", "calibration", "variants.*"), list),
    **dict.fromkeys(("cells", "excluded", "host.cores", "torch.threads"), int),
    **{f"calibration[].{name}": int for name in ("threads", "pairs", "alarms", "visits")},
    **{f"calibration[].{name}": (int, float) for name in ("largest_difference", "calm_share")},
    **dict.fromkeys(("host.load_1min", "calibration[].smallest_difference"), (int, float)),
    **dict.fromkeys(("host.name", "host.system", "torch.version", "python", "node"), str),
    **dict.fromkeys(("started", "folder", "cluster", "command[]", "id"), str),
    "variants.*[]": str,
    **dict.fromkeys(("devices[].device", "devices[].name", "code.*.folder"), str),
    **{f"calibration[].{name}": str for name in ("device_name", "op", "size", "date")},
}
"""What the parts that are used have to be, where they are not null; the others are as they are."""


def read_environment(root: Path, problems: list[str] | None = None) -> dict[str, Any]:
    """A run's ``environment.json``, nothing where there is none; ConfigError where it is damaged.

    What is not of its type is left out, with a line for each in ``problems``.
    """
    path = root / "environment.json"
    if not path.is_file():
        return {}
    try:
        environment = json.loads(bounded_text(path))
    except (ValueError, RecursionError):
        environment = None
    if not isinstance(environment, dict):
        remedy = "remove it to go on without knowing what the rows were made with"
        raise ConfigError(f"{path} is damaged; {remedy}")
    found: list[str] = [] if problems is None else problems
    kept: dict[str, Any] = _typed(environment, "", found, DEEPEST)
    return kept


def _typed(value: Any, where: str, problems: list[str], levels: int) -> Any:
    """A part of the file without what is not of its type; None in place of what is not itself."""
    # what a node is, and what a run was taken up with, is described as the run itself
    name = re.sub(r"^(nodes\.[^.]*|resumed\[\])\.", "", where)
    key = r"^(nodes(?=\.[^.]*$)|code|variants)\.[^.]*?(?=\.|\[\]$|$)"
    kind = KINDS.get(re.sub(key, r"\1.*", name), object)
    is_count = kind is not object and isinstance(value, int | float)
    odd_number = is_count and (isinstance(value, bool) or not 0 <= value < MOST)
    if levels == 0 or odd_number or not (value is None or isinstance(value, kind)):
        problems.append(f"{one_line(where, 60)} is {one_line(value, 40)}; it is not used")
        return None
    if isinstance(value, dict):
        items = {one_line(key, 200): item for key, item in value.items()}
        prefix = f"{where}." if where else ""
        places = {key: prefix + key.replace(".", " ") for key in items}
        kept = {key: _typed(v, places[key], problems, levels - 1) for key, v in items.items()}
        is_named = name in ("nodes", "code")  # of which each is a mapping
        return {
            key: item
            for key, item in kept.items()
            if item is not None or not (is_named or items[key] is not None)
        }
    if isinstance(value, list):
        typed = (_typed(item, f"{where}[]", problems, levels - 1) for item in value)
        return [item for item in typed if item is not None]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def all_environments(root: Path) -> dict[str, dict[str, Any]]:
    """All that a run's rows were measured with, by their ``environment``; ConfigError: damaged."""
    every = every_environment(read_environment(root))
    return {environment["id"]: environment for environment in every if environment.get("id")}


def every_environment(first: dict[str, Any]) -> list[dict[str, Any]]:
    """All that a run was made with: at first, when it was taken up again, on its nodes."""
    return [first, *(first.get("resumed") or []), *(first.get("nodes") or {}).values()]


def code_order(root: Path) -> dict[str, int]:
    """By the ``environment`` of rows, how late the run came to have their code; blank: damaged."""
    try:
        first = read_environment(root)
    except ConfigError:
        return {}
    order: dict[str, int] = {}
    number, before = 0, None
    for made_with in every_environment(first):
        code = {
            name: described.get("content")
            for name, described in (made_with.get("code") or {}).items()
            if described
        }
        number, before = number + (code != before), code
        order[str(made_with.get("id"))] = number
    return order


def check_same_environment(root: Path, now: dict[str, Any]) -> None:
    """Refuse to put rows of different machines or versions into one table, by a ConfigError."""
    before = read_environment(root)
    if not before:
        return  # nothing was measured yet
    if before.get("cluster") or now.get("cluster"):
        # rows say which machine they are of; only versions are common
        changed = _changed(before, now, EVERYWHERE)
        here = (before.get("nodes") or {}).get(now["node"])
        if here and not now.get("cluster"):
            changed += _changed(here, now, SAME)
    else:
        changed = _changed(before, now, SAME)
    if changed:
        remedy = "resume there, or say resume_force=true"
        raise ConfigError(f"resume={root}: {'; '.join(changed)}; {remedy}")


def add_node(root: Path, node: str, environment: dict[str, Any]) -> list[str]:
    """Write down what one of a cluster's machines is; gives what has changed there since before."""
    known = read_environment(root)
    known["nodes"] = known.get("nodes") or {}
    before = known["nodes"].get(node)
    if before and before.get("id") != environment.get("id"):
        known["resumed"] = [*(known.get("resumed") or []), before]  # there may be rows of it
    if not before and known.get("node") == node and not known.get("cluster"):
        before = known
    changed = _changed(before, environment, SAME) if before else []
    known["nodes"][node] = environment
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
    devices = tree.get("devices") or []
    return {device.get("device"): device.get("name") for device in devices}


def _at(tree: object, key: str) -> object:
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
