"""All that is borrowed from inside Hydra 1.3 and OmegaConf 2.3; any release may change it."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice, product
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import hydra as hydra_module
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core import utils
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode
from omegaconf import Container, DictConfig, OmegaConf, ValueNode
from omegaconf import _utils as omegaconf_utils
from omegaconf._utils import get_omega_conf_dumper, get_yaml_loader

from runner.errors import ConfigError, one_line
from runner.files import CONF

_LOAD_CONFIG, _MAKE_CALLBACKS = ConfigRepository.load_config, Callbacks.__init__
_CONFIGURE_LOG = utils.configure_log
_MAKE_SWEEPER = Plugins.instantiate_sweeper
_LOAD_CONFIGURATION = ConfigLoaderImpl.load_configuration
DATA = ("op", "case", "timing", "workload")
NAMED = ("op", "case")  # whose files have a name
OF_USERS = ("command-line", "hydra.searchpath")  # who adds a folder of files
BEYOND = re.compile(r"# *@package|\$\{|^ *- *[\"']?(override +)?/.*", re.MULTILINE)
MOST_CHARACTERS, MOST_NODES = 2**20, 100_000  # of a YAML file


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Set values in a composed configuration, as Hydra does; HydraException where one is wrong."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def replaces_one_value(override: Override, config: DictConfig) -> bool:
    """Whether an override does no more than to replace a single value at the top of a config."""
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    node = config._get_node(override.key_or_group, validate_access=False)
    value = override.value()
    is_single = value is None or isinstance(value, str | int | float)
    return isinstance(node, ValueNode) and is_single and "${" not in str(value)


def typed(value: object, config: DictConfig, key: str) -> object:
    """What a value becomes at the top of a config; an error of OmegaConf's where it is no such."""
    node: Any = config._get_node(key)
    before = node._value()
    node._set_value(value)
    after = node._value()
    node._set_value(before)
    return after


def override_dirname(overrides: list[Override], form: Mapping[str, Any]) -> str:
    """What Hydra gives as ``hydra.job.override_dirname``, by its form in ``hydra.job.config``."""
    left_out = list(form["exclude_keys"])
    words = sorted(str(o.input_line) for o in overrides if o.key_or_group not in left_out)
    return str(form["item_sep"].join(words).replace("=", form["kv_sep"]))


def have_plugins_been_sought() -> bool:
    """Whether Hydra has looked for plugins in this process, which it does once."""
    return Plugins in Singleton._instances


def sweeper_of(config: DictConfig) -> str:
    """The name of the sweeper that was chosen."""
    return str(config.hydra.runtime.choices.get("hydra/sweeper"))


def show_config(config: object) -> None:
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
    return str(yaml.dump(value, Dumper=dumper, width=2**31 - 1, allow_unicode=True))


def combinations(overrides: list[Override], most: int = 10**6) -> Iterator[tuple[str, ...]]:
    """Every combination of the overrides' values, if there are at most so many."""
    count = math.prod(_values_in(override, most) for override in overrides)
    if count > most:
        problem = f"the grid has more than sweep.max_cells={most:,} cells"
        raise ConfigError(f"{problem}; narrow an axis, or raise that limit")
    # an axis at a time, as the whole product is a list there
    of_axis = {override.get_key_element(): _words_of(override) for override in overrides}
    return product(*of_axis.values())


def _words_of(override: Override) -> list[str]:
    """An override for each of its values."""
    if override.is_delete() and override.value_type is None:
        # Hydra writes ``~key=null`` for ``~key``, by which 1.4 deletes what is null alone
        return [str(override.input_line)]
    return [word for (word,) in BasicSweeper.split_arguments([override], None)[0]]


def _values_in(override: Override, most: int) -> int:
    """How many values a sweep's override has, counted no further than ``most``."""
    if not override.is_sweep_override():
        return 1
    swept = override.value()
    if isinstance(swept, RangeSweep):
        span = (swept.stop or 0) - (swept.start or 0)
        return math.ceil(min(most + 1, max(0.0, span / swept.step))) if swept.step else most + 1
    return sum(1 for _ in islice(override.sweep_string_iterator(), most + 1))


