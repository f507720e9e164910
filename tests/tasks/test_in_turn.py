"""A side of two environments takes the turns that the parent asks for."""

import torch

from runner.execute.service import Service
from runner.measure.device import Device
from runner.tasks.benchmark import prepare
from runner.tasks.in_turn import open_side, take_turns
from runner.tasks.task import Task, WorkerState
from tests.support.factories import cell


def test_turns_of_a_shape_that_was_given_up_do_not_count() -> None:
    """Where calls are far faster than they first seemed, as on a machine that was busy."""
    asked = cell("add", size=8, threads=1)
    task = Task(asked, Device(torch.device("cpu")), torch.add, WorkerState(), lambda step: None)
    opened = open_side(prepare(task))
    told: list[tuple[object, ...]] = []
    short, long = (1e-3, 1, 0, True, 1), (1e-6, 50, 0, False, 3)
    said = iter([(0, 0), (short, 0, 0), (1, 0), (long, 0, 0), (0, 0), (long, 1, 0), ("time",)])
    found = take_turns(opened, 1, said.__next__, told.append)
    assert [kind for kind, *_ in told] == ["opened", *["placed", "turn"] * 3]
    assert (found.calls, found.stop, len(found.visits)) == ((50,), "time", 2)


def test_a_side_neither_takes_nor_leaves_the_best_of_this_machine() -> None:
    """The same kernels may take another time in the other environment."""
    assert Service(lambda log: None)._state.shares_best
    assert not Service(lambda log: None, shares_best=False)._state.shares_best
