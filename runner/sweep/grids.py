"""The grids of a sweep: every combination of the axes, but those excluded or repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig

from runner.cells.cell import Cell
from runner.cells.compose import Composer, HydraJob
from runner.cells.grid import check_baseline, check_possible, excluded, plain
from runner.config.axes import not_of
from runner.config.hydra_internals import combinations
from runner.config.implementation import ALL, DEFAULT
from runner.config.operator_database import EVERY, every_operator
from runner.config.schema import OF_THE_SWEEP, READING, Report
from runner.errors import ConfigError, naming, one_line, tell
from runner.sweep.listed_cells import KEYS as LISTING
from runner.sweep.listed_cells import Listed, listed_cells
from runner.units import counted

EMPTY: tuple[object, ...] = ([], (), "")
OF_CALLS = ("op", "size", "case")  # keys that a call of a workload says itself


class Grids:
    """The grid of ``hydra.sweeper.params`` and the command line, and those of ``.also``.

    ``params`` are the axes of the main grid, each with its values as text or a list; so are those
    of each of the ``extra_grids``, which run after it. ``left_out`` counts the cells excluded, and
    ``lacking`` has, by its name, those that would be of an implementation that their operation has
    not.
    """

    left_out = 0

    def __init__(
        self,
        loader: ConfigLoader,
        composer: Composer,
        config: DictConfig,
        params: object,
        extra_grids: Sequence[Any],
    ) -> None:
        self._parser = OverridesParser.create(config_loader=loader)
        self._composer, self._config = composer, config
        self._params, self._extra_grids = plain(params), list(map(plain, extra_grids))
        self.lacking: dict[str, list[Cell]] = {}

    def jobs(self, arguments: list[str]) -> list[HydraJob]:
        """Compose every combination with the command line's overrides, and check all together.

        ConfigError where a cell or a rule of exclusion is wrong, or nothing is left to run.
        """
        own = self._parsed(as_overrides("params", self._params))
        typed = self._parsed(arguments)
        listed = listed_cells(self._config)
        of_list = {*LISTING, *(["call"] if listed else [])}
        typed = [override for override in typed if override.key_or_group not in of_list]
        names_cells = {override.key_or_group for override in typed} & {"op", "case", "size"}
        for override in typed:
            if override.is_sweep_override() and override.key_or_group in OF_THE_SWEEP:
                key, _, values = str(override.input_line).partition("=")
                advice = f"write {key}=[{values}]" if key == "retry" else "give one value"
                raise ConfigError(f"{override.input_line}: {key} is of the whole sweep; {advice}")
        is_empty = not own and not names_cells and bool(self._extra_grids)
        main_grid = [] if is_empty and not listed else self._main_grid(listed, [*own, *typed])
        jobs = [*main_grid, *self._further_jobs(own, typed)]

        had = {job.cell.impl for job in jobs}
        for impl, cells in self.lacking.items():
            if impl not in had:
                raise ConfigError(cells[0].infeasible_reason)

        # Options that do not apply are an error where they were asked for, not in further grids.
        for job in main_grid:
            if job.cell.inapplicable_options:
                raise ConfigError(job.cell.inapplicable_options)
        for job in jobs:
            if job.cell.job in READING:
                advice = "leave -m, sweep files and lists of values out"
                raise ConfigError(f"job={job.cell.job} reads runs and cannot be swept; {advice}")

        unique = self._without_excluded(jobs, narrowed=_keys(typed) & _keys(own))
        cells = [job.cell for job in unique]
        check_possible(cells)
        check_baseline(cells, Report.of(self._config))
        return unique

    def _parsed(self, words: Sequence[str]) -> list[Override]:
        asks = any(EVERY in word for word in words)
        meant = [word.replace(EVERY, self._operators) for word in words] if asks else list(words)
        return self._parser.parse_overrides(meant)

    @cached_property
    def _operators(self) -> str:
        return every_operator()

    def _main_grid(self, listed: Sequence[Listed], overrides: Sequence[Override]) -> list[HydraJob]:
        """The product of the axes; where cells are listed, each of these with that product."""
        if not listed:
            return self._compose(overrides)
        taken, jobs = _keys(overrides), []
        for where, cell in listed:
            own = {*cell, *(OF_CALLS if "call" in cell else ())}
            with naming(where):
                if twice := taken & own:
                    said = "is given for all cells too, by the command line or the sweep's file"
                    raise ConfigError(f"{', '.join(sorted(twice))} {said}; leave one out")
                words = [f"{key}={_literal(value)}" for key, value in cell.items()]
                jobs += self._compose([*map(self._composer.parsed, words), *overrides])
        return jobs

    def _further_jobs(self, own: list[Override], typed: list[Override]) -> list[HydraJob]:
        jobs = []
        for params in self._extra_grids:
            words = as_overrides("also", params)
            grid = self._parsed(words)
            meant = _meant_for(grid, own, typed)
            jobs += self._compose([*grid, *meant])
            for override in (override for override in typed if override not in meant):
                further = f"{one_line(words[0], limit=40)}{' ...' if words[1:] else ''}"
                tell(f"{override.input_line} is for the main grid alone, not for that of {further}")
        return jobs

    def _without_excluded(self, jobs: Sequence[HydraJob], *, narrowed: set[str]) -> list[HydraJob]:
        dropped = excluded([job.cell for job in jobs], self._config.exclude, narrowed)
        unique: dict[str, HydraJob] = {}
        for position, job in enumerate(jobs):
            if position not in dropped:
                unique.setdefault(job.cell.identity, job)
        if not unique:
            none = f"none of the grid's {len(jobs)} cells is left"
            raise ConfigError(f"{none}; look at its axes and at exclude")
        self.left_out = len(dropped)
        repeated = len(jobs) - len(dropped) - len(unique)
        if repeated:
            tell(f"run once though asked for more often: {counted(repeated, 'cell')}")
        return list(unique.values())

    def _compose(self, overrides: Sequence[Override]) -> list[HydraJob]:
        """Every combination; a pattern of names that matches none is an error."""
        for override in overrides:
            names = override.value()
            if isinstance(names, Glob) and not list(override.sweep_string_iterator()):
                none = f"no {override.key_or_group} matches {','.join(names.include)}"
                raise ConfigError(f"{none}; python -m runner --help lists what there is")
        # the device varies fastest: what will be compared is measured side by side
        ordered = sorted(overrides, key=lambda override: override.key_or_group == "device")
        most = self._config.sweep.max_cells
        jobs: list[HydraJob] = []
        for words in combinations(ordered, most):
            jobs += self._by_implementation(words)
        return jobs

    def _by_implementation(self, words: tuple[str, ...]) -> list[HydraJob]:
        """A combination's job, or one for each implementation; none where there is none."""
        job = self._composer.job(words)
        if job.cell.impl == ALL:
            others = [word for word in words if word.partition("=")[0] != "impl"]
            names = (DEFAULT, *job.cell.operation.implementations)
            return [self._composer.job([*others, f"impl={name}"]) for name in names]
        if job.cell.has_implementation:
            return [job]
        self.lacking.setdefault(job.cell.impl, []).append(job.cell)
        return []


