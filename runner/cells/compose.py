"""Composing a sweep's jobs quickly: Hydra composes once for each distinct choice of groups, the rest is copied.

Stock Hydra composes every job anew, which is most of what a job costs it. Jobs that choose the same groups
(``op``, ``timing``, ``sweep``) differ in values alone, which are set on a copy. The ``.hydra`` files are those of
stock Hydra.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from runner.cells.cell import Cell, CellReader
from runner.config.hydra_internals import apply_overrides, override_dirname, show_config, yaml_of

NUMBER_MARK = 987_654_321_123  # stands in the template of hydra.yaml where a job's number goes


@dataclass(frozen=True)
class Choice:
    """What Hydra composed for one choice of groups.

    Attributes:
        full: with the ``hydra`` node, whose few fields that differ between jobs are set in place.
        task: the same without it, pickled: unpickling takes a sixth of the time of a deep copy.
        hydra_yaml: the text of ``.hydra/hydra.yaml``, with marks where jobs differ.
    """

    full: DictConfig
    task: bytes
    hydra_yaml: str


@dataclass(frozen=True)
class Job:
    """A job of a sweep, composed and checked.

    Attributes:
        config_yaml: the text of ``.hydra/config.yaml``.
    """

    overrides: tuple[str, ...]
    cell: Cell
    config_yaml: str


class Composer:
    """Composes the jobs of one sweep.

    Attributes:
        keeps: whether jobs get folders of their own here. Where they do not, their configuration is not written out,
            which is half of the time, and nothing of a job is kept.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        OmegaConf.select(master, "hydra.sweep.dir")  # fixes the time in it for every job, as stock Hydra does
        self._parser = OverridesParser.create(config_loader=loader)
        self._choices: dict[tuple[str, ...], Choice] = {}
        self._parsed: dict[str, Override] = {}
        self._is_group: dict[str, bool] = {}
        self._jobs: dict[tuple[str, ...], Job] = {}
        self._cells = CellReader()
        self.keeps = True

    def job(self, overrides: Sequence[str]) -> Job:
        """Compose a job, or return it where it has been composed before.

        Raises:
            hydra.errors.HydraException: as Hydra itself does, for a wrong override.
            ConfigError: a value is wrong.
        """
        key = tuple(overrides)
        if key not in self._jobs:
            groups, values = self._split(key)
            task: DictConfig = pickle.loads(self._choice(groups).task)
            apply_overrides(values, task)
            if not self.keeps:
                return Job(key, self._cells.read(task), "")
            self._jobs[key] = Job(key, self._cells.read(task), _task_yaml(task))
        return self._jobs[key]

    def full_config(self, job: Job) -> DictConfig:
        """A job's whole configuration, for Hydra's callbacks; :meth:`place` has been called for it last."""
        groups, values = self._split(job.overrides)
        full = copy.deepcopy(self._choice(groups).full)
        apply_overrides(values, full)
        return full

    def place(self, job: Job, number: int) -> Path:
        """Make a job's folder with its ``.hydra`` files and point ``HydraConfig`` to it.

        Raises:
            OSError: the folder cannot be written.
        """
        choice = self._choice(self._split(job.overrides)[0])
        full = choice.full
        overrides = [text for text in job.overrides if not text.startswith("hydra.")]
        form = full.hydra.job.config.override_dirname
        with read_write(full.hydra), open_dict(full.hydra):
            full.hydra.job.id = str(number)
            full.hydra.job.num = number
            full.hydra.job.override_dirname = override_dirname([self._parse(text) for text in overrides], form)
            full.hydra.overrides.task = overrides
            show_config(full)
            folder = Path(full.hydra.sweep.dir, full.hydra.sweep.subdir).absolute()
            full.hydra.runtime.output_dir = str(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if full.hydra.output_subdir is not None:
            self._write(folder / full.hydra.output_subdir, job, choice, overrides)
        return folder

    @staticmethod
    def _write(into: Path, job: Job, choice: Choice, overrides: list[str]) -> None:
        hydra = choice.full.hydra
        lines = [f"- {_scalar(text)}\n" for text in overrides]
        text = choice.hydra_yaml.replace("    - mark-task\n", "".join(f"    {line}" for line in lines) or "    []\n")
        for mark, value in {
            "mark-id": str(hydra.job.num),
            "mark-dirname": hydra.job.override_dirname,
            "mark-folder": hydra.runtime.output_dir,
        }.items():
            text = text.replace(mark, _scalar(value))
        text = text.replace(str(NUMBER_MARK), str(hydra.job.num))
        into.mkdir(exist_ok=True)
        (into / "config.yaml").write_text(job.config_yaml, encoding="utf-8")
        (into / "hydra.yaml").write_text(text, encoding="utf-8")
        (into / "overrides.yaml").write_text("".join(lines) or "[]\n", encoding="utf-8")

    def _split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        groups, values = [], []
        for text in overrides:
            override = self._parse(text)
            if override.is_hydra_override() or self._chooses_group(override):
                groups.append(text)
            else:
                values.append(override)
        return tuple(groups), values

    def _chooses_group(self, override: Override) -> bool:
        key = override.key_or_group
        if key not in self._is_group:
            self._is_group[key] = bool(self._loader.get_group_options(key))
        return self._is_group[key]

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = self._parser.parse_override(text)
        return self._parsed[text]

    def _choice(self, groups: tuple[str, ...]) -> Choice:
        if groups not in self._choices:
            full = self._loader.load_sweep_config(self._master, list(groups))
            task = copy.deepcopy(full)
            with read_write(task), open_dict(task):
                del task["hydra"]
            self._choices[groups] = Choice(full, pickle.dumps(task), _hydra_template(full))
        return self._choices[groups]


def _hydra_template(full: DictConfig) -> str:
    marked: Any = OmegaConf.create({"hydra": copy.deepcopy(OmegaConf.to_container(full.hydra, resolve=False))})
    marked.hydra.job.update(id="mark-id", num=NUMBER_MARK, override_dirname="mark-dirname")
    marked.hydra.runtime.output_dir = "mark-folder"
    marked.hydra.overrides.task = ["mark-task"]
    return OmegaConf.to_yaml(marked)


def _task_yaml(task: DictConfig) -> str:
    """The text of :func:`OmegaConf.to_yaml`, put together from its top-level keys, most of which recur."""
    values: Any = OmegaConf.to_container(task, resolve=False, enum_to_str=True)
    parts = []
    for key, value in values.items():
        seen = (key, repr(value))
        if seen not in _yaml_parts:
            _yaml_parts[seen] = OmegaConf.to_yaml(OmegaConf.create({key: value}))
        parts.append(_yaml_parts[seen])
    return "".join(parts)


_yaml_parts: dict[tuple[str, str], str] = {}


@lru_cache(maxsize=4096)
def _scalar(value: str) -> str:
    """A string as YAML that OmegaConf reads back as that string, on one line."""
    if re.fullmatch(r"[a-z0-9/][\w/.,+-]*=?[\w/.,=+-]*", value) and ("=" in value or value.startswith("/")):
        return value  # can be read as nothing but a string; most values are of this kind, and the dumper is slow
    return yaml_of(value).removesuffix("\n").removesuffix("\n...")
