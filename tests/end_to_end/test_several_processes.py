"""Cells measured in several fresh processes: one row, with all of their samples behind it."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Runner

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


@pytest.mark.slow
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
