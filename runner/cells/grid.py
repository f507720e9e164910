"""The combinations of a sweep, as cells: the rules that exclude some, and what all have to be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from omegaconf import OmegaConf

from runner.cells.cell import Cell
from runner.config.axes import AXES, named_value
from runner.config.schema import MOST_THREADS, Report
from runner.config.size import parse_size
from runner.errors import ConfigError, unknown

EXCLUDABLE = (*AXES, "job", "case")
THREADS_PER_CORE = 4


def excluded(cells: Sequence[Cell], rules: Sequence[object], narrowed: set[str]) -> list[bool]:
    """Which cells a rule excludes; ConfigError where a rule is none, or matches no cell.

    A rule maps axes to a value or a list of values, all of which an excluded cell has. Of an axis
    that is ``narrowed``, by values from the command line, it need match nothing.
    """
    dropped = [False for _ in cells]
    for rule in map(plain, rules):
        if not isinstance(rule, Mapping) or not rule:
            advice = "write a mapping such as {op: matmul, dtype: float16}"
            raise ConfigError(f"exclude: {rule!r} is no rule; {advice}")
        shown = "{" + ", ".join(f"{key}: {value}" for key, value in rule.items()) + "}"
        for key in rule:
            if key not in EXCLUDABLE:
                raise unknown(f"exclude: {shown}: unknown axis {key!r}", str(key), EXCLUDABLE)
        hits = [all(_matches(cell, key, value) for key, value in rule.items()) for cell in cells]
        if not any(hits) and not narrowed & rule.keys():
            none = f"matches none of the {len(cells)} cells"
            raise ConfigError(f"exclude: {shown} {none}; correct the rule or drop it")
        dropped = [before or hit for before, hit in zip(dropped, hits, strict=True)]
    return dropped


def is_excluded(cell: Cell, rules: Sequence[object]) -> bool:
    """Whether a rule excludes a cell, whatever the others match."""
    return bool(rules) and excluded([cell], rules, set(EXCLUDABLE))[0]


def check_possible(cells: Sequence[Cell]) -> None:
    """Let a grid have combinations that cannot run, but no value with which nothing can.

    A call of a workload that cannot be made again is there to say so.
    """
    cells = [cell for cell in cells if not (cell.call and cell.call.reason)]
    for axis in ("op", "size", "dtype", "direction"):
        reasons: dict[str, str] = {}
        for cell in cells:
            reasons.setdefault(_value(cell, axis), cell.infeasible_reason)
            if not cell.infeasible_reason:
                reasons[_value(cell, axis)] = ""
        for reason in reasons.values():
            if reason:
                raise ConfigError(reason)


def check_threads(cells: Iterable[Cell]) -> None:
    """Refuse more threads than could serve any purpose here, even to try what too many do."""
    cores = os.cpu_count() or MOST_THREADS
    most = THREADS_PER_CORE * cores
    for cell in cells:
        if (cell.threads or 0) > most:
            problem = f"threads={cell.threads} is too large for {cores} cores"
            raise ConfigError(f"{problem}; give {most} or less")


def check_baseline(cells: Sequence[Cell], report: Report) -> None:
    """Refuse a baseline that the user gave and no cell has."""
    report.check_baseline((_value(cell, report.axis) for cell in cells), "cell", "the grid's")


def _matches(cell: Cell, axis: str, wanted: object) -> bool:
    if isinstance(wanted, list):
        return any(_matches(cell, axis, value) for value in wanted)
    if axis == "size":
        if isinstance(wanted, str) and wanted == cell.size:
            return True
        if cell.case is not None:
            return False
        try:
            return cell.operation.size_text(cell.operation.bind(parse_size(wanted))) == cell.size
        except ConfigError:
            return False
    return _value(cell, axis) == str(named_value(axis, wanted))


def _value(cell: Cell, axis: str) -> str:
    if axis == "case":
        return cell.case.name if cell.case else ""
    return str(getattr(cell, axis))


def plain(rule: object) -> object:
    """Python's own lists and mappings of those of a configuration."""
    return OmegaConf.to_container(rule, resolve=True) if OmegaConf.is_config(rule) else rule
