"""Composing a sweep's jobs quickly: Hydra composes once for each distinct choice of groups.

Stock Hydra composes every job from scratch, which is most of what a job costs it. Jobs that choose
the same groups (``op``, ``timing``, ``sweep``) differ in values alone, which are set on a copy.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from runner.cells.cell import Cell, CellReader
from runner.cells.hydra_files import HydraFiles
from runner.config.hydra_internals import apply_overrides, override_dirname, show_config
from runner.files import make_folder


@dataclass(frozen=True)
class Choice:
    """What Hydra composed for one choice of groups."""

    # with the ``hydra`` node, whose few fields that differ between jobs are set in place
    full: DictConfig
    task: bytes  # the same without it, pickled: unpickling takes a sixth of the time of a deep copy
    hydra_yaml: str  # the template of ``.hydra/hydra.yaml``


@dataclass(frozen=True, slots=True)  # a sweep may have 100,000
class HydraJob:
    """A job of a sweep, composed: the overrides that make a cell, and ``.hydra/config.yaml``."""

    overrides: tuple[str, ...]
    cell: Cell
    config_yaml: str


class Composer:
    """Composes the jobs of one sweep."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        # fixes the time in it for every job, as stock Hydra does
        OmegaConf.select(master, "hydra.sweep.dir")
        self._files = HydraFiles()
        self._jobs: dict[tuple[str, ...], HydraJob] = {}
        self._cells = CellReader()
        # whether jobs get folders on this machine; if not, jobs are not remembered, and no
        # configuration is written out, which is half of the time
        self.writes_folders = True
        # a sweep's jobs have few of each
        self._parse = cache(OverridesParser.create(config_loader=loader).parse_override)
        self._options = cache(loader.get_group_options)
        self._choice = cache(self._composed)

    def job(self, overrides: Sequence[str]) -> HydraJob:
        """Compose a job, unless it has been; an error of Hydra or ours where a value is wrong."""
        key = tuple(overrides)
        if key in self._jobs:
            return self._jobs[key]
        groups, values = self._split(key)
        task: DictConfig = pickle.loads(self._choice(groups).task)
        apply_overrides(values, task)
        cell = self._cells.read(task, key)
        if not self.writes_folders:
            return HydraJob(key, cell, "")
        self._jobs[key] = HydraJob(key, cell, self._files.config_text(task))
        return self._jobs[key]

    def full_config(self, job: HydraJob, number: int, folder: Path) -> DictConfig:
        """The whole configuration of a job with this number in the sweep, for callbacks."""
        groups, values = self._split(job.overrides)
        choice = self._choice(groups)
        self._set_job(choice.full, job, number)
        self._set_folder(choice.full, folder)
        full = copy.deepcopy(choice.full)
        apply_overrides(values, full)
        return full

    def folder(self, job: HydraJob, number: int) -> Path:
        """The folder that the configuration names for a job."""
        return self._set_job(self._choice(self._split(job.overrides)[0]).full, job, number)

    def create_job_folder(
        self, job: HydraJob, number: int, free: Callable[[Path], Path] = lambda folder: folder
    ) -> Path:
        """Make a job's folder with its ``.hydra`` files, and have ``HydraConfig`` answer for it.

        It is the one that is ``free`` instead of the one that the configuration names.
        """
        choice = self._choice(self._split(job.overrides)[0])
        folder = free(self._set_job(choice.full, job, number))
        make_folder(folder, parents=True)
        hydra = choice.full.hydra
        self._set_folder(choice.full, folder)
        if hydra.output_subdir is not None:
            texts = (choice.hydra_yaml, job.config_yaml)
            self._files.write(folder / hydra.output_subdir, hydra, *texts, _task_overrides(job))
        return folder

    def _set_job(self, full: DictConfig, job: HydraJob, number: int) -> Path:
        """Make a choice's configuration, and ``HydraConfig``, its job's; returns the folder."""
        overrides = _task_overrides(job)
        hydra = full.hydra
        parsed = list(map(self._parse, overrides))
        dirname = override_dirname(parsed, hydra.job.config.override_dirname)
        with read_write(hydra), open_dict(hydra):
            hydra.job.update(id=str(number), num=number, override_dirname=dirname)
            hydra.overrides.task = overrides
            # The folder's name follows from what was just set, in part through HydraConfig.
            show_config(full)
            return Path(os.path.abspath(Path(hydra.sweep.dir, hydra.sweep.subdir)))

    @staticmethod
    def _set_folder(full: DictConfig, folder: Path) -> None:
        with read_write(full.hydra), open_dict(full.hydra):
            full.hydra.runtime.output_dir = str(folder)

    def _split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        groups, values = [], []
        for text in overrides:
            override = self._parse(text)
            if override.is_hydra_override() or self._options(override.key_or_group):
                groups.append(text)
            else:
                values.append(override)
        return tuple(groups), values

    def _composed(self, groups: tuple[str, ...]) -> Choice:
        full = self._loader.load_sweep_config(self._master, list(groups))
        task = copy.deepcopy(full)
        with read_write(task), open_dict(task):
            del task["hydra"]
            task["workload"] = {}  # the sweep's; a job has one of its calls, if any
        return Choice(full, pickle.dumps(task), self._files.template(full))


def _task_overrides(job: HydraJob) -> list[str]:
    return [text for text in job.overrides if not text.startswith("hydra.")]
