"""All that is borrowed from inside Hydra 1.3 and OmegaConf 2.3; any release may change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import yaml
from hydra._internal import hydra as hydra_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, run_job
from omegaconf import DictConfig, OmegaConf
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


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a whole configuration without Hydra's own part."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


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


def unheeded_choices(loader: ConfigLoader, config: DictConfig) -> Iterator[tuple[str, str, str]]:
    """Which of Hydra's plugins a chosen file names in vain, since the primary configuration does.

    Yields:
        the file, the group and the choice.
    """
    choices = config.hydra.runtime.choices
    typed: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    for file in (f"{group}/{name}" for group, name in choices.items() if "/" not in group and name):
        found = loader.repository.load_config(file)  # type: ignore[attr-defined]  # of the only one
        for default in (found.defaults_list or ()) if found else ():
            group = str(getattr(default, "group", "")).strip("/") if default.is_override() else ""
            is_typed = any(word.startswith(f"{group}=") for word in typed)
            if group.startswith("hydra/") and not is_typed and choices[group] != default.value:
                yield file, group, default.value


def command_line_options() -> dict[str, str]:
    """Hydra's options, by each of their names whether they take a value: none, needed, optional."""
    values_of: dict[str, str] = {}
    for action in get_args_parser()._actions:
        kinds = {0: "none", None: "needed", "?": "optional"}
        values_of |= dict.fromkeys(action.option_strings, kinds.get(action.nargs, "needed"))
    return values_of


def run_within(context_of: Callable[[DictConfig], AbstractContextManager[None]]) -> None:
    """Have Hydra make a single run's folder and files within a context, which may refuse it."""

    def run(*, config: DictConfig, **others: Any) -> JobReturn:
        with config_restored():
            show_config(config)  # which values of the configuration may ask
            with context_of(config):
                return run_job(config=config, **others)

    hydra_module.run_job = run


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
