"""Every name borrowed from inside Hydra and OmegaConf does here what we rely on.

Is borrowed in one place alone.
"""

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_app
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.config import hydra_internals as internals
from runner.files import CONF
from tests.conftest import ROOT

ADAPTER = "runner/config/hydra_internals.py"
BORROWED = (
    r"\b(hydra\._internal|omegaconf\._\w+|HydraConfig\.instance\(\)|_apply_overrides_to_config)"
)


@pytest.fixture
def config() -> Iterator[DictConfig]:
    """This project's configuration as Hydra composes it, with the ``hydra`` node."""
    import runner.cli.main  # noqa: F401  (makes the schema known)

    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield compose(
            "config", ["hydra/sweeper=basic", "hydra/launcher=basic"], return_hydra_config=True
        )
    HydraConfig.instance().cfg = before


class Composing(Hydra):
    """Composes what Hydra would run, and runs nothing."""

    said = ""

    def run(self, config_name: Any, task_function: Any, overrides: Any, *_: Any) -> Any:
        config = self.compose_config(config_name, overrides, RunMode.RUN)
        assert config.hydra.mode == RunMode.RUN
        self.said = OmegaConf.to_yaml(config)

    def multirun(self, config_name: Any, task_function: Any, overrides: Any, *_: Any) -> Any:
        config = self.compose_config(config_name, overrides, RunMode.MULTIRUN)
        assert config.hydra.mode == RunMode.MULTIRUN
        self.said = OmegaConf.to_yaml(config)


def as_hydra_runs(words: list[str], name: str = "config", *, multirun: bool) -> str:
    """What Hydra composes in the end to run these overrides, as YAML, or the error that it says."""
    hydra = Composing("task", GlobalHydra.instance().config_loader())
    mode = hydra.get_mode(name, words)
    try:
        task: Any = None
        _run_app(not multirun, multirun, mode, hydra, name, task, [*words])
    except HydraException as error:
        return f"{type(error).__name__}: {error}"
    return hydra.said


@pytest.mark.parametrize(
    ("words", "multirun", "count"),
    [
        (["op=add", "seed=3", "~op.flop", "++exclude=[]"], False, 1),
        (["op=add,mul", "seed=3,4", "+sweep=smoke"], True, 1),
        (["op=add", "hydra.mode=MULTIRUN"], False, 2),
        (["op=add,mul", "hydra.mode=MULTIRUN"], False, 2),
        (["op=add", "hydra.mode=RUN"], False, 2),
        (["op=add", "hydra.mode=RUN"], True, 2),
        (["+sweep=with_mode"], False, 2),
        (["+sweep=with_mode"], True, 2),
        (["op=add,mul"], False, 1),
        (["hydra.verbose=true,false"], True, 1),
        (["sede=3"], False, 1),
        (["sede=3", "op=add,mul"], False, 1),
        (["op=none"], True, 1),
        (["op=none", "hydra.mode=RUN"], False, 1),
        (["op=[", "seed=2"], True, 1),
    ],
)
def test_what_hydra_runs_is_composed_once_and_is_what_it_is_by_itself(
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    multirun: bool,
    count: int,
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    (tmp_path / "sweep").mkdir()
    text = "# @package _global_\nhydra: {mode: MULTIRUN}\n"
    (tmp_path / "sweep" / "with_mode.yaml").write_text(text)
    stock_plugins = ["hydra/sweeper=basic", "hydra/launcher=basic"]
    words = [*words, f"hydra.searchpath=[file://{tmp_path}]", *stock_plugins]
    composed = []
    impl = ConfigLoaderImpl._load_configuration_impl
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "_load_configuration_impl",
        lambda self, *given, **named: composed.append(named) or impl(self, *given, **named),
    )
    stock = internals._LOAD_CONFIGURATION
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", stock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that --multirun counts more than hydra.mode=RUN
        by_itself = as_hydra_runs(words, multirun=multirun)
        assert len(composed) == 2
        composed.clear()
        internals.compose_once()
        assert as_hydra_runs(words, multirun=multirun) == by_itself
        assert len(composed) == count, by_itself[:300]


def test_a_choice_that_is_missing_is_said_by_who_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", internals._LOAD_CONFIGURATION)
    (tmp_path / "main.yaml").write_text("defaults: \n  - db: ???\n")
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "one.yaml").write_text("a: 1\n")
    internals.compose_once()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        for words in ([], ["db.a=2"]):
            assert "You must specify 'db'" in as_hydra_runs(words, "main", multirun=False)
        assert "a: 1" in as_hydra_runs(["db=one"], "main", multirun=False)


def parsed(*texts: str) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(texts))


def test_nothing_else_borrows() -> None:
    borrowers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "runner").rglob("*.py")
        if re.search(BORROWED, path.read_text(encoding="utf-8"))
    }
    assert borrowers == {ADAPTER}


def test_whether_hydra_has_looked_for_plugins_is_known_without_having_it_look() -> None:
    code = "from hydra.core.plugins import Plugins\n"
    code += "from runner.config.hydra_internals import have_plugins_been_sought as sought\n"
    code += "print(sought(), sought(), Plugins.instance() and sought())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


def test_overrides_are_applied_to_a_composed_configuration_as_while_it_is_composed(
    config: DictConfig,
) -> None:
    internals.apply_overrides(
        parsed("seed=3", "timing.precision=0.5", "+op.kwargs.dim=1", "~op.flop"), config
    )
    assert (config.seed, config.timing.precision, config.op.kwargs.dim) == (3, 0.5, 1)
    assert "flop" not in config.op
    with pytest.raises(HydraException, match="Could not override 'treads'"):
        internals.apply_overrides(parsed("treads=2"), config)
    with pytest.raises(HydraException, match="Error merging override seed=some"):
        internals.apply_overrides(parsed("seed=some"), config)


