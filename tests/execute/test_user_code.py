"""What is known of the user's code: each file that an import loads, or an installed version."""

import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from runner.execute import user_code
from runner.execute.user_code import describe_code, differing, edited, packages_of
from tests.support import factories


def test_an_edit_of_any_imported_file_of_the_folder_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "own_package/__init__.py": "from own_package import inner\n",
        "own_package/inner.py": "import json, own_beside\n",
        "own_beside.py": "",
        "own_unused.py": "",
    }
    (tmp_path / "own_package").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_package")
    code = describe_code({"own_package", "pytest", "not_imported"})
    assert set(code) == {"own_package", "pytest"}
    assert set(code["own_package"]["content"]) == set(files) - {"own_unused.py"}
    assert code["pytest"]["content"] == {"pytest": version("pytest")}
    assert edited(code) == []

    (tmp_path / "own_unused.py").write_text("# other")
    assert edited(code) == []
    (tmp_path / "own_beside.py").write_text("# other")
    assert edited(code) == ["own_beside.py"]
    assert edited(code, {"pytest"}) == []
    (tmp_path / "own_package" / "inner.py").unlink()
    assert sorted(edited(code)) == ["own_beside.py", "own_package/inner.py"]

    there = copy.deepcopy(code)
    there["own_package"]["content"]["own_package/__init__.py"] = "another"
    there["pytest"]["content"]["pytest"] = "1"
    assert sorted(differing(code, there)) == ["own_package/__init__.py", "pytest"]
    assert differing(code, {"own_package": code["own_package"]}) == []


def test_a_package_whose_distribution_has_another_name_has_its_version() -> None:
    importlib.import_module("yaml")
    assert describe_code({"yaml"})["yaml"]["content"] == {"yaml": version("PyYAML")}


def installed(folder: Path, name: str, direct_url: object) -> None:
    """A distribution's metadata, as pip writes them."""
    metadata = folder / f"{name}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (metadata / "direct_url.json").write_text(json.dumps(direct_url))


def test_the_version_and_the_commit_of_code_are_known_where_anything_says_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, text in {"says": "__version__ = '3.4'", "editable": "", "shadow": ""}.items():
        (source / f"own_{name}.py").write_text(f"{text}\n")
    installed(site, "own_editable", {"url": source.as_uri(), "dir_info": {"editable": True}})
    installed(site, "own_shadow", {"url": (tmp_path / "another").as_uri(), "dir_info": {}})
    built = {"url": "https://host/own", "vcs_info": {"vcs": "git", "commit_id": "e5f6"}}
    installed(site, "own_built", built)
    (site / "own_built.py").touch()
    monkeypatch.setattr(user_code, "INSTALLED", (*user_code.INSTALLED, site))
    for path in (site, source):
        monkeypatch.syspath_prepend(path)
    names = {f"own_{name}" for name in ("says", "editable", "shadow", "built")}
    for name in names:
        importlib.import_module(name)
    code = describe_code(names)
    versions = {name.removeprefix("own_"): code[name]["version"] for name in names}
    assert versions == {"says": "3.4", "editable": "1.2", "shadow": None, "built": "1.2"}
    assert code["own_built"]["git"] == {"commit": "e5f6"}
    assert code["own_built"]["content"] == {"own_built": "1.2"}


def test_of_code_elsewhere_the_files_are_looked_at_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "own_elsewhere.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "here")
    importlib.import_module("own_elsewhere")
    code = describe_code({"own_elsewhere", "pytest"})
    code["pytest"]["content"]["pytest"] = "a version of another Python's"
    code["own_elsewhere"]["folder"] = str(tmp_path / "there")
    assert edited(code, elsewhere=True) == []
    (tmp_path / "there" / "own_elsewhere.py").write_text("# other")
    assert edited(code, elsewhere=True) == ["own_elsewhere.py"]
    assert edited(code) == ["pytest"]


def test_another_version_that_another_search_path_finds_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version_of, text in (("v1", "a = 1\n"), ("v2", "a = 2\n")):
        (tmp_path / version_of).mkdir()
        (tmp_path / version_of / "own_versions.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "v1")
    importlib.import_module("own_versions")
    code = describe_code({"own_versions"})
    monkeypatch.delitem(sys.modules, "own_versions")  # as in the process that resumes
    assert edited(code) == []

    monkeypatch.syspath_prepend(tmp_path / "v2")
    importlib.invalidate_caches()
    assert edited(code) == ["own_versions.py"]
    monkeypatch.setattr(sys, "path", [])
    assert edited(code) == []  # nothing is found, and the file is where it was


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_file_that_git_does_not_track_is_told_from_one_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_tracked.py").write_text("import own_untracked\n")
    (tmp_path / "own_untracked.py").touch()
    with suppress(OSError):  # macOS has no such names
        (tmp_path / os.fsdecode(b"no-utf8-\xff")).touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_tracked")
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (["init"], ["add", ".", ":!*_untracked.py"], [*author, "commit", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    def git_of() -> dict[str, Any]:
        return dict(describe_code({"own_tracked"})["own_tracked"]["git"])

    known = git_of()
    assert (known["changed"], known["not_in_git"]) == (False, ["own_untracked.py"])
    (tmp_path / "own_tracked.py").write_text("import own_untracked  # other\n")
    assert git_of() == {**known, "changed": True}


def test_only_what_is_not_known_by_a_version_is_looked_at() -> None:
    def packages(call: str, backend_module: str | None = None) -> set[str]:
        op = {"name": "own", "call": call, "signature": "n -> n"}
        return packages_of(factories.cell(op, size="4").operation, backend_module)

    assert packages("torch.nn.functional.relu") == packages("operator.neg") == set()
    assert packages("own.deep.call", "their.backend") == {"own", "their"}
