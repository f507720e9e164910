"""The stages, each a file of ``conf/hardware``: runs of ``python -m runner``, and what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

import yaml

from runner.files import CONF

FOLDER = CONF / "hardware"


@dataclass(frozen=True)
class Step:
    """A run of a stage."""

    # the arguments of ``python -m runner``; ``{size}`` and the like stand for the stage's
    # ``values``, of which each is one for a device and one for a simulated device
    run: str
    job: str = "benchmark"  # whose rows are looked at
    code: int = 0  # what the run must end with
    may_lack: bool = False  # whether a cell may be unsupported, with its reason
    # what cells must end as, by operation, where that is not ``ok``
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # by what they show: formulas of a row's columns, ``value`` between ``least`` and ``most``, for
    # rows ``of`` these operations and ``when`` that is not below 0
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # the ``value`` of all rows, the median, or of each, with what tells it from others
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def stages() -> dict[str, dict[str, Any]]:
    """What the files say, by the stages' names and in the order of their numbers."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    read: dict[str, dict[str, Any]] = {name: yaml.safe_load(text) for name, text in files.items()}
    return dict(sorted(read.items(), key=lambda item: int(item[1]["number"])))


def steps_of(stage: str, *, simulated: bool) -> dict[str, Step]:
    """The steps of a stage by their names, as they are run on a device or a simulated one."""
    said = stages()[stage]
    values = {name: pair[simulated] for name, pair in said["values"].items()}
    values["conf"] = quote(str(FOLDER))
    steps = {name: dict(given) for name, given in said["steps"].items()}
    return {name: Step(**{**of, "run": of["run"].format(**values)}) for name, of in steps.items()}
