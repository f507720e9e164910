"""The grid sweeper and launcher compared with Hydra's own: the same folders and files, other launchers at choice."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import PATIENT, Runner

GRID = ["-m", "op=add,matmul", "size=8,16", "seed=3", "timing=minimal", "device=cpu"]


def files(root: Path) -> dict[str, object]:
    """Each job's ``.hydra`` files, parsed, with the sweep's own folder taken out."""
    found = {}
    for path in sorted(root.glob("*/.hydra/*.yaml")):
        text = path.read_text().replace(str(root), "ROOT")
        found[str(path.relative_to(root))] = yaml.safe_load(text)
    return found


def test_run_folders_are_those_of_the_stock_launcher(runner: Runner, tmp_path: Path) -> None:
    command = [
        "-m",
        "op=add,matmul",
        "size=8,16",
        "+sweep=smoke",
        "dtype=float32",
        "device=cpu",
        "seed=3",
    ]
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    runner(*command, f"hydra.sweep.dir={ours}")
    runner(*command, f"hydra.sweep.dir={stock}", "hydra/launcher=basic")
    mine, theirs = files(ours), files(stock)
    assert list(mine) == list(theirs)
    assert len(mine) == 3 * 4
    for name, content in mine.items():
        expected = theirs[name]
        if name.endswith("hydra.yaml"):  # but for the launcher that was asked for
            for tree in (content, expected):
                tree["hydra"]["launcher"] = tree["hydra"]["runtime"]["choices"][
                    "hydra/launcher"
                ] = None  # type: ignore[index]
                tree["hydra"]["overrides"]["hydra"] = [  # type: ignore[index]
                    o
                    for o in tree["hydra"]["overrides"]["hydra"]
                    if "launcher" not in o  # type: ignore[index]
                ]
        assert content == expected, name
    rows = [pd.read_csv(root / "results.csv") for root in (ours, stock)]
    assert list(rows[0]["cell"]) == list(rows[1]["cell"])
    assert (
        stock / f"0_device=cpu,dtype=float32,{PATIENT},op=add,seed=3,size=8" / "run.log"
    ).is_file()
    assert {p.name for p in ours.iterdir()} == {p.name for p in stock.iterdir()}


def test_values_that_need_care_survive_in_the_hydra_files(runner: Runner, tmp_path: Path) -> None:
    runner("-m", "op=matmul", "size=8,{m: 4, k: 8}", *GRID[3:], "hydra.sweep.dir=out dir")
    overrides = {
        tuple(yaml.safe_load(path.read_text()))
        for path in tmp_path.glob("out dir/*/.hydra/overrides.yaml")
    }
    assert (
        "op=matmul",
        "size={m:4,k:8}",
        "seed=3",
        "timing=minimal",
        PATIENT,
        "device=cpu",
    ) in overrides
    sizes = [
        yaml.safe_load(path.read_text())["size"]
        for path in tmp_path.glob("out dir/*/.hydra/config.yaml")
    ]
    assert sizes.count({"m": 4, "k": 8}) == sizes.count(8) == 1


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """The cells that a command would run."""
    from tests import conftest

    runner = conftest.runner.__wrapped__(tmp_path_factory.mktemp("dry"))
    return lambda *words: runner(*words, "dry_run=true").stdout.splitlines()


def test_devices_take_turns_whatever_the_order_of_the_axes(
    listed: Callable[..., list[str]],
) -> None:
    assert listed("device=cpu,gpu", "op=add,mul", "size=4") == [
        "add 4x4 float32 cpu",
        "add 4x4 float32 gpu",
        "mul 4x4 float32 cpu",
        "mul 4x4 float32 gpu",
        "4 cells",
    ]


def test_a_cell_that_comes_twice_runs_once(listed: Callable[..., list[str]]) -> None:
    assert listed("op=add", "size=4,4x4,[4,4]") == ["add 4x4 float32 cpu", "1 cells"]


def test_rules_exclude_what_all_of_their_axes_match(listed: Callable[..., list[str]]) -> None:
    grid = ["op=add,mul", "size=4,8", "dtype=float32,float16"]
    assert len(listed(*grid)) == 8 + 1
    out = listed(
        *grid,
        "exclude=[{op: add, dtype: [float16, float32], size: 8x8}, {op: mul, dtype: float16}]",
    )
    assert out == [
        "add 4x4 float32 cpu",
        "add 4x4 float16 cpu",
        "mul 4x4 float32 cpu",
        "mul 8x8 float32 cpu",
        "4 cells",
    ]


def test_a_sweeps_rule_may_match_nothing_once_the_command_line_narrows_it(
    listed: Callable[..., list[str]],
) -> None:
    assert "matmul 512x512 float16 cpu" not in listed("+sweep=cpu")
    assert listed("+sweep=cpu", "op=add", "size=64", "dtype=float32") == [
        "add 64x64 float32 cpu",
        "autograd add 1024x1024 float32 cpu",
        "2 cells",
    ]


def test_the_command_line_wins_over_the_sweeps_file(listed: Callable[..., list[str]]) -> None:
    cells = listed("+sweep=gpu", "dtype=float64", "op=mul,sum", "size=256,1024", "seed=1,2")
    times = [cell for cell in cells[:-1] if not cell.startswith("autograd")]
    assert len(times) == 2 * 2 * 1 * 2 * 2
    assert all(re.match(r"(mul|sum) (256x256|1024x1024) float64 (cpu|gpu)", cell) for cell in times)
    assert len(cells) == len(times) + 2 * 1 * 2 + 1
    assert len(listed("+sweep=gpu", "~hydra.sweeper.params.size")) == 2 * 6 * 3 * 2 + 1


def test_callbacks_get_each_jobs_own_configuration(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "listening.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Listener(Callback):\n"
        "    def on_job_end(self, config, job_return, **kwargs):\n"
        "        print('heard', config.op.name, config.size, config.hydra.job.num, job_return.return_value[0].status)\n"
    )
    done = runner(
        *GRID[:2], "size=4,8", "timing=minimal", "+hydra.callbacks.mine._target_=listening.Listener"
    )
    heard = [line for line in done.stdout.splitlines() if line.startswith("heard")]
    assert heard == [
        "heard add 4 0 ok",
        "heard add 8 1 ok",
        "heard matmul 4 2 ok",
        "heard matmul 8 3 ok",
    ]


def test_progress_comes_in_plain_lines_where_there_is_no_terminal(runner: Runner) -> None:
    done = runner("-m", "op=add", "size=4,8", "timing=minimal")
    assert re.search(
        r"^\[1/2\] add 4x4 float32 cpu: \d[\d.]* (ns|us|ms)$", done.stderr, re.MULTILINE
    )
    assert re.search(r"^\[2/2\] add 8x8 float32 cpu: ", done.stderr, re.MULTILINE)


@pytest.mark.skipif(not hasattr(__import__("os"), "openpty"), reason="needs a pseudo-terminal")
def test_progress_is_a_bar_with_the_time_left_on_a_terminal(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    from tests.conftest import ROOT

    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "-m",
        "runner",
        "-m",
        "op=add",
        "size=4,8,16",
        "timing=quick",
        PATIENT,
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"/3" in shown
    assert b"left" in shown
    assert b"add 16x16 float32 cpu" in shown


def test_further_grids_run_after_the_main_one_and_take_the_command_lines_values_of_their_axes(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "two.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  sweeper:\n    params: {op: 'add,mul', size: '4,8'}\n"
        "    also: [{job: autograd, op: 'add,sum', dtype: 'float32,float64'}]\n"
    )
    command = ["--config-dir", "mine", "+sweep=two", "dry_run=true"]
    assert runner(*command).stdout.splitlines()[:5] == [
        "add 4x4 float32 cpu",
        "add 8x8 float32 cpu",
        "mul 4x4 float32 cpu",
        "mul 8x8 float32 cpu",
        "autograd add 1024x1024 float32 cpu",
    ]
    how = runner(*command, "compile=true", "cache=warm,cold").stdout.splitlines()
    assert how[4:9] == [
        "mul 4x4 float32 cpu compile=True",
        "mul 4x4 float32 cpu cache=cold compile=True",
        "mul 8x8 float32 cpu compile=True",
        "mul 8x8 float32 cpu cache=cold compile=True",
        "autograd add 1024x1024 float32 cpu",
    ]
    assert len(how) == 8 + 4 + 1
    narrowed = runner(
        *command, "op=add", "size=16", "dtype=float32", "threads=1,2"
    ).stdout.splitlines()
    assert narrowed == [
        "add 16x16 float32 cpu threads=1",
        "add 16x16 float32 cpu threads=2",
        "autograd add 1024x1024 float32 cpu",
        "3 cells",
    ]
