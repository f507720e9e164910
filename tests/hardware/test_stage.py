"""Stages from the command line, on the simulated device and where there is none."""

import csv
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from runner.hardware.stages import stages
from tests.conftest import ROOT
from tests.support.known_device import MODEL

BACKEND = ["--backend-module", "tests.support.simulated_device"]


def run_stage(*arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """``python -m runner.hardware`` in the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "runner.hardware", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_stage_is_named_or_numbered() -> None:
    assert next(iter(stages())) == "path"
    done = run_stage("--stage", "kernel", code=2)
    assert "--stage=kernel is unknown (did you mean 'kernels'?)" in done.stderr


@pytest.mark.slow
def test_a_module_that_is_not_there_is_a_wrong_word() -> None:
    done = run_stage("--backend-module", "no_such_backend", code=2)
    assert done.stderr.startswith("backend_module=no_such_backend cannot be imported: ")


@pytest.mark.slow
def test_without_an_accelerator_a_stage_is_skipped_and_says_why(tmp_path: Path) -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator here")
    done = run_stage("--out", str(tmp_path))
    assert done.stdout.startswith("skipped: gpu: PyTorch ")
    assert "finds no accelerator on this machine" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_a_stage_leaves_two_files_and_runs_nothing_twice(tmp_path: Path) -> None:
    where = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--name", "sim"]
    simulated = {**MODEL, "SIM_CLOCK": "scripted"}
    run_stage("--stage", "2", *where, *BACKEND, **simulated)
    out = tmp_path / "out" / "sim"
    assert sorted(path.name for path in out.iterdir()) == ["kernels.csv", "kernels.tar.gz"]
    with (out / "kernels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["step"] for line in lines} == set(stages()["kernels"]["steps"])
    assert {line["passed"] for line in lines} == {"yes", ""}
    assert {line["simulated"] for line in lines} == {"yes"}
    with tarfile.open(out / "kernels.tar.gz") as tar:
        assert "events/results.csv" in tar.getnames()

    # of another call only what is missing runs, from what the archive has
    kept = [line for line in lines if line["step"] != "energy"]
    with (out / "kernels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(kept)
    before = time.time()
    done = run_stage("--stage", "kernels", *where, *BACKEND, **simulated)
    assert "energy: python -m runner" in done.stdout and "events: python" not in done.stdout
    with (out / "kernels.csv").open(newline="") as file:
        again = list(csv.DictReader(file))
    assert [line["step"] for line in again] == [line["step"] for line in lines]
    assert (
        tmp_path / "work" / "sim" / "kernels" / "energy" / "results.csv"
    ).stat().st_mtime > before
