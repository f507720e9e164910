"""The configuration's keys: which there are, and what was perhaps meant by one that is none of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from runner.config.renamed import refusal
from runner.config.schema import Config
from runner.errors import ConfigError, closest

HELP_LISTS = "python -m runner --help lists"


def unknown_key(key: str) -> str:
    """Say that there is no such key, with the one that was perhaps meant."""
    if key == "sweep":
        return "sweep is added with a plus: +sweep=..."
    if old := refusal(key, "key"):
        return old
    *path, last = key.split(".")
    where: Any = Config()
    for name in path:
        where = getattr(where, name, None)
    known = (
        [".".join([*path, field.name]) for field in fields(where)] if is_dataclass(where) else []
    )
    near = closest(last, [name.rpartition(".")[2] for name in known])
    if near:
        return f"{key} is unknown; did you mean {'.'.join([*path, near])}?"
    return f"{key} is unknown; " + (
        f"allowed: {', '.join(known)}" if path and known else f"{HELP_LISTS} every key"
    )


def check_keys(values: dict[Any, Any], schema: Any, prefix: str = "") -> None:
    """Refuse keys that Hydra was told to add (``+treads=2``), which nothing would ever read.

    Args:
        values: a composed configuration or a part of it.
        schema: an instance of the dataclass that it should be.
        prefix: what stands before the part's keys on the command line.

    Raises:
        ConfigError: a key is none of the schema's.
    """
    known = vars(schema)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(unknown_key(f"{prefix}{key}"))
        if is_dataclass(known[key]) and isinstance(value, dict):
            check_keys(value, known[key], f"{prefix}{key}.")
