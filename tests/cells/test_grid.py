"""Grids: their order, what is excluded, and what the command line changes of a sweep's file."""

import re
from collections.abc import Sequence

import pytest

from tests.support.commands import answers

SECOND = """\
# @package _global_
hydra:
  sweeper:
    params: {op: 'add,mul', size: '4,8'}
    also: [{job: autograd, op: 'add,sum', dtype: 'float32,float64'}]
"""
LISTED = """\
# @package _global_
hydra:
  sweeper:
    params: {op: linear, size: [4x6, {batch: 5, i: 6, o: 3}]}
    also: [{op: matmul, size: [8, {m: 2, k: 3, n: 4}]}]
"""
GRID = "op=add,mul size=4,8 dtype=float32,float16"
RULES = "exclude=[{op: add, dtype: [float16, float32], size: 8x8}, {op: mul, dtype: float16}]"
OURS = "+sweep=gpu dtype=float64 op=mul,sum size=256,1024 seed=1,2"
TWO = "--config-dir mine +sweep=two"
LIST_OF_SIZES = "--config-dir mine +sweep=listed"
COMMANDS = (
    "device=cpu,gpu op=add,mul size=4",
    "op=add size=4,4x4,[4,4]",
    GRID,
    f"{GRID} {RULES}",
    "+sweep=cpu op=matmul",
    "+sweep=cpu op=add size=64 dtype=float32",
    OURS,
    "+sweep=gpu op=mul ~hydra.sweeper.params.size",
    LIST_OF_SIZES,
    TWO,
    f"{TWO} compile=true cache=warm,cold",
    f"{TWO} op=add size=16 dtype=float32 threads=1,2",
)
ALIKE = {
    "op=add,mul size=4 limit.time_s=9 timing.max_time_s=1,2": [
        "add 4x4 float32 cpu timing.max_time_s=1",
        "add 4x4 float32 cpu timing.max_time_s=2",
        "mul 4x4 float32 cpu timing.max_time_s=1",
        "mul 4x4 float32 cpu timing.max_time_s=2",
        "4 cells",
    ],
    "op=softmax size=4 seed=0,7 op.kwargs.dim=0 timing=quick,minimal hydra/sweeper=basic": [
        "softmax 4x4 float32 cpu dim=0 timing=quick",
        "softmax 4x4 float32 cpu dim=0 timing=minimal",
        "softmax 4x4 float32 cpu dim=0 seed=7 timing=quick",
        "softmax 4x4 float32 cpu dim=0 seed=7 timing=minimal",
        "4 cells",
    ],
    "op=add size=4 hydra.sweeper.also=[{op:add,backend_module:own}]": [
        "add 4x4 float32 cpu",
        "add 4x4 float32 cpu backend_module=own",
        "2 cells",
    ],
    "op=softmax size=4 op.kwargs.dim=${seed},1": [
        "softmax 4x4 float32 cpu dim=0",
        "softmax 4x4 float32 cpu dim=1",
        "2 cells",
    ],
}
"""Cells that differ in what is no axis, or none that a label names otherwise."""
Listed = dict[str, list[str]]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Listed:
    """The cells that each command would run."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "mine" / "sweep").mkdir(parents=True)
    (folder / "mine" / "sweep" / "two.yaml").write_text(SECOND)
    (folder / "mine" / "sweep" / "listed.yaml").write_text(LISTED)
    said = answers(folder, [["-m", *_dry(command)] for command in (*COMMANDS, *ALIKE)])
    assert [answer.stderr for answer in said if answer.code] == []
    return {
        command: [line.partition("    ")[0] for line in answer.stdout.splitlines()]
        for command, answer in zip((*COMMANDS, *ALIKE), said, strict=True)
    }


def _dry(command: str) -> Sequence[str]:
    """The words of a command that lists its cells; a rule with spaces is one word."""
    before, rule, after = command.partition("exclude=")
    return [*before.split(), *[rule + after] * bool(rule), "dry_run=true"]


def test_devices_take_turns_whatever_the_order_of_the_axes(listed: Listed) -> None:
    assert listed["device=cpu,gpu op=add,mul size=4"] == [
        "add 4x4 float32 cpu",
        "add 4x4 float32 gpu",
        "mul 4x4 float32 cpu",
        "mul 4x4 float32 gpu",
        "4 cells",
    ]


def test_no_two_lines_are_equal(listed: Listed) -> None:
    assert {command: listed[command] for command in ALIKE} == ALIKE
    assert all(len(set(lines)) == len(lines) for lines in listed.values())


def test_a_cell_that_comes_twice_runs_once(listed: Listed) -> None:
    assert listed["op=add size=4,4x4,[4,4]"] == ["add 4x4 float32 cpu", "1 cell"]


def test_a_list_in_a_sweeps_file_takes_sizes_of_either_form(listed: Listed) -> None:
    assert listed[LIST_OF_SIZES] == [
        "linear 4x6 float32 cpu",
        "linear 5x6 o=3 float32 cpu",
        "matmul 8x8 float32 cpu",
        "matmul 2x3 n=4 float32 cpu",
        "4 cells",
    ]


def test_rules_exclude_what_all_of_their_axes_match(listed: Listed) -> None:
    assert len(listed[GRID]) == 8 + 1
    assert listed[f"{GRID} {RULES}"] == [
        "add 4x4 float32 cpu",
        "add 4x4 float16 cpu",
        "mul 4x4 float32 cpu",
        "mul 8x8 float32 cpu",
        "4 cells",
    ]


def test_a_sweeps_rule_may_match_nothing_once_the_command_line_narrows_it(listed: Listed) -> None:
    assert "matmul 512x512 float16 cpu" not in listed["+sweep=cpu op=matmul"]
    assert listed["+sweep=cpu op=add size=64 dtype=float32"] == [
        "add 64x64 float32 cpu",
        "autograd add 1024x1024 float32 cpu",
        "2 cells",
    ]


def test_the_command_line_wins_over_the_sweeps_file(listed: Listed) -> None:
    cells = listed[OURS]
    times = [cell for cell in cells[:-1] if not cell.startswith("autograd")]
    assert len(times) == 2 * 2 * 1 * 2 * 2
    assert all(re.match(r"(mul|sum) (256x256|1024x1024) float64 (cpu|gpu)", cell) for cell in times)
    assert len(cells) == len(times) + 2 * 1 * 2 + 1
    assert len(listed["+sweep=gpu op=mul ~hydra.sweeper.params.size"]) == 2 * 3 * 2 + 1


def test_further_grids_run_after_the_main_one(listed: Listed) -> None:
    assert listed[TWO][:5] == [
        "add 4x4 float32 cpu",
        "add 8x8 float32 cpu",
        "mul 4x4 float32 cpu",
        "mul 8x8 float32 cpu",
        "autograd add 1024x1024 float32 cpu",
    ]


def test_further_grids_take_the_command_lines_values_of_their_axes(listed: Listed) -> None:
    how = listed[f"{TWO} compile=true cache=warm,cold"]
    assert how[4:9] == [
        "mul 4x4 float32 cpu compile=default",
        "mul 4x4 float32 cpu cache=cold compile=default",
        "mul 8x8 float32 cpu compile=default",
        "mul 8x8 float32 cpu cache=cold compile=default",
        "autograd add 1024x1024 float32 cpu compile=default",
    ]
    assert len(how) == 8 + 4 + 1
    assert listed[f"{TWO} op=add size=16 dtype=float32 threads=1,2"] == [
        "add 16x16 float32 cpu threads=1",
        "add 16x16 float32 cpu threads=2",
        "autograd add 1024x1024 float32 cpu",
        "3 cells",
    ]
