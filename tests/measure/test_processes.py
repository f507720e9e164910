"""Cells measured in several fresh processes: one row, with all of their samples behind it."""

import math
import os
from pathlib import Path

import pandas as pd
import pytest

from runner.measure.processes import combined
from runner.rows.rows import Sample
from tests.conftest import Runner
from tests.support.factories import row

OPS = """
import os, pathlib, torch

def fine(x):
    print("process", os.getpid())
    return x + 1

def dies_in_the_second(x):
    pathlib.Path(f"seen-{os.getpid()}").touch()
    if len(list(pathlib.Path().glob("seen-*"))) > 1:
        os._exit(7)
    return x + 1
"""


def test_each_process_is_a_fresh_one_and_a_crash_in_a_later_one_is_the_row(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OPS)
    (tmp_path / "conf" / "op").mkdir(parents=True)
    for name in ("fine", "dies_in_the_second"):
        text = f"name: {name}\ncall: mine.{name}\nsignature: '... n -> ... n'\n"
        (tmp_path / "conf" / "op" / f"{name}.yaml").write_text(text)
    command = ["--config-dir", "conf", "-m", "op=fine,dies_in_the_second", "size=4", "timing=quick"]
    runner(*command, "timing.processes=2", "timing.max_time_s=0.05", "hydra.sweep.dir=out", code=1)
    rows = pd.read_csv(tmp_path / "out" / "results.csv").set_index("op")
    fine, dead = rows.loc["fine"], rows.loc["dies_in_the_second"]
    assert (fine["status"], fine["processes"]) == ("ok", 2)
    assert fine["ci_low_s"] <= fine["median_s"] <= fine["ci_high_s"]
    assert dead["status"] == "crashed"
    assert dead["reason"].startswith("in process 2: the process ended with exit code 7")
    folder = next((tmp_path / "out").glob("0_*"))
    samples = pd.read_csv(folder / "samples.csv")
    assert set(samples["process"]) == {1, 2}
    assert samples["used"].sum() == fine["samples"]
    processes = {
        line
        for line in (folder / "run.log").read_text().splitlines()
        if line.startswith("process ")
    }
    assert len(processes) == 2
    assert f"process {os.getpid()}" not in processes


def blocks(process: int, seconds: float) -> list[Sample]:
    """Ten blocks of two calls, of which the last was set aside."""
    return [
        Sample(2, 2 * seconds * (10 if n == 9 else 1), None, 0, 0.0, None, n < 9, process)
        for n in range(10)
    ]


def test_the_interval_covers_the_spread_between_processes() -> None:
    samples = [
        block
        for process, seconds in enumerate((1.0, 1.2, 1.1), start=1)
        for block in blocks(process, seconds)
    ]
    one = row(
        median_s=1.0,
        ci_low_s=0.999,
        ci_high_s=1.001,
        samples=9,
        preempted_samples=1,
        flop=11,
        flags=("view",),
    )
    both = combined(
        one, row(median_s=1.1, preempted_samples=2, flags=("view", "contended")), samples
    )
    assert both.median_s == pytest.approx(1.1)
    assert both.processes == 3
    assert both.samples == 27
    assert both.preempted_samples == 3
    assert both.flop_per_s == pytest.approx(10)
    assert both.flags == ("view", "contended")
    logs = [math.log(v) for v in (1.0, 1.2, 1.1)]
    half = 4.302652729911275 * math.sqrt(
        sum((v - sum(logs) / 3) ** 2 for v in logs) / 2 / 3
    )  # t(0.975, 2)
    assert both.ci_high_s == pytest.approx(math.exp(sum(logs) / 3 + half))
    assert both.ci_low_s == pytest.approx(math.exp(sum(logs) / 3 - half))
