"""A cell that is ended among its checks keeps those that had ended, and says how it ended."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.execute.cell_run import run_cell
from runner.execute.worker import Worker
from runner.report.conclude import exit_code
from runner.rows.rows import Row
from tests.support import awkward
from tests.support.factories import STATE, cell, ran

X = {"values": {"x": [0.5, -1.0, 2.0]}}
TENSORS = {
    "name": "ends",
    "result": "torch.full((2,), 3.0)",
    "expect": {"values": [3, 4], "shape": [2], "reproducible": True},
}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A process, and another one whenever a cell has ended it."""
    worker = Worker()
    yield worker
    worker.close()


def subject(function: str, *, is_case: bool) -> dict[str, Any]:
    """A cell's values for a function of :mod:`tests.support.awkward`, as a case or operation."""
    dotted = f"tests.support.awkward.{function}"
    if is_case:
        return {"case": {"name": "own", "function": dotted, **X}, "dtype": "float64"}
    op = {"name": "own", "call": dotted, "signature": "m n -> m n"}
    return {"op": op, "size": 4, "dtype": "float64", "job": "autograd"}


def has_kept_its_failures(rows: list[Row], status: str, reason: str) -> None:
    """Assert that checks come first, each once, a failed one among them, and then the end."""
    *checks, last = rows
    assert (last.status, getattr(last, "verdict", None)) == (status, None)
    assert last.reason is not None and reason in last.reason, last.reason
    verdicts = Counter(getattr(row, "verdict", None) for row in checks)
    assert verdicts["fail"] and None not in verdicts, verdicts
    assert {row.status for row in checks} == {"ok", "failed"} or set(verdicts) == {"fail"}
    named = Counter(
        tuple(getattr(row, name) for name in ("probe", "oracle", "argument", "memory_layout"))
        for row in checks
    )
    assert set(named.values()) == {1}, named
    assert exit_code(rows, strict=False) == 1


@pytest.mark.parametrize("is_case", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_gradient_that_failed_before_the_process_ended_is_shown(
    worker: Worker, tmp_path: Path, is_case: bool
) -> None:
    ended = cell(**subject("wrong_and_ends", is_case=is_case))
    rows, samples = worker.run(ended, tmp_path / "log")
    has_kept_its_failures(rows, "crashed", "exit code 3, while checking gradients")
    assert not samples
    assert any(getattr(row, "script", None) for row in rows)


@pytest.mark.parametrize("is_case", [True, False])
def test_a_gradient_that_failed_before_something_was_raised_is_shown(
    monkeypatch: pytest.MonkeyPatch, is_case: bool
) -> None:
    monkeypatch.setattr(awkward._Halved, "calls", 0)
    ended = cell(**subject("wrong_and_raises", is_case=is_case))
    rows = list(run_cell(ended, STATE).rows)
    has_kept_its_failures(rows, "failed", "SystemExit")


@pytest.mark.slow
def test_a_gradient_that_failed_before_the_time_was_over_is_shown(
    worker: Worker, tmp_path: Path
) -> None:
    """It hangs after calls that take a second on a machine that is free."""
    ended = cell(**subject("wrong_and_hangs", is_case=True), limit={"time_s": 20.0})
    rows, _ = worker.run(ended, tmp_path / "log")
    has_kept_its_failures(rows, "timeout", "limit.time_s=20 s, while checking gradients")


def test_a_benchmark_says_what_its_check_had_found_before_something_was_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awkward._Halved, "calls", 0)
    op = {"name": "own", "call": "tests.support.awkward.wrong_and_raises_in_a_benchmark"}
    row = ran(op | {"signature": "m n -> m n"}, size=8)
    assert (row.status, row.gradient) == ("ok", "fail")
    assert "wrong_gradient" in row.flags
    assert row.median_s and row.reason and "; a check ended with SystemExit" in row.reason
    assert exit_code([row], strict=False) == 1


def test_what_was_expected_of_a_tensor_is_shown_where_a_later_check_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.tasks.tensors._reproducible", lambda *given: [].pop())
    *checks, last = run_cell(cell(case=TENSORS), STATE).rows
    found = [(getattr(row, "check", None), getattr(row, "verdict", None)) for row in checks]
    assert found == [("values", "fail"), ("shape", "pass")]
    assert last.status == "failed" and "IndexError" in (last.reason or "")