def check_config_files() -> None:
    """Have Hydra refuse a file that is too large to read, or one of ``DATA`` that is not data.

    It sets nothing outside its group, and takes nothing from the environment; a sweep's may do so.
    Nor does a file of one's own have the name of one of ours, which Hydra takes instead.
    """

    def load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        _refuse_hidden(self.sources, config_path)
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        path = Path(source.path if source else "", f"{config_path.removesuffix('.yaml')}.yaml")
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            check_size(text)
            is_ours = path.is_relative_to(CONF)
            omegaconf_utils.get_yaml_loader = fast_yaml_loader if is_ours else get_yaml_loader
            result = _LOAD_CONFIG(self, config_path)
        except HydraException:
            raise
        except (OSError, ValueError, RecursionError) as error:  # no mapping, no text, no end
            raise ConfigError(f"{path} cannot be read: {one_line(error)}; correct it") from error
        finally:
            omegaconf_utils.get_yaml_loader = get_yaml_loader
        if config_path.partition("/")[0] in DATA and (beyond := BEYOND.search(text)):
            reaches = "reaches beyond the file's own group"
            raise ConfigError(f"{path}: {beyond[0].strip()} {reaches}; leave it out")
        if result is not None and config_path.partition("/")[0] in NAMED:
            _refuse_wrong_name(path, result.config)
        return result

    warnings.filterwarnings("ignore", ".* is not available", module="hydra")  # which is refused
    ConfigRepository.load_config = load_config  # type: ignore[method-assign]


def fast_yaml_loader() -> Any:
    """OmegaConf's loader with YAML's parser in C, where it is there: for our own files.

    It takes a tenth of the time, and says less of what is wrong in a file.
    """
    usual = get_yaml_loader()
    if not yaml.__with_libyaml__:
        return usual
    in_c: Any = yaml.cyaml.CParser  # type: ignore[attr-defined]  # it is there

    def begin(self: Any, stream: str) -> None:
        in_c.__init__(self, stream)
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)

    return type("FastLoader", (in_c, usual), {"__init__": begin})


def _refuse_wrong_name(path: Path, config: Container) -> None:
    """Refuse a file that YAML reads another name from than text: no other message could name it."""
    name = config.get("name") if isinstance(config, DictConfig) else None
    if isinstance(name, bool | Container):
        shown = one_line(name, 60)
        raise ConfigError(f"{path}: name: {shown} is not text; put quotes around it")


def _refuse_hidden(sources: Sequence[ConfigSource], config_path: str) -> None:
    own = [source for source in sources if source.provider.startswith(OF_USERS)]
    for source in own:
        if not source.available():
            advice = "give a folder that is there, or pkg://package.folder"
            raise ConfigError(f"hydra.searchpath: {source.path} is no folder of files; {advice}")
    if not own:
        return
    name = f"{config_path.removesuffix('.yaml')}.yaml"
    built_in = next((s for s in sources if s not in own and s.is_config(config_path)), None)
    for path in (Path(s.path, name) for s in own if s.is_config(config_path)):
        if built_in and Path(built_in.path, name).resolve() != path.resolve():
            advice = "give it another name"
            if name == "config.yaml":
                advice = "set its values on the command line or in sweep/<name>.yaml"
            raise ConfigError(f"{path} has a name that is built in, which would win; {advice}")


