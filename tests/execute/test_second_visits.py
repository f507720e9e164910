"""What found no calm moment is visited again, within a share of the time."""

import math
import time
from pathlib import Path

import pandas as pd
import pytest

from runner.execute.cell_runner import CellGroup, CellRun
from runner.execute.second_visits import run_all
from runner.measure import machine_best
from runner.measure.device import find_device
from tests.support.factories import cell, row

SLOW, CALM = ("slow_machine",), ()


class Sweep:
    """Groups that take so many seconds, and are slow so many times."""

    def __init__(self, **slow_times):
        self.left = dict(slow_times)
        self.groups = [
            CellGroup([CellRun(cell(size=8), Path(name))], 2 if name == "twice" else 1)
            for name in slow_times
        ]
        self.ran, self.told = [], []

    def run(self, group, process):
        (only,) = group.runs
        name = str(only.folder)
        self.ran.append(name)
        time.sleep(0.05)
        only.rows = [row(flags=SLOW if self.left[name] > 0 else CALM)]
        self.left[name] -= process == group.processes

    def tell(self, cells, steps, left_s):
        self.told.append((len(cells), steps))


def test_only_what_was_slow_goes_again_in_all_of_its_processes_until_it_is_calm():
    sweep = Sweep(calm=0, once=1, twice=2)
    run_all(sweep.groups, 1000.0, sweep.run, sweep.tell)
    first = ["calm", "once", "twice", "twice"]
    assert sweep.ran == [*first, "once", "twice", "twice", "twice", "twice"]
    assert sweep.told == [(2, 3), (1, 2)]


def test_no_visit_begins_that_would_end_after_its_share():
    never = Sweep(once=1)
    run_all(never.groups, 0.0, never.run, never.tell)
    assert (never.ran, never.told) == (["once"], [])

    # half of the time of four is enough for two at most, and those that waited longest come first
    sweep = Sweep(first=99, second=99, third=99, fourth=99)
    begun = time.monotonic()
    run_all(sweep.groups, 0.5, sweep.run, sweep.tell)
    assert time.monotonic() - begun < 30
    again = sweep.ran[4:]
    assert again == ["first", "second"][: len(again)]
    assert again


@pytest.mark.slow
def test_a_sweep_says_what_it_visits_again_and_leaves_one_row_of_each(
    runner, tmp_path, monkeypatch
):
    """On a machine that was a thousand times faster once, no moment is calm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_run = find_device("cpu").name, 1, time.time() - 60, 600
    machine_best.remember(*of_run, (1e-8, 1e-8, 1e-9))
    axes = ("-m", "op=add", "size=8", "dtype=float32,float64", "threads=1", "timing=quick")
    short = ("timing.max_time_s=0.2", "timing.warmup_s=0.01", "timing.patience_s=0")
    done = runner(*axes, *short, "timing.revisit_share=1", "hydra.sweep.dir=out")
    assert (
        "visiting again add 8x8 float32 cpu threads=1 and 1 more: the machine was slow"
        in done.stderr
    )
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    # a busy machine may have two speeds, too
    assert [flags.split()[0] for flags in rows["flags"]] == ["slow_machine"] * 2
    visits = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert list(visits["visit"]) == list(range(len(visits)))
    (speedup,) = pd.read_csv(tmp_path / "out" / "speedup.csv").to_dict("records")
    assert math.isnan(speedup["speedup"])
    assert "slow nearly all the time" in speedup["reason"]
