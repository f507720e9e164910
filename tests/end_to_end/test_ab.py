"""``job=ab``: the same cells in two environments, by real processes of real interpreters."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files, requires
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.conftest import Runner
from tests.support.commands import answers

QUICK = ("timing=quick", "timing.max_time_s=1.0", "timing.warmup_s=0.02", "threads=1")
CODE = """
import torch

def chain(x):
    for _ in range({calls}):
        x = torch.sin(x)
    return x
"""


def venv(folder: Path) -> Path:
    """A Python without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def folders_of(name: str, seen: set[str]) -> dict[str, Path]:
    """What a distribution has brought into this Python's folder, and what those that it needs."""
    seen.add(name)
    found = {}
    for file in files(name) or []:
        if file.parts[0] not in ("..", "__pycache__"):
            found[file.parts[0]] = Path(str(file.locate())).parents[len(file.parts) - 1]
    for needed in requires(name) or []:
        needs = re.match(r"[\w.-]+", needed)
        if needs and "extra ==" not in needed and needs[0] not in seen:
            with suppress(PackageNotFoundError):  # of another platform
                found |= folders_of(needs[0], seen)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has torch and what that needs, and nothing of ours."""
    python = venv(tmp_path_factory.mktemp("bare"))
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    for name, home in folders_of("torch", set()).items():
        (site / name).symlink_to(home / name)
    return python


def ran(runner: Runner, out: Path, *words: str, code: int) -> pd.DataFrame:
    """The table that a run left."""
    done = runner("job=ab", *words, *QUICK, f"hydra.sweep.dir={out}", code=None)
    assert done.returncode == code, done.stdout + done.stderr
    return pd.read_csv(out / "ab.csv")


def checkouts(folder: Path, before: str, after: str) -> list[str]:
    """Two checkouts of a package, and the words that take them."""
    (folder / "mine" / "op").mkdir(parents=True)
    for name in ("chain", "other"):
        op = f"name: {name}\ncall: own.{name}\nsignature: '... n -> ... n'\nsize: 200x200\n"
        (folder / "mine" / "op" / f"{name}.yaml").write_text(op)
    for name, text in {"old": before, "new": after}.items():
        (folder / name).mkdir()
        (folder / name / "own.py").write_text(text)
    return ["--config-dir", "mine", "ab.a.path=old", "ab.b.path=new"]


def test_wrong_input_is_one_line_before_anything_is_measured(tmp_path: Path) -> None:
    without = venv(tmp_path / "without")
    commands = {
        "job=ab ab.a.python=nowhere/python": "ab.a.python=nowhere/python: there is no such program",
        f"job=ab ab.b.python={without}": "is no Python 3.10 or later with torch",
        "job=ab ab.b.python=/bin/true": "is no Python 3.10 or later with torch",
        "job=ab ab.a.path=nowhere": "ab.a.path=nowhere: there is no such folder",
        "job=ab ab.a.env=3": "ab.a.env=3 is no mapping",
        "job=ab ab.c.python=x": "ab.c is unknown; allowed: ab.a, ab.b",
        "job=ab ab.a.phyton=x": "ab.a.phyton is unknown; did you mean ab.a.python?",
        "job=ab resume=last": "leave resume= out",
        "job=ab hydra.mode=RUN": "leave hydra.mode= out",
        "ab.a.path=.": "ab.a.path= goes with job=ab",
        "job=ab op=add compare.slower_than=0.01": "slower_than=0.01 is within report.same_within",
        "job='ab' op=add compare.slower_than=5": "compare.slower_than=5 is 500 %; 0.05 is 5 %",
        "--config-dir mine +sweep=both": "say it on the command line, as in: job=ab +sweep=NAME",
    }
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    sweep = "# @package _global_\njob: ab\nop: {name: add}\n"
    (tmp_path / "mine" / "sweep" / "both.yaml").write_text(sweep)
    found = answers(tmp_path, list(commands))
    for answer, said in zip(found, commands.values(), strict=True):
        assert answer.code == 2, answer
        assert said in answer.stderr
        assert len(answer.told) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_lists_the_cells_and_the_two_environments(tmp_path: Path) -> None:
    words = ["job=ab", "op=add", "size=8,16", "ab.a.env={KEY: value}", "dry_run=true"]
    (answer,) = answers(tmp_path, [words])
    assert answer.code == 0
    lines = answer.stdout.splitlines()
    assert lines[2:] == [
        "2 cells",
        f"a: {sys.executable} KEY=value",
        f"b: {sys.executable}",
    ]


@pytest.mark.slow
def test_an_environment_with_torch_alone_is_a_side_and_equal_ones_give_no_alarm(
    runner: Runner, tmp_path: Path, bare: Path
) -> None:
    code = "import importlib.util\n" + CODE.format(calls=2) + "other = chain\n"
    code += "assert not any(map(importlib.util.find_spec, ('hydra', 'pandas', 'scipy')))\n"
    words = checkouts(tmp_path, code, code)
    python = [f"ab.{side}.python={bare}" for side in "ab"]
    # on a busy machine nothing may be told, which is no alarm either
    python.append("compare.unclear_exit=0")
    table = ran(runner, tmp_path / "out", *words, *python, "op=chain,other", code=0)
    assert list(table["op"]) == ["chain", "other"]
    assert not table["is_slower"].any() and not table["became_wrong"].any()
    assert set(pd.read_csv(tmp_path / "out" / "results.csv")["status"]) == {"ok"}

    # each side's folder is that of a run, and the visits are in the run's own
    environment = json.loads((tmp_path / "out" / "a" / "environment.json").read_text())
    assert environment["side"]["python"] == str(bare)
    assert environment["torch"]["version"] == torch.__version__
    visits = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert set(visits["other_cell"]) == set(table["after_cell"])
    done = runner(
        "job=compare", f"run={tmp_path / 'out'}", f"against={tmp_path / 'out' / 'a'}", code=None
    )
    assert done.returncode in (0, 4), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"), reason="one kind of kernels"
)
def test_kernels_without_vector_instructions_are_found_slower(
    runner: Runner, tmp_path: Path
) -> None:
    slow = "ab.b.env={ATEN_CPU_CAPABILITY: default}"
    words = ("op=softmax", "size=256x256", slow, "compare.processes=1")
    table = ran(runner, tmp_path / "out", *words, code=3)
    assert list(table["verdict"]) == ["slower"]
    assert table["is_slower"].all() and (table["high"] < 0.9).all()
    text = (tmp_path / "out" / "ab.md").read_text()
    assert (
        "torch.cpu_capability" in text and "side.env.ATEN_CPU_CAPABILITY blank to default" in text
    )
    assert "AVX" in (tmp_path / "out" / "ab.html").read_text()


@pytest.mark.slow
def test_a_checkout_that_takes_three_times_as_long_is_found(runner: Runner, tmp_path: Path) -> None:
    other = "\ndef other(x):\n    return torch.tanh(x)\n"
    words = checkouts(tmp_path, CODE.format(calls=10) + other, CODE.format(calls=30) + other)
    words += ["op=chain,other", "compare.processes=1"]
    table = ran(runner, tmp_path / "out", *words, code=3)
    assert list(table["is_slower"]) == [True, False]
    assert table["high"][0] < 0.9


@pytest.mark.slow
def test_a_side_that_crashes_is_a_row_and_the_next_cell_goes_on(
    runner: Runner, tmp_path: Path
) -> None:
    end = "import os\n" + CODE.format(calls=2).replace("    return", "    os.abort()\n    return")
    other = "\ndef other(x):\n    return torch.tanh(x)\n"
    words = checkouts(tmp_path, CODE.format(calls=2) + other, end + other)
    words += ["op=chain,other", "timing.processes=2", "compare.processes=2"]
    table = ran(runner, tmp_path / "out", *words, code=3)
    assert list(table["became_wrong"]) == [True, False]
    assert table["changed"][0].startswith("status ok to crashed")
    assert table["verdict"].notna()[1]
    before = pd.concat(map(pd.read_csv, (tmp_path / "out" / "a").glob("*/results.csv")))
    assert list(before["status"]) == ["ok", "ok"] and before["median_s"].notna().all()
    # what failed has no second process, and the other side has
    assert list(before["processes"]) == [2, 2]
