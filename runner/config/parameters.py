"""An operation's own parameters, as a command sets them: ``op.kwargs.dim=0`` is ``dim=0``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

OF_OP, OF_KWARGS = "op.", "op.kwargs."
OF_IMPLEMENTATIONS = "op.implementations."  # of which the axis impl tells


def parameters_in(overrides: Iterable[str], op: Mapping[str, Any] | None = None) -> str | None:
    """What overrides say of the operation's own parameters; None where they say nothing.

    What refers to something else, as to a variable of the environment, has its value in the ``op``.

    >>> words = ["op=sum", "+op.kwargs.dim=${oc.env:D}", "op.args=[2, 3]"]
    >>> parameters_in(words, {"kwargs": {"dim": 0}})
    'dim=0 op.args=[2,3]'
    """
    said = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key.startswith(OF_OP) and not key.startswith(OF_IMPLEMENTATIONS):
            value = _resolved(key, op) if op and "$" in value else value
            value = re.sub(r"\s+", "", value)
            said.append(f"{key.removeprefix(OF_KWARGS)}={value}")
    return " ".join(said) or None


def _resolved(key: str, op: Mapping[str, Any]) -> str:
    value: Any = op
    for name in key.removeprefix(OF_OP).split("."):
        value = value[name]
    return str(value)


def overrides_of(parameters: str | None) -> dict[str, str]:
    """The overrides that such a text stands for, by their keys."""
    words = [word.partition("=") for word in (parameters or "").split()]
    return {key if key.startswith(OF_OP) else f"{OF_KWARGS}{key}": value for key, _, value in words}
