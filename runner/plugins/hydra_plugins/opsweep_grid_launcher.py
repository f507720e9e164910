"""The grid launcher: one job after another in this process, which hands each cell to the worker and waits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cell import cell_of, operation_of
from runner.compose import Composer
from runner.errors import ConfigError
from runner.progress import Progress


@dataclass
class GridLauncherConf:
    """The launcher has no settings."""

    _target_: str = f"{__name__}.GridLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="grid", node=GridLauncherConf, provider="opsweep")


class GridLauncher(Launcher):
    """Hydra's basic launcher with the composition shared between jobs, and progress shown."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives every launcher."""
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self.composer = Composer(hydra_context.config_loader, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; one that raises ends the sweep, since a cell's failure is a row and not an error.

        Raises:
            ConfigError: ``hydra.job.chdir`` is set, which this launcher does not support.
        """
        setup_globals()
        if self._config.hydra.job.chdir:
            raise ConfigError("hydra.job.chdir=true needs hydra/launcher=basic; the grid launcher stays in its folder")
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        before = HydraConfig.instance().cfg
        try:
            with Progress(len(job_overrides)) as progress:
                return [
                    self._launch(list(overrides), number, progress)
                    for number, overrides in enumerate(job_overrides, start=initial_job_idx)
                ]
        finally:
            HydraConfig.instance().cfg = before

    def _launch(self, overrides: list[str], number: int, progress: Progress) -> JobReturn:
        task = self.composer.task(overrides)
        full = self.composer.job(overrides, number)
        self.composer.write(full, task, overrides)
        cell = cell_of(task, operation_of(task))
        progress.begin(cell)
        callbacks = self._context.callbacks
        done = JobReturn(overrides=overrides, working_dir=os.getcwd(), task_name=full.hydra.job.name)
        environment: Any = full.hydra.job.env_set
        with env_override(environment):
            callbacks.on_job_start(config=full, task_function=self._task_function)
            done.return_value = self._task_function(task)
        done.status = JobStatus.COMPLETED
        callbacks.on_job_end(config=full, job_return=done)
        progress.end(cell, done.return_value)
        return done
