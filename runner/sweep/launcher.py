"""Runs a sweep's jobs one after another in this process, which hands each cell to the worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cells.cell import Cell
from runner.cells.comparison import in_turn, process_count
from runner.cells.compose import Composer, HydraJob
from runner.config.hydra_internals import config_restored
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.progress import Progress
from runner.execute.session import session_of
from runner.execute.turns import Plan
from runner.measure.host_memory import free_memory_bytes
from runner.rows.rows import Row


@dataclass
class _JobRun:
    """A job on its way."""

    job: HydraJob
    number: int  # that it has in the whole sweep
    overrides: list[str]
    folder: Path = Path()  # its own, from its first process on
    config: DictConfig | None = None  # what callbacks are given; None: there are none
    job_return: JobReturn | None = None  # Hydra's; None until it has begun
    rows: list[Row] = field(default_factory=list)  # what came of it

    @property
    def cell(self) -> Cell:
        """What it measures."""
        return self.job.cell

    @property
    def did_well(self) -> bool:
        """Whether all of its processes so far did; otherwise it has no further one."""
        return all(row.status == "ok" for row in self.rows)


@dataclass
class _Group:
    """Jobs that are measured in turn with each other, or one by itself."""

    runs: list[_JobRun]
    processes: int  # that measure it, one after another
    can_take_turns: bool = True  # whether its process has survived that so far


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
        runs = [
            _JobRun(self.composer.job(overrides), number, list(overrides))
            for overrides, number in zip(job_overrides, numbers, strict=True)
        ]
        groups = self._groups(runs)
        total = sum(len(group.runs) * group.processes for group in groups)
        with (
            config_restored(),
            env_override(self._config.hydra.job.env_set),
            Progress(total) as progress,
        ):
            # Round-robin, so that slow drifts of the machine hit all cells alike.
            for process in range(1, max((group.processes for group in groups), default=1) + 1):
                for group in groups:
                    if process <= group.processes:
                        self._run_group(group, process, progress)
        return [run.job_return for run in runs if run.job_return is not None]

    def _groups(self, runs: Sequence[_JobRun]) -> list[_Group]:
        """The jobs that are measured in turn with each other, and the others by themselves."""
        if not self._compare.in_turn:
            return [_Group([run], run.cell.processes) for run in runs]
        cells = [run.cell for run in runs]
        can_run = self._session.cells.can_run_in_turn
        groups = []
        for members in in_turn(cells, self._report, can_run, memory_bytes=free_memory_bytes()):
            first = cells[members[0]]
            shared = process_count(first, self._compare.processes)
            processes = first.processes if len(members) == 1 else shared
            groups.append(_Group([runs[position] for position in members], processes))
        return groups

    def _run_group(self, group: _Group, process: int, progress: Progress) -> None:
        """Run the jobs of a group in one of their processes."""
        runs = group.runs
        progress.begin(runs[-1].cell, in_turn=len(runs) > 1)
        for run in runs:
            self._begin(run)
        sides = [run for run in runs if run.did_well]
        if group.can_take_turns and len(sides) > 1 and sides[0] is runs[0]:
            group.can_take_turns = self._run_in_turn(sides, process, group.processes)
            if group.can_take_turns:
                sides = [run for run in sides if not run.rows]
        for run in sides:
            if process <= run.cell.processes:
                run.rows = self._session.cells.run_once(run.cell, run.folder, process)
        for run in runs:
            self._end(run)
            progress.end(run.cell, run.rows)

    def _run_in_turn(self, sides: Sequence[_JobRun], process: int, processes: int) -> bool:
        """Run jobs in turn; False where that was not possible, and each is to run by itself."""
        cells = [run.cell for run in sides]
        visits_only = process > max(cell.processes for cell in cells)
        plan = Plan(self._report.same_within, processes, visits_only)
        folders = [run.folder for run in sides]
        rows = self._session.cells.run_in_turn(cells, folders, plan, process)
        if rows is None:
            return False
        for run, of_run in zip(sides, rows, strict=False):
            run.rows = of_run or run.rows
        return True

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
