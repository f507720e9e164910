"""One operation in several implementations: the documented example, and what is refused."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, make_runner
from tests.support.commands import answers

PAGE = (ROOT / "docs" / "implementations.md").read_text(encoding="utf-8")
COMMAND = "--config-dir mine op=mean_square size=64x1024,64x1000 impl=all"
MINE = "+op.implementations.mine"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's folder."""
    folder = tmp_path_factory.mktemp("implementations")
    (folder / "mine" / "op").mkdir(parents=True)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (op,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "my_kernels.py").write_text(code)
    (folder / "mine" / "op" / "mean_square.yaml").write_text(op)
    return folder


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    """What the page's command prints; its rows are in ``out``."""
    assert COMMAND in PAGE
    words = [*COMMAND.split(), "-m", "timing=minimal", "hydra.sweep.dir=out"]
    return make_runner(folder)(*words, code=1).stdout


@pytest.mark.slow
def test_the_page_says_of_each_implementation_what_the_run_says(folder: Path, said: str) -> None:
    rows = pd.read_csv(folder / "out" / "results.csv").set_index(["impl", "size"])
    speedups = pd.read_csv(folder / "out" / "speedup.csv").set_index(["impl", "size"])
    sizes = re.findall(r"\| implementation \| (\S+) \| (\S+) \|", PAGE)[0]
    expected = re.findall(r"\| `(\w+)` \| (\S+) \| (\S+) \|", PAGE)
    assert {name for name, *_ in expected} == {"fast", "narrow", "tail", "slope", "cached"}
    for name, *verdicts in expected:
        for size, verdict in zip(sizes, verdicts, strict=True):
            row, speedup = rows.loc[(name, size)], speedups.loc[(name, size)]
            flags = str(row["flags"]).split()
            assert row["status"] == "ok"
            if verdict == "right":
                assert not {"wrong_values", "wrong_gradient", "unchecked"} & set(flags), (
                    name,
                    flags,
                )
                assert row["checked"] == "full"
                assert row["gradient"] == "pass" or name == "tail"
            else:
                assert verdict.strip("`") in flags, (name, size, flags)
                assert pd.isna(speedup["speedup"]), name
    assert (speedups["axis"] == "impl").all()
    built = rows["build_s"][rows.index.get_level_values("impl") != "default"]
    assert (built >= 0).all()
    named = "mean_square 64x1024 float32 cpu impl=cached"
    assert re.search(rf"2 reused_result \({named}, .*: its result comes from an earlier call", said)


@pytest.mark.slow
def test_the_table_has_a_line_for_each_and_a_ratio_beside_its_time(said: str) -> None:
    lines = said.splitlines()
    (head,) = (n for n, line in enumerate(lines) if "error u" in line)
    assert lines[head - 1] == "Times, operation=mean_square, dtype=float32, device=cpu"
    assert lines[head].split()[:4] == ["size", "impl", "values", "error"]
    named = [line.split()[1] for line in lines[head + 1 : head + 13]]
    assert Counter(named) == dict.fromkeys(
        ("default", "fast", "narrow", "tail", "slope", "cached"), 2
    )
    assert re.search(r"\n  \d wrong: mean_square 64x1024 impl=narrow", said)


@pytest.mark.slow
def test_a_sweep_is_resumed_and_a_further_implementation_is_added(folder: Path, said: str) -> None:
    same = [*COMMAND.split(), "-m", "timing=minimal", "resume=out", "dry_run=true"]
    grown = [*same, f"{MINE}=my_kernels.plain"]
    commands = [same, grown, [*grown, "compare.in_turn=false"]]
    resumed, more, alone = answers(folder, commands)
    assert "12 of 12 cells are done" in resumed.stderr
    assert "0 of 14 cells are done" in more.stderr  # a ratio is of one moment
    assert "12 of 14 cells are done" in alone.stderr
    assert alone.stdout.splitlines()[-1] == "2 cells"


