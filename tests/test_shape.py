"""The package's rooms stay few.

Hydra's plugin files, which import-linter does not see, stay thin.
"""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import FIRST
from tests.support import shape

WITH_EXAMPLES = [
    path for path in shape.trees() if ">>> " in (shape.PACKAGE / path).read_text(encoding="utf-8")
]


def test_a_newcomer_finds_few_rooms() -> None:
    assert len(shape.files_at_the_top()) <= 6
    assert len(shape.folders()) <= 20
    assert set(shape.folders()) <= shape.levels().keys()  # each has its level in the contract


def test_no_import_points_upwards() -> None:
    assert shape.imports_upwards() == []


def test_hydras_plugin_files_hand_over_to_one_module() -> None:
    """Of the sweep, or of the configuration where one is a source of it."""
    folder = shape.PACKAGE / "sweep" / "plugins" / "hydra_plugins"
    files = sorted(folder.glob("*.py"))
    assert len(files) == 3
    for path in files:
        names = list(shape.imported(ast.parse(path.read_text(encoding="utf-8"))))
        assert names
        assert all(name.startswith(("runner.sweep.", "runner.config.")) for name in names)


def test_no_line_needs_decoding() -> None:
    for path, tree in shape.trees().items():
        assert shape.nested_conditionals(tree) == 0, path
        assert shape.comprehensions_with_several_for(tree) == 0, path
        assert shape.lists_times_a_condition(tree) == 0, path
    assert shape.longest_function()[0] <= 60


def test_modules_hold_no_state_that_calls_leave_there() -> None:
    """But for a process that is not ours to begin: a notebook's, or a stock launcher's job's."""
    assert shape.mutable_values() == []
    assert shape.memos(of_arguments=False) == [
        "api/opsweep/given.py:_kept_state",
        "cli/main.py:_task_of_this_process",
    ]


def test_imports_in_functions_and_values_of_any_type_stay_few() -> None:
    assert sum(map(shape.imports_in_functions, shape.trees().values())) <= 40
    assert shape.ruff_findings("ANN401") <= 40  # -1 where there is no ruff


def test_the_tests_stand_in_the_rooms_that_they_test() -> None:
    tests = shape.ROOT / "tests"
    others = {"benchmarks", "data", "end_to_end", "support"}
    rooms = {path.parent.name for path in tests.glob("*/test_*.py")} - others
    assert rooms == set(shape.folders())
    assert [path.name for path in tests.glob("test_*.py")] == ["test_shape.py"]
    assert all((tests / file).is_file() for file in FIRST)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_what_a_docstring_shows_is_so(path: Path) -> None:
    name = ".".join(("runner", *path.with_suffix("").parts)).removesuffix(".__init__")
    failed, attempted = doctest.testmod(import_module(name))
    assert failed == 0 < attempted
