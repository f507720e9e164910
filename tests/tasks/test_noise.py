"""``job=noise``: pairs of equal sides, what they show, and how long that holds."""

import time
from dataclasses import replace

import pytest
import torch

from runner.measure.device import Device
from runner.tasks import noise
from runner.tasks.task import Task
from tests.support.factories import QUICK, STATE, cell

CPU = Device(torch.device("cpu"))
SHORT = replace(QUICK, warmup_s=0.0, max_time_s=0.4)  # enough visits on a busy machine, too


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(noise, "PAIRS", 2)


@pytest.fixture
def _calm(monkeypatch):
    """Every moment counts as calm, however busy this machine is."""
    told_by(monkeypatch, lambda number, visit: replace(undisturbed(visit), calm=True))


def undisturbed(visit):
    """A visit whose blocks nothing interrupted."""

    def of(block):
        return replace(block, preemptions=0, waiting_s=0.0)

    turns = [replace(turn, blocks=tuple(map(of, turn.blocks))) for turn in visit.turns]
    return replace(visit, turns=tuple(turns))


def told_by(monkeypatch, change):
    """Have the visits of a pair say something else of their moments."""
    visit_sides = noise.visit_sides

    def visited(*sides, **plan):
        visits = visit_sides(*sides, **plan)
        told = [change(number, visit) for number, visit in enumerate(visits.visits)]
        return replace(visits, visits=told)

    monkeypatch.setattr(noise, "visit_sides", visited)


def ran(function=torch.add, steps=None, **values):
    asked = cell("add", job="noise", size=8, timing=SHORT, **values)
    report = (lambda step: None) if steps is None else steps.append
    (row,), _ = noise.run(Task(asked, CPU, function, STATE, report))
    return row


@pytest.mark.usefixtures("_calm")
def test_equal_sides_are_compared_and_what_they_show_is_kept_for_a_week():
    row = ran()
    assert row.pairs == noise.PAIRS
    assert row.visits >= 10
    assert row.smallest_difference >= noise.MARGIN  # nothing smaller counts as one
    assert row.alarms <= row.pairs
    assert row.largest_difference > 0
    assert row.alarms / row.pairs < row.alarm_rate_high <= 1
    assert row.calm_share == 1

    (kept,) = noise.calibrations([CPU.name])
    assert (kept["op"], kept["size"], kept["pairs"]) == ("add", "8x8", row.pairs)
    for name in ("largest_difference", "smallest_difference", "visits", "calm_share"):
        assert kept[name] == getattr(row, name)
    assert kept["alarm_rate_high"] == row.alarm_rate_high
    assert noise.calibrations(["cpu of another kind"]) == []
    (line,) = noise.SAVED.read()
    for age_s, known in ((noise.EXPIRES_S - 60, 1), (noise.EXPIRES_S + 60, 0)):
        noise.SAVED.put(replace(line, at_s=time.time() - age_s), patience_s=10)
        assert len(noise.calibrations([CPU.name])) == known


@pytest.mark.usefixtures("_calm")
def test_the_sides_are_functions_of_their_own_that_differ_where_one_does_more(monkeypatch):
    one, other = noise._twins(torch.add)
    assert one is not other
    assert one.__code__ is not other.__code__

    def slower(*tensors):
        for _ in range(20):
            result = torch.add(*tensors)
        return result

    monkeypatch.setattr(noise, "_twins", lambda function: (function, slower))
    row = ran()
    assert row.alarms == row.pairs
    assert row.alarm_rate_high == 1
    assert row.largest_difference > 3


def test_a_pair_without_calm_moments_shows_nothing(monkeypatch):
    told_by(monkeypatch, lambda number, visit: replace(undisturbed(visit), calm=number < 3))
    row = ran()
    assert (row.pairs, row.alarms, row.smallest_difference) == (0, None, None)
    assert 0 < row.calm_share < 0.5
    assert noise.SAVED.read() == []


def test_a_module_has_no_twin():
    with pytest.raises(RuntimeError, match="compares functions"):
        ran(torch.nn.ReLU)
