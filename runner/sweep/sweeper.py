"""A sweep: every combination of the axes, checked as a whole before the first one runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.cells.cell import Cell
from runner.cells.comparison import baseline_in_words, in_words, settled, with_partners
from runner.cells.compose import Composer, HydraJob, further_words, told_apart
from runner.cells.grid import check_threads
from runner.cells.hydra_files import SUBDIR
from runner.cluster.chunk import START_S, expected_s
from runner.cluster.cluster import cluster_of
from runner.cluster.takeover import take_over
from runner.config.hydra_internals import config_restored, unheeded_choices
from runner.config.schema import Compare, Report, settings_of
from runner.errors import CellFailed, ConfigError, first_names, one_line, tell
from runner.execute.interpreter import Interpreter
from runner.execute.progress import announced
from runner.execute.session import session_of
from runner.files import write_atomically
from runner.garbage import uncollected
from runner.report.as_json import cells_as_json, for_programs
from runner.rows.environment_file import read_environment
from runner.rows.rows import ROUNDS_FILE, Row
from runner.sweep import resume
from runner.sweep.crossover_search import CrossoverSearch, Range
from runner.sweep.grids import Grids
from runner.sweep.launcher import JobLauncher
from runner.sweep.run_folder import claimed, refuse_chdir, refuse_parallel, refuse_run
from runner.units import counted, time_text


class GridSweep:
    """Hydra's basic sweep with exclusion, an order fit for comparing, a dry run and a report."""

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        *,
        params: object,
        extra_grids: Sequence[Any],
        crossover: Mapping[str, Any] | None,
    ) -> None:
        refuse_chdir(config.hydra)
        refuse_parallel(config.hydra)
        refuse_run(config)
        for file, group, choice in unheeded_choices(hydra_context.config_loader, config):
            advice = f"say {group}={choice} on the command line"
            raise ConfigError(f"{file}.yaml: {group}: {choice} would be ignored; {advice}")
        self._loader, self._config = hydra_context.config_loader, config
        self._session = session_of(task_function)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        jobs = getattr(self._launcher, "jobs", None)  # another launcher may have been chosen
        self._grid_launcher = jobs if isinstance(jobs, JobLauncher) else None
        launcher = self._grid_launcher
        self._composer = launcher.composer if launcher else Composer(self._loader, config)
        if isinstance(extra_grids, str) or not isinstance(extra_grids, Sequence):
            raise ConfigError(f"hydra.sweeper.also={extra_grids} is no list; write [{{op: add}}]")
        self._params, self._extra_grids, self._crossover = params, extra_grids, crossover
        self._search: CrossoverSearch | None = None
        self._report, self._compare = Report.of(config), Compare.of(config)
        job = config.hydra.job
        copied = {name: os.environ[name] for name in job.env_copy if name in os.environ}
        self._env_set = {**copied, **job.env_set}
        self._sides: dict[str, Interpreter] = {}  # of job=ab
        self._left_out = 0  # cells that exclude leaves out
        self._lacking: dict[str, list[Cell]] = {}  # what there is not, by its implementation
        self._is_incomplete = False  # whether a job of a stock launcher did not return
        self._root, self._cluster = Path(config.hydra.sweep.dir), cluster_of(config)

    def run(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the grid of ``hydra.sweeper.params`` and the command line, then those of ``.also``.

        ConfigError where a cell, an exclusion rule or the folder is wrong; then nothing has run.
        """
        if self._session.is_ab or self._compare.gate:
            self._compare.check_gate(self._report)
        if self._session.is_ab:
            settings: Any = OmegaConf.to_container(self._config.ab, resolve=True)
            runs = not self._config.dry_run
            self._sides = {
                name: Interpreter.of(name, **side, runs=runs) for name, side in settings.items()
            }
            self._compare = replace(self._compare, in_turn=False)  # sides are, cells are not
        composing = announced("composing the cells", quiet=self._session.quiet)
        with composing, uncollected():  # all of it stays
            jobs = self._composed(arguments)
            if self._cluster is None:
                check_threads(job.cell for job in jobs)
                self._check_folders(jobs)
        if self._config.dry_run:
            self._show(jobs)
            return []
        if self._sides:
            from runner.execute.two_sides import TwoSides  # with what makes reports

            self._session.cells = TwoSides(self._session.begin_measuring, *self._sides.values())
        resuming = bool(self._config.resume)
        with (
            env_override(self._env_set),
            claimed(self._root, resuming=resuming, begun=lambda: self._session.measuring),
        ):
            return self._run(jobs)

    def _check_folders(self, jobs: Sequence[HydraJob]) -> None:
        """Refuse folders that do not lie in the sweep's own, which alone is searched for rows."""
        raw: Any = OmegaConf.to_container(self._config.hydra.sweep, resolve=False)
        if raw["subdir"] == SUBDIR:
            return
        root = Path(os.path.abspath(self._root))
        with config_restored():
            for number, job in enumerate(jobs):
                if (folder := self._composer.folder(job, number)).parent != root:
                    what = f"hydra.sweep.subdir={raw['subdir']} gives {job.cell.label} {folder}"
                    raise ConfigError(f"{what}, which does not lie in {root}; give one name")

    def _composed(self, arguments: list[str]) -> list[HydraJob]:
        """The sweep's jobs, or the first of a search's."""
        composer = self._composer
        grids = Grids(self._loader, composer, self._config, self._params, self._extra_grids)
        self._lacking = grids.lacking
        if self._crossover is None:
            jobs = grids.jobs(arguments)
            self._left_out = grids.left_out
            return jobs

        search_range = Range.of(self._crossover)
        if any(argument.lstrip("+").startswith("size=") for argument in arguments):
            example = "hydra.sweeper.crossover.low=64 hydra.sweeper.crossover.high=1024"
            advice = f"give its range instead, such as {example}"
            raise ConfigError(f"size is what this sweep looks for; {advice}")
        grid = grids.jobs([*arguments, search_range.size_of(search_range.low)])
        cells = [job.cell for job in grid]
        if len({cell.impl for cell in cells}) > 1:  # which are compared then
            self._report = settled(self._report, cells, accelerated=True)
        self._search = CrossoverSearch(search_range, self._report, composer, grid)
        return self._search.initial()

    def _show(self, jobs: list[HydraJob]) -> None:
        with for_programs(self._config.output) as is_json:
            cells = self._describe(jobs)
        if is_json:
            print(cells_as_json(cells, self._left_out))

    def _describe(self, jobs: list[HydraJob]) -> list[Cell]:
        """Print what a dry run lists, for people; returns the cells."""
        numbers = list(range(len(jobs)))
        if self._config.resume:
            jobs, numbers, _ = self._remaining(jobs)
        cells = [jobs[number].cell for number in numbers]
        list_jobs([jobs[number] for number in numbers])
        if cells and self._cluster is None:
            calm_s = START_S + sum(map(expected_s, cells))
            tell(f"it takes some {time_text(calm_s)} here, more where others keep the machine busy")
        calls = (getattr(c.definition, "function", c.operation.call) for c in cells)
        foreign = [name for name in dict.fromkeys(calls) if not name.startswith("torch.")]
        if foreign:
            tell(f"a run imports and calls {first_names(foreign)}")
        tell_left_out(self._left_out)
        if self._lacking:
            why = "as their operation has no such implementation"
            tell(f"left out, {why}: {sum(map(len, self._lacking.values()))}")
        if cells and self._cluster is None and self._compare.in_turn:
            tell(in_words(self._report, cells))
        for name, side in self._sides.items():
            print(f"{name}: {side}")
        if self._search is not None:
            most = self._search.max_further_cells
            print(f"and what the search asks for then, {most} cells at most")
        if self._cluster is not None and numbers:
            print(self._cluster.describe([job.cell for job in jobs], numbers))
        return cells

    def _run(self, jobs: list[HydraJob]) -> list[Sequence[JobReturn]]:
        numbers = list(range(len(jobs)))
        left = ""
        if self._config.resume:
            resume.remove_leftovers(self._root)
            take_over(self._root)
            jobs, numbers, rows = self._remaining(jobs)
            going = {jobs[number].cell.identity for number in numbers}
            left = resume.what_was_left([row for row in rows if row.cell not in going])
            del rows  # a sweep may have a hundred thousand, and takes long
        try:
            if not numbers and not self._lacks_rounds(jobs):
                return []
            self._prepare(jobs, numbers or range(len(jobs)))
            launched = [self._send(jobs, numbers)] if numbers else []
            while further := self._asked_further():
                numbers = list(range(len(jobs), len(jobs) + len(further)))
                jobs += further
                launched.append(self._send(jobs, numbers))
            if self._lacks_rounds(jobs, remade=bool(launched)):
                timed = {row.cell for row in resume.read_all_rows(self._root) if row.status == "ok"}
                cells = [job.cell for job in jobs if job.cell.identity in timed]
                self._session.cells.visit_workloads(cells, self._root, self._report)
            return launched
        finally:
            # Also where a cell or a signal ended the sweep: what was finished is kept, and shown.
            if self._session.measuring or not numbers:
                self._session.finish(self._root, self._report, self._config)
                if self._is_incomplete:
                    self._session.exit_code = 1
                if left:
                    tell(left)

    def _lacks_rounds(self, jobs: Sequence[HydraJob], *, remade: bool = False) -> bool:
        """Whether a workload's calls have yet to be visited together, or to be so again."""
        has_workload = any(job.cell.call is not None for job in jobs)
        is_here = self._cluster is None and not self._sides and self._compare.in_turn
        is_known = (self._root / ROUNDS_FILE).is_file() and not remade
        return has_workload and is_here and not is_known

    def _prepare(self, jobs: list[HydraJob], numbers: Sequence[int]) -> None:
        """Check what needs torch or the machine, and write down what the sweep is made with."""
        runner, every_cell = self._session.cells, [job.cell for job in jobs]
        # also where few are left: what made the others is compared with this at the next resume
        checked = every_cell
        if self._cluster is not None:
            checked = self._cluster.check([jobs[number].cell for number in numbers])
        runner.prepare(checked, require_devices=False)
        if self._crossover is None:
            accelerated = self._cluster is not None or runner.has_accelerator
            self._report = settled(self._report, every_cell, accelerated=accelerated)
        compares = self._cluster or self._grid_launcher
        if compares is not None:
            compares.compare_by(self._report, self._compare)
            if self._compare.in_turn and self._report.baseline is not None:
                tell(f"comparing in turn: {baseline_in_words(self._report)}")
        further = further_words(jobs)
        words_of = {job.cell.variant: further.intersection(job.overrides) for job in jobs}
        resuming = bool(self._config.resume)
        configuration = self._root / "multirun.yaml", OmegaConf.to_yaml(self._config)
        if not resuming:  # without it a sweep that is killed here could not be taken up again
            write_atomically(*configuration)
        runner.record_environment(
            self._root,
            len(jobs),
            self._report,
            resuming=resuming,
            force=self._config.resume_force,
            cluster=self._cluster.name if self._cluster else None,
            excluded=self._left_out,
            variants={name: sorted(words) for name, words in words_of.items() if words},
            env_set=dict(self._config.hydra.job.env_set) or None,
        )
        if resuming:  # which was not refused
            write_atomically(*configuration)

    def _asked_further(self) -> list[HydraJob]:
        return self._search.next(self._root) if self._search else []

    def _remaining(self, jobs: list[HydraJob]) -> tuple[list[HydraJob], list[int], list[Row]]:
        """All jobs of a resumed sweep that are known, the numbers of those left, what has run."""
        with announced("reading what has run"), uncollected():
            rows_on_disk = resume.read_all_rows(self._root)
        first_cells = [job.cell for job in jobs]
        resume.check_same_sweep(self._root, rows_on_disk, first_cells)
        if not self._config.resume_force:
            resume.check_same_cells(self._root, rows_on_disk, first_cells)

        # Where a row is damaged, a search may not know yet that it asked for others.
        jobs = [*jobs, *self._asked_further()]
        cells = [job.cell for job in jobs]
        may_ask = self._search is not None and resume.is_damaged(self._root)
        if not self._config.resume_force and not may_ask:
            resume.check_grid_holds(self._root, rows_on_disk, cells)

        # what was compared before is compared again, and a ratio is of one moment
        if self._report.baseline is None:
            stored, _ = settings_of(read_environment(self._root).get("report") or {})
            self._report = replace(self._report, baseline=stored.get("baseline"))
        numbers = self._unfinished(rows_on_disk, cells)
        if self._compare.in_turn:
            numbers = with_partners(numbers, cells, self._report)
        tell(f"{len(cells) - len(numbers)} of {len(cells)} cells are done")
        return jobs, numbers, rows_on_disk

    def _unfinished(self, rows_on_disk: Sequence[Row], cells: Sequence[Cell]) -> list[int]:
        """Positions of cells that have yet to run; ConfigError where code of others has changed."""
        retry = resume.words_to_retry(self._config.retry)
        changed = resume.measured_with_other_code(self._root, rows_on_disk, cells)
        if changed and not self._config.resume_force:
            names = ", ".join(dict.fromkeys(changed.values()))
            advice = "restore it, or say resume_force=true to measure its cells again"
            raise ConfigError(f"resume={self._root}: {names} has changed since; {advice}")

        # what has to be known of this machine only the worker can tell
        again, cell_of = set(changed), {cell.identity: cell for cell in cells}
        if self._compare.in_turn:
            again |= resume.half_compared(self._root, cells, self._compare)
        rows = [row for row in rows_on_disk if row.cell in cell_of]
        asked = [row for row in rows if resume.depends_on_machine(row, cell_of[row.cell])]
        if asked and not self._config.dry_run and self._cluster is None:
            runner = self._session.cells
            # all, as what they are made with is that of their packages and devices
            runner.prepare(cells, require_devices=False)
            for row in asked:
                is_here = cell_of[row.cell].device not in runner.unavailable
                is_other = row.environment != runner.environment["id"]
                if is_here if row.status == "unavailable" else is_other:
                    again.add(row.cell)
        return resume.unfinished(rows_on_disk, cells, again, retry)

    def _tell(self, jobs: Sequence[HydraJob], number: int, rows: list[Row]) -> None:
        """Tell Hydra's callbacks of a job that has run elsewhere."""
        if self._grid_launcher:
            self._grid_launcher.listeners.begin(jobs[number], number, self._root)
            self._grid_launcher.listeners.end(jobs[number], number, rows)

    def _send(self, jobs: list[HydraJob], numbers: list[int]) -> Sequence[JobReturn]:
        if self._cluster is not None:
            self._cluster.run(
                self._root,
                jobs,
                numbers,
                self._session,
                env_set=self._env_set,
                stop_after=self._config.stop_after,
                on_end=partial(self._tell, jobs),
            )
            return []
        if self._grid_launcher:  # ours keeps the numbers that jobs have in the whole grid
            return self._grid_launcher.launch([jobs[number] for number in numbers], numbers)
        overrides = [list(jobs[number].overrides) for number in numbers]
        self._session.begin_measuring()  # perhaps in other processes
        with for_programs(self._config.output):  # as Hydra's launchers log to standard output
            returned = self._launcher.launch(overrides, initial_job_idx=numbers[0])
        for job in returned:
            if job.status != JobStatus.COMPLETED and not isinstance(job._return_value, CellFailed):
                what = f"{' '.join(job.overrides or ())}: {one_line(job._return_value)}"
                tell(f"did not run: {what}")
                self._is_incomplete = True
        return returned


def list_jobs(jobs: Sequence[HydraJob]) -> None:
    """Print the cells of a dry run, a line each, and their number."""
    names = told_apart(jobs)
    for cell in (job.cell for job in jobs):
        name, reason = names.get(cell.identity, cell.label), cell.infeasible_reason
        print(f"{name}    {f'impossible: {reason}' if reason else cell.inputs}".rstrip())
    print(counted(len(jobs), "cell"))


def tell_left_out(count: int) -> None:
    """Say how many cells of a dry run ``exclude`` leaves out, if any."""
    if count:
        tell(f"left out by exclude: {count}")
