"""Jobs composed by kind are those that Hydra composes one by one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.cells.cell import cell_of
from runner.cells.compose import Composer
from runner.cli.arguments import CONF
from runner.cli.main import offer_plugins
from runner.config.hydra_internals import without_hydra
from runner.errors import ConfigError

JOBS = [
    ["op=add"],
    ["op=add", "size=8", "seed=3"],
    ["op=add", "size=8x16", "seed=4", "dtype=float64"],
    ["op=add", "size={m: 4, n: 6}", "seed=5"],
    ["op=add", "seed=6", "size=8", "++size=9"],
    ["op=add", "size=3x4x5", "dtype=float16", "compile=true", "threads=2"],
    ["op=softmax", "op.kwargs.dim=0", "+op.kwargs.dtype='{dtype}'", "size=null", "seed=7"],
    ["op=softmax", "timing=quick", "timing.max_time_s=2", "limit.time_s=3", "device=gpu"],
    ["op=add", "seed=${threads}", "threads=2", "size=8"],
    ["op=add", "size=8", "exclude=[{op: mul}, {size: 9}]", "report.baseline={dtype: float64}"],
    ["case=lesson_1_1_ones", "seed=8"],
]


class Counted:
    """A loader of configurations that counts what it composes."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader, self.composed = loader, 0

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """As the loader does."""
        self.composed += 1
        return self._loader.load_sweep_config(master, overrides)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    """What composes the repository's configuration."""
    offer_plugins()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def composer_in(loader: Any, folder: Path) -> tuple[Composer, DictConfig]:
    """A composer for a sweep in a folder, and the sweep's own configuration."""
    words = [f"hydra.sweep.dir={folder}"]
    master = loader.load_configuration("config", words, RunMode.MULTIRUN)
    return Composer(loader, master), master


def stock(loader: ConfigLoader, master: DictConfig, words: Sequence[str]) -> DictConfig:
    """A job's configuration as Hydra's own launcher has it."""
    return without_hydra(loader.load_sweep_config(master, list(words)))


def test_a_job_is_what_hydra_composes_by_itself(loader: ConfigLoader, tmp_path: Path) -> None:
    composer, master = composer_in(loader, tmp_path)
    for number, words in enumerate(JOBS):
        job, config = composer.job(words), stock(loader, master, words)
        expected = cell_of(config, words)
        assert (job.cell, job.cell.identity) == (expected, expected.identity), words
        files = composer.create_job_folder(job, number) / ".hydra"
        assert (files / "config.yaml").read_text() == OmegaConf.to_yaml(config), words
        assert yaml.safe_load((files / "overrides.yaml").read_text()) == words


def test_a_wrong_value_is_told_in_hydras_words(loader: ConfigLoader, tmp_path: Path) -> None:
    composer, master = composer_in(loader, tmp_path)
    composer.job(["op=add", "size=8"])  # of the same choice of groups
    for word in ("seed=abc", "sede=1", "threads=x", "op@x=add"):
        with pytest.raises(HydraException) as ours:
            composer.job(["op=add", "size=8", word])
        with pytest.raises(HydraException) as theirs:
            stock(loader, master, ["op=add", "size=8", word])
        assert str(ours.value) == str(theirs.value)


def test_a_seed_is_checked_though_its_kind_was(loader: ConfigLoader, tmp_path: Path) -> None:
    composer, _ = composer_in(loader, tmp_path)
    composer.job(["op=add", "seed=0"])
    with pytest.raises(ConfigError, match="seed=9999999999999999 is too large"):
        composer.job(["op=add", f"seed={'9' * 16}"])


def test_hydra_composes_once_for_a_choice_of_groups(loader: ConfigLoader, tmp_path: Path) -> None:
    counted = Counted(loader)
    composer, _ = composer_in(counted, tmp_path)
    rules = [f"{{size: {n}}}" for n in range(100, 200)]
    for seed in range(50):
        for op in ("add", "mul"):
            words = [f"op={op}", f"size={seed % 5 + 1}", f"exclude=[{','.join(rules)}]"]
            job = composer.job([*words, f"seed={seed}", f"dtype=float{32 + 32 * (seed % 2)}"])
            assert (job.cell.op, job.cell.seed) == (op, seed)
    assert counted.composed == 2
