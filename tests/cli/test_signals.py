"""A signal ends a run with 130 and a line, wherever it finds it."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from runner.execute.worker import Worker
from tests.conftest import ROOT

FAILS_CLEANING_UP = """
import os, signal
signal.signal(signal.{name}, signal.SIG_DFL)  # whoever runs the tests may ignore it
from runner.cli import main

def parse(arguments):
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        None._invalidate_flags_cache()  # as libraries do that are interrupted in the middle

main.with_implied = parse
raise SystemExit(main.run(["op=add"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals between processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_in_code_that_fails_to_clean_up_ends_the_run_all_the_same(name: str) -> None:
    code = FAILS_CLEANING_UP.format(name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted; what was finished is kept\n")


def test_an_interruption_within_executed_text_has_the_same_exit_code(tmp_path: Path) -> None:
    """The interpreter would end itself by the signal instead."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom runner.cli import main\n"
        "main.with_implied = lambda arguments: exec('raise KeyboardInterrupt')\n"
        "sys.exit(main.run(['op=add']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted; what was finished is kept\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_signal_that_is_ignored_from_the_start_stays_so(tmp_path: Path) -> None:
    """As SIGHUP is for what ``nohup`` starts."""
    code = (
        "import signal; from runner.cli import main; main.run(['--version']); "
        "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    )
    nohup = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"', sys.executable, "-c", code]
    done = subprocess.run(nohup, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("True\n")


def test_a_worker_whose_start_is_interrupted_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: BaseProcess) -> None:
        raise KeyboardInterrupt

    spawned = multiprocessing.get_context("spawn").Process
    monkeypatch.setattr(spawned, "start", start)
    worker = Worker()
    with pytest.raises(KeyboardInterrupt):
        worker.prepare([], ["cpu"], None)
    worker.close()
    assert not worker.is_running
