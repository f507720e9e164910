"""``compare_operations.csv``: what an operation's cells tell together, where none of them does."""

from dataclasses import replace
from random import Random

import pytest

from runner.analysis.changes import Changes, changes
from runner.analysis.pairs import Pairs
from runner.rows.rows import BenchmarkRow, PairVisit
from tests.support.factories import row

OPERATIONS = 20
EACH = 6  # cells of an operation, of 2 us to 5 ms
PROCESSES, VISITS = 5, 6


def cells_of_operations() -> list[BenchmarkRow]:
    rows = []
    for number in range(OPERATIONS * EACH):
        operation, place = divmod(number, EACH)
        name = {"cell": f"c{number:015x}", "op": f"op{operation}", "size": f"{8 << place}x8"}
        rows.append(row("cpu", 2e-6 * 5.0**place, **name))
    return rows


def two_environments(random: Random, slower: str, times: float, together: float) -> Changes:
    """Sides that took turns: what a process has of its own, cells of an operation in part share."""
    rows, visits = cells_of_operations(), []
    shared = {
        (row.op, process): random.gauss(0, together) for row in rows for process in range(PROCESSES)
    }
    for cell in rows:
        seconds = cell.median_s or 0.0
        for process in range(PROCESSES):
            own = random.gauss(0, 0.004) + random.gauss(0, 8e-8) / seconds
            took_s = seconds * (1 + own + shared[cell.op, process])
            took_s *= times if cell.op == slower else 1.0
            for visit in range(VISITS):
                pair = seconds, took_s * (1 + random.gauss(0, 0.01)), process + 1
                visits.append(PairVisit(cell.cell, cell.cell, visit, 0, 1, 0, 1, *pair))
    return changes([rows], [rows], margin=0.01, slower_than=0.02, pairs=Pairs(visits))


@pytest.mark.parametrize("together", [0.0, 0.01])
def test_equal_environments_raise_no_alarm_and_a_little_slower_operation_is_named(
    together: float,
) -> None:
    others = named = claimed = held = 0
    for seed in range(10):
        found = two_environments(Random(seed), "op7", 1.05, together)
        assert [change.op for change in found.operations] == [f"op{n}" for n in range(OPERATIONS)]
        others += sum(change.is_slower for change in found.operations if change.op != "op7")
        others += sum(change.is_slower for change in found.cells if change.op != "op7")
        claimed += sum(change.verdict in ("faster", "slower") for change in found.operations)
        held += sum(change.low <= 1 <= change.high for change in found.operations)
        named += found.operations[7].is_slower
        assert found.operations[7].cells == EACH
    assert (others, named) == ((0, 10) if together == 0.0 else (0, named))
    assert claimed <= 12  # the ten that are slower, and one in ten by chance
    assert held >= 0.93 * 10 * (OPERATIONS - 1)


def runs_of(
    random: Random, count: int, slower: str = "", more: float = 0.0
) -> list[list[BenchmarkRow]]:
    """Runs whose cells vary by 3 %, and whose operations vary by another 1 % together."""
    runs = []
    for _ in range(count):
        shared = {f"op{number}": random.gauss(0, 0.01) for number in range(OPERATIONS)}
        run = []
        for cell in cells_of_operations():
            times = 1 + shared[cell.op] + random.gauss(0, 0.03) + more * (cell.op == slower)
            seconds = (cell.median_s or 0.0) * times
            ends = {"ci_low_s": 0.99 * seconds, "ci_high_s": 1.01 * seconds}
            run.append(replace(cell, median_s=seconds, **ends))
        runs.append(run)
    return runs


@pytest.mark.parametrize(("runs", "more"), [(1, 0.3), (3, 0.15)])
def test_saved_runs_tell_of_an_operation_more_than_of_its_cells(runs: int, more: float) -> None:
    alarms = named = cells = 0
    for seed in range(10):
        random = Random(seed)
        before, after, slower = runs_of(random, runs), runs_of(random, runs), f"op{seed}"
        equal = changes(before, after, margin=0.01, slower_than=0.05)
        alarms += sum(change.is_slower for change in (*equal.cells, *equal.operations))
        after = runs_of(random, runs, slower, more)
        found = changes(before, after, margin=0.01, slower_than=0.05)
        assert {c.op for c in found.operations if c.is_slower} <= {slower}
        named += any(change.is_slower for change in found.operations)
        cells += sum(change.is_slower for change in found.cells)
    assert (alarms, cells < EACH * 10) == (0, True)
    assert named >= 9


def test_of_few_operations_or_of_one_cell_each_nothing_is_said() -> None:
    random = Random(0)
    (before,), (after,) = runs_of(random, 1), runs_of(random, 1)
    few = [[row for row in run if row.op in ("op1", "op2")] for run in (before, after)]
    single = [[row for row in run if row.size == "8x8"] for run in (before, after)]
    for old, new in (few, single):
        assert not changes([old], [new], margin=0.01, slower_than=0.05).operations


def test_a_cell_that_lacks_a_run_tells_nothing_of_its_operation() -> None:
    random = Random(0)
    before, after = runs_of(random, 3), runs_of(random, 3)
    after[1][0] = replace(after[1][0], flags=("contended",))
    found = changes(before, after, margin=0.01, slower_than=0.05)
    assert [change.cells for change in found.operations[:2]] == [EACH - 1, EACH]


def test_devices_and_implementations_are_told_apart() -> None:
    random = Random(0)
    (before,), (after,) = runs_of(random, 1), runs_of(random, 1)
    for run in (before, after):
        run += [replace(row, cell=f"d{row.cell[1:]}", device="cuda") for row in run]
    found = changes([before], [after], margin=0.01, slower_than=0.05).operations
    assert [change.label for change in found[:1]] == ["op0 cpu"]
    assert len(found) == 2 * OPERATIONS and {change.device for change in found} == {"cpu", "cuda"}
