"""What an implementation does instead of its work is found out, and its honest twin is not accused.

The attacks and their sources stand in ``tests/support/attacks.py``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from runner.analysis.comparison import FORBIDDING
from runner.execute.cell_run import run_cell
from runner.measure.switches import Switches
from runner.rows.rows import BenchmarkRow
from runner.tasks.task import WorkerState
from tests.support.attacks import FIRST, PAIRS, Pair
from tests.support.factories import cell

OF_MACHINE = {"contended", "slow_machine", "single_call", "uneven", "throttled"}


@pytest.fixture(scope="module")
def state() -> Iterator[WorkerState]:
    """A worker's, which looks after the whole process."""
    switches = Switches(of_worker=True)
    yield WorkerState(switches=switches)
    switches.leave()


def accused_of(name: str, pair: Pair, state: WorkerState) -> set[str]:
    """The flags with which no ratio is claimed, but for those of the machine."""
    reference = "tests.support.attacks.exact" if pair.attack == "calls_exact" else ""
    op: dict[str, Any] = {
        "name": "softmax",
        "call": "torch.nn.functional.softmax",
        "signature": "... n -> ... n",
        "kwargs": {"dim": -1},
        "differentiable": False,
        "reference": reference,
        "implementations": {"tried": f"tests.support.attacks.{name}"},
    }
    (row,) = run_cell(cell(op, impl="tried", size="64x256", **pair.cell), state).rows
    assert isinstance(row, BenchmarkRow)
    if row.status != "ok":
        return {f"{row.status}: {row.reason}"}
    return {flag for flag in row.flags if flag in FORBIDDING} - OF_MACHINE


def counted(pairs: Sequence[Pair], state: WorkerState) -> tuple[list[str], list[str]]:
    """The attacks that were not caught by what gives them away, and the twins that were accused."""
    missed, accused = [], []
    for pair in pairs:
        found = accused_of(pair.attack, pair, state)
        if not found & set(pair.flags):
            missed.append(f"{pair.attack}: {sorted(found)}")
        if wrongly := accused_of(pair.twin, pair, state):
            accused.append(f"{pair.twin}: {sorted(wrongly)}")
    print(f"missed: {missed}", f"accused: {accused}", sep="\n")
    print(f"caught {len(pairs) - len(missed)} of {len(pairs)}, accused {len(accused)} twins")
    return missed, accused


def test_attacks_of_four_kinds_are_caught_and_their_twins_are_not_accused(
    state: WorkerState,
) -> None:
    assert counted(FIRST, state) == ([], [])


@pytest.mark.slow
def test_every_attack_is_caught_and_no_twin_is_accused(state: WorkerState) -> None:
    assert counted(PAIRS, state) == ([], [])


def test_the_list_has_forty_pairs_of_which_half_are_reported_somewhere() -> None:
    assert len({pair.attack for pair in PAIRS}) == len(PAIRS) >= 40
    assert sum(bool(pair.source) for pair in PAIRS) >= 22
