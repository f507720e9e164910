"""What a run's process is started with, and how it shares what there is."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.cells.cell import CUBLAS, Cell
from runner.execute.cell_runner import CellGroup, CellRun, CellRunner
from runner.execute.turns import Plan
from runner.execute.worker_process import Preflight
from runner.rows.rows import Row, row_for
from tests.support.factories import cell


@pytest.mark.slow
def test_what_deterministic_products_need_is_there_when_the_process_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CUBLAS[0], "")  # so that it is put back
    monkeypatch.delenv(CUBLAS[0])
    runner = CellRunner(lambda: None)
    try:
        runner.prepare([cell(), cell(deterministic=True)], require_devices=False)
        assert CUBLAS[0] not in runner.environment["variables"]  # the CPU needs none
        cells = [cell(), cell(deterministic=True, device="gpu")]
        runner.prepare(cells, require_devices=False)
        assert runner.environment["variables"][CUBLAS[0]] == os.environ[CUBLAS[0]] == CUBLAS[1]
    finally:
        runner.close()


class Small(CellRunner):
    """One whose memory holds two sides; the third one of a size has only ever some alone."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.ran: list[list[str]] = []

    def run_in_turn(
        self, cells: Sequence[Cell], folders: Sequence[Path], plan: Plan, process: int = 1
    ) -> list[list[Row]] | None:
        self.ran.append([cell.dtype for cell in cells])
        if plan.visits_only:
            return []
        fits = [n < 2 and cell.dtype != "float64" for n, cell in enumerate(cells)]
        return [
            [row_for(cell, "ok", None)] if is_fit else []
            for cell, is_fit in zip(cells, fits, strict=True)
        ]

    def run_once(self, cell: Cell, folder: Path, process: int = 1) -> list[Row]:
        self.ran.append([cell.dtype])
        return [row_for(cell, "ok", None)]


def test_a_side_without_memory_beside_all_others_is_measured_beside_the_baseline() -> None:
    dtypes = ["float32", "float16", "bfloat16", "float64"]
    runs = [CellRun(cell(dtype=dtype)) for dtype in dtypes]
    runner = Small()
    runner.run_group(CellGroup(runs, 1), 1)
    beside = [["float32", "bfloat16"], ["float32", "float64"], ["float64"]]
    assert runner.ran == [dtypes, *beside]
    assert all(run.rows and run.did_well for run in runs)

    # so it is in the next process, which is for visits alone
    runner, group = Small(), CellGroup(runs, 2)
    for process in (1, 2):
        runner.run_group(group, process)
    assert runner.ran[len(beside) + 1 :] == [["float32", "float16"], *beside[:2]]


def test_memory_is_that_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.execute.cell_runner.free_memory_bytes", lambda: 7)
    runner = CellRunner(lambda: None)
    described = {"devices": [{"device": "cpu"}, {"device": "cuda:0", "total_memory": 9}]}
    devices = {"cpu": "cpu", "gpu": "cuda:0", "xpu": "xpu:0"}
    runner._preflight = Preflight(described, devices, {}, [], False)
    assert runner._memory_bytes() == {"cpu": 7, "gpu": 9, "xpu": 7}

    # which another interpreter says
    told = {"torch": {"threads": 2}, "devices": [{"device": "cuda:0", "total_memory": "9"}]}
    with pytest.raises(ValueError, match="no sizes"):
        Preflight.of(told, devices, {}, [], False)
