"""``compare_operations.csv``: what an operation's cells tell together, where none of them does."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from random import Random
from statistics import fmean

import pytest

from runner.analysis.changes import GATE_ERROR, Changes, changes
from runner.analysis.operation_changes import LogTimes, OperationChange, operation_changes
from runner.analysis.pairs import Pairs
from runner.rows.rows import BenchmarkRow, PairVisit
from runner.stats.log_estimate import REACH
from tests.support.factories import row

OPERATIONS = 20
EACH = 6  # cells of an operation, of 2 us to 5 ms
PROCESSES, VISITS = 5, 3
GATE = {"margin": 0.01, "slower_than": 0.05}
TimesOfSides = tuple[dict[int, float], dict[int, float]]


def changes_of(
    cells: Mapping[str, Sequence[TimesOfSides]],
    deviations: Sequence[float] = (),
) -> list[OperationChange]:
    """Those of operations of whose cells the log times are given, by the numbers of the runs."""
    times = []
    for op, of in cells.items():
        each = zip(of, deviations or [0.03] * len(of), strict=True)
        times += [LogTimes((op, None, "cpu"), *sides, deviation) for sides, deviation in each]
    counts = Counter(cell.names for cell in times)
    return operation_changes(times, counts, 0.01, in_turn=False)


def cells_of_operations() -> list[BenchmarkRow]:
    rows = []
    for number in range(OPERATIONS * EACH):
        operation, place = divmod(number, EACH)
        name = {"cell": f"c{number:015x}", "op": f"op{operation}", "size": f"{8 << place}x8"}
        rows.append(row("cpu", 2e-6 * 5.0**place, **name))
    return rows


def two_environments(
    random: Random,
    slower: str = "",
    times: float = 1.0,
    together: float = 0.0,
    allowed: float = 0.0,
    processes: Mapping[str, int] | None = None,
) -> Changes:
    """Sides that took turns: what a process has of its own, cells of an operation in part share."""
    rows, visits = cells_of_operations(), []
    names = product(dict.fromkeys(row.op for row in rows), range(8))
    shared = {name: random.gauss(0, together) for name in names}
    for cell in rows:
        seconds = cell.median_s or 0.0
        for process in range((processes or {}).get(cell.cell, PROCESSES)):
            own = random.gauss(0, 0.004) + random.gauss(0, 8e-8) / seconds
            took_s = seconds * (1 + own + shared[cell.op, process])
            took_s *= times if cell.op == slower else 1.0
            for visit in range(VISITS):
                pair = seconds, took_s * (1 + random.gauss(0, 0.007)), process + 1
                visits.append(PairVisit(cell.cell, cell.cell, visit, 0, 1, 0, 1, *pair))
    return changes([rows], [rows], margin=0.01, slower_than=allowed, pairs=Pairs(visits))


@pytest.mark.parametrize(("together", "least"), [(0.0, 10), (0.01, 7)])
def test_an_operation_that_is_a_little_slower_is_named_and_nothing_else(
    together: float, least: int
) -> None:
    others = named = claimed = held = 0
    for seed in range(10):
        found = two_environments(Random(seed), "op7", 1.05, together, allowed=0.02)
        assert [change.op for change in found.operations] == [f"op{n}" for n in range(OPERATIONS)]
        alarms = [change.op for change in chain(*found) if change.is_slower]
        others += len(alarms) - alarms.count("op7")
        claimed += sum(change.verdict in ("faster", "slower") for change in found.operations)
        held += sum(change.low <= 1 <= change.high for change in found.operations)
        named += found.operations[7].is_slower
        assert found.operations[7].of_cells == f"{EACH}"
    assert others == 0 and named >= least
    assert claimed <= 12  # the ten that are slower, and one in ten by chance
    assert held >= 0.93 * 10 * (OPERATIONS - 1)


@pytest.mark.parametrize("together", [0.0, 0.01, 0.03])
def test_of_equal_environments_nothing_is_named_though_a_gate_allows_nothing(
    together: float,
) -> None:
    for seed in range(12):
        found = two_environments(Random(seed), together=together)
        assert not [change.label for change in chain(*found) if change.is_slower], seed


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
        equal = changes(before, after, **GATE)
        alarms += sum(change.is_slower for change in (*equal.cells, *equal.operations))
        after = runs_of(random, runs, slower, more)
        found = changes(before, after, **GATE)
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
        assert not changes([old], [new], **GATE).operations


def two_sides(random: Random, shared: Sequence[float]) -> TimesOfSides:
    """A cell's log times in runs of both sides, which have so much in common with other cells."""
    logs = [-7.0 + common + random.gauss(0, 0.03) for common in shared]
    return dict(enumerate(logs[:3])), dict(enumerate(logs[3:]))


