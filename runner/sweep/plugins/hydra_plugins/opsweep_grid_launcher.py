"""The grid launcher: one job after another in this process, which hands each cell to the worker and waits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.config.hydra_internals import show_config
from runner.errors import ConfigError
from runner.execute.session import session

if TYPE_CHECKING:  # Hydra imports every plugin at each start; the rest is imported where it is used
    from runner.execute.progress import Progress


@dataclass
class GridLauncherConf:
    """The launcher has no settings."""

    _target_: str = f"{__name__}.GridLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="grid", node=GridLauncherConf, provider="opsweep")


class GridLauncher(Launcher):
    """Hydra's basic launcher with the composition shared between jobs, and progress shown.

    It runs cells itself, as the task function would, so that each is composed and checked only once.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives every launcher.

        Raises:
            ConfigError: ``hydra.job.chdir`` is set, which this launcher does not support.
        """
        from runner.cells.compose import Composer

        if config.hydra.job.chdir:
            raise ConfigError("hydra.job.chdir=true needs hydra/launcher=basic; the grid launcher stays in its folder")
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self.composer = Composer(hydra_context.config_loader, config)
        self._folders: dict[tuple[str, ...], Path] = {}
        self.numbers: list[int] = []  # of the jobs, where they are not to follow each other

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; one that raises ends the sweep, since a cell's failure is a row and not an error."""
        from runner.execute.progress import Progress

        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        before = HydraConfig.instance().cfg
        try:
            numbers = self.numbers or range(initial_job_idx, initial_job_idx + len(job_overrides))
            rounds = [self.composer.job(overrides).cell.processes for overrides in job_overrides]
            with env_override(self._config.hydra.job.env_set), Progress(sum(rounds)) as progress:
                done = [
                    self._launch(list(overrides), number, progress)
                    for number, overrides in zip(numbers, job_overrides, strict=True)
                ]
                for process in range(2, max(rounds, default=1) + 1):  # each cell in turn, so that none has all its luck
                    for job in done:
                        self._again(job, process, progress)
                return done
        finally:
            show_config(before)

    def _launch(self, overrides: list[str], number: int, progress: "Progress") -> JobReturn:
        job = self.composer.job(overrides)
        progress.begin(job.cell)
        folder = self.composer.place(job, number)
        self._folders[tuple(overrides)] = folder
        done = JobReturn(overrides=overrides, working_dir=os.getcwd(), task_name=str(self._config.hydra.job.name))
        callbacks = self._context.callbacks
        config = self.composer.full_config(job) if callbacks.callbacks else None
        if config is not None:
            callbacks.on_job_start(config=config, task_function=self._task_function)
        done.return_value = session().run_once(job.cell, folder)
        done.status = JobStatus.COMPLETED
        if config is not None:
            callbacks.on_job_end(config=config, job_return=done)
        progress.end(job.cell, done.return_value)
        return done

    def _again(self, done: JobReturn, process: int, progress: "Progress") -> None:
        """Run a cell that did well so far in one more process."""
        overrides = tuple(done.overrides or ())
        cell = self.composer.job(overrides).cell
        if process > cell.processes:
            return
        progress.begin(cell)
        if all(row.status == "ok" for row in done.return_value):
            done.return_value = session().run_once(cell, self._folders[overrides], process)
        progress.end(cell, done.return_value)
