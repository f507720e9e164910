"""The configuration's keys, and what was perhaps meant by one that is none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from runner.config.renamed import refusal
from runner.config.schema import ONE_AXIS, Config
from runner.errors import ConfigError, closest

HELP_LISTS = "python -m runner --help lists"


def unknown_key(key: str) -> str:
    """Say that there is no such key, with the one that was perhaps meant."""
    if key == "sweep":
        return "sweep is added with a plus: +sweep=..."
    if old := refusal(key, "key"):
        return old
    if is_baseline(key):
        return f"{key} is unknown; give {ONE_AXIS}"
    *path, last = key.split(".")
    part: object = Config()
    for name in path:
        part = getattr(part, name, None)
    known = [field.name for field in fields(part)] if is_dataclass(part) else []
    if near := closest(last, known):
        return f"{key} is unknown; did you mean {'.'.join([*path, near])}?"
    if path and known:
        return f"{key} is unknown; allowed: {', '.join('.'.join([*path, name]) for name in known)}"
    return f"{key} is unknown; {HELP_LISTS} every key"


def is_baseline(key: str) -> bool:
    """Whether a key is that of the baseline, or was perhaps meant to be."""
    return key in ("baseline", "report.baseline") or key.startswith("report.baseline.")


def check_keys(values: Mapping[str, object], schema: object, prefix: str = "") -> None:
    """Refuse keys that Hydra was told to add (``+treads=2``), which nothing would ever read.

    ``schema`` is an instance of the dataclass that the values should be, and ``prefix`` what stands
    before their keys on the command line.
    """
    known = vars(schema)
    for key in known.keys() - values.keys():
        raise ConfigError(f"~{prefix}{key}: this key is needed; leave it as it is")
    for key, value in values.items():
        if key not in known:
            raise ConfigError(unknown_key(f"{prefix}{key}"))
        if is_dataclass(known[key]) and isinstance(value, dict):
            check_keys(value, known[key], f"{prefix}{key}.")
