"""A sweep: every combination of the axes, checked as a whole before the first one runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.cells.cell import Cell
from runner.cells.compose import Composer
from runner.cells.grid import check_baseline, check_possible, check_threads, excluded
from runner.cluster.cluster import Cluster, cluster_of
from runner.config.axes import BENCHMARK_ONLY
from runner.config.hydra_internals import combinations
from runner.config.schema import Report
from runner.errors import ConfigError
from runner.execute.session import session
from runner.rows.rows import Row
from runner.sweep import resume
from runner.sweep.crossover_search import Bisection, Range
from runner.sweep.launcher import JobLauncher
from runner.sweep.run_folder import claimed


class GridSweep:
    """Hydra's basic sweep with exclusion, an order fit for comparing devices, a dry run and a report at the end.

    Args:
        hydra_context, task_function, config: what Hydra gives every sweeper.
        params: the axes of the main grid, each with its values as text.
        also: grids that run after it.
        crossover: the range of a search, instead of given sizes.
    """

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        *,
        params: Mapping[str, Any],
        also: Sequence[Any],
        crossover: Any,
    ) -> None:
        self._loader, self.config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        own = getattr(self._launcher, "jobs", None)
        self._own = own if isinstance(own, JobLauncher) else None  # of our launcher, which may not be the one chosen
        self._params, self._also, self._crossover = params, also, crossover
        self._bisection: Bisection | None = None

    def run(self, arguments: list[str]) -> Any:
        """Run the grid of ``hydra.sweeper.params`` and the command line, then those of ``hydra.sweeper.also``.

        Raises:
            ConfigError: a cell, an exclusion rule or the output folder is wrong; nothing has run then.
        """
        cluster = cluster_of(self.config)
        composer = self._own.composer if self._own else Composer(self._loader, self.config)
        composer.keeps = cluster is None
        if self._crossover is None:
            jobs, cells = self._grid(composer, arguments)
        else:
            jobs, cells = self._search(composer, arguments)
        root = Path(self.config.hydra.sweep.dir)
        if cluster is None:
            check_threads(cells)
        if self.config.dry_run:
            numbers = list(range(len(cells)))
            if self.config.resume:
                jobs, cells, numbers = self._left(root, jobs, cells)
            _list([cells[number] for number in numbers])
            if self._bisection is not None:
                print(f"and what the search asks for then, {self._bisection.most} cells at most")
            if cluster is not None and numbers:
                print(cluster.describe(cells, numbers))
            return []
        with claimed(root, resuming=bool(self.config.resume), begun=lambda: session().measuring):
            return self._run(root, jobs, cells, cluster)

    def _run(self, root: Path, jobs: list[list[str]], cells: list[Cell], cluster: Cluster | None) -> Any:
        resuming, anyway = bool(self.config.resume), self.config.resume_force
        numbers = list(range(len(jobs)))
        if resuming:
            resume.remove_leftovers(root)
            jobs, cells, numbers = self._left(root, jobs, cells)
        try:
            if not numbers:
                return []
            here = [cells[number] for number in numbers] if cluster is None else cluster.check(cells)
            session().prepare(here, alone=False)
            name = cluster.name if cluster else None
            session().begin(root, cells, Report.of(self.config), resuming=resuming, anyway=anyway, cluster=name)
            OmegaConf.save(self.config, root / "multirun.yaml")
            launched = [self._send(cluster, root, jobs, cells, numbers)]
            while self._bisection is not None:
                asked = zip(*self._asked(resume.measured(root)), strict=True)
                further = [(job, cell) for job, cell in asked if job not in jobs]
                if not further:
                    break
                numbers = list(range(len(jobs), len(jobs) + len(further)))
                jobs += [job for job, _ in further]
                cells += [cell for _, cell in further]
                launched.append(self._send(cluster, root, jobs, cells, numbers))
            return launched
        finally:
            if session().measuring or not numbers:
                session().finish(root, Report.of(self.config), strict=self.config.strict)

    def _left(
        self, root: Path, jobs: list[list[str]], cells: list[Cell]
    ) -> tuple[list[list[str]], list[Cell], list[int]]:
        """The jobs of a sweep that is taken up again, and the numbers of those that are left to run.

        Raises:
            ConfigError: the folder is not this sweep's.
        """
        anyway = self.config.resume_force
        there = resume.measured(root)
        resume.check_same_sweep(root, there, cells)
        if not anyway:
            resume.check_same_cells(root, there, cells)
        if self._bisection is not None:
            jobs, cells = self._asked(there)
        if not anyway and (self._bisection is None or not resume.is_damaged(root)):  # a search goes on from each row
            resume.check_grid_holds(root, there, cells)
        numbers = resume.unfinished(there, cells)
        print(f"{len(cells) - len(numbers)} of {len(cells)} cells are done", file=sys.stderr)
        return jobs, cells, numbers

    def _send(
        self, cluster: Cluster | None, root: Path, jobs: list[list[str]], cells: list[Cell], numbers: list[int]
    ) -> Any:
        """Run some of the jobs, here or elsewhere."""
        if cluster is None:
            return self._launch([jobs[number] for number in numbers], numbers)
        cluster.run(root, cells, jobs, numbers)
        return []

    def _launch(self, jobs: list[list[str]], numbers: list[int]) -> Any:
        """Hand the jobs to the launcher; ours keeps the numbers that they have in the whole grid."""
        if self._own:
            return self._own.launch(jobs, numbers)
        return self._launcher.launch(jobs, initial_job_idx=numbers[0])

    def _search(self, composer: Composer, arguments: list[str]) -> tuple[list[list[str]], list[Cell]]:
        """The grid at both ends of the range, with which the search begins."""
        wanted = Range.of(self._crossover)
        if any(argument.lstrip("+").startswith("size=") for argument in arguments):
            raise ConfigError(
                "size is what this sweep looks for; give its range instead, such as hydra.sweeper.crossover.low=64 "
                "hydra.sweeper.crossover.high=1024"
            )
        jobs, _ = self._grid(composer, [*arguments, wanted.size_of(wanted.low)])
        self._bisection = Bisection(wanted, Report.of(self.config), composer, jobs)
        return self._asked([])

    def _asked(self, rows: Sequence[Row]) -> tuple[list[list[str]], list[Cell]]:
        assert self._bisection is not None
        jobs = self._bisection.jobs(rows)
        return jobs, [self._bisection.composer.job(job).cell for job in jobs]

    def _grid(self, composer: Composer, arguments: list[str]) -> tuple[list[list[str]], list[Cell]]:
        parser = OverridesParser.create(config_loader=self._loader)
        own, typed = parser.parse_overrides(_as_overrides(self._params)), parser.parse_overrides(arguments)
        jobs = self._product([*own, *typed])
        of_main = len(jobs)
        for params in self._also:
            grid = parser.parse_overrides(_as_overrides(params))
            jobs += self._product([*grid, *_meant_for(grid, own, typed)])
        cells = [composer.job(job).cell for job in jobs]
        for cell in cells[:of_main]:  # further grids of other jobs just do without
            if cell.inapplicable_options:
                raise ConfigError(cell.inapplicable_options)
        if any(cell.job == "report" for cell in cells):
            raise ConfigError("job=report reads one run and cannot be swept; use job=report run=outputs/...")
        out = excluded(cells, self.config.exclude, {o.key_or_group for o in typed} & {o.key_or_group for o in own})
        kept: dict[str, tuple[list[str], Cell]] = {}
        for job, cell, dropped in zip(jobs, cells, out, strict=True):
            if not dropped:
                kept.setdefault(cell.identity, (job, cell))
        if not kept:
            raise ConfigError(f"none of the grid's {len(cells)} cells is left; look at its axes and at exclude")
        again = len(cells) - sum(out) - len(kept)
        if again:
            print(f"{again} cells are the same as others and run once", file=sys.stderr)
        check_possible([cell for _, cell in kept.values()])
        check_baseline([cell for _, cell in kept.values()], Report.of(self.config))
        return [job for job, _ in kept.values()], [cell for _, cell in kept.values()]

    def _product(self, overrides: Sequence[Override]) -> list[list[str]]:
        """Every combination.

        The device varies fastest: what will be compared is measured side by side, and no device comes last.

        Raises:
            ConfigError: a pattern of names matches none.
        """
        for override in overrides:
            names = override.value()
            if isinstance(names, Glob) and not list(override.sweep_string_iterator()):
                raise ConfigError(
                    f"no {override.key_or_group} matches {','.join(names.include)}; "
                    "python -m runner --help lists what there is"
                )
        ordered = sorted(overrides, key=lambda override: override.key_or_group == "device")
        return combinations(ordered)


def _as_overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def _meant_for(grid: list[Override], main: list[Override], typed: list[Override]) -> list[Override]:
    """What of the command line a further grid takes.

    It takes no axis that the main grid has and it has not, since it leaves that axis out on purpose, nor an axis that
    the command line adds to the main grid; and of the axes that only a benchmark has none, if it is of other jobs.
    """
    kinds = {o.key_or_group: o for o in grid}
    other = "case" in kinds or ("job" in kinds and kinds["job"].value() != "benchmark")
    typed = [o for o in typed if not other or o.key_or_group not in BENCHMARK_ONLY]
    axes = {override.key_or_group for override in grid}
    of_main = {override.key_or_group for override in main}
    return [o for o in typed if o.key_or_group in axes or not (o.key_or_group in of_main or o.is_sweep_override())]


def _list(cells: Sequence[Cell]) -> None:
    for cell in cells:
        print(cell.label + (f"    impossible: {cell.infeasible_reason}" if cell.infeasible_reason else ""))
    print(f"{len(cells)} cells")
