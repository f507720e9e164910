"""An entry of an operation's ``implementations``: what is called instead of ``call``, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.axes import AXES, named_value
from runner.config.fields import check_fields, mapping, read_fields, text
from runner.errors import ConfigError, naming, unknown

DEFAULT, ALL = str(AXES["impl"].default), "all"
BUILDING = "building"  # the step of a cell that no limit of its time counts
RESERVED = {
    DEFAULT: "is the operation's own call",
    ALL: "stands for every implementation",
    **dict.fromkeys(("true", "false", "null"), "means something else to Hydra"),
}
NAME = re.compile(r"[A-Za-z_][\w.-]*")


def _mode(key: str, value: object) -> str:
    """A mode of torch.compile by the axis' own words."""
    mode, choices = str(named_value("compile", value)), AXES["compile"].choices
    if mode not in choices:
        raise unknown(f"{key}: {mode} is no mode of torch.compile", mode, choices)
    return mode


@dataclass(frozen=True)
class Implementation:
    """How one is called."""

    call: str  # dotted name of a callable that takes what the operation's ``call`` takes
    # constants by name for it alone; they add to the operation's or replace them
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    prepare: str = ""  # as the operation's ``prepare``, which it replaces
    # the mode in which torch.compile compiles it, outside the clock
    compile: str = field(default="off", metadata={"reader": _mode})
    dynamic: bool = False  # whether it is compiled for any shape


def implementations_by_name(key: str, value: object) -> dict[str, Implementation]:
    """Each by its name, from a dotted name or a mapping; ConfigError where one is wrong."""
    return {name: _read(f"{key}.{name}", name, item) for name, item in mapping(key, value).items()}


def _read(where: str, name: str, value: object) -> Implementation:
    if name in RESERVED or not NAME.fullmatch(name):
        why = RESERVED.get(name, "is no name: it begins with a letter, without spaces or commas")
        raise ConfigError(f"{where}: {name} {why}; give it another name")
    fields: Mapping[Any, Any] = (
        value if isinstance(value, Mapping) else {"call": text(where, value)}
    )
    check_fields(fields, Implementation, "implementation", where)
    if not fields.get("call"):
        raise ConfigError(f"{where}: call is missing; give a dotted name, package.module.function")
    with naming(where):
        return read_fields(Implementation, fields)
