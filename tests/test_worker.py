"""What a cell does to its process ends the worker, never the sweep; and no worker outlives its door."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, Runner

OPS = """
import ctypes, os, time
import torch

calls = 0

def dies(x, how):
    global calls
    calls += 1
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "hang":
        print("about to hang", flush=True)
        ctypes.CDLL(None).pause()
    if how == "memory":
        return torch.empty(10**15)
    if how == "raise":
        raise ValueError("not today,\\nmaybe tomorrow")
    if how == "wrong":
        return x * (1 if x.dtype is torch.float64 else 1.5)
    if how == "shape":
        return x[1:]
    if how == "infinite":
        return x / 0
    return x * 2
"""


@pytest.fixture
def dying(tmp_path: Path) -> Path:
    """A folder with an operation that ends as its ``how`` says."""
    (tmp_path / "dying_ops.py").write_text(OPS)
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "dies.yaml").write_text(
        'name: dies\ncall: dying_ops.dies\nsignature: "... -> ..."\nkwargs: {how: well}\ndifferentiable: false\n'
    )
    return tmp_path


def test_every_way_to_fail_becomes_a_row_and_the_sweep_goes_on(dying: Path, runner: Runner) -> None:
    ways = "segfault,exit,hang,memory,raise,wrong,shape,infinite,well"
    command = ["--config-dir", "mine", "-m", "op=dies", f"op.kwargs.how={ways}", "size=8", "timing=minimal"]
    runner(*command, "limit.time_s=2", "hydra.sweep.dir=out", code=1)
    rows = pd.read_csv(dying / "out" / "results.csv").set_axis(ways.split(","))
    assert rows["status"].to_dict() == {
        "segfault": "crashed",
        "exit": "crashed",
        "hang": "timeout",
        "memory": "out_of_memory",
        "raise": "failed",
        "wrong": "ok",
        "shape": "failed",
        "infinite": "ok",
        "well": "ok",
    }
    reasons = rows["reason"]
    assert reasons["segfault"] == "the process was ended by SIGSEGV, while checking values"
    assert reasons["exit"] == "the process ended with exit code 7, while checking values"
    assert reasons["hang"] == "stopped after limit.time_s=2 s, while checking values"
    assert reasons["raise"] == "ValueError: not today, maybe tomorrow"
    assert "its signature '... -> ...' promises outputs [(8, 8)], the call gave [(7, 8)]" in reasons["shape"]
    assert "wrong_values" in rows.loc["wrong", "flags"]
    assert "nonfinite" in rows.loc["infinite", "flags"]
    assert rows.loc["infinite", "finite_fraction"] == 0
    assert rows["median_s"].notna().to_dict() == {way: way in ("wrong", "infinite", "well") for way in ways.split(",")}
    log = next((dying / "out").glob("2_*/run.log")).read_text()
    assert "about to hang" in log
    assert "ValueError: not today" in next((dying / "out").glob("4_*/run.log")).read_text()


def test_what_cannot_fit_is_not_tried(runner: Runner, tmp_path: Path) -> None:
    runner("op=add", "size=1024", "limit.memory_bytes=1000000", "hydra.run.dir=out")
    row = pd.read_csv(tmp_path / "out" / "results.csv").iloc[0]
    assert row["status"] == "out_of_memory"
    assert row["reason"] == "MemoryError: inputs and outputs take 12,582,912 bytes; limit.memory_bytes is 1,000,000"


def test_a_call_longer_than_its_budget_is_measured_once_and_says_so(dying: Path, runner: Runner) -> None:
    (dying / "dying_ops.py").write_text("import time\ndef dies(x, how):\n    time.sleep(0.3)\n    return x * 2\n")
    runner("--config-dir", "mine", "op=dies", "size=4", "timing=quick", "timing.max_time_s=0.05", "hydra.run.dir=out")
    row = pd.read_csv(dying / "out" / "results.csv").iloc[0]
    assert (row["samples"], row["stop"], row["flags"]) == (1, "first_call", "single_call")
    assert row["median_s"] == row["first_call_s"]
    assert pd.isna(row["ci_low_s"])


def door(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A sweep of cells that hang, begun and in its first cell."""
    command = ["--config-dir", "mine", "-m", "op=dies", "size=8", "timing=minimal", "hydra.sweep.dir=out", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any("about to hang" in log.read_text() for log in folder.glob("out/*/run.log")):
        assert time.monotonic() < deadline, process.communicate(timeout=5)
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def workers_of(process: int) -> list[int]:
    """The children of a process, from ``/proc``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = re.search(r"^PPid:\s+(\d+)", status.read_text(), re.MULTILINE)
        except OSError:
            continue
        if parent and int(parent[1]) == process:
            found.append(int(status.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_a_door_that_is_killed(dying: Path) -> None:
    process = door(dying, "op.kwargs.how=hang")
    workers = workers_of(process.pid)
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 2
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_finished(number: signal.Signals, dying: Path) -> None:
    process = door(dying, "op.kwargs.how=well,hang,segfault")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    assert "interrupted; what was finished is kept" in stderr
    assert "Traceback" not in stderr
    assert list(pd.read_csv(dying / "out" / "results.csv")["status"]) == ["ok"]


def test_timing_through_the_worker_is_the_engine_in_process(runner: Runner, tmp_path: Path) -> None:
    from runner.cell import cell_of
    from runner.worker import run_cell

    runner("op=add", "size=64", "timing=minimal", "hydra.run.dir=out")
    from omegaconf import OmegaConf

    cell = cell_of(OmegaConf.load(tmp_path / "out" / ".hydra" / "config.yaml"))  # type: ignore[arg-type]
    (row,), samples = run_cell(cell)
    there = pd.read_csv(tmp_path / "out" / "results.csv").iloc[0]
    assert row.cell == there["cell"]
    assert row.max_relative_error == there["max_relative_error"]
    assert len(samples) == there["samples"]
