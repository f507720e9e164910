"""What an implementation does instead of its work is found out, and its honest twin is not accused.

The attacks and their sources stand in ``tests/support/attacks.py``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from runner.analysis.comparison import FORBIDDING
from runner.execute.cell_run import run_cell
from runner.measure.switches import Switches
from runner.rows.rows import BenchmarkRow
from runner.tasks.task import WorkerState
from tests.support.attacks import BLIND, FIRST, ON_STREAM, PAIRS, RESIDUE, Pair
from tests.support.factories import cell
from tests.support.program import ROOT

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
        **pair.op,
        "name": "tried_by_pairs",
        "reference": reference,
        "implementations": {"tried": f"{pair.module}.{name}"},
    }
    of_cell = {"impl": "tried", "size": "64x256", **pair.cell}
    (row,) = run_cell(cell(op, **of_cell), state).rows
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


def in_a_process(name: str, **environment: str) -> str:
    """What ``counted`` says of a pair in a process of its own."""
    asked = (
        "from tests.tasks.test_conduct import *; import tests.support.attacks as attacks; "
        "state = WorkerState(switches=Switches(of_worker=True)); "
        f"counted([attacks.{name}], state)"
    )
    if "SIM_BANDWIDTH_BYTES_S" in environment:
        asked = f"import tests.support.simulated_device; {asked}"
    command, env = [sys.executable, "-c", asked], {**os.environ, **environment}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    return run.stdout.splitlines()[-1]


RESULTS: dict[int, torch.Tensor] = {}


def remembered(x: torch.Tensor) -> torch.Tensor:
    """Hands back what it has computed for a tensor at this address."""
    return RESULTS.setdefault(x.data_ptr(), x + 1)


def test_what_an_operation_keeps_is_left_as_it_was(state: WorkerState) -> None:
    call = f"{__name__}.remembered"
    op = {"name": "remembered", "call": call, "signature": "n -> n", "differentiable": False}
    (found,) = run_cell(cell(op, size="8"), state).rows
    assert "reused_result" in found.flags
    kept = [result for result in RESULTS.values() if not result.is_meta]
    assert kept and all(bool(result.isfinite().all()) for result in kept)


@pytest.mark.slow
def test_what_is_left_in_memory_is_no_result() -> None:
    assert in_a_process("RESIDUE") == "caught 1 of 1, accused 0 twins"


@pytest.mark.slow
def test_work_in_another_stream_that_nobody_waits_for_is_late() -> None:
    # kernels of some 10 ms, which take far longer than it takes to launch the next one
    found = in_a_process("ON_STREAM", SIM_BANDWIDTH_BYTES_S="1e7")
    assert found == "caught 1 of 1, accused 0 twins"


@pytest.mark.slow
def test_every_attack_is_caught_and_no_twin_is_accused(state: WorkerState) -> None:
    assert counted(PAIRS, state) == ([], [])


def test_the_list_has_forty_pairs_of_which_half_are_reported_somewhere() -> None:
    pairs = [*PAIRS, RESIDUE, ON_STREAM]
    blind = [pair for pair in pairs if pair.source == BLIND]
    assert len({pair.attack for pair in pairs}) == len(pairs) >= 40
    assert len(blind) == 10
    assert sum(bool(pair.source) for pair in pairs) - len(blind) >= 22
