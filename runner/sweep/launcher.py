"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker and waits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.compose import Composer
from runner.config.hydra_internals import config_restored
from runner.errors import ConfigError
from runner.execute.progress import Progress
from runner.execute.session import session_of


class JobLauncher:
    """Hydra's basic launcher with the composition shared between jobs, and progress shown.

    It runs cells itself, as the task function would, so that each is composed and checked only once.

    Raises:
        ConfigError: ``hydra.job.chdir`` is set, which this launcher does not support.
    """

    def __init__(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        if config.hydra.job.chdir:
            raise ConfigError(
                "hydra.job.chdir=true needs hydra/launcher=basic; the grid launcher stays in its folder"
            )
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self._session = session_of(task_function)
        self.composer = Composer(hydra_context.config_loader, config)
        self._folders: dict[tuple[str, ...], Path] = {}

    def launch(
        self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
    ) -> Sequence[JobReturn]:
        """Run the jobs; one that raises ends the sweep, since a cell's failure is a row and not an error.

        Args:
            job_overrides: of each job.
            numbers: that each has in the whole sweep.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        processes = [self.composer.job(overrides).cell.processes for overrides in job_overrides]
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            Progress(sum(processes)) as progress,
        ):
            returns = [
                self._run_first_process(list(overrides), number, progress)
                for number, overrides in zip(numbers, job_overrides, strict=True)
            ]
            # Round-robin, so that slow drifts of the machine hit all cells alike.
            for process in range(2, max(processes, default=1) + 1):
                for job_return in returns:
                    self._run_further_process(job_return, process, progress)
            return returns

    def _run_first_process(
        self, overrides: list[str], number: int, progress: Progress
    ) -> JobReturn:
        """Run a job: its folder, its cell in one process, and Hydra's callbacks."""
        job = self.composer.job(overrides)
        progress.begin(job.cell)
        folder = self.composer.create_job_folder(job, number)
        self._folders[tuple(overrides)] = folder
        job_return = JobReturn(
            overrides=overrides, working_dir=os.getcwd(), task_name=str(self._config.hydra.job.name)
        )

        # A whole configuration takes as long to make as all the rest, so only callbacks get one.
        callbacks = self._context.callbacks
        config = self.composer.full_config(job, number) if callbacks.callbacks else None
        if config is not None:
            callbacks.on_job_start(config=config, task_function=self._task_function)
        job_return.return_value = self._session.run_once(job.cell, folder)
        job_return.status = JobStatus.COMPLETED
        if config is not None:
            callbacks.on_job_end(config=config, job_return=job_return)

        progress.end(job.cell, job_return.return_value)
        return job_return

    def _run_further_process(self, job_return: JobReturn, process: int, progress: Progress) -> None:
        """Run a cell that did well so far in one more process."""
        overrides = tuple(job_return.overrides or ())
        cell = self.composer.job(overrides).cell
        if process > cell.processes:
            return
        progress.begin(cell)
        if all(row.status == "ok" for row in job_return.return_value):
            job_return.return_value = self._session.run_once(
                cell, self._folders[overrides], process
            )
        progress.end(cell, job_return.return_value)
