"""The documentation is run: its commands, and the lines of Python that it shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Runner
from tests.support.commands import answers
from tests.support.shape import folders

PAGES = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "outputs/README.md", "conf/config.yaml")
]
COMMANDS = sorted(
    {
        re.sub(r"\s+#.*|  .*", "", line.strip().removeprefix("$ ").strip("`"))
        for page in PAGES
        for line in page.read_text().splitlines()
        if re.match(r"\s*(\$ )?python -m runner\b", line)
    }
)


def test_the_documentation_shows_commands() -> None:
    assert len(COMMANDS) >= 10


def test_a_documented_command_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "swish.yaml").write_text(example)
    words = {command: shlex.split(command)[3:] for command in COMMANDS if "outputs/" not in command}
    asking = [command for command, of in words.items() if {"--help", "--cfg", "--info"} & set(of)]
    dry = {command: [*of, "dry_run=true"] for command, of in words.items() if command not in asking}
    said = dict(zip(dry, answers(tmp_path, list(dry.values())), strict=True))
    assert not {command: answer for command, answer in said.items() if answer.code != 0}


@pytest.mark.parametrize("command", [c for c in COMMANDS if re.search(" --(help|cfg|info)", c)])
def test_a_documented_question_is_answered(command: str, runner: Runner) -> None:
    assert runner(*shlex.split(command)[3:]).stdout


def test_the_lines_of_pandas_read_what_a_run_leaves(runner: Runner, tmp_path: Path) -> None:
    runner("+sweep=smoke", "op=add", "hydra.sweep.dir=out")
    (lines,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "outputs" / "README.md").read_text(), re.DOTALL
    )
    script = lines.replace("outputs/<date>/<time>", str(tmp_path / "out"))
    assert script.count("\n") == 4
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert re.search(r"add\s+16x16\s+forward\s+\d+\s+warm\s+\d", done.stdout)
    assert "bfloat16" in done.stdout


def test_the_readme_lists_every_operation_and_sweep() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in [*(ROOT / "conf" / "op").glob("*.yaml"), *(ROOT / "conf" / "sweep").glob("*.yaml")]:
        assert f"`{path.stem}`" in readme, path.name


def test_the_readme_shows_set_up_and_real_output_first() -> None:
    top = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    for words in ("make sweep", "make test", "pip install", "operation", "passed"):
        assert words in top


def test_nothing_points_outside_the_repository() -> None:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = done.stdout.split() if done.returncode == 0 else []
    for name in names:
        if name != "tests/end_to_end/test_docs.py" and (ROOT / name).is_file():
            text = (ROOT / name).read_text(errors="replace")  # a picture is no text
            assert not re.search(r"\.\./shared|/work/|files\.pythonhosted", text), name


def test_the_walk_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    steps = re.findall(r"^\d+\. `(\w+)/`: (.*)$", text, re.MULTILINE)
    assert len(steps) == 12
    for room, sentence in steps:
        names = re.findall(r"`([\w/]+\.py)`", sentence)
        assert names
        for name in names:
            assert (ROOT / "runner" / room / name).is_file() or (
                ROOT / "runner" / name
            ).is_file(), f"{room}: {name}"
    rooms = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
    assert rooms == set(folders())
