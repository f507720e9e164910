"""Composing a sweep's jobs quickly: Hydra composes once for each distinct choice of groups.

Stock Hydra composes every job from scratch, which is most of what a job costs it. Jobs that choose
the same groups (``op``, ``timing``, ``sweep``) differ in values alone. Those that differ in nothing
but size and seed, as most of a sweep do, are of one kind, which is composed and checked once.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from runner.cells.cell import Cell, CellReader, Family
from runner.cells.hydra_files import SUBDIR, HydraFiles, folder_name
from runner.config.axes import AXES
from runner.config.hydra_internals import (
    apply_overrides,
    override_dirname,
    replaces_one_value,
    show_config,
    typed,
)
from runner.config.parameters import parameters_in
from runner.files import make_folder

OWN_KEYS = ("size", "seed")
OWN = re.compile(r"(size|seed)=(0|[1-9]\d{0,17})|(size)=([1-9]\d*(?:x[1-9]\d*)+)")
"""What sets one of these to what Hydra, too, takes as a whole number, or as text."""
MOST_KINDS = 2**14  # that are kept: some 100 MB


@dataclass(frozen=True, eq=False)
class Choice:
    """What Hydra composed for one choice of groups."""

    # with the ``hydra`` node, whose few fields that differ between jobs are set in place
    full: DictConfig
    task: bytes  # the same without it, pickled: unpickling takes a sixth of the time of a deep copy
    root: Path | None  # where the jobs' folders lie, which have the usual names; None: others
    dirname: Mapping[str, Any]  # the form of ``hydra.job.override_dirname``
    output_subdir: str | None


@dataclass(frozen=True, eq=False)
class Kind:
    """What jobs share that differ in their own size and seed alone."""

    choice: Choice
    values: dict[str, Any]
    family: Family
    settled: frozenset[str]  # the keys of these that cannot be set alone


@dataclass(frozen=True, slots=True)  # a sweep may have 1,000,000
class HydraJob:
    """A job of a sweep: the overrides that make a cell."""

    overrides: tuple[str, ...]
    cell: Cell


def further_words(jobs: Sequence[HydraJob]) -> set[str]:
    """What sets, in some of a sweep's jobs and not in all, what is no axis, such as the timing."""
    counts = Counter(chain.from_iterable(job.overrides for job in jobs))
    return {word for word, count in counts.items() if count < len(jobs) and _is_no_axis(word)}


def told_apart(jobs: Sequence[HydraJob]) -> dict[str, str]:
    """By their cells' identities, jobs whose labels others have, each with its further words."""
    further = further_words(jobs)
    if not further:  # as in nearly every sweep, of which the labels are not kept
        return {}
    labels = [job.cell.label for job in jobs]
    alike = Counter(labels)
    return {
        job.cell.identity: " ".join([label, *(word for word in job.overrides if word in further)])
        for job, label in zip(jobs, labels, strict=True)
        if alike[label] > 1
    }


