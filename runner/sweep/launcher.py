"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.compose import Composer, HydraJob
from runner.config.hydra_internals import config_restored
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.cell_runner import CellGroup, CellRun, in_rounds
from runner.execute.progress import Progress
from runner.execute.session import session_of


@dataclass
class _JobRun(CellRun):
    """A job on its way; its folder is there from its first process on."""

    job: HydraJob = field(kw_only=True)
    number: int = field(kw_only=True)  # that it has in the whole sweep
    overrides: list[str] = field(kw_only=True)
    config: DictConfig | None = None  # what callbacks are given; None: there are none
    job_return: JobReturn | None = None  # Hydra's; None until it has begun


class JobLauncher:
    """Hydra's basic launcher with the composition shared between jobs, and progress shown.

    It runs cells itself, as the task function would, so that each is composed and checked only
    once.

    Raises:
        ConfigError: ``hydra.job.chdir`` is set, which this launcher does not support.
    """

    def __init__(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        if config.hydra.job.chdir:
            needs = "hydra.job.chdir=true needs hydra/launcher=basic"
            raise ConfigError(f"{needs}; the grid launcher stays in its folder")
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self._session = session_of(task_function)
        self.composer = Composer(hydra_context.config_loader, config)
        self._compare = Compare(in_turn=False)
        self._report = Report.of(config)

    def compare_by(self, report: Report, compare: Compare) -> None:
        """Have cells that a report with a settled baseline compares measured in turn from now."""
        self._report, self._compare = report, compare

    def launch(
        self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
    ) -> Sequence[JobReturn]:
        """Run the jobs, by their numbers in the whole sweep.

        One that raises ends the sweep: a cell's failure is a row and no error.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        jobs = [self.composer.job(overrides) for overrides in job_overrides]
        runs = [
            _JobRun(job.cell, job=job, number=number, overrides=list(overrides))
            for job, overrides, number in zip(jobs, job_overrides, numbers, strict=True)
        ]
        groups = self._session.cells.groups(runs, self._report, self._compare)
        total = sum(len(group.runs) * group.processes for group in groups)
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            Progress(total) as progress,
        ):
            for process, group in in_rounds(groups):
                self._run_group(group, process, progress)
        return [run.job_return for run in runs if run.job_return is not None]

    def _run_group(self, group: CellGroup[_JobRun], process: int, progress: Progress) -> None:
        """Run the jobs of a group in one of their processes."""
        progress.begin(group.runs[-1].cell, in_turn=len(group.runs) > 1)
        for run in group.runs:
            self._begin(run)
        self._session.cells.run_group(group, process, self._report.same_within)
        for run in group.runs:
            self._end(run)
            progress.end(run.cell, run.rows)

    def _begin(self, run: _JobRun) -> None:
        """Make a job's folder and tell Hydra's callbacks, before its first process."""
        if run.job_return is not None:
            return
        run.folder = self.composer.create_job_folder(run.job, run.number)
        name = str(self._config.hydra.job.name)
        run.job_return = JobReturn(run.overrides, working_dir=os.getcwd(), task_name=name)

        # A whole configuration takes as long to make as all the rest, so only callbacks get one.
        callbacks = self._context.callbacks
        if callbacks.callbacks:
            run.config = self.composer.full_config(run.job, run.number)
            callbacks.on_job_start(config=run.config, task_function=self._task_function)

    def _end(self, run: _JobRun) -> None:
        """Settle what a job returned; tell Hydra's callbacks after its first process."""
        assert run.job_return is not None
        run.job_return.return_value = run.rows
        is_first = run.job_return.status != JobStatus.COMPLETED
        run.job_return.status = JobStatus.COMPLETED
        if run.config is not None and is_first:
            self._context.callbacks.on_job_end(config=run.config, job_return=run.job_return)
