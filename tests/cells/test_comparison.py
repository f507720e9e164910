"""What is compared where the user names nothing, and which cells are measured in turn."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runner.cells.cell import Cell
from runner.cells.comparison import (
    COPIES,
    in_turn,
    in_words,
    process_count,
    rounds_of,
    settled,
    with_partners,
)
from runner.config.schema import Compare, Limit, Report, Timing
from runner.config.workload.call import Call
from tests.support.factories import cell

ANY = Report()


def cells(**axes: list[object]) -> list[Cell]:
    """A grid of add 8x8 along one or two axes."""
    made = [{"size": "8"}]
    for axis, values in axes.items():
        made = [{**known, axis: value} for known in made for value in values]
    return [cell("add", **known) for known in made]


@pytest.mark.parametrize(
    ("axes", "accelerated", "baseline"),
    [
        ({"device": ["cpu", "gpu"], "dtype": ["float32", "float64"]}, True, {"device": "cpu"}),
        ({"device": ["cpu", "gpu"], "dtype": ["float64", "float32"]}, False, {"dtype": "float32"}),
        ({"dtype": ["float16", "bfloat16"]}, False, {"dtype": "float16"}),
        ({"threads": [2, 1], "layout": ["transposed", "contiguous"]}, False, {"threads": 2}),
        ({"layout": ["transposed", "contiguous"]}, False, {"layout": "contiguous"}),
        ({"compile": [True, False], "cache": ["warm", "cold"]}, False, {"compile": "off"}),
        ({"direction": ["backward", "forward"]}, False, {"direction": "forward"}),
        ({"device": ["gpu"]}, True, None),
        ({"seed": [0, 1]}, False, None),
    ],
)
def test_the_baseline_is_settled_before_the_first_cell(axes, accelerated, baseline):
    assert settled(ANY, cells(**axes), accelerated=accelerated).baseline == baseline


def test_the_users_own_baseline_stays():
    wanted = Report(baseline={"threads": 1})
    assert settled(wanted, cells(dtype=["float32", "float64"]), accelerated=True) is wanted


def test_gradients_are_no_sides():
    verified = cells(dtype=["float32", "float64"], job=["autograd"])
    assert settled(ANY, verified, accelerated=False).baseline is None


def test_what_a_dry_run_says_names_both_cases():
    grid = cells(device=["cpu", "gpu"], dtype=["float32", "float64"])
    assert in_words(ANY, grid) == (
        "compared in turn: device, with cpu as the baseline; "
        "without an accelerator dtype, with float32 as the baseline"
    )
    assert in_words(ANY, cells(seed=[0])) == "compared in turn: nothing"


def groups(grid, report, memory_bytes=math.inf, can_run=lambda cell: True, **of_others):
    return in_turn(grid, report, can_run, memory_bytes={"cpu": memory_bytes, **of_others})


def test_cells_that_differ_in_the_compared_axis_alone_are_one_group():
    grid = cells(dtype=["float64", "float32", "bfloat16"], threads=[1, 2])
    assert groups(grid, Report(baseline={"dtype": "float32"})) == [[2, 0, 4], [3, 1, 5]]
    assert groups(grid, Report(baseline={"threads": 1})) == [[0, 1], [2, 3], [4, 5]]


def test_other_operations_are_sides_too():
    grid = [cell("add", size="8"), cell("mul", size="8"), cell("sum", size="8")]
    assert groups(grid, Report(baseline={"op": "mul"})) == [[1, 0, 2]]


def test_what_cannot_run_or_has_no_baseline_is_measured_alone():
    grid = cells(dtype=["float32", "float64"])
    of_verified = [replace(grid[0], job="autograd")]
    report = Report(baseline={"dtype": "float32"})
    assert groups([*grid, *of_verified], report) == [[0, 1], [2]]
    assert groups(grid, report, can_run=lambda cell: cell.dtype == "float64") == [[0], [1]]
    assert groups(grid, Report(baseline={"dtype": "float16"})) == [[0], [1]]


def test_a_group_too_large_for_memory_is_split_into_pairs_with_the_baseline():
    grid = cells(dtype=["float32", "float64", "bfloat16", "float16"])
    report = Report(baseline={"dtype": "float32"})
    assert groups(grid, report, memory_bytes=10**9) == [[0, 1, 2, 3]]
    single = grid[0].tensor_bytes  # three tensors of 8x8
    assert single == 3 * 64 * 4
    assert groups(grid, report, memory_bytes=3 * 2 * single) == [[0, 2], [0, 3], [1]]
    assert groups(grid, report, memory_bytes=single) == [[0], [1], [2], [3]]


def test_what_a_backward_pass_keeps_counts_too():
    grid = cells(dtype=["float32", "float64"], direction=["forward", "backward"])
    report = Report(baseline={"dtype": "float32"})
    forward = COPIES * (grid[0].tensor_bytes + grid[2].tensor_bytes)
    assert groups(grid, report, memory_bytes=forward) == [[0, 2], [1], [3]]
    assert groups(grid, report, memory_bytes=2 * forward) == [[0, 2], [1, 3]]


def test_each_side_has_to_fit_into_the_memory_of_its_device():
    grid = cells(dtype=["float32", "float64"], device=["gpu"])
    of_dtypes = Report(baseline={"dtype": "float32"})
    assert groups(grid, of_dtypes, memory_bytes=1, gpu=10**9) == [[0, 1]]
    assert groups(grid, of_dtypes, memory_bytes=10**9, gpu=1) == [[0], [1]]
    grid = cells(device=["cpu", "gpu"])
    one = COPIES * grid[0].tensor_bytes
    for sizes, found in (((one, one), [[0, 1]]), ((one - 1, one), [[0], [1]])):
        assert groups(grid, Report(baseline={"device": "cpu"}), sizes[0], gpu=sizes[1]) == found


def test_a_cells_own_limit_counts_before_what_is_free():
    grid = [replace(c, limit=Limit(memory_bytes=10)) for c in cells(dtype=["float32", "float64"])]
    assert groups(grid, Report(baseline={"dtype": "float32"}), memory_bytes=10**9) == [[0], [1]]


def test_a_missing_side_brings_its_whole_comparison_back():
    grid = cells(dtype=["float32", "float64"], threads=[1, 2])
    assert with_partners([3], grid, Report(baseline={"dtype": "float32"})) == [1, 3]
    assert with_partners([3], grid, Report(baseline={"threads": 1})) == [2, 3]
    assert with_partners([], grid, ANY) == []


@pytest.mark.parametrize(
    ("timing", "asked", "count"),
    [
        (Timing(max_time_s=0.5), None, 1),
        (Timing(max_time_s=1.0), None, 3),
        (Timing(max_time_s=1.0), 1, 1),
        (Timing(max_time_s=0.5), 3, 3),
        (Timing(max_time_s=10.0, processes=5), None, 5),
    ],
)
def test_visits_are_spread_over_processes(timing, asked, count):
    side = replace(cell("add", size="8"), timing=timing)
    assert process_count([side, side], Compare(processes=asked)) == count
    assert process_count([side], Compare(processes=asked)) == timing.processes


def workload(names: Sequence[str] = ("model", "mm", "add"), **axes: list[object]) -> list[Cell]:
    """The cells of a workload's calls, the model itself last, along an axis."""
    shapes = {"function": "torch.neg", "args": [{"shape": [8, 8]}], "outputs": [[8, 8]]}
    calls = [Call.of({**shapes, "name": name, "workload": "net"}) for name in names]
    whole = replace(calls[0], passes="forward", function="torch.nn.ReLU")
    ((axis, values),) = axes.items()
    return [cell(call=call.text, **{axis: v}) for call in (*calls[1:], whole) for v in values]


def test_all_calls_of_a_workload_are_visited_together_the_model_first() -> None:
    grid = [*workload(threads=[1, 2]), *cells(threads=[1, 2])]
    report = Report(baseline={"threads": 1})
    (group,) = rounds_of(grid, report, lambda cell: True, memory_bytes={})
    names = ["net.model", "net.model", "net.mm", "net.mm", "net.add", "net.add"]
    assert [cell.op for cell in group] == names
    of_dtypes = Report(baseline={"dtype": "float32"})
    by_dtype = rounds_of(grid, of_dtypes, lambda cell: True, memory_bytes={})
    assert [len(group) for group in by_dtype] == [3, 3]


def test_a_workload_that_does_not_fit_into_memory_is_not_visited_as_a_whole() -> None:
    grid = workload(threads=[1])
    needed = COPIES * 3 * 2 * 64 * 4
    for memory_bytes, count in ((needed, 1), (needed - 1, 0)):
        found = rounds_of(grid, ANY, lambda cell: True, memory_bytes={"cpu": memory_bytes})
        assert len(found) == count
