"""The folders of a sweep's jobs, and the ``.hydra`` files in them, as stock Hydra has them.

``hydra.yaml`` is left out, which is the same for all jobs but for what their overrides say: the
sweep's ``multirun.yaml`` has it once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from omegaconf import OmegaConf

from runner.config.hydra_internals import yaml_of
from runner.files import make_folder, write_atomically

PLAIN = re.compile(r"[a-z0-9/][\w/.,+-]*=?[\w/.,=+-]*")
SUBDIR = "${hydra.job.num}_${folder_name:${hydra.job.override_dirname}}"  # of conf/config.yaml
LONGEST_FOLDER_NAME = 120  # bytes, of the 255 that a file system allows


def folder_name(overrides: str) -> str:
    """A job's overrides as part of a folder's name: what a file system takes, and not too long."""
    safe = re.sub(r"[^\w.,=+\-]+", "-", overrides).strip("-")
    if len(safe.encode()) <= LONGEST_FOLDER_NAME:
        return safe
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    kept = safe.encode()[: LONGEST_FOLDER_NAME - 9].decode(errors="ignore")
    return f"{kept}-{digest}"


class HydraFiles:
    """Writes a sweep's ``.hydra`` files; what is dumped of a job's own values is remembered."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], str] = {}
        self._scalar = lru_cache(maxsize=4096)(_scalar)

    def texts(self, values: Mapping[str, object]) -> dict[str, str]:
        """The text of ``config.yaml``, as ``OmegaConf.to_yaml`` has it, key by key."""
        return {key: self._part(key, value) for key, value in values.items()}

    def _part(self, key: str, value: object) -> str:
        if type(value) is int:  # as most that differ between jobs, and the dumper is slow
            return f"{key}: {value}\n"
        entry = (key, repr(value))
        if entry not in self._parts:
            self._parts[entry] = OmegaConf.to_yaml(OmegaConf.create({key: value}))
        return self._parts[entry]

    def write(self, folder: Path, config_text: str, overrides: Sequence[str]) -> None:
        """Write a job's files."""
        make_folder(folder)
        listed = "".join([f"- {self._scalar(text)}\n" for text in overrides])
        write_atomically(folder / "config.yaml", config_text, durable=False)
        write_atomically(folder / "overrides.yaml", listed or "[]\n", durable=False)


def _scalar(value: str) -> str:
    """A string as YAML on one line that OmegaConf reads back as the same string."""
    if PLAIN.fullmatch(value) and ("=" in value or value.startswith("/")):
        return value  # needs no quotes, as most values, and the dumper is slow
    return yaml_of(value).removesuffix("\n").removesuffix("\n...")
