"""How slow memory was around cells: which ones say it, and of which it is said."""

from dataclasses import replace

import pytest

from runner.execute.cell_run import run_cell
from runner.measure.kernels import OF_MEMORY
from runner.measure.machine_best import KEPT, known_best, remember
from runner.rows.rows import BenchmarkRow
from runner.tasks import calm, memory_watch
from runner.tasks.task import WorkerState
from tests.support.factories import QUICK, cell

LONG = replace(QUICK, max_time_s=calm.SHORTEST_S)


@pytest.fixture
def state(tmp_path, monkeypatch):
    """That of a worker to whose runs only what a test says is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return WorkerState()


def benchmark(state, op, **values) -> BenchmarkRow:
    """The row of a cell that a worker in that state runs."""
    (row,) = run_cell(cell(op, threads=1, **{"timing": LONG, **values}), state).rows
    assert isinstance(row, BenchmarkRow) and row.status == "ok", row
    return row


def seen_best(state, addition_s):
    """Have an earlier run have seen that, on this machine with one thread."""
    name = benchmark(state, "add", size=8).device_name
    remember(name, 1, 1.0, 600, [addition_s], kernels=OF_MEMORY)
    return name


def test_a_call_that_is_bound_by_memory_is_flagged_where_that_is_slow(state):
    seen_best(state, 1e-9)
    for op, is_bound in {"add": True, "matmul": False}.items():
        row = benchmark(state, op, size=1024)
        assert row.memory_slowdown is not None and row.memory_slowdown > 1.15
        assert ("slow_memory" in row.flags) == is_bound


def test_where_memory_is_as_fast_as_ever_there_is_no_flag(state):
    name = seen_best(state, 1.0)
    row = benchmark(state, "add", size=1024)
    assert row.memory_slowdown is not None and row.memory_slowdown < 1.15
    assert "slow_memory" not in row.flags

    # what this run saw is kept beside it, for the next ones
    sentinel = state.sentinels[name, 1, OF_MEMORY]
    sentinel.seconds = OF_MEMORY.kept_after
    calm.keep_best(state)
    lines = {line.at_s: line.kernels["addition_s"] for line in KEPT[OF_MEMORY].read()}
    assert list(lines.values()) == [1.0, sentinel.own_best[0]]
    assert known_best(name, 1) is None


@pytest.mark.parametrize(
    "values", [{"size": 512}, {"size": 1024, "timing": replace(QUICK, max_time_s=0.1)}]
)
def test_a_cell_that_moves_little_or_has_no_time_does_not_look(state, values):
    seen_best(state, 1e-9)
    row = benchmark(state, "add", **values)
    assert row.memory_slowdown is None and "slow_memory" not in row.flags


def test_the_slower_one_of_two_readings_counts(state):
    seen_best(state, 1e-4)
    benchmark(state, "add", size=1024)
    (sentinel,) = (of for (*_, kernels), of in state.sentinels.items() if kernels is OF_MEMORY)
    watch = memory_watch.MemoryWatch(2**20, sentinel, [(2e-4,), (1e-4,)])
    assert watch.slowdown == pytest.approx(2.0)
