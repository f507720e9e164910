"""Both sides of ``job=ab`` in this process, without their workers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.analysis.changes import GATE_ERROR
from runner.config.implementation import BUILDING
from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.execute.cell_runner import CellRun, CellRunner
from runner.execute.interpreter import Interpreter
from runner.execute.turns import Plan, TurnsOutcome
from runner.execute.two_sides import TwoSides, _refuse_unused_path, _Talk
from runner.execute.worker import Worker
from runner.execute.worker_process import Preflight
from runner.rows.csv_store import read_rows, write_records, write_rows
from runner.rows.rows import PAIRS_FILE, BenchmarkRow, row_for
from tests.analysis.test_changes import a_run, visits_of
from tests.support.factories import cell


def two_sides(root: Path) -> TwoSides:
    """Both in a folder, where there is no accelerator."""
    sides = TwoSides(lambda: None, *(Interpreter.of(name, None, None, None) for name in "ab"))
    environment = {"torch": {"threads": 1}, "id": "1", "node": "n"}
    preflight = Preflight(environment, {"cpu": "cpu"}, {"cuda": "it is not here"}, [])
    sides._preflight = sides._before._preflight = preflight
    root.mkdir(exist_ok=True)
    sides.record_environment(root, 1, Report())
    return sides


def test_what_failed_on_both_sides_has_no_second_process(tmp_path: Path) -> None:
    sides, folder = two_sides(tmp_path), tmp_path / "0"
    folder.mkdir()
    run = CellRun(cell("add", size=8, device="cuda", timing={"processes": 2}), folder)
    (group,) = sides.groups([run], Report(), Compare(processes=2))
    for process in (1, 2):
        sides.run_group(group, process)
    (row,) = run.rows
    assert (group.processes, row.status, row.reason) == (2, "unavailable", "it is not here")
    assert (tmp_path / "a" / "0" / "results.csv").is_file()


def test_only_a_side_without_memory_beside_the_other_is_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides, folder = two_sides(tmp_path), tmp_path / "0"
    folder.mkdir()
    run = CellRun(cell("add", size=8), folder)
    in_turn, alone = ([row_for(run.cell, "failed", reason)] for reason in ("in turn", "alone"))
    outcome, plans = TurnsOutcome([in_turn, []], [[], []], []), list[Plan]()
    monkeypatch.setattr(
        sides.worker, "run_in_turn", lambda *asked: plans.append(asked[-1]) or outcome
    )
    monkeypatch.setattr(sides.worker, "run", lambda *_: (alone, []))
    monkeypatch.setattr(sides._before.worker, "run", lambda *_: pytest.fail("it has its row"))
    monkeypatch.setattr(CellRunner, "prepare", lambda *_, **__: None)
    sides.prepare([run.cell, cell("add", size=16), cell("exp", size=8)], require_devices=False)
    (group,) = sides.groups([run], Report(), Compare())
    sides.run_group(group, 1)
    assert plans[0].gate == {Compare().slower_than: GATE_ERROR / 4}  # three cells, one operation
    assert [row.reason for row in run.rows] == ["alone"]
    assert "in turn" in (tmp_path / "a" / "0" / "results.csv").read_text()


def test_a_code_of_the_rows_counts_where_the_comparison_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(
        name: str, before: str, after: str, spread: float, *, of_rows: int = 1, **quiet: bool
    ) -> int:
        """Of rows of which the first ended with these, which strict=true gives 1, or another."""
        sides = two_sides(tmp_path / name)
        for seed, (folder, of_first) in enumerate((("", after), ("a", before))):
            rows = a_run(Random(seed), 0.003)
            path = tmp_path / name / folder / "0" / "results.csv"
            path.parent.mkdir()
            write_rows(path, [replace(rows[0], status=of_first, median_s=None), *rows[1:]])
            if not folder:
                write_records(
                    path.with_name(PAIRS_FILE), visits_of(Random(0), rows[1:], {}, spread)
                )
        return sides.judged(of_rows, Report(), **quiet)

    assert judged("rows", "timeout", "timeout", 0.01) == 1
    assert judged("unclear", "timeout", "timeout", 0.3) == 4
    assert judged("wrong", "ok", "timeout", 0.01) == 3
    assert judged("repaired", "crashed", "ok", 0.01, of_rows=0) == 0  # of b alone
    assert judged("failed", "crashed", "crashed", 0.01, of_rows=0) == 1
    assert len(capsys.readouterr().out.splitlines()) > 180
    judged("quiet", "timeout", "timeout", 0.01, quiet=True)
    assert len(capsys.readouterr().out.splitlines()) < 60


def test_a_path_that_does_not_hold_what_the_cells_call_is_refused(tmp_path: Path) -> None:
    checkout, other = tmp_path / "main", tmp_path / "mainly"
    (checkout / "src").mkdir(parents=True)
    of = partial(Interpreter.of, "a", None, env=None)
    code = {"own": {"folder": str(checkout / "src")}, "numpy": {"folder": "/site-packages"}}
    for path in (None, checkout, checkout / "src"):
        _refuse_unused_path("a", of(path and str(path)), code)
    other.mkdir()
    with pytest.raises(ConfigError) as raised:
        _refuse_unused_path("a", of(str(other)), code)
    assert str(raised.value) == (
        f"ab.a.path={other} holds nothing that the cells call: own was found in {checkout}/src; "
        f"numpy was found in /site-packages; give the folder that holds it, such as {other}/src"
    )
    with pytest.raises(ConfigError, match="they call nothing but torch's own functions"):
        _refuse_unused_path("a", of(str(other)), {})
    (other / "torch").mkdir()
    _refuse_unused_path("a", of(str(other)), {})


OWN = """
import time, torch

