"""The ``.hydra`` files of a sweep's jobs, the same as stock Hydra's."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.config.hydra_internals import yaml_of
from runner.files import make_folder, write_atomically

NUMBER_MARK = 987_654_321_123  # stands in a template where a job's number goes
PLAIN = re.compile(r"[a-z0-9/][\w/.,+-]*=?[\w/.,=+-]*")


class HydraFiles:
    """Writes a sweep's ``.hydra`` files, of which jobs have most of the text in common.

    To dump ``hydra.yaml`` takes longer than all the rest of a job's composing. So a choice of
    groups is dumped once, with a mark in each of the five places where its jobs differ, and a job's
    text is that with the marks replaced. What is dumped of a job's own values is remembered.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], str] = {}
        self._scalar = lru_cache(maxsize=4096)(_scalar)

    def config_text(self, task: DictConfig) -> str:
        """The text of ``config.yaml``, as ``OmegaConf.to_yaml`` has it, put together key by key."""
        values: Any = OmegaConf.to_container(task, resolve=False, enum_to_str=True)
        parts = []
        for key, value in values.items():
            entry = (key, repr(value))
            if entry not in self._parts:
                self._parts[entry] = OmegaConf.to_yaml(OmegaConf.create({key: value}))
            parts.append(self._parts[entry])
        return "".join(parts)

    @staticmethod
    def template(full: DictConfig) -> str:
        """The text of ``hydra.yaml`` for all jobs of one choice, with marks where they differ."""
        values = copy.deepcopy(OmegaConf.to_container(full.hydra, resolve=False))
        marked: Any = OmegaConf.create({"hydra": values})
        marked.hydra.job.update(id="mark-id", num=NUMBER_MARK, override_dirname="mark-dirname")
        marked.hydra.runtime.output_dir = "mark-folder"
        marked.hydra.overrides.task = ["mark-task"]
        return OmegaConf.to_yaml(marked)

    def write(
        self,
        folder: Path,
        hydra: DictConfig,
        template: str,
        config_text: str,
        overrides: Sequence[str],
    ) -> None:
        """Write a job's three files; the template is that of its choice of groups."""
        lines = [f"- {self._scalar(text)}\n" for text in overrides]
        listed = "".join(f"    {line}" for line in lines) or "    []\n"
        text = template.replace("    - mark-task\n", listed)
        text = text.replace("mark-id", self._scalar(str(hydra.job.num)))
        text = text.replace("mark-dirname", self._scalar(hydra.job.override_dirname))
        text = text.replace("mark-folder", self._scalar(hydra.runtime.output_dir))
        text = text.replace(str(NUMBER_MARK), str(hydra.job.num))

        make_folder(folder)
        write_atomically(folder / "config.yaml", config_text, durable=False)
        write_atomically(folder / "hydra.yaml", text, durable=False)
        write_atomically(folder / "overrides.yaml", "".join(lines) or "[]\n", durable=False)


def _scalar(value: str) -> str:
    """A string as YAML on one line that OmegaConf reads back as the same string."""
    if PLAIN.fullmatch(value) and ("=" in value or value.startswith("/")):
        return value  # needs no quotes, as most values, and the dumper is slow
    return yaml_of(value).removesuffix("\n").removesuffix("\n...")
