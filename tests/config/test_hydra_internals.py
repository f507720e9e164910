"""Every name borrowed from inside Hydra and OmegaConf does here what we rely on.

Is borrowed in one place alone.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from runner.config import hydra_internals as internals
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