def same(x):
    return torch.sin(x)

def refused(x):
    if SIDE == "a":
        raise NotImplementedError("not implemented for 'Float'")
    return torch.sin(x)

def slow(x):
    if SIDE == "b":
        time.sleep(0.06)
    return torch.sin(x)
"""


@pytest.mark.slow
def test_a_side_without_turns_keeps_both_workers_and_each_is_measured_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(f"SIDE = '{name}'\n{OWN}")
    paths = (Interpreter.of(name, None, str(tmp_path / name), None) for name in "ab")
    sides, root, begun = TwoSides(lambda: None, *paths), tmp_path / "out", list[int | None]()
    cells = [
        cell({"name": name, "call": f"own.{name}", "signature": "n -> n"}, size=8)
        for name in ("same", "refused", "slow", "same")
    ]
    try:
        sides.prepare(cells, require_devices=True)
        root.mkdir()
        sides.record_environment(root, len(cells), Report())
        for number, one in enumerate(cells):
            (root / str(number)).mkdir()
            run = CellRun(one, root / str(number))
            sides.run_group(*sides.groups([run], Report(), Compare()), 1)
            assert [row.status for row in run.rows] == ["ok"], run.rows
            workers = (sides._before.worker, sides.worker)
            begun += [worker._process and worker._process.pid for worker in workers]
        assert begun == begun[:2] * 4 and None not in begun

        # a file that is edited meanwhile is found where a worker begins again
        (tmp_path / "a" / "own.py").write_text(OWN)
        sides._before.worker.close()
        with pytest.raises(ConfigError, match=r"^own.py has changed since .*; run all again$"):
            sides.run_group(*sides.groups([run], Report(), Compare()), 1)
    finally:
        sides.close()
    tables = [root / "a" / str(number) / "results.csv" for number in range(4)]
    rows = [row for table in tables for row in read_rows(table, BenchmarkRow)]
    assert [row.status for row in rows] == ["ok", "unsupported", "ok", "ok"]
    visited = [(root / str(number) / "pairs.csv").is_file() for number in range(4)]
    assert visited == [True, False, False, True]


class Says(Worker):
    """A worker that says these things, each so many seconds after the last."""

    def __init__(self, clock: list[float], *said: tuple[float, tuple[Any, ...]]) -> None:
        super().__init__()
        self._clock, self._said, self.left_s = clock, said, list[float]()

    def talk(
        self, request: object, logs: object, time_left_s: Callable[[], float]
    ) -> Iterator[tuple[Any, ...]]:
        for seconds, message in self._said:
            self.left_s.append(time_left_s())
            self._clock[0] += seconds
            yield message


def test_a_side_is_charged_neither_for_building_nor_while_the_other_one_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("runner.execute.two_sides.time.monotonic", lambda: clock[0])
    worker = Says(
        clock,
        (200, ("begun",)),  # it imports torch
        (3, ("side", 0, "checking")),
        (1, ("side", 0, BUILDING)),
        (90, ("side", 0, "timing")),
        (2, ("opened", (1, 2, 3), 4, 5)),
        (1, ("placed",)),
    )
    limit = {"time_s": 10, "build_time_s": 100}
    talk = _Talk(worker, cell("add", size=8, limit=limit), tmp_path / "log", Plan(0.02))
    talk.hear("opened")
    clock[0] += 500  # while the other one opens
    monkeypatch.setattr(worker, "tell", lambda *said: None)
    talk.hear("placed", 0, 0)
    # patience_s is 0 here, and both sides share their time
    assert worker.left_s[1:] == [20, 17, 100, 16, 14]
