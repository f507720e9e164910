"""Composing a sweep's jobs quickly: Hydra composes once for each distinct choice of groups, the rest is copied.

Stock Hydra composes every job anew, which is most of what a job costs it. Jobs that choose the same groups
(``op``, ``timing``, ``sweep``) differ in values alone, which are set on a copy. The ``.hydra`` files are those of
stock Hydra.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

NUMBER_MARK = 987_654_321_123  # stands in the template of hydra.yaml where a job's number goes


@dataclass(frozen=True)
class Choice:
    """What Hydra composed for one choice of groups.

    Attributes:
        full: with the ``hydra`` node, whose few fields that differ between jobs are set in place.
        task: the same without it.
        hydra_yaml: the text of ``.hydra/hydra.yaml``, with marks where jobs differ.
    """

    full: DictConfig
    task: DictConfig
    hydra_yaml: str


class Composer:
    """Composes the jobs of one sweep."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        OmegaConf.select(
            master, "hydra.sweep.dir"
        )  # fixes the time in the folder's name for every job, as stock Hydra does
        self._parser = OverridesParser.create(config_loader=loader)
        self._choices: dict[tuple[str, ...], Choice] = {}
        self._parsed: dict[str, Override] = {}
        self._is_group: dict[str, bool] = {}

    def task(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration that a job's task function gets.

        Raises:
            hydra.errors.HydraException: as Hydra itself does, for a wrong override.
        """
        groups, values = self._split(overrides)
        task = copy.deepcopy(self._choice(groups).task)
        ConfigLoaderImpl._apply_overrides_to_config(values, task)
        return task

    def job(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The full configuration of a job, until the next call; ``HydraConfig`` is set to it."""
        full = self._choice(self._split(overrides)[0]).full
        parsed = [self._parse(o) for o in overrides]
        exclude = full.hydra.job.config.override_dirname
        with read_write(full.hydra), open_dict(full.hydra):
            full.hydra.job.id = str(number)
            full.hydra.job.num = number
            full.hydra.job.override_dirname = get_overrides_dirname(
                overrides=[o for o in parsed if not o.is_hydra_override()],
                kv_sep=exclude.kv_sep,
                item_sep=exclude.item_sep,
                exclude_keys=exclude.exclude_keys,
            )
            full.hydra.overrides.task = _task_overrides(overrides)
        HydraConfig.instance().cfg = full  # type: ignore[assignment]  # as Hydra's own set_config does
        folder = Path(str(full.hydra.sweep.dir), str(full.hydra.sweep.subdir)).absolute()
        with read_write(full.hydra.runtime), open_dict(full.hydra.runtime):
            full.hydra.runtime.output_dir = str(folder)
        return full

    def write(self, full: DictConfig, task: DictConfig, overrides: Sequence[str]) -> None:
        """Make a job's folder and its ``.hydra`` files.

        Raises:
            OSError: the folder cannot be written.
        """
        hydra = full.hydra
        folder = Path(hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if hydra.output_subdir is None:
            return
        into = folder / hydra.output_subdir
        into.mkdir(exist_ok=True)
        lines = [f"- {_scalar(o)}\n" for o in _task_overrides(overrides)]
        text = self._choice(self._split(overrides)[0]).hydra_yaml
        text = text.replace("    - mark-task\n", "".join(f"    {line}" for line in lines) or "    []\n")
        for mark, value in {
            "mark-id": str(hydra.job.num),
            "mark-dirname": hydra.job.override_dirname,
            "mark-folder": hydra.runtime.output_dir,
        }.items():
            text = text.replace(mark, _scalar(value))
        text = text.replace(str(NUMBER_MARK), str(hydra.job.num))
        (into / "config.yaml").write_text(OmegaConf.to_yaml(task), encoding="utf-8")
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
            self._choices[groups] = Choice(full, task, _hydra_template(full))
        return self._choices[groups]


def _hydra_template(full: DictConfig) -> str:
    marked: Any = OmegaConf.create({"hydra": copy.deepcopy(OmegaConf.to_container(full.hydra, resolve=False))})
    marked.hydra.job.update(id="mark-id", num=NUMBER_MARK, override_dirname="mark-dirname")
    marked.hydra.runtime.output_dir = "mark-folder"
    marked.hydra.overrides.task = ["mark-task"]
    return OmegaConf.to_yaml(marked)


def _task_overrides(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if not text.startswith("hydra.")]


@lru_cache(maxsize=4096)
def _scalar(value: str) -> str:
    """A string as YAML that OmegaConf reads back as that string, on one line."""
    text: str = yaml.dump(value, Dumper=get_omega_conf_dumper(), width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
