"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker and waits."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.cell import Cell
from runner.cells.comparison import in_turn, process_count
from runner.cells.compose import Composer, HydraJob
from runner.config.hydra_internals import config_restored
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.cell_runner import CellRun
from runner.execute.progress import Progress
from runner.execute.session import session_of
from runner.measure.host_memory import free_memory_bytes


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
            raise ConfigError(
                "hydra.job.chdir=true needs hydra/launcher=basic; the grid launcher stays in its folder"
            )
        self._context, self._task_function, self._config = hydra_context, task_function, config
        self._session = session_of(task_function)
        self.composer = Composer(hydra_context.config_loader, config)
        self._compare = Compare(in_turn=False)
        self._report = Report.of(config)

    def compare_by(self, report: Report, compare: Compare) -> None:
        """Have cells that are compared with each other measured in turn from here on.

        Args:
            report: its baseline is settled.
            compare: how.
        """
        self._report, self._compare = report, compare

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
        runs = [
            _JobRun(list(overrides), number, self.composer.job(overrides))
            for overrides, number in zip(job_overrides, numbers, strict=True)
        ]
        groups = self._groups(runs)
        rounds = [process_count([run.cell for run in group], self._compare) for group in groups]
        total = sum(map(len, groups)) + sum(
            len(group) * (count - 1) for group, count in zip(groups, rounds, strict=True)
        )
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            Progress(total) as progress,
        ):
            # Round-robin, so that slow drifts of the machine hit all cells alike.
            for process in range(1, max(rounds, default=1) + 1):
                for group, count in zip(groups, rounds, strict=True):
                    if process <= count:
                        self._run_group(group, process, count, progress)
        return [run.job_return for run in runs if run.job_return is not None]

    def _groups(self, runs: Sequence[_JobRun]) -> list[list[_JobRun]]:
        """The jobs that are measured in turn with each other, and the others by themselves."""
        cells = [run.cell for run in runs]
        if not self._compare.in_turn:
            return [[run] for run in runs]
        can_run = self._session.cells.can_run_in_turn
        positions = in_turn(cells, self._report, can_run, memory_bytes=free_memory_bytes())
        return [[runs[position] for position in group] for group in positions]

    def _run_group(
        self, group: Sequence[_JobRun], process: int, processes: int, progress: Progress
    ) -> None:
        """Run the jobs of a group in one of their processes."""
        progress.begin(group[-1].cell, in_turn=len(group) > 1)
        for run in group:
            self._begin(run)
        runs, same_within = [run.cell_run for run in group], self._report.same_within
        self._session.cells.run_group(runs, process, processes, same_within)
        for run in group:
            self._end(run)
            progress.end(run.cell, run.cell_run.rows)

    def _begin(self, run: _JobRun) -> None:
        """Make a job's folder and tell Hydra's callbacks, before its first process."""
        if run.job_return is not None:
            return
        run.cell_run.folder = self.composer.create_job_folder(run.job, run.number)
        run.job_return = JobReturn(
            overrides=run.overrides,
            working_dir=os.getcwd(),
            task_name=str(self._config.hydra.job.name),
        )

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


class _JobRun:
    """A job on its way.

    Attributes:
        number: that it has in the whole sweep.
        cell_run: what it measures, in its folder from its first process on.
        config: what callbacks are given; None: there are none.
        job_return: Hydra's; None until it has begun.
    """

    def __init__(self, overrides: list[str], number: int, job: HydraJob) -> None:
        self.overrides, self.number, self.job = overrides, number, job
        self.cell_run = CellRun(job.cell)
        self.config: DictConfig | None = None
        self.job_return: JobReturn | None = None

    @property
    def cell(self) -> Cell:
        """What it measures."""
        return self.job.cell
