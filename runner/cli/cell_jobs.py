"""What a command does with a composed configuration: it runs a cell, or reads what there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from runner.cells.cell import cell_of
from runner.cells.grid import check_threads, excluded, is_excluded
from runner.config.hydra_internals import sweeper_of, without_hydra
from runner.config.schema import READING, Compare, Report
from runner.errors import ConfigError, tell
from runner.execute.session import Session
from runner.rows.rows import Row
from runner.sweep.objective import check_objective, objective_of, raise_failure
from runner.sweep.run_folder import GRID, claimed, free_folder, refuse_chdir, refuse_run, taken_back


class CellJobs:
    """The jobs of a session, by the configuration of each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._taken: dict[Path, str] = {}  # by a stock launcher's jobs

    def run(self, config: DictConfig) -> list[Row]:
        """Run a cell alone, or read what its configuration names; returns the cell's rows."""
        cell = cell_of(config, HydraConfig.get().overrides.task)
        folder = Path(HydraConfig.get().runtime.output_dir)
        session = self._session
        if cell.job in READING:
            session.exit_code = _read(cell.job, config, folder, quiet=session.quiet)
            return []
        session.cells.record_environment(folder, 1, Report.of(config))
        if not session.quiet:
            tell(f"measuring {cell.label}, for {cell.limit.time_s:g} s at most ...")
        try:
            return session.cells.run(cell, folder)
        finally:
            session.finish(folder, Report.of(config), config)

    @contextmanager
    def prepared(self, config: DictConfig) -> Iterator[None]:
        """Check a cell that is no sweep's, and have its folder, before Hydra writes anything there.

        ConfigError where the cell or the folder is wrong; then nothing has been written.
        """
        cell = cell_of(without_hydra(config))
        if config.objective:
            raise ConfigError("objective= goes with a sweep, whose sweeper asks for it")
        if cell.inapplicable_options:
            raise ConfigError(cell.inapplicable_options)
        if cell.job in READING:
            with taken_back(Path(config.hydra.run.dir)):  # where it is refused
                yield
            return
        refuse_run(config)
        if config.compare.gate:
            Compare.of(config).check_gate(Report.of(config))
        if config.dry_run:
            raise ConfigError("dry_run=true: this lists no cells; say so on the command line alone")
        if excluded([cell], config.exclude, set()):
            raise ConfigError("exclude leaves out the only cell; leave out its rule: exclude=[]")
        if cell.infeasible_reason:
            raise ConfigError(cell.infeasible_reason)
        check_threads([cell])
        refuse_chdir(config.hydra)
        folder = Path(config.hydra.run.dir)
        with (
            env_override(config.hydra.job.env_set),
            claimed(folder, resuming=False, begun=lambda: self._session.measuring),
        ):
            self._session.cells.prepare([cell], require_devices=True)
            yield

    def swept(self, sweeper: Sweeper, loader: ConfigLoader, config: DictConfig) -> object:
        """What is to sweep: our sweeper itself, another one with what ours has around it."""
        check_objective(config.objective)
        if sweeper_of(config) == GRID:
            return sweeper
        from runner.sweep.stock_sweep import StockSweep  # with the cluster, which few need

        return StockSweep(sweeper, loader, config, self._session)

    def run_for_launcher(self, config: DictConfig) -> list[Row] | float:
        """Run a cell for a stock launcher, which knows of no failure and of no rule.

        Returns the cell's rows, or its objective.
        """
        cell = cell_of(config, HydraConfig.get().overrides.task)
        if is_excluded(cell, config.exclude):
            return objective_of(cell, [], config.objective) if config.objective else []
        refuse_chdir(HydraConfig.get())
        folder = Path(HydraConfig.get().runtime.output_dir)
        own = free_folder(folder, cell.identity, self._taken, resuming=bool(config.resume))
        own.mkdir(exist_ok=True)
        rows = self._session.cells.run(cell, own)
        raise_failure(cell, rows)
        return objective_of(cell, rows, config.objective) if config.objective else rows


def _read(job: str, config: DictConfig, folder: Path, *, quiet: bool) -> int:
    """Rebuild a report, or compare runs; returns the exit code."""
    # what was typed counts more than what the run was made with
    keys = (text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task)
    typed = [key.removeprefix("report.") for key in keys if key.startswith("report.")]
    report = Report.of(config)
    if job == "compare":
        from runner.report.compare import compare_runs  # with what makes reports

        sides, settings = ([*config.run], [*config.against]), Compare.of(config)
        table = folder / "compare.csv"
        return compare_runs(table, *sides, report, settings, explicit=typed, quiet=quiet)
    from runner.execute.conclusion import concluded

    return concluded(folder, report, config, quiet=quiet, measured=False, explicit=typed)
