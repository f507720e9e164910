"""What differs between two environments, the most important first, or within one of a side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.report.page.facts import flatten
from runner.rows.environment_file import DECISIVE

ORDER = ("torch", "python", "devices", "code", "side", "variables", "host")
"""What of ``environment.json`` tells most about times, the most important first."""
OF_ONE_RUN = re.compile(
    r"(started|command|folder|id|report|cells|excluded|resumed|nodes|calibration|"
    r"host\.load_1min|host\.cpu_frequency_khz|noise_sources\.(steal|running)|"
    r"packages\.(hydra-core|omegaconf|pandas))\b"
)
"""What of it no two runs have in common, or times do not depend on."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange:
    """A row of ``compare_environments.csv``: what is not the same in both environments.

    Where a side has several values, in several runs or on several machines, each is there.
    """

    name: str  # where it stands in ``environment.json``, with dots
    before: str | None  # the earlier side's; blank where it has none
    after: str | None  # the later side's

    def __str__(self) -> str:
        """In words: ``torch.version 2.12.0 to 2.13.0``."""
        return f"{self.name} {self.before or 'blank'} to {self.after or 'blank'}"


def environment_changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[EnvironmentChange]:
    """What the environments of two sides differ in, the most important first."""
    old, new = _values_of(before), _values_of(after)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    found = [
        EnvironmentChange(name=n, before=_joined(old.get(n)), after=_joined(new.get(n)))
        for n in names
    ]
    return sorted(found, key=lambda change: _rank(change.name))


def mixed_in(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """What decides how fast cells are, and is not the same in all of a side's environments."""
    names = {name: values for name, values in _values_of(environments).items() if len(values) > 1}
    decisive = [name for name in names if _top(name) in DECISIVE and _top(name) != "node"]
    return [f"{name} {_joined(names[name])}" for name in sorted(decisive, key=_rank)]


def _values_of(environments: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The different values of each entry that times may depend on."""
    found: dict[str, list[str]] = {}
    for environment in environments:
        for name, value in flatten(environment):
            values = found.setdefault(name, [])
            if not OF_ONE_RUN.match(name) and value not in values:
                values.append(value)
    return {name: sorted(values) for name, values in found.items() if values}


def _joined(values: Sequence[str] | None) -> str | None:
    return " and ".join(values) if values else None


def _top(name: str) -> str:
    return re.split(r"[.\[]", name, maxsplit=1)[0]


def _rank(name: str) -> tuple[int, bool]:
    """How important a difference is: of a package its version and commit before its files."""
    place = ORDER.index(_top(name)) if _top(name) in ORDER else len(ORDER)
    return place, not name.endswith((".version", ".commit"))