def as_overrides(where: str, params: object) -> list[str]:
    """A grid as overrides; a list is an axis's values, which on the command line have commas."""
    if not isinstance(params, Mapping):
        example = "write a mapping such as {op: add, size: [64, 128]}"
        raise ConfigError(f"hydra.sweeper.{where}: {params!r} is no grid; {example}")
    for key, value in params.items():
        if str(key).startswith("hydra") or value in EMPTY:
            problem = "is empty" if value in EMPTY else "cannot differ between cells"
            raise ConfigError(f"hydra.sweeper.{where}: {key} {problem}; leave it out")
    return [f"{key}={_values(value)}" for key, value in params.items()]


def _values(value: object) -> str:
    """What stands behind an axis: text as it is, since it may say ``64,128`` or ``range(1,9)``."""
    return (
        ",".join(map(_literal, value)) if isinstance(value, list | tuple) else _literal(value, "")
    )


def _literal(value: object, quote: str = "'") -> str:
    """A value as Hydra's overrides have it; text within quotes where it might mean something."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[\w.+-]+", value):
        return quote + (value.replace(quote, "\\" + quote) if quote else value) + quote
    return str("null" if value is None else value)


def _keys(overrides: Sequence[Override]) -> set[str]:
    return {override.key_or_group for override in overrides}


def _meant_for(grid: list[Override], main: list[Override], typed: list[Override]) -> list[Override]:
    """What of the command line a further grid takes.

    It takes no axis that the main grid has and it has not, since it leaves that axis out on
    purpose, none that its job has not, and if it is of other jobs than benchmarks, none that the
    command line adds to the main grid.
    """
    value_of = {override.key_or_group: override.value() for override in grid}
    of_case = "case" in value_of
    job = str(value_of.get("job", "" if of_case else "benchmark"))
    own_axes, main_axes = value_of.keys(), _keys(main)

    def applies(override: Override) -> bool:
        key = override.key_or_group
        if key in not_of(job, of_case=of_case):
            return False
        is_several = override.is_sweep_override() or override.input_line == f"impl={ALL}"
        is_added = is_several and job != "benchmark"
        return key in own_axes or not (key in main_axes or is_added)

    return [override for override in typed if applies(override)]
