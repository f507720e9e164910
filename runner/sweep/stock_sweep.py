"""A sweep by another sweeper than ours, Hydra's own or an optimizer: checked, claimed, reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from runner.cells.compose import Composer, HydraJob
from runner.cells.grid import check_baseline, check_possible, check_threads, excluded, plain
from runner.config.hydra_internals import combinations, sweeper_of
from runner.config.schema import Compare, Report
from runner.errors import CellFailed, ConfigError
from runner.execute.session import Session
from runner.report.as_json import cells_as_json, for_programs
from runner.sweep.grids import as_overrides
from runner.sweep.run_folder import claimed, refuse_chdir, refuse_parallel, refuse_run
from runner.sweep.sweeper import list_jobs, tell_left_out

BASIC = "basic"  # Hydra's own, whose cells are known before the first one runs


class StockSweep:
    """Another sweeper's sweep with what ours has around it; Hydra calls :meth:`sweep`."""

    def __init__(
        self, sweeper: Sweeper, loader: ConfigLoader, config: DictConfig, session: Session
    ) -> None:
        self._sweeper, self._loader = sweeper, loader
        self._config, self._session = config, session
        self._name = sweeper_of(config)
        self._left_out = 0  # cells that exclude leaves out
        self._root, self._report = Path(config.hydra.sweep.dir), Report.of(config)

    def sweep(self, arguments: list[str]) -> object:
        """Have the sweeper run its jobs; ConfigError where that is wrong, and nothing has run."""
        self._check()
        jobs = self._jobs(arguments) if self._name == BASIC else []
        if self._config.dry_run:
            with for_programs(self._config.output) as is_json:
                list_jobs(jobs)
            tell_left_out(self._left_out)
            if is_json:
                print(cells_as_json([job.cell for job in jobs], self._left_out))
            return []
        self._session.begins = self._record
        with claimed(self._root, resuming=False, begun=lambda: self._session.measuring):
            try:
                with for_programs(self._config.output):
                    # Hydra's log, which has standard output, from its beginning
                    configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
                    return self._sweeper.sweep(arguments)
            except ValueError as error:  # Optuna asks an empty study for its best
                if "No trials are completed" not in str(error):
                    raise
                none = f"no trial of hydra/sweeper={self._name} has a {self._config.objective}"
                kind = CellFailed if self._session.measuring else ConfigError
                raise kind(f"{none}: each failed, or exclude leaves it out") from error
            finally:
                if self._session.measuring:
                    self._session.finish(self._root, self._report, self._config)

    def _check(self) -> None:
        refuse_chdir(self._config.hydra)
        refuse_parallel(self._config.hydra)
        refuse_run(self._config)
        if self._config.compare.gate:
            Compare.of(self._config).check_gate(Report.of(self._config))
        given = {key: self._config[key] for key in ("resume", "zip", "cells", "workload")}
        given["cluster"] = self._config.cluster.name
        for key, value in given.items():
            if value:
                raise ConfigError(f"{key}= goes with hydra/sweeper=grid, not with {self._name}")
        if self._name == BASIC:
            return
        if self._config.objective is None:
            looks = f"hydra/sweeper={self._name} looks for the best of a column"
            raise ConfigError(f"{looks}; say which, such as objective=median_s")
        if self._config.dry_run:
            chooses = f"hydra/sweeper={self._name} chooses each cell by the times of those before"
            raise ConfigError(f"dry_run=true: {chooses}, so that there is no list; leave it out")

    def _jobs(self, arguments: Sequence[str]) -> list[HydraJob]:
        """Those that will run, checked as those of a grid are."""
        composer = Composer(self._loader, self._config)
        params = as_overrides("params", plain(self._config.hydra.sweeper.get("params") or {}))
        overrides = OverridesParser.create(config_loader=self._loader)
        words = combinations(overrides.parse_overrides([*params, *arguments]))
        jobs = list(map(composer.job, words))
        dropped = excluded([job.cell for job in jobs], self._config.exclude, set())
        self._left_out = len(dropped)
        jobs = [job for position, job in enumerate(jobs) if position not in dropped]
        cells = [job.cell for job in jobs]
        if not cells:
            raise ConfigError(f"exclude leaves none of {self._left_out} cells; drop a rule")
        for cell in cells:
            if cell.inapplicable_options:
                raise ConfigError(cell.inapplicable_options)
        check_possible(cells)
        check_baseline(cells, self._report)
        check_threads(cells)
        return jobs

    def _record(self) -> None:
        """Write down what the sweep is made with, once its first cell has a worker."""
        cells = self._session.cells
        cells.record_environment(self._root, 0, self._report, excluded=self._left_out)
