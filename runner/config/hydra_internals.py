"""All that is borrowed from inside Hydra 1.3 and OmegaConf 2.3; any release may change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from omegaconf._utils import get_omega_conf_dumper


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Set values in a composed configuration, as Hydra does; HydraException where one is wrong."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def override_dirname(overrides: list[Override], form: DictConfig) -> str:
    """What Hydra gives as ``hydra.job.override_dirname``, by its form in ``hydra.job.config``."""
    keys = list(form.exclude_keys)
    return str(get_overrides_dirname(overrides, keys, form.item_sep, form.kv_sep))


def show_config(config: DictConfig | None) -> None:
    """Have ``HydraConfig.get()`` answer from a configuration, without ``set_config``'s copy."""
    HydraConfig.instance().cfg = config  # type: ignore[assignment]  # as set_config does


@contextmanager
def config_restored() -> Iterator[None]:
    """Have ``HydraConfig`` answer in the end as it did before, whatever it was shown meanwhile."""
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        show_config(before)


def yaml_of(value: object) -> str:
    """A value as YAML by OmegaConf's dumper, which quotes what would be read back as another."""
    dumper = get_omega_conf_dumper()
    return str(yaml.dump(value, Dumper=dumper, width=float("inf"), allow_unicode=True))


def combinations(overrides: list[Override]) -> list[list[str]]:
    """Every combination of the overrides' values; HydraException where they have no end."""
    jobs: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
    return jobs


def list_groups_without_copying() -> None:
    """Have Hydra answer which options a group has from its repository itself.

    Hydra 1.3 copies the whole repository for each such question, in case a search path is added to
    it; ``--help`` asks some sixty times, which is half of its time. Without overrides none can be.
    """
    asked = ConfigLoaderImpl.get_group_options

    def get_group_options(
        self: ConfigLoaderImpl,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        if config_name is None and not overrides:
            return self.repository.get_group_options(group_name, results_filter)
        return asked(self, group_name, results_filter, config_name, overrides)

    ConfigLoaderImpl.get_group_options = get_group_options  # type: ignore[method-assign]
