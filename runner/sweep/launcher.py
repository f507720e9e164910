"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker and waits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.compose import Composer
from runner.config.hydra_internals import show_config
from runner.errors import ConfigError
from runner.execute.progress import Progress
from runner.execute.session import session


class JobLauncher:
    """Hydra's basic launcher with the composition shared between jobs, and progress shown.

    It runs cells itself, as the task function would, so that each is composed and checked only once.

    Raises:
        ConfigError: ``hydra.job.chdir`` is set, which this launcher does not support.
    """

    def __init__(self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if config.hydra.job.chdir:
            raise ConfigError("hydra.job.chdir=true needs hydra/launcher=basic; the grid launcher stays in its folder")
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self.composer = Composer(hydra_context.config_loader, config)
        self._folders: dict[tuple[str, ...], Path] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]) -> Sequence[JobReturn]:
        """Run the jobs; one that raises ends the sweep, since a cell's failure is a row and not an error.

        Args:
            job_overrides: of each job.
            numbers: that each has in the whole sweep.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        before = HydraConfig.instance().cfg
        try:
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

    def _launch(self, overrides: list[str], number: int, progress: Progress) -> JobReturn:
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

    def _again(self, done: JobReturn, process: int, progress: Progress) -> None:
        """Run a cell that did well so far in one more process."""
        overrides = tuple(done.overrides or ())
        cell = self.composer.job(overrides).cell
        if process > cell.processes:
            return
        progress.begin(cell)
        if all(row.status == "ok" for row in done.return_value):
            done.return_value = session().run_once(cell, self._folders[overrides], process)
        progress.end(cell, done.return_value)
