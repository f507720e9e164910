"""Which rows are final, and which cells run again since what decided them has changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.config.implementation import BUILDING
from runner.config.schema import Compare, Timing
from runner.errors import ConfigError
from runner.execute.worker import Worker
from runner.rows.csv_store import write_records, write_rows
from runner.rows.rows import PAIRS_FILE, BenchmarkRow, PairVisit, row_for
from runner.sweep.resume import half_compared, unfinished, what_was_left, words_to_retry
from tests.support import factories


@pytest.mark.parametrize(
    ("status", "before", "now", "runs"),
    [
        ("timeout", {"time_s": 1.0}, {"time_s": 1.0}, False),
        ("timeout", {"time_s": 1.0}, {"time_s": 0.5}, False),
        ("timeout", {"time_s": 1.0}, {"time_s": 1.5}, True),
        ("timeout", {"time_s": 1.0}, {"time_s": 1.0, "memory_bytes": 9}, False),
        ("out_of_memory", {"memory_bytes": 10}, {"memory_bytes": 10}, False),
        ("out_of_memory", {"memory_bytes": 10}, {"memory_bytes": 11}, True),
        ("out_of_memory", {"memory_bytes": 10}, {}, True),
        ("out_of_memory", {}, {"memory_bytes": 10}, False),
        ("unsupported", {}, {}, False),
        ("failed", {}, {}, True),
        ("crashed", {}, {}, True),
    ],
)
def test_a_cell_runs_again_where_its_limit_was_raised(
    status: str, before: dict[str, float], now: dict[str, float], runs: bool
) -> None:
    row = row_for(factories.cell(size=8, limit=before), status, "why")
    assert unfinished([row], [factories.cell(size=8, limit=now)], (), set()) == [0] * runs
    assert unfinished([row], [factories.cell(size=8, limit=before)], (), {status}) == [0]


class Stands(Worker):
    """A worker that stands still at a step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step = step

    def talk(self, *_: object) -> Iterator[tuple[Any, ...]]:
        yield from [("begun",), ("step", self._step)]


@pytest.mark.parametrize(
    ("step", "now", "runs"),
    [
        (BUILDING, {}, False),
        (BUILDING, {"build_time_s": 300}, False),
        (BUILDING, {"time_s": 5_000_000}, False),
        (BUILDING, {"build_time_s": 3_000_000}, True),
        ("timing", {}, False),
        ("timing", {"build_time_s": 3_000_000}, False),
        ("timing", {"time_s": 1_234_562}, True),
    ],
)
def test_of_two_limits_the_one_that_ended_a_cell_counts(
    step: str, now: dict[str, float], runs: bool, tmp_path: Path
) -> None:
    before = {"time_s": 1_234_561, "build_time_s": 1_234_561}
    (row,), _ = Stands(step).run(factories.cell(size=8, limit=before), tmp_path / "run.log")
    assert row.status == "timeout"
    cell = factories.cell(size=8, limit=before | now)
    assert unfinished([row], [cell], (), set()) == [0] * runs


def test_a_flag_may_be_asked_for_and_what_is_left_is_said() -> None:
    cells = [factories.cell(size=size) for size in (4, 8, 16)]
    rows = [factories.row(cell=cell.identity, flags=("placement",)) for cell in cells[:2]]
    rows.append(factories.row(cell=cells[2].identity, flags=("contended", "multimodal")))
    assert what_was_left([factories.row(flags=("slow_machine",))]).startswith(
        "left as they are: 1 slow_machine, as"
    )
    assert all(isinstance(row, BenchmarkRow) for row in rows)
    assert unfinished(rows, cells, (), words_to_retry("contended")) == [2]
    assert unfinished(rows, cells, {cells[1].identity}, set()) == [1]
    assert what_was_left(rows).startswith("left as they are: 1 contended, as nothing")
    assert what_was_left(rows[:2]) == ""
    with pytest.raises(ConfigError, match=r"retry=contendet is no .* \(did you mean 'contended'"):
        words_to_retry(["timeout", "contendet"])


@pytest.mark.parametrize(
    ("processes", "lacking"),
    [
        ([2, 2, 2], []),
        ([2, 1, 1], [1, 2]),  # ended in the second round
        ([1, 1, 1], [0, 1, 2]),  # or before it
        ([2, 1, 2], []),  # the second one's process died there
        ([2, 0, 1], [2]),  # a cell that took no turns
    ],
)
def test_a_comparison_that_lacks_a_process_is_not_done(
    tmp_path: Path, processes: list[int], lacking: list[int]
) -> None:
    cells = [factories.cell(size=size, timing=Timing()) for size in (4, 8, 16)]
    for number, (cell, latest) in enumerate(zip(cells, processes, strict=True)):
        folder = tmp_path / f"{number}_add"
        folder.mkdir()
        write_rows(folder / "results.csv", [factories.row(cell=cell.identity)])
        visits = [
            PairVisit("base", cell.identity, n, 0, 1, 0, 1, 1.0, 1.0, process=process)
            for process in range(1, latest + 1)
            for n in range(3)
        ]
        if visits:
            write_records(folder / PAIRS_FILE, visits)
    found = half_compared(tmp_path, cells, Compare(processes=2))
    assert found == {cells[number].identity for number in lacking}
    assert not half_compared(tmp_path, cells, Compare(processes=1))
