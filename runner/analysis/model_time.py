"""What a model's time is made of beside its calls as they are alone: parts measured within it.

``runner/tasks/in_model.py`` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.config.workload.call import PARTS
from runner.rows.other_schemas import json_object

UNTIMED, UNEXPLAINED = "untimed", "unexplained"


@dataclass(frozen=True)
class ModelTime:
    """Seconds of a pass that go to each part, and to each call by its name, all its calls together.

    It is empty where the model's row does not say; a part that was not measured is not there.
    """

    parts_s: Mapping[str, float]
    calls_s: Mapping[str, float]
    pass_s: float | None = None  # of the pass that they are parts of; None: the row's time

    @classmethod
    def of(cls, own: Mapping[str, Any]) -> ModelTime:
        """Read the columns of a model's row."""
        try:
            measured = {part: own.get(f"{part}_s") for part in PARTS}
            parts = {part: float(s) for part, s in measured.items() if s not in (None, "")}
            calls = {str(k): float(v) for k, v in json_object(own.get("calls_s")).items()}
            pass_s = float(own["pass_s"]) if own.get("pass_s") else None
        except (ValueError, TypeError, OverflowError):  # altered by hand
            return cls({}, {})
        return cls(parts, calls, pass_s) if calls else cls({}, {})

    def shares(self, model_s: float, calls_alone: float, timed: frozenset[str]) -> dict[str, float]:
        """The share of each part in the model's time, the unexplained rest as the last.

        ``calls_alone`` is that of the calls with a time of their own, whose names are ``timed``.
        Nothing where the parts are not known.
        """
        pass_s = self.pass_s or model_s
        if not self.calls_s or pass_s <= 0:
            return {}
        shares = {part: seconds / pass_s for part, seconds in self.parts_s.items()}
        untimed = [seconds for name, seconds in self.calls_s.items() if name not in timed]
        shares |= {UNTIMED: sum(untimed) / pass_s} if untimed else {}
        return shares | {UNEXPLAINED: 1 - calls_alone - sum(shares.values())}
