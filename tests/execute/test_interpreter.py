"""The other Python of ``job=ab``: it is asked before anything is measured, and said to be which."""

import re
from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.execute import interpreter
from runner.execute.interpreter import Interpreter
from tests.conftest import ROOT


def program(path: Path, text: str) -> str:
    """A program that does this, whatever it is asked."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_oldest_that_will_do_is_that_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for name, oldest in (
        ('requires-python = "', interpreter.OLDEST_PYTHON),
        ('  "torch', interpreter.OLDEST_TORCH),
    ):
        (found,) = re.findall(rf"^{name}>=(\d+)\.(\d+)", project, re.MULTILINE)
        assert tuple(map(int, found)) == oldest


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("echo 3 10 2 7", None),
        ("echo its module says this; echo 3 12 2 13", None),
        ("echo 3 12 2 6", "it is Python 3.12 with torch 2.6"),
        ("echo 3 9 2 8", "it is Python 3.9 with torch 2.8"),
        ("true", "it says nothing of torch"),
        ("echo Traceback >&2; echo 'ImportError: libc10.so' >&2; exit 1", "ImportError: libc10.so"),
        ("echo 3 12 2 13; exit 1", "3 12 2 13"),
        ("exec sleep 60", "importing torch takes more than 1 s"),
    ],
)
def test_what_cannot_import_a_torch_that_will_do_is_refused_in_a_line(
    does: str, why: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "LOOK_LIMIT_S", 1 if "sleep" in does else 60)
    python = program(tmp_path / "python", does)
    if why is None:
        assert Interpreter.of("b", python, None, None).python == python
        return
    with pytest.raises(ConfigError) as raised:
        Interpreter.of("b", python, None, None)
    line = f"ab.b.python={python} is no Python 3.10 or later with torch 2.7 or later: {why}"
    assert str(raised.value) == line
    assert Interpreter.of("b", python, None, None, runs=False).python == python  # only listed


def test_a_home_folder_is_written_as_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    python = program(tmp_path / "python", "echo 3 10 2 7")
    found = Interpreter.of("b", "~/python", "~", None)
    assert (found.python, found.path) == (python, str(tmp_path))
