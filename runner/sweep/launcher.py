"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.cells.compose import Composer, HydraJob, told_apart
from runner.cells.grid import is_excluded, plain
from runner.config.hydra_internals import config_restored, sweeper_of, without_hydra
from runner.config.schema import Compare, Report
from runner.errors import CellFailed
from runner.execute.cell_runner import CellGroup, CellRun
from runner.execute.progress import Progress
from runner.execute.second_visits import run_all, steps
from runner.execute.session import session_of
from runner.rows.rows import Row
from runner.sweep.objective import objective_of, raise_failure
from runner.sweep.run_folder import GRID, free_folder, refuse_chdir


class JobListeners:
    """Hydra's callbacks, which are told when a sweep's jobs begin and end."""

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        composer: Composer,
        objective: str | None,
    ) -> None:
        self._callbacks, self._task, self._composer = context.callbacks, task, composer
        self._objective = objective
        self._configs: dict[int, DictConfig] = {}  # of the jobs that run, by their numbers

    @property
    def are_there(self) -> bool:
        """Whether anybody listens."""
        return bool(self._callbacks.callbacks)

    def begin(self, job: HydraJob, number: int, folder: Path) -> None:
        """A job begins; where nobody listens, no whole configuration is made, which takes long."""
        if self.are_there:
            self._configs[number] = self._composer.full_config(job, number, folder)
            self._callbacks.on_job_start(config=self._configs[number], task_function=self._task)

    def end(self, job: HydraJob, number: int, rows: list[Row]) -> JobReturn:
        """A job has ended with these rows; returns what Hydra makes of that.

        The rows are in it where anybody listens: otherwise a sweep forgets them.
        """
        returned = JobReturn(job.overrides, working_dir=os.getcwd(), status=JobStatus.COMPLETED)
        returned.return_value = rows if self.are_there else None
        try:
            raise_failure(job.cell, rows)
            if self._objective:
                returned.return_value = objective_of(job.cell, rows, self._objective)
        except CellFailed as failure:
            returned.return_value, returned.status = failure, JobStatus.FAILED
        if config := self._configs.pop(number, None):
            returned.task_name = str(config.hydra.job.name)
            returned.cfg = without_hydra(config)
            returned.hydra_cfg = OmegaConf.masked_copy(config, ["hydra"])
            self._callbacks.on_job_end(config=config, job_return=returned)
        return returned


@dataclass
class _JobRun(CellRun):
    """A job on its way; its folder is there from its first process on."""

    job: HydraJob = field(kw_only=True)
    number: int = field(kw_only=True)  # that it has in the whole sweep
    has_begun: bool = False
    job_return: JobReturn | None = None  # Hydra's; None until it has ended


class JobLauncher:
    """Hydra's basic launcher with the composition shared between jobs, and progress shown."""

    def __init__(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        refuse_chdir(config.hydra)
        self._config = config
        self._session = session_of(task_function)
        self.composer = Composer(hydra_context.config_loader, config)
        self.listeners = JobListeners(hydra_context, task_function, self.composer, config.objective)
        self._compare = Compare(in_turn=False)
        # our sweeper has left out what they exclude
        self._rules = [] if sweeper_of(config) == GRID else list(map(plain, config.exclude))
        self._report = Report.of(config)
        self._taken: dict[Path, str] = {}  # folders, by the cells that have them

    def compare_by(self, report: Report, compare: Compare) -> None:
        """Have cells that a report with a settled baseline compares measured in turn from now."""
        self._report, self._compare = report, compare

    def launch(self, jobs: Sequence[HydraJob], numbers: Sequence[int]) -> Sequence[JobReturn]:
        """Run the jobs, by their numbers in the whole sweep; one that raises ends it."""
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        runs = [
            _JobRun(job.cell, job=job, number=number)
            for job, number in zip(jobs, numbers, strict=True)
        ]
        going, left_out = list[_JobRun](), list[_JobRun]()
        for run in runs:
            (left_out if is_excluded(run.cell, self._rules) else going).append(run)
        groups = self._session.cells.groups(going, self._report, self._compare)
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            self._session.cells.writing_behind(),
            Progress(
                steps(groups),
                self._config.stop_after,
                names=told_apart(jobs),
                quiet=self._session.quiet,
            ) as progress,
        ):
            share = max((run.cell.timing.revisit_share for run in going), default=0.0)
            run_group = partial(self._run_group, progress=progress)
            run_all(self._session.cells, groups, share, run_group, progress.again)
        if self._config.objective:  # another sweeper waits for an answer to each
            for run in left_out:
                run.job_return = self.listeners.end(run.job, run.number, [])
        return [run.job_return for run in runs if run.job_return is not None]

    def _run_group(self, group: CellGroup[_JobRun], process: int, progress: Progress) -> None:
        progress.begin(group.runs[-1].cell, in_turn=len(group.runs) > 1)
        for run in group.runs:
            self._begin(run)
        self._session.cells.run_group(group, process, self._report.same_within)
        if self.listeners.are_there:  # which may look at what was written
            self._session.cells.wait_for_files()
        for run in group.runs:
            is_last = process == group.processes or not run.did_well
            if is_last:  # at each visit, of which Hydra's callbacks are told of the first
                run.job_return = self.listeners.end(run.job, run.number, run.rows)
        for run in group.runs:
            progress.end(run.cell, run.rows)

    def _begin(self, run: _JobRun) -> None:
        """Make a job's folder and tell Hydra's callbacks, before its first process."""
        if run.has_begun:
            return
        run.has_begun = True
        is_resumed = bool(self._config.resume)
        free = partial(free_folder, cell=run.cell.identity, taken=self._taken, resuming=is_resumed)
        save = self._session.cells.save
        run.folder = self.composer.create_job_folder(run.job, run.number, free, save)
        self.listeners.begin(run.job, run.number, run.folder)
