"""A sweep: every combination of the axes, checked as a whole before the first one runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.cells.cell import Cell
from runner.cells.comparison import baseline_in_words, in_words, settled, with_partners
from runner.cells.compose import Composer, HydraJob
from runner.cells.grid import check_threads
from runner.cluster.chunk import START_S, expected_s
from runner.cluster.cluster import cluster_of
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.session import session_of
from runner.rows.environment_file import read_environment
from runner.sweep import resume
from runner.sweep.crossover_search import CrossoverSearch, Range
from runner.sweep.fixed_grid import FixedGrid, Grids
from runner.sweep.launcher import JobLauncher
from runner.sweep.run_folder import claimed
from runner.units import time_text

Strategy = FixedGrid | CrossoverSearch  # how a sweep comes by its jobs


class GridSweep:
    """Hydra's basic sweep with exclusion, an order fit for comparing, a dry run and a report.

    ``params`` and ``extra_grids`` are as in :class:`Grids`; ``crossover`` is the range of a search,
    instead of given sizes.
    """

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        *,
        params: Mapping[str, Any],
        extra_grids: Sequence[Mapping[str, Any]],
        crossover: Mapping[str, Any] | None,
    ) -> None:
        self._loader, self._config = hydra_context.config_loader, config
        self._session = session_of(task_function)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        jobs = getattr(self._launcher, "jobs", None)  # another launcher may have been chosen
        self._grid_launcher = jobs if isinstance(jobs, JobLauncher) else None
        self._params, self._extra_grids, self._crossover = params, extra_grids, crossover
        self._report, self._compare = Report.of(config), Compare(**config.compare)
        self._root, self._cluster = Path(config.hydra.sweep.dir), cluster_of(config)

    def run(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the grid of ``hydra.sweeper.params`` and the command line, then those of ``.also``.

        Raises:
            ConfigError: a cell, an exclusion rule or the output folder is wrong; nothing has run.
        """
        strategy = self._strategy(arguments)
        jobs = strategy.initial()
        if self._cluster is None:
            check_threads(job.cell for job in jobs)
        if self._config.dry_run:
            self._show(strategy, jobs)
            return []
        resuming = bool(self._config.resume)
        with claimed(self._root, resuming=resuming, begun=lambda: self._session.measuring):
            return self._run(strategy, jobs)

    def _strategy(self, arguments: list[str]) -> Strategy:
        """The sweep's cells, composed and checked."""
        # The launcher composes each job again, unless it finds what was composed here.
        launcher = self._grid_launcher
        composer = launcher.composer if launcher else Composer(self._loader, self._config)
        composer.writes_folders = self._cluster is None
        grids = Grids(self._loader, composer, self._config, self._params, self._extra_grids)
        if self._crossover is None:
            return FixedGrid(grids.jobs(arguments))

        search_range = Range.of(self._crossover)
        if any(argument.lstrip("+").startswith("size=") for argument in arguments):
            example = "hydra.sweeper.crossover.low=64 hydra.sweeper.crossover.high=1024"
            advice = f"give its range instead, such as {example}"
            raise ConfigError(f"size is what this sweep looks for; {advice}")
        grid = grids.jobs([*arguments, search_range.size_of(search_range.low)])
        return CrossoverSearch(search_range, Report.of(self._config), composer, grid)

    def _show(self, strategy: Strategy, jobs: list[HydraJob]) -> None:
        """List what would run."""
        numbers = list(range(len(jobs)))
        if self._config.resume:
            jobs, numbers = self._remaining(strategy, jobs)
        cells = [jobs[number].cell for number in numbers]
        _list(cells)
        if cells and self._cluster is None:
            seconds = START_S + sum(map(expected_s, cells))
            print(f"it takes some {time_text(seconds)} here", file=sys.stderr)
        if cells and self._cluster is None and self._compare.in_turn:
            print(in_words(self._report, cells), file=sys.stderr)
        if isinstance(strategy, CrossoverSearch):
            print(f"and what the search asks for then, {strategy.max_further_cells} cells at most")
        if self._cluster is not None and numbers:
            print(self._cluster.describe([job.cell for job in jobs], numbers))

    def _run(self, strategy: Strategy, jobs: list[HydraJob]) -> list[Sequence[JobReturn]]:
        numbers = list(range(len(jobs)))
        if self._config.resume:
            resume.remove_leftovers(self._root)
            jobs, numbers = self._remaining(strategy, jobs)
        try:
            if not numbers:
                return []
            self._prepare(jobs, numbers)
            launched = [self._send(jobs, numbers)]
            while further := strategy.next(self._root):
                numbers = list(range(len(jobs), len(jobs) + len(further)))
                jobs += further
                launched.append(self._send(jobs, numbers))
            return launched
        finally:
            # Also where a cell or a signal ended the sweep: what was finished is kept, and shown.
            if self._session.measuring or not numbers:
                self._session.finish(self._root, self._report, strict=self._config.strict)

    def _prepare(self, jobs: list[HydraJob], numbers: list[int]) -> None:
        """Check what needs torch or the machine, and write down what the sweep is made with."""
        runner, cells = self._session.cells, [jobs[number].cell for number in numbers]
        checked = cells if self._cluster is None else self._cluster.check(cells)
        runner.prepare(checked, require_devices=False)
        if self._crossover is None:
            accelerated = self._cluster is not None or runner.has_accelerator
            every_cell = [job.cell for job in jobs]
            self._report = settled(self._report, every_cell, accelerated=accelerated)
        compares = self._cluster or self._grid_launcher
        if compares is not None:
            compares.compare_by(self._report, self._compare)
            if self._compare.in_turn and self._report.baseline is not None:
                print(f"comparing in turn: {baseline_in_words(self._report)}", file=sys.stderr)
        runner.record_environment(
            self._root,
            len(jobs),
            self._report,
            resuming=bool(self._config.resume),
            force=self._config.resume_force,
            cluster=self._cluster.name if self._cluster else None,
        )
        OmegaConf.save(self._config, self._root / "multirun.yaml")

    def _remaining(
        self, strategy: Strategy, jobs: list[HydraJob]
    ) -> tuple[list[HydraJob], list[int]]:
        """All jobs of a resumed sweep that are known, and the numbers of those left to run."""
        rows_on_disk = resume.read_all_rows(self._root)
        first_cells = [job.cell for job in jobs]
        resume.check_same_sweep(self._root, rows_on_disk, first_cells)
        if not self._config.resume_force:
            resume.check_same_cells(self._root, rows_on_disk, first_cells)

        # Where a row is damaged, a search may not know yet that it asked for others.
        jobs = [*jobs, *strategy.next(self._root)]
        cells = [job.cell for job in jobs]
        may_ask = isinstance(strategy, CrossoverSearch) and resume.is_damaged(self._root)
        if not self._config.resume_force and not may_ask:
            resume.check_grid_holds(self._root, rows_on_disk, cells)

        # what was compared before is compared again, and a ratio is of one moment
        if self._report.baseline is None:
            stored = read_environment(self._root).get("report") or {}
            self._report = replace(self._report, baseline=stored.get("baseline"))
        numbers = resume.unfinished(rows_on_disk, cells)
        if self._compare.in_turn:
            numbers = with_partners(numbers, cells, self._report)
        print(f"{len(cells) - len(numbers)} of {len(cells)} cells are done", file=sys.stderr)
        return jobs, numbers

    def _send(self, jobs: list[HydraJob], numbers: list[int]) -> Sequence[JobReturn]:
        """Run some of the jobs, here or elsewhere."""
        if self._cluster is not None:
            self._cluster.run(self._root, jobs, numbers, self._session)
            return []
        overrides = [list(jobs[number].overrides) for number in numbers]
        if self._grid_launcher:  # ours keeps the numbers that jobs have in the whole grid
            return self._grid_launcher.launch(overrides, numbers)
        return self._launcher.launch(overrides, initial_job_idx=numbers[0])


def _list(cells: Sequence[Cell]) -> None:
    for cell in cells:
        reason = cell.infeasible_reason
        print(f"{cell.label}    {f'impossible: {reason}' if reason else cell.inputs}".rstrip())
    print(f"{len(cells)} cells")
