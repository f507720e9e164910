"""Valgrind's process: cells that it is not started for, and where it cannot be started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from runner.execute import counting_worker
from runner.execute.counting_worker import CountingWorker
from tests.conftest import ROOT
from tests.support.factories import cell, row

ENDLESS = """
import os
import time

def waits(x):
    if "OPSWEEP_CALLGRIND" in os.environ:
        print("waiting", flush=True)
        time.sleep(3_600)
    return x.neg()
"""
OP = 'name: waits\ncall: mine.waits\nsignature: "... n -> ... n"\ndifferentiable: false\n'


def test_it_is_not_begun_for_what_it_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker, log = CountingWorker(None), tmp_path / "run.log"
    two_threads, failed = row(threads=2), row(threads=1, status="crashed")
    counted = row(threads=1, instructions=9, instructions_by="perf")
    assert not worker.may_count([two_threads, two_threads, failed, counted], log)
    said = "no instructions are counted: threads=2, and those of one thread alone can be"
    assert capsys.readouterr().err.splitlines() == [said]
    assert log.read_text().splitlines() == [said, said]


def test_where_it_cannot_be_started_there_is_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = str(tmp_path / "valgrind")
    monkeypatch.setattr(counting_worker, "under_callgrind", lambda folder: [gone])
    monkeypatch.setattr(shutil, "which", lambda name: name)
    worker, log, measured = CountingWorker(None), tmp_path / "run.log", row(threads=1)
    assert worker.may_count([measured], log)
    assert worker.with_counts(cell("add", size=8), [measured], log) == [measured]
    assert gone in log.read_text()
    worker.close()


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind on the PATH")
@pytest.mark.slow
def test_who_interrupts_a_count_keeps_the_row(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDLESS)
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "waits.yaml").write_text(OP)
    asked = ["op=waits", "size=8", "threads=1", "timing=minimal", "timing.counts=instructions"]
    command = [sys.executable, "-m", "runner", "--config-dir", "mine", *asked, "limit.time_s=900"]
    run = subprocess.Popen(
        [*command, "hydra.run.dir=out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while "waiting" not in _log(tmp_path):
        assert run.poll() is None
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 130
    (kept,) = pd.read_csv(tmp_path / "out" / "results.csv").to_dict("records")
    assert (kept["status"], pd.isna(kept["instructions"])) == ("ok", True)


def _log(folder: Path) -> str:
    path = folder / "out" / "run.log"
    return path.read_text() if path.is_file() else ""
