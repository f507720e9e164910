"""A run in the formats of other tools, read by their own code where that is a package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.config.schema import EXPORTS
from runner.report.export import FORMATS, export
from tests.support.factories import row

STARTED = "2026-01-02T03:04:05"
ENVIRONMENT = {"host": {"name": "here"}, "git": {"commit": "a1b2"}, "started": STARTED}
OF_TIMES = {
    "min_s": 0.9e-3,
    "q1_s": 0.95e-3,
    "q3_s": 1.1e-3,
    "mean_s": 1.02e-3,
    "max_s": 2e-3,
    "samples": 40,
    "calls_per_sample": 3,
}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    rows = [
        row("cpu", 1e-3, op="add", ci_low_s=0.99e-3, ci_high_s=1.01e-3, **OF_TIMES),
        row("cpu", 2e-3, op="mul", ci_low_s=None, ci_high_s=None, **OF_TIMES),
        row("cpu", 1e-3, op="sub", flags=("contended",)),
        row("cpu", None, op="div", status="crashed"),
    ]
    assert export(tmp_path, EXPORTS, rows, ENVIRONMENT) == 2
    return tmp_path


def test_each_format_that_may_be_asked_for_is_made() -> None:
    assert tuple(FORMATS) == EXPORTS


def test_a_custom_benchmark_has_a_name_a_value_and_a_unit(exported: Path) -> None:
    add, mul = json.loads((exported / "github_action_benchmark.json").read_text())
    assert add["name"].startswith("add ") and mul["name"].startswith("mul ")
    assert (add["value"], add["unit"], add["range"]) == (1e-3, "s", "0.00099 to 0.00101")
    assert "range" not in mul  # whose median has no interval


def test_a_file_of_pytest_benchmark_has_what_was_measured_alone(exported: Path) -> None:
    said = json.loads((exported / "pytest_benchmark.json").read_text())
    stats = said["benchmarks"][0]["stats"]
    assert stats["median"] == 1e-3 and stats["iqr"] == pytest.approx(0.15e-3)
    assert stats["stddev"] == pytest.approx(0.15e-3 / 1.349, rel=1e-3)
    assert stats["total"] == pytest.approx(1.02e-3 * 40)
    assert stats["iqr_outliers"] is None
    assert said["commit_info"]["id"] == "a1b2"


def test_the_commit_is_that_of_the_code_that_was_measured(tmp_path: Path) -> None:
    code = {"installed": {"git": None}, "own": {"git": {"commit": "c3d4", "changed": True}}}
    export(tmp_path, EXPORTS, [row("cpu", 1e-3)], ENVIRONMENT | {"code": code})
    said = json.loads((tmp_path / "pytest_benchmark.json").read_text())
    assert said["commit_info"] == {"id": "c3d4", "dirty": True}


def test_a_changed_timing_begins_no_new_series(tmp_path: Path) -> None:
    rows = [
        row("cpu", 1e-3, op=op, variant=variant) for op, variant in (("add", "v1"), ("mul", "v1"))
    ]
    export(tmp_path, EXPORTS, [*rows, row("cpu", 2e-3, op="mul", variant="v2")], ENVIRONMENT)
    usual = "8x8 float32 cpu threads=2"
    names = [f"add {usual}", f"mul {usual} v1", f"mul {usual} v2"]
    said = json.loads((tmp_path / "github_action_benchmark.json").read_text())
    assert [entry["name"] for entry in said] == names
    said = json.loads((tmp_path / "pytest_benchmark.json").read_text())
    assert [entry["fullname"] for entry in said["benchmarks"]] == names


def test_pytest_benchmark_reads_and_shows_it(exported: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="the extra tables is not installed")
    file = str(exported / "pytest_benchmark.json")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", file, "--name=long"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exported, check=False)
    assert done.returncode == 0, done.stderr
    (add,) = [line for line in done.stdout.splitlines() if line.startswith("add ")]
    assert "1,000.0000" in add and "950.0000" not in add  # us, the median
