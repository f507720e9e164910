"""The fixture in somebody else's tests: it measures, fails what is slower, and says what it saw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
import torch

X = torch.linspace(0.1, 2.0, 4096)

def old(x):
    for _ in range(10):
        result = x.sin()
    return result

def new(x):
    for _ in range(12):
        result = x.sin()
    return result

def test_the_same(opsweep):
    found = opsweep.compare(old, old, X, max_time_s=5.0)
    assert found.same_values(0.0)
    assert opsweep.check_gradients(torch.sin, X[:4]).ok

def test_a_fifth_more_work(opsweep):
    assert opsweep.compare(new, old, X, max_time_s=5.0).not_slower_than(0.05)

def test_without():
    pass
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``pytest`` in a folder, as its owner calls it."""
    # a session of pytest within another is not to take it for its own
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.exhaustive
def test_a_fifth_more_work_fails_and_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    for workers in ("0", "2"):
        done = run_pytest(tmp_path, "-n", workers, "--opsweep-json=found.json")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "2 passed" in done.stdout and "1 failed" in done.stdout
        table = done.stdout.rpartition(" opsweep ")[2]
        assert "passed  test_mine.py::test_the_same: old against old: " in table
        assert "passed  test_mine.py::test_the_same: sin: pass, " in table
        assert "failed  test_mine.py::test_a_fifth_more_work: new against old: " in table
        found = json.loads((tmp_path / "found.json").read_text())
        by_test = {(entry["test"], entry["did"]): entry for entry in found}
        slower = by_test["test_mine.py::test_a_fifth_more_work", "compare"]
        assert slower["outcome"] == "failed" and slower["speedup"] < 1
        assert slower["new"]["median_s"] > slower["old"]["median_s"]
        assert by_test["test_mine.py::test_the_same", "check_gradients"]["verdict"] == "pass"


def test_tests_that_do_not_use_it_notice_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n    assert not {'torch', 'runner'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-p", "no:xdist")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "opsweep" not in done.stdout.replace("opsweep-", "")  # a plugin's version is listed
    assert "--opsweep-json" in run_pytest(tmp_path, "--help").stdout


def test_a_file_that_cannot_be_written_is_refused_before_any_test_runs(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    for file in ("nosuch/found.json", "."):
        done = run_pytest(tmp_path, "-p", "no:xdist", f"--opsweep-json={file}")
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
        assert f"--opsweep-json={file} is no file in a folder that there is" in done.stderr
        assert "passed" not in done.stdout and "INTERNALERROR" not in done.stdout
