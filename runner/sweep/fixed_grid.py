"""The grids of a sweep: every combination of the axes, but those excluded or repeated."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig

from runner.cells.compose import Composer, HydraJob
from runner.cells.grid import check_baseline, check_possible, excluded
from runner.config.axes import not_of
from runner.config.hydra_internals import combinations
from runner.config.schema import Report
from runner.errors import ConfigError


class FixedGrid:
    """A sweep whose cells are all known from the start."""

    def __init__(self, jobs: list[HydraJob]) -> None:
        self._jobs = jobs

    def initial(self) -> list[HydraJob]:
        """All jobs."""
        return list(self._jobs)

    def next(self, root: Path) -> list[HydraJob]:
        """No more, whatever came of them."""
        return []


class Grids:
    """The grid of ``hydra.sweeper.params`` and the command line, and those of ``.also``.

    ``params`` are the axes of the main grid, each with its values as text; so are those of each of
    the ``extra_grids``, which run after it.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        composer: Composer,
        config: DictConfig,
        params: Mapping[str, Any],
        extra_grids: Sequence[Mapping[str, Any]],
    ) -> None:
        self._parser = OverridesParser.create(config_loader=loader)
        self._composer, self._config = composer, config
        self._params, self._extra_grids = params, extra_grids

    def jobs(self, arguments: list[str]) -> list[HydraJob]:
        """Compose every combination with the command line's overrides, and check all together.

        Raises:
            ConfigError: a cell or a rule of exclusion is wrong, or nothing is left to run.
        """
        own = self._parser.parse_overrides(_as_overrides(self._params))
        typed = self._parser.parse_overrides(arguments)
        main_grid = self._compose([*own, *typed])
        jobs = [*main_grid, *self._further_jobs(own, typed)]

        # Options that do not apply are an error where they were asked for, not in further grids.
        for job in main_grid:
            if job.cell.inapplicable_options:
                raise ConfigError(job.cell.inapplicable_options)
        if any(job.cell.job == "report" for job in jobs):
            advice = "use job=report run=outputs/..."
            raise ConfigError(f"job=report reads one run and cannot be swept; {advice}")

        unique = self._without_excluded(jobs, narrowed=_keys(typed) & _keys(own))
        cells = [job.cell for job in unique]
        check_possible(cells)
        check_baseline(cells, Report.of(self._config))
        return unique

    def _further_jobs(self, own: list[Override], typed: list[Override]) -> list[HydraJob]:
        jobs = []
        for params in self._extra_grids:
            grid = self._parser.parse_overrides(_as_overrides(params))
            jobs += self._compose([*grid, *_meant_for(grid, own, typed)])
        return jobs

    def _without_excluded(self, jobs: Sequence[HydraJob], *, narrowed: set[str]) -> list[HydraJob]:
        """The jobs that no rule excludes, each cell once."""
        drops = excluded([job.cell for job in jobs], self._config.exclude, narrowed)
        unique: dict[str, HydraJob] = {}
        for job, dropped in zip(jobs, drops, strict=True):
            if not dropped:
                unique.setdefault(job.cell.identity, job)
        if not unique:
            none = f"none of the grid's {len(jobs)} cells is left"
            raise ConfigError(f"{none}; look at its axes and at exclude")
        repeated = len(jobs) - sum(drops) - len(unique)
        if repeated:
            print(f"{repeated} cells are the same as others and run once", file=sys.stderr)
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
        return [self._composer.job(job) for job in combinations(ordered)]


def _as_overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def _keys(overrides: Sequence[Override]) -> set[str]:
    return {override.key_or_group for override in overrides}


def _meant_for(grid: list[Override], main: list[Override], typed: list[Override]) -> list[Override]:
    """What of the command line a further grid takes.

    It takes no axis that the main grid has and it has not, since it leaves that axis out on
    purpose, nor an axis that the command line adds to the main grid, nor one that its job has not.
    """
    value_of = {override.key_or_group: override.value() for override in grid}
    of_case = "case" in value_of
    job = str(value_of.get("job", "" if of_case else "benchmark"))
    own_axes, main_axes = value_of.keys(), _keys(main)

    def applies(override: Override) -> bool:
        key = override.key_or_group
        if key in not_of(job, of_case=of_case):
            return False
        return key in own_axes or not (key in main_axes or override.is_sweep_override())

    return [override for override in typed if applies(override)]