def test_a_jobs_overrides_make_the_name_of_its_folder() -> None:
    form = OmegaConf.create({"kv_sep": "=", "item_sep": ",", "exclude_keys": ["seed"]})
    assert internals.override_dirname(parsed("size=8", "op=add", "seed=3"), form) == "op=add,size=8"


def test_hydra_config_answers_from_what_it_is_shown_and_as_before_in_the_end(
    config: DictConfig,
) -> None:
    internals.show_config(config)
    other = OmegaConf.merge(config, {"hydra": {"job": {"name": "another"}}})
    with internals.config_restored():
        internals.show_config(other)
        assert HydraConfig.get().job.name == "another"
        assert HydraConfig.instance().cfg is other  # no copy
    assert HydraConfig.instance().cfg is config


@pytest.mark.parametrize(
    "value", ["8", "1e3", "true", "null", "a: b", "size={m:4}", "'quoted'", "add", "ß"]
)
def test_the_dumper_quotes_what_would_be_read_back_as_something_else(value: str) -> None:
    text = internals.yaml_of(value).removesuffix("\n").removesuffix("\n...")
    assert OmegaConf.create(f"key: {text}") == {"key": value}
    assert text.startswith("ß") or text.isascii()  # letters are not escaped
    assert (text == value) == (value in ("size={m:4}", "add", "ß"))


def test_combinations_are_those_of_the_basic_sweeper_with_the_last_axis_fastest() -> None:
    overrides = parsed("op=add,mul", "seed=range(0,2)", "size=8")
    (theirs,) = BasicSweeper.split_arguments(overrides, None)
    assert list(map(list, internals.combinations(overrides))) == theirs
    assert theirs[1] == ["op=add", "seed=1", "size=8"]
    with pytest.raises(HydraException):
        internals.combinations(parsed("seed=interval(0,1)"))


def test_a_key_that_is_deleted_stays_without_a_value_unless_it_was_given_one() -> None:
    assert list(internals.combinations(parsed("~op.flop", "~op.kwargs={dim:1}"))) == [
        ("~op.flop", "~op.kwargs={dim:1}")
    ]


def test_the_options_of_a_group_are_the_same_without_the_copy(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ConfigLoaderImpl, "get_group_options", ConfigLoaderImpl.get_group_options
    )  # and back
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    stock = {
        group: loader.get_group_options(group)
        for group in ("op", "timing", "hydra/launcher", "nothing")
    }
    internals.list_groups_without_copying()
    monkeypatch.setattr("copy.deepcopy", lambda *_: pytest.fail("copied"))
    assert {group: loader.get_group_options(group) for group in stock} == stock
    assert "add" in stock["op"] and stock["nothing"] == []


def test_where_a_search_path_could_be_added_hydra_itself_is_asked(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stock(self: ConfigLoaderImpl, *arguments: object) -> list[str]:
        calls.append(arguments)
        return []

    monkeypatch.setattr(ConfigLoaderImpl, "get_group_options", stock)
    internals.list_groups_without_copying()
    loader = GlobalHydra.instance().config_loader()
    assert loader.get_group_options("op", config_name="config", overrides=["seed=1"]) == []
    assert [arguments[-2:] for arguments in calls] == [("config", ["seed=1"])]


ODD = """
floats: [1e3, 1_0.5e1, .5, -.inf, .NaN, 1:30.5]
others: [1, 0x1F, 0o17, 017, 1_000, yes, Off, ~, null, 2020-01-01, 1:30, "1e3", '', é]
text: |
  two
  lines
again: &anchor {a: 1}
alias: *anchor
"""


def test_the_parser_in_c_reads_our_files_as_omegaconf_does_by_itself() -> None:
    usual, fast = internals.get_yaml_loader(), internals.fast_yaml_loader()
    texts = [path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml")]
    for text in [*texts, ODD]:
        assert repr(yaml.load(text, Loader=fast)) == repr(yaml.load(text, Loader=usual))
    assert len(texts) > 50
    for wrong in ("a: 1\na: 2\n", "a: [1\n", "- 1\na: 2", "a: !!python/object:os.system x\n"):
        for loader in (usual, fast):
            with pytest.raises(yaml.YAMLError):
                yaml.load(wrong, Loader=loader)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="YAML has no parser in C here")
def test_our_files_alone_are_parsed_in_c(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "op").mkdir()
    (tmp_path / "op" / "own.yaml").write_text((CONF / "op" / "add.yaml").read_text())
    monkeypatch.setattr(ConfigRepository, "load_config", internals._LOAD_CONFIG)
    used: list[str] = []
    load = yaml.load

    def noted(stream: Any, Loader: Any) -> Any:  # noqa: N803  (PyYAML's name)
        used.append(Loader.__name__)
        return load(stream, Loader)

    monkeypatch.setattr(yaml, "load", noted)
    internals.check_config_files()
    for folder, name, by in ((CONF, "add", "FastLoader"), (tmp_path, "own", "OmegaConfLoader")):
        repository = ConfigRepository(ConfigSearchPathImpl())
        repository.sources = [FileConfigSource("main", str(folder))]
        found = repository.load_config(f"op/{name}")
        assert found is not None and found.config.name == "add"
        assert used.pop() == by