class Composer:
    """Composes the jobs of one sweep."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        # fixes the time in it for every job, as stock Hydra does
        OmegaConf.select(master, "hydra.sweep.dir")
        self._files = HydraFiles()
        self._cells = CellReader()
        # a sweep's jobs have few of each
        self._parse = cache(OverridesParser.create(config_loader=loader).parse_override)
        self._options = cache(loader.get_group_options)
        self._choice = cache(self._composed)
        self._base = lru_cache(MOST_KINDS)(self._applied)
        self._kind = lru_cache(MOST_KINDS)(self._of_kind)
        self._texts = lru_cache(MOST_KINDS)(lambda kind: self._files.texts(kind.values))
        self._own = tuple(f"{key}=" for key in OWN_KEYS if not self._options(key))

    def job(self, overrides: Sequence[str]) -> HydraJob:
        """Compose a job; an error of Hydra or ours where a value is wrong."""
        words = tuple(overrides)
        kind, own = self._kind_of(words)
        return HydraJob(words, kind.family.cell(**own))

    def full_config(self, job: HydraJob, number: int, folder: Path) -> DictConfig:
        """The whole configuration of a job with this number in the sweep, for callbacks.

        ``HydraConfig`` answers for the job, too.
        """
        groups, values = self._split(job.overrides)
        choice = self._choice(groups)
        self._set_job(choice, job, number)
        with read_write(choice.full.hydra), open_dict(choice.full.hydra):
            choice.full.hydra.runtime.output_dir = str(folder)
        full = copy.deepcopy(choice.full)
        apply_overrides(values, full)
        return full

    def folder(self, job: HydraJob, number: int) -> Path:
        """The folder that the configuration names for a job."""
        choice = self._kind_of(job.overrides)[0].choice
        if choice.root is None:
            return self._set_job(choice, job, number)
        return choice.root / f"{number}_{folder_name(self._dirname(choice, job))}"

    def create_job_folder(
        self,
        job: HydraJob,
        number: int,
        free: Callable[[Path], Path] = lambda folder: folder,
        save: Callable[[Callable[[], None]], None] = lambda write: write(),
    ) -> Path:
        """Make a job's folder, and have its ``.hydra`` files written by what can ``save`` them.

        It is the one that is ``free`` instead of the one that the configuration names.
        """
        folder = free(self.folder(job, number))
        make_folder(folder, parents=True)
        kind, own = self._kind_of(job.overrides)
        if kind.choice.output_subdir is not None:
            text = "".join({**self._texts(kind), **self._files.texts(own)}.values())
            subdir, overrides = folder / kind.choice.output_subdir, _task_overrides(job)
            save(lambda: self._files.write(subdir, text, overrides))
        return folder

    def _set_job(self, choice: Choice, job: HydraJob, number: int) -> Path:
        """Make a choice's configuration, and ``HydraConfig``, its job's; returns the folder."""
        hydra = choice.full.hydra
        dirname = self._dirname(choice, job)
        with read_write(hydra), open_dict(hydra):
            hydra.job.update(id=str(number), num=number, override_dirname=dirname)
            hydra.overrides.task = _task_overrides(job)
            # The folder's name follows from what was just set, in part through HydraConfig.
            show_config(choice.full)
            return Path(os.path.abspath(Path(hydra.sweep.dir, hydra.sweep.subdir)))

    def _dirname(self, choice: Choice, job: HydraJob) -> str:
        return override_dirname(list(map(self.parsed, _task_overrides(job))), choice.dirname)

    def _kind_of(self, words: tuple[str, ...]) -> tuple[Kind, dict[str, Any]]:
        """What a job shares with those that differ in size and seed alone, and its own of these."""
        own = {}
        rest = []
        for word in words:
            if word.startswith(self._own) and (match := OWN.fullmatch(word)):
                own[match[1] or match[3]] = match[4] or int(match[2])
            else:
                rest.append(word)
        kind = self._kind(tuple(rest))
        return (self._kind(words), {}) if kind.settled & own.keys() else (kind, own)

    def _of_kind(self, words: tuple[str, ...]) -> Kind:
        groups, overrides = self._split(words)
        single, _, _ = self._base(groups, ())
        own = {o.key_or_group: o for o in overrides if replaces_one_value(o, single)}
        others = [o for o in overrides if own.get(o.key_or_group) is not o]
        task, values, is_plain = self._base(groups, _lines(others))
        try:
            replaced = {key: typed(o.value(), task, key) for key, o in own.items()}
        except OmegaConfBaseException:  # for which Hydra has its own words
            replaced = {}
        if not is_plain or not replaced or own.keys() & set(map(_key, others)):
            replaced = {}
            task, values, is_plain = self._base(groups, _lines(overrides))

        values = {**values, **replaced}
        read: Any = dict(values) if is_plain else OmegaConf.to_container(task, resolve=True)
        settled = frozenset(map(_key, overrides) if is_plain else OWN_KEYS)
        return Kind(self._choice(groups), values, self._cells.family(read, words), settled)

    def _applied(
        self, groups: tuple[str, ...], lines: tuple[str, ...]
    ) -> tuple[DictConfig, dict[str, Any], bool]:
        """A choice's configuration with overrides, and whether no value refers to another."""
        task: DictConfig = pickle.loads(self._choice(groups).task)
        apply_overrides(list(map(self.parsed, lines)), task)
        values: Any = OmegaConf.to_container(task, resolve=False, enum_to_str=True)
        return task, values, "${" not in repr(values)

    def _split(self, words: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        groups, values = [], []
        for word in words:
            override = self.parsed(word)
            if override.is_hydra_override() or self._options(override.key_or_group):
                groups.append(word)
            else:
                values.append(override)
        return tuple(groups), values

    def parsed(self, word: str) -> Override:
        """An override; those of which a sweep has many are read without Hydra's slow parser."""
        if word.startswith(self._own) and (match := OWN.fullmatch(word)):
            value = match[4] or int(match[2])
            return replace(self._parse(f"{match[1] or match[3]}=0"), _value=value, input_line=word)
        return self._parse(word)

    def _composed(self, groups: tuple[str, ...]) -> Choice:
        full = self._loader.load_sweep_config(self._master, list(groups))
        task = copy.deepcopy(full)
        with read_write(task), open_dict(task):
            del task["hydra"]
            task["workload"] = {}  # the sweep's; a job has one of its calls, if any
        hydra = full.hydra
        raw: Any = OmegaConf.to_container(hydra.sweep, resolve=False)
        is_usual = raw["subdir"] == SUBDIR and "hydra" not in raw["dir"]
        root = Path(os.path.abspath(hydra.sweep.dir)) if is_usual else None
        dirname: Any = OmegaConf.to_container(hydra.job.config.override_dirname, resolve=True)
        return Choice(full, pickle.dumps(task), root, dirname, hydra.output_subdir)


def _task_overrides(job: HydraJob) -> list[str]:
    return [text for text in job.overrides if not text.startswith("hydra.")]


def _is_no_axis(word: str) -> bool:
    return word.partition("=")[0].lstrip("+") not in AXES and parameters_in([word]) is None


def _lines(overrides: Sequence[Override]) -> tuple[str, ...]:
    return tuple(str(override.input_line) for override in overrides)


def _key(override: Override) -> str:
    """The key of the configuration at which a value is set, perhaps within it."""
    return re.split(r"[.\[]", override.key_or_group, maxsplit=1)[0]
