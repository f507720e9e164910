"""The command that measures a row's cell again, from the row and the command of its run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from runner.config.axes import AXES, NAMED
from runner.config.parameters import OF_OP, overrides_of
from runner.config.renamed import RENAMED
from runner.rows.rows import Row

OF_THE_RUN = {
    *("job", "run", "resume", "resume_force", "retry", "exclude", "strict", "dry_run"),
    *("stop_after", "report", "hydra", "cluster", "zip", "cells", "workload", "call", *AXES),
} - {"op"}


class Reproducer:
    """Writes the commands of one run's rows.

    What the user gave stays (a sweep's file, a timing, a folder of their own operations), except
    what is about the run as a whole; the cell's own values come last.
    """

    def __init__(self, environment: Mapping[str, Any], distinguishing: Sequence[str]) -> None:
        """``distinguishing`` are the further columns in which the run's rows differ."""
        words = [str(word) for word in environment.get("command") or ()]
        overrides = words[2:]  # after interpreter and program
        self._overrides = [_with_todays_key(word) for word in overrides if not _is_of_the_run(word)]
        # of a workload's row: where its calls are listed
        self._listing = [word for word in overrides if _key(word) in ("workload", "cells")]
        self._distinguishing = distinguishing
        # what sets, in the rows of a variant alone, what is no axis
        self._of_variant: dict[str, list[str]] = {}
        for made_with in [environment, *(environment.get("resumed") or [])]:
            self._of_variant |= made_with.get("variants") or {}

    def command(self, row: Row) -> str:
        """One line for a shell."""
        values = {key: getattr(row, key) for key, axis in AXES.items() if axis.has_key}
        values |= overrides_of(row.parameters)
        values |= {"case": getattr(row, "case", None), "job": row.job}
        workload, _, name = row.op.partition(".")
        is_call = f'"workload": "{workload}"' in (getattr(row, "own", None) or "")
        values |= {"call": name} if is_call and name else {}
        left_out = _left_out(row) | ({"op", "size"} if "call" in values else set())
        kept = {key: value for key, value in values.items() if key not in left_out}
        own = {key: value for key, value in kept.items() if self._is_said(key, value)}

        # the row's own values replace those that its run was given
        listing = self._listing if "call" in values else []
        words = [*self._overrides, *listing]
        # its job and case are the row's own: a variant's cells may be timed and verified
        further = [w for w in self._of_variant.get(row.variant or "", []) if _key(w) not in values]
        words = [w for w in words if _key(w) not in {*own, *left_out, *map(_key, further)}]
        is_sweep = any(_has_several(word) for word in words)
        has_sweep_file = any(_key(word) == "sweep" for word in words)
        words += [f"{self._added(key)}{key}={_value(value)}" for key, value in own.items()]
        words += further
        if has_sweep_file:
            words.append("hydra.sweeper.also=[]")  # its further grids would run too
        elif is_sweep:
            words.insert(0, "-m")
        return shlex.join(["python", "-m", "runner", *words])

    def _added(self, key: str) -> str:
        """The plus with which a key was given that the configuration did not have."""
        given = next((word for word in self._overrides if _key(word) == key), key)
        return given[: len(given) - len(given.lstrip("+"))] if key.startswith(OF_OP) else ""

    def _is_said(self, key: str, value: object) -> bool:
        """Whether a value is not what the configuration says by default."""
        if value is None or key == "job":
            return value not in (None, "benchmark")
        always = key in ("case", "call", *NAMED) or key.startswith(OF_OP)
        always = always or AXES[key].default is None
        return always or key in self._distinguishing or value != AXES[key].default


def _left_out(row: Row) -> set[str]:
    """What would say something else about the row's cell than the row does."""
    if getattr(row, "case", None):
        return {"op", "size", "job", "sweep"}  # which come from the case
    if row.job == "transfer":
        return {"op", "size", "dtype", "sweep"}
    if row.job == "roof":
        return {"op", "size"}
    return set()


def _value(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text}"' if " " in text else text


def _with_todays_key(word: str) -> str:
    key = _key(word)
    return word.replace(key, RENAMED["key"].get(key, key), 1)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _is_of_the_run(word: str) -> bool:
    return word in ("-m", "--multirun") or re.split(r"[.@/]", _key(word))[0] in OF_THE_RUN


def _has_several(word: str) -> bool:
    """Whether an override that stays needs a sweep: ``op.kwargs.dim=0,1``."""
    value = re.sub(r"'[^']*'|\"[^\"]*\"|[\[{(].*[\])}]", "", word.partition("=")[2])
    return "," in value and _key(word) not in AXES
