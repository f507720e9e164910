"""An operation's own parameters, as a command sets them: ``op.kwargs.dim=0`` is ``dim=0``."""

from __future__ import annotations

import re
from collections.abc import Iterable

OF_OP, OF_KWARGS = "op.", "op.kwargs."
OF_IMPLEMENTATIONS = "op.implementations."  # of which the axis impl tells


def parameters_in(overrides: Iterable[str]) -> str | None:
    """What overrides say of the operation's own parameters; None where they say nothing.

    >>> parameters_in(["op=sum", "+op.kwargs.dim=0", "op.args=[2, 3]"])
    'dim=0 op.args=[2,3]'
    """
    said = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key.startswith(OF_OP) and not key.startswith(OF_IMPLEMENTATIONS):
            value = re.sub(r"\s+", "", value)
            said.append(f"{key.removeprefix(OF_KWARGS)}={value}")
    return " ".join(said) or None


def overrides_of(parameters: str | None) -> dict[str, str]:
    """The overrides that such a text stands for, by their keys."""
    words = [word.partition("=") for word in (parameters or "").split()]
    return {key if key.startswith(OF_OP) else f"{OF_KWARGS}{key}": value for key, _, value in words}