def test_what_an_operation_varies_by_more_than_others_raises_no_alarm() -> None:
    """Of one of twenty, whose six cells vary by another 10 % together from run to run."""
    alarms = 0
    for seed in range(150):
        random = Random(seed)
        cells = {}
        for number in range(OPERATIONS):
            shared = [random.gauss(0, 0.0 if number else 0.1) for _ in range(6)]
            cells[f"op{number}"] = [two_sides(random, shared) for _ in range(EACH)]
        found = changes_of(cells)
        certain = GATE_ERROR / (OPERATIONS * (EACH + 1))
        alarms += any(change.estimate.p_slower(0.05) <= certain for change in found)
    assert alarms <= 1


def test_each_operation_has_the_runs_that_most_of_its_cells_have() -> None:
    """Whatever others have; and what a run has of its own is taken from each of its cells."""
    of_run = {0: 0.3, 1: 0.0, 2: -0.1, 3: 0.2}
    times = {f"op{n}": [[0, 1, 2]] * EACH for n in range(OPERATIONS)}
    times["op0"] = [[0, 1, 2, 3]] * EACH
    times["op1"] = [[0, 1, 2]] * 4 + [[0, 1, 2, 3], [0, 2]]
    times["op2"] = [[0, 1], [0, 2], [1, 2], [1, 2], [0, 1, 2], [0]]
    found = changes_of(
        {
            op: [({n: of_run[n] + 0.1 * place for n in runs}, {7: 0.1 * place}) for runs in cells]
            for place, (op, cells) in enumerate(times.items())
        }
    )
    assert [change.of_cells for change in found[:4]] == ["6", "5/6", "3/6", "6"]
    means = [fmean(map(of_run.get, runs)) for runs in ([0, 1, 2, 3], [0, 1, 2], [1, 2], [0, 1, 2])]
    assert [math.log(change.speedup) for change in found[:4]] == pytest.approx(means)


def test_a_cell_with_more_processes_or_runs_silences_no_operation() -> None:
    found = two_environments(Random(0), processes={"c000000000000000": 8})
    assert len(found.operations) == OPERATIONS
    random = Random(0)
    before, after = runs_of(random, 3), runs_of(random, 3)
    before[2] = [row for row in before[2] if row.op in ("op1", "op2", "op3")]
    after[1][0] = replace(after[1][0], flags=("contended",))
    found = changes(before, after, **GATE)
    assert [change.of_cells for change in found.operations] == ["5/6", *["6"] * 19]


def test_a_cell_that_never_varies_is_among_the_mean_and_none_is_all_of_it() -> None:
    def speedups(*deviations: float) -> list[float]:
        cells = {f"op{n}": [({0: 0.1 * of}, {0: 0.0}) for of in range(3)] for n in range(20)}
        return [math.log(change.speedup) for change in changes_of(cells, deviations)]

    assert speedups(0.0, 0.0, 0.0) == pytest.approx([0.1] * 20)
    assert speedups(0.0, 0.0, 0.02) == pytest.approx([0.1] * 20)  # each as the one that varies
    assert speedups(1e-6, 0.02, 0.02) == pytest.approx([0.05] * 20)  # by 4, 1 and 1


def test_what_all_cells_have_in_common_is_in_an_operations_interval_once() -> None:
    random = Random(0)
    (before,), (after,) = runs_of(random, 1), runs_of(random, 1)
    wide = [replace(row, ci_low_s=row.median_s / 2, ci_high_s=row.median_s * 2) for row in before]
    equal, later = (
        changes([wide], [[replace(row, median_s=row.median_s * times) for row in after]], **GATE)
        for times in (1.0, 1.03)
    )
    for one, other in zip(equal.operations, later.operations, strict=True):
        common = math.log(1.03) / REACH
        assert other.estimate.deviation == pytest.approx(one.estimate.deviation + common, abs=1e-3)


def test_devices_and_implementations_are_told_apart() -> None:
    random = Random(0)
    (before,), (after,) = runs_of(random, 1), runs_of(random, 1)
    for run in (before, after):
        run += [replace(row, cell=f"d{row.cell[1:]}", device="cuda") for row in run]
    found = changes([before], [after], **GATE).operations
    assert [change.label for change in found[:1]] == ["op0 cpu"]
    assert len(found) == 2 * OPERATIONS and {change.device for change in found} == {"cpu", "cuda"}
