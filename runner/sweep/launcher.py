"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.comparison import in_turn, process_count
from runner.cells.compose import Composer, HydraJob
from runner.config.hydra_internals import config_restored
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.cell_runner import CellGroup, CellRun
from runner.execute.progress import Progress
from runner.execute.session import session_of
from runner.measure.host_memory import free_memory_bytes


@dataclass
class _JobRun:
    """A job on its way."""

    job: HydraJob
    number: int  # that it has in the whole sweep
    overrides: list[str]
    cell_run: CellRun  # what it measures, in its folder from its first process on
    config: DictConfig | None = None  # what callbacks are given; None: there are none
    job_return: JobReturn | None = None  # Hydra's; None until it has begun


@dataclass
class _Group:
    """Jobs whose cells are measured in turn with each other, or one by itself."""

    jobs: list[_JobRun]
    cells: CellGroup


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
            _JobRun(job, number, list(overrides), CellRun(job.cell))
            for job, overrides, number in zip(jobs, job_overrides, numbers, strict=True)
        ]
        groups = self._groups(runs)
        total = sum(len(group.jobs) * group.cells.processes for group in groups)
        most = max((group.cells.processes for group in groups), default=1)
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            Progress(total) as progress,
        ):
            # Round-robin, so that slow drifts of the machine hit all cells alike.
            for process in range(1, most + 1):
                for group in groups:
                    if process <= group.cells.processes:
                        self._run_group(group, process, progress)
        return [run.job_return for run in runs if run.job_return is not None]

    def _groups(self, runs: Sequence[_JobRun]) -> list[_Group]:
        """The jobs that are measured in turn with each other, and the others by themselves."""
        cells = [run.cell_run.cell for run in runs]
        positions = [[position] for position in range(len(runs))]
        if self._compare.in_turn:
            can_run = self._session.cells.can_run_in_turn
            positions = in_turn(cells, self._report, can_run, memory_bytes=free_memory_bytes())
        groups = []
        for members in positions:
            jobs = [runs[position] for position in members]
            count = process_count([run.cell_run.cell for run in jobs], self._compare)
            groups.append(_Group(jobs, CellGroup([run.cell_run for run in jobs], count)))
        return groups

    def _run_group(self, group: _Group, process: int, progress: Progress) -> None:
        """Run the jobs of a group in one of their processes."""
        progress.begin(group.jobs[-1].cell_run.cell, in_turn=len(group.jobs) > 1)
        for run in group.jobs:
            self._begin(run)
        self._session.cells.run_group(group.cells, process, self._report.same_within)
        for run in group.jobs:
            self._end(run)
            progress.end(run.cell_run.cell, run.cell_run.rows)

    def _begin(self, run: _JobRun) -> None:
        """Make a job's folder and tell Hydra's callbacks, before its first process."""
        if run.job_return is not None:
            return
        run.cell_run.folder = self.composer.create_job_folder(run.job, run.number)
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
        run.job_return.return_value = run.cell_run.rows
        is_first = run.job_return.status != JobStatus.COMPLETED
        run.job_return.status = JobStatus.COMPLETED
        if run.config is not None and is_first:
            self._context.callbacks.on_job_end(config=run.config, job_return=run.job_return)