def test_a_dry_run_lists_each_and_counts_those_that_there_are_not(folder: Path) -> None:
    every, some, swept = answers(
        folder,
        [
            f"op=softmax size=8 {MINE}=my_kernels.plain impl=all dry_run=true",
            "--config-dir mine -m op=mean_square,add size=8 impl=default,fast dry_run=true",
            "--config-dir mine +sweep=crossover op=mean_square dtype=float32 device=cpu "
            "impl=default,fast dry_run=true",
        ],
    )
    assert every.stdout == (
        "softmax 8x8 float32 cpu    8x8\nsoftmax 8x8 float32 cpu impl=mine    8x8\n2 cells\n"
    )
    assert "compared in turn: impl, with default as the baseline" in every.stderr
    assert some.stdout.splitlines()[-1] == "3 cells"
    assert "as their operation has no such implementation: 1" in some.stderr
    assert "mean_square 16x16 float32 cpu impl=fast" in swept.stdout
    assert swept.code == 0


def test_what_is_wrong_is_one_line_and_nothing_runs(folder: Path) -> None:
    said = answers(
        folder,
        [
            "-m op=softmax,add size=8 impl=fsat",
            "op=softmax impl=fast",
            f"op=softmax {MINE}.call=a.b +op.implementations.default=a.b impl=mine",
            "op=my_softmax",
            "op=my_kernels.my_softmax",
        ],
    )
    assert {answer.code for answer in said} == {2}
    assert all(len(answer.told) == 1 for answer in said)
    lines = [answer.told[0] for answer in said]
    assert lines[0].startswith("impl=fsat: op softmax has no such implementation; it has default")
    assert lines[1].endswith("or add it with +op.implementations.fast=package.function")
    assert "default is the operation's own call; give it another name" in lines[2]
    assert "add mine/op/my_softmax.yaml and --config-dir mine" in lines[3]
    assert "op=softmax +op.implementations.my_softmax=my_kernels.my_softmax impl=all" in lines[4]


@pytest.mark.slow
def test_what_only_an_import_tells_is_one_line_too(folder: Path) -> None:
    wrong = {"gone": "my_kernels.nothing", "lost": "no_module.fast", "short": "my_kernels.plain"}
    words = [f"+op.implementations.{name}={value}" for name, value in wrong.items()]
    done = make_runner(folder)("op=softmax", "size=8", "impl=all", *words, code=2)
    last = done.stderr.splitlines()[-1]
    assert "implementations.gone 'my_kernels.nothing': my_kernels has no 'nothing'" in last
    assert "implementations.lost 'no_module.fast' cannot be imported" in last
    assert "my_kernels.plain(x) cannot be called as torch.nn.functional.softmax is" in last
    done = make_runner(folder)("op=softmax", "size=8", "+op.reference=my_kernels.plain", code=2)
    last = done.stderr.splitlines()[-1]
    assert "reference: my_kernels.plain(x) cannot be called as torch.nn.functional.softmax" in last


@pytest.mark.skipif(not shutil.which("g++"), reason="Inductor needs a C++ compiler")
@pytest.mark.slow
def test_torch_compile_is_an_implementation_of_operations_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine" / "op").mkdir(parents=True)
    for name in ("softmax", "addmm"):
        text = (ROOT / "conf" / "op" / f"{name}.yaml").read_text(encoding="utf-8")
        (call,) = re.findall(r"^call: (\S+)", text, re.MULTILINE)
        text = text.replace(f"name: {name}\n", f"name: own_{name}\n")
        own = f"implementations: {{compiled: {{call: {call}, compile: true}}}}\n"
        (tmp_path / "mine" / "op" / f"own_{name}.yaml").write_text(text + own)
    words = (
        "--config-dir mine -m op=own_softmax,own_addmm size=64 dtype=float32 device=cpu impl=all"
    )
    make_runner(tmp_path)(*words.split(), "timing=minimal", "hydra.sweep.dir=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    compiled = rows[rows["impl"] == "compiled"]
    assert len(rows) == 4 and (rows["status"] == "ok").all()
    assert (compiled["checked"] == "full").all() and (compiled["gradient"] == "pass").all()
    assert (compiled["build_s"] > 0).all() and compiled["compile"].eq("off").all()
