"""The combinations of a sweep, as cells: the rules that exclude some, and what all have to be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial

from omegaconf import OmegaConf

from runner.cells.cell import Cell
from runner.config.axes import AXES, named_value
from runner.config.schema import MOST_THREADS, Report
from runner.config.size import parse_size
from runner.errors import ConfigError, unknown

EXCLUDABLE = (*AXES, "job", "case")
THREADS_PER_CORE = 4


def excluded(cells: Sequence[Cell], rules: Sequence[object], narrowed: set[str]) -> set[int]:
    """Positions of cells that a rule excludes; ConfigError where one is none, or matches no cell.

    A rule maps axes to a value or a list of values, all of which an excluded cell has. Of an axis
    that is ``narrowed``, by values from the command line, it need match nothing.
    """
    dropped: set[int] = set()
    positions_of = cache(partial(_positions, cells))  # of each value, by the axis
    for rule in map(plain, rules):
        if not isinstance(rule, Mapping) or not rule:
            advice = "write a mapping such as {op: matmul, dtype: float16}"
            raise ConfigError(f"exclude: {rule!r} is no rule; {advice}")
        shown = "{" + ", ".join(f"{key}: {value}" for key, value in rule.items()) + "}"
        for key in rule:
            if key not in EXCLUDABLE:
                raise unknown(f"exclude: {shown}: unknown axis {key!r}", str(key), EXCLUDABLE)
        hits = set.intersection(*(_having(positions_of(k), k, v) for k, v in rule.items()))
        if not hits and not narrowed & rule.keys():
            none = f"matches none of the {len(cells)} cells"
            raise ConfigError(f"exclude: {shown} {none}; correct the rule or drop it")
        dropped |= hits
    return dropped


def is_excluded(cell: Cell, rules: Sequence[object]) -> bool:
    """Whether a rule excludes a cell, whatever the others match."""
    return bool(rules) and bool(excluded([cell], rules, set(EXCLUDABLE)))


def check_possible(cells: Sequence[Cell]) -> None:
    """Let a grid have combinations that cannot run, but no value with which nothing can.

    Of several operations some may take nothing of the grid, as with ``op=glob(*)``, and a call of a
    workload that cannot be made again is there to say so.
    """
    cells = [cell for cell in cells if not (cell.call and cell.call.reason)]
    if not any(cell.infeasible_reason for cell in cells):
        return
    for axis in ("size", "dtype", "direction"):
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


Positions = dict[int, tuple[Cell, dict[str, set[int]]]]
"""Where cells stand that have a value, by operation in case of a size; and one of those cells."""


def _positions(cells: Sequence[Cell], axis: str) -> Positions:
    found: Positions = {}
    for position, cell in enumerate(cells):
        # what a size is called depends on the operation, which many cells share
        operation = id(cell.operation) if axis == "size" else 0
        _, of_value = found.setdefault(operation, (cell, {}))
        of_value.setdefault(_value(cell, axis), set()).add(position)
    return found


def _having(positions: Positions, axis: str, wanted: object) -> set[int]:
    """The positions of the cells that have a value, or one of several."""
    if isinstance(wanted, list):
        return set[int]().union(*(_having(positions, axis, value) for value in wanted))
    having = set[int]()
    for cell, of_value in positions.values():
        names = [str(named_value(axis, wanted))]
        names += [_size_text(cell, wanted)] if axis == "size" else []
        having = having.union(*(of_value.get(name, ()) for name in names))
    return having


def _size_text(cell: Cell, wanted: object) -> str:
    """What results call a size of the cell's operation; as it is where it is none."""
    with suppress(ConfigError):
        if cell.case is None:
            return cell.operation.size_text(cell.operation.bind(parse_size(wanted)))
    return str(wanted)


def _value(cell: Cell, axis: str) -> str:
    if axis == "case":
        return cell.case.name if cell.case else ""
    return str(getattr(cell, axis))


def plain(rule: object) -> object:
    """Python's own lists and mappings of those of a configuration."""
    return OmegaConf.to_container(rule, resolve=True) if OmegaConf.is_config(rule) else rule
