"""Time, compare and check functions of tensors from Python, and run sweeps from there.

Nothing is imported before it is used: pytest imports this at each of its starts.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opsweep.measuring import check_gradients, compare, time
    from opsweep.records import Comparison, Gradients, Time
    from opsweep.runs import compose, dtypes, read, sweep

__all__ = [
    "Comparison",
    "Gradients",
    "Time",
    "check_gradients",
    "compare",
    "compose",
    "dtypes",
    "read",
    "sweep",
    "time",
]
_HOMES = {
    **dict.fromkeys(("Comparison", "Gradients", "Time"), "opsweep.records"),
    **dict.fromkeys(("check_gradients", "compare", "time"), "opsweep.measuring"),
    **dict.fromkeys(("compose", "dtypes", "read", "sweep"), "opsweep.runs"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'opsweep' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        hiding = sys.modules.get("runner")
        if hiding is None or not (error.name or "").startswith("runner."):
            raise
        where = getattr(hiding, "__file__", None) or list(hiding.__path__)
        advice = "rename it, or take its folder off the path"
        raise ImportError(f"{where} hides opsweep's own package runner; {advice}") from error


def __dir__() -> list[str]:
    return __all__