def check_size(text: str) -> None:
    """Refuse YAML that is too large, also once each alias stands for what it names; ValueError."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if "&" not in text or "*" not in text:
        return
    size_of: dict[str | None, int] = {}
    begun: list[tuple[str | None, int]] = []  # the anchor of what is not at its end, and its size
    size = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, size))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            size_of |= {anchor: size - before} if anchor else {}
        elif isinstance(event, yaml.AliasEvent):
            size += size_of.get(event.anchor, MOST_NODES)  # what holds itself has no end
        size += 1
        if size > MOST_NODES:
            raise ValueError(f"it holds more than {MOST_NODES:,} values, or itself")


def heed_code_in_files(*, wanted: bool) -> None:
    """Have Hydra make the callbacks and the logs that files name, which are code, or none."""

    def make_none(self: Callbacks, config: DictConfig | None = None) -> None:
        self.callbacks = []

    def log_nothing(*given: object, **named: object) -> None:
        pass

    Callbacks.__init__ = _MAKE_CALLBACKS if wanted else make_none  # type: ignore[method-assign]
    for module in (hydra_module, utils):
        module.configure_log = _CONFIGURE_LOG if wanted else log_nothing  # type: ignore[attr-defined]


def unheeded_choices(loader: ConfigLoader, config: DictConfig) -> Iterator[tuple[str, str, str]]:
    """File, group and choice of Hydra's plugins that a chosen file names in vain."""
    choices = config.hydra.runtime.choices
    typed: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    for file in (f"{group}/{name}" for group, name in choices.items() if "/" not in group and name):
        found = loader.repository.load_config(file)  # type: ignore[attr-defined]  # of the only one
        for default in (found.defaults_list or ()) if found else ():
            group = str(getattr(default, "group", "")).strip("/") if default.is_override() else ""
            is_typed = any(word.startswith(f"{group}=") for word in typed)
            if group.startswith("hydra/") and not is_typed and choices[group] != default.value:
                yield file, group, default.value


def command_line_options() -> dict[str, tuple[str, Sequence[str]]]:
    """Hydra's options: by each name whether it takes a value, none, needed or optional, and which.

    ``--experimental-rerun`` is left out: it goes past all that checks a cell and its folder.
    """
    option_of: dict[str, tuple[str, Sequence[str]]] = {}
    for action in (a for a in get_args_parser()._actions if a.dest != "experimental_rerun"):
        kind = {0: "none", None: "needed", "?": "optional"}.get(action.nargs, "needed")
        option_of |= dict.fromkeys(action.option_strings, (kind, tuple(action.choices or ())))
    return option_of


def run_within(context_of: Callable[[DictConfig], AbstractContextManager[None]]) -> None:
    """Have Hydra make a single run's folder and files within a context, which may refuse it."""

    def run(*, config: DictConfig, **others: Any) -> JobReturn:
        with config_restored():
            show_config(config)  # which values of the configuration may ask
            with context_of(config):
                return run_job(config=config, **others)

    hydra_module.run_job = run  # type: ignore[attr-defined,assignment]


def sweep_by(around: Callable[[Sweeper, ConfigLoader, DictConfig], Any]) -> None:
    """Have Hydra call what is made around the sweeper that was chosen, and not the sweeper."""

    def instantiate_sweeper(
        self: Plugins, *, hydra_context: HydraContext, config: DictConfig, **others: Any
    ) -> Any:
        made = _MAKE_SWEEPER(self, hydra_context=hydra_context, config=config, **others)
        return around(made, hydra_context.config_loader, config)

    Plugins.instantiate_sweeper = instantiate_sweeper  # type: ignore[method-assign]


def compose_once() -> None:
    """Have Hydra run what it composed to see whether the configuration itself says how it runs.

    Where it does not say, or where composing fails, Hydra adds ``hydra.mode`` to the overrides and
    composes all again, which is a tenth of a start. What leaves out what is missing it composes.
    """
    kept: list[tuple[str | None, list[str], DictConfig | Exception]] = []

    def load_configuration(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        **others: bool,
    ) -> DictConfig:
        name, before, found = kept.pop() if kept else (None, [], None)
        added = f"hydra.mode={run_mode.name}"
        if found is not None and (config_name, overrides) == (name, [*before, added]):
            words = OverridesParser.create().parse_overrides(overrides)
            self.validate_sweep_overrides_legal(words, run_mode, others.get("from_shell", True))
            if isinstance(found, Exception):
                if run_mode == RunMode.RUN:  # which says first what is missing
                    self.compute_defaults_list(config_name, overrides, run_mode)
                raise found
            found.hydra.mode = run_mode
            found.hydra.overrides.hydra.append(added)
            return found

        # to ask for the mode alone it is composed without such a check
        asks = not others.get("validate_sweep_overrides", True)
        try:
            config = _LOAD_CONFIGURATION(self, config_name, overrides, run_mode, **others)
        except Exception as error:
            if asks:
                kept.append((config_name, [*overrides], error))
            raise
        is_whole = config.hydra.mode is None and "???" not in config.hydra.runtime.choices.values()
        if asks and is_whole:
            kept.append((config_name, [*overrides], config))
        return config

    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign,assignment]


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
