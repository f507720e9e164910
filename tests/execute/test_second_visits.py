"""What found no calm moment is visited again, within a share of the time."""

import math
import time
from pathlib import Path

import pandas as pd
import pytest

from runner.execute.cell_runner import CellGroup, CellRun, CellRunner
from runner.execute.second_visits import run_all
from runner.measure import machine_best
from runner.measure.device import find_device
from tests.support.factories import cell, row

SLOW, CALM = ("slow_machine",), ()


class Sweep:
    """Groups that take so many seconds, and are slow so many times."""

    def __init__(self, folder=Path(), **slow_times):
        self.left = dict(slow_times)
        self.groups = [
            CellGroup([CellRun(cell(size=8), folder / name)], 2 if name == "twice" else 1)
            for name in slow_times
        ]
        self.ran, self.told, self.cells = [], [], CellRunner(lambda: None)

    def run_all(self, share):
        run_all(self.cells, self.groups, share, self.run, self.tell)

    def run(self, group, process):
        (only,) = group.runs
        name = only.folder.name
        self.ran.append(name)
        time.sleep(0.05)
        only.rows = [row(flags=SLOW if self.left[name] > 0 else CALM)]
        self.left[name] -= process == group.processes

    def tell(self, cells, steps, left_s):
        self.told.append((len(cells), steps))


def test_only_what_was_slow_goes_again_in_all_of_its_processes_until_it_is_calm():
    sweep = Sweep(calm=0, once=1, twice=2)
    sweep.run_all(1000.0)
    first = ["calm", "once", "twice", "twice"]
    assert sweep.ran == [*first, "once", "twice", "twice", "twice", "twice"]
    assert sweep.told == [(2, 3), (1, 2)]


def test_the_rows_of_what_is_done_do_not_stay_in_memory():
    for share, is_kept in ((1e-9, True), (0.0, False)):  # what goes again needs them
        sweep = Sweep(calm=0, slow=99)
        sweep.run_all(share)
        calm, slow = sweep.groups
        assert not calm.runs[0].rows and bool(slow.runs[0].rows) is is_kept


def test_no_visit_begins_that_would_end_after_its_share():
    never = Sweep(once=1)
    never.run_all(0.0)
    assert (never.ran, never.told) == (["once"], [])

    # half of the time of four is enough for two at most, and the first to wait comes first
    sweep = Sweep(first=99, second=99, third=99, fourth=99)
    begun = time.monotonic()
    sweep.run_all(0.5)
    assert time.monotonic() - begun < 30
    again = sweep.ran[4:]
    assert again[0] == "first"
    assert len(again) <= 2


def test_what_takes_too_long_for_the_rest_keeps_nobody_else_from_going_again():
    sweep = Sweep(twice=99, once=1)
    sweep.run_all(0.5)  # of three turns, where the first to wait takes two
    assert sweep.ran == ["twice", "once", "twice", "once"]


class Worsening(Sweep):
    """Its machine is slower, or its process dies, at each visit."""

    def __init__(self, folder, *latest, **slow_times):
        super().__init__(folder, **slow_times)
        self.latest = iter(latest)

    def run(self, group, process):
        super().run(group, process)
        (only,) = group.runs
        status, slowdown, flags = next(self.latest)
        only.rows = [row(status=status, machine_slowdown=slowdown, flags=flags)]
        only.folder.mkdir(exist_ok=True)
        (only.folder / "results.csv").write_text(f"{status} {slowdown}")
        (only.folder / "pairs.csv").unlink(missing_ok=True)
        if status == "ok":
            (only.folder / "pairs.csv").write_text(f"{slowdown}")


@pytest.mark.parametrize("second", [("ok", 3.0, SLOW), ("crashed", None, CALM)])
def test_a_second_visit_that_was_worse_leaves_what_the_first_one_gave(tmp_path, second):
    sweep = Worsening(tmp_path, ("ok", 1.5, SLOW), second, once=1)
    sweep.run_all(1.0)
    ((of_group,),) = [group.runs for group in sweep.groups]
    assert [(one.status, one.machine_slowdown) for one in of_group.rows] == [("ok", 1.5)]
    texts = {path.name: path.read_text() for path in (tmp_path / "once").iterdir()}
    assert texts == {"results.csv": "ok 1.5", "pairs.csv": "1.5"}


def test_a_second_visit_that_is_cut_off_leaves_what_the_first_one_gave(tmp_path):
    sweep = Worsening(tmp_path, ("ok", 1.5, SLOW), ("ok", 1.5, SLOW), ("ok", 1.0, CALM), twice=1)
    with pytest.raises(StopIteration):  # in the second of its processes
        sweep.run_all(1.0)
    assert (tmp_path / "twice" / "results.csv").read_text() == "ok 1.5"


def test_a_side_that_had_failed_before_does_not_undo_the_visit_of_another(tmp_path):
    sweep = Worsening(tmp_path, ("ok", 1.5, SLOW), ("ok", 1.0, CALM), once=1)
    (group,) = sweep.groups
    failed = CellRun(cell(size=16), tmp_path / "failed")
    failed.rows = [row(status="unsupported")]
    only = list(group.runs)

    def run(group, process):
        group.runs, all_runs = only, group.runs
        sweep.run(group, process)
        group.runs = all_runs

    group.runs.append(failed)
    run_all(sweep.cells, sweep.groups, 1.0, run, sweep.tell)
    assert (tmp_path / "once" / "results.csv").read_text() == "ok 1.0"


@pytest.mark.parametrize("second", [("ok", 1.4, SLOW), ("ok", 1.7, CALM)])
def test_a_second_visit_that_was_better_stays(tmp_path, second):
    sweep = Worsening(tmp_path, ("ok", 1.5, SLOW), second, once=1)
    sweep.run_all(1.0)
    assert (tmp_path / "once" / "results.csv").read_text() == f"ok {second[1]}"


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


def test_a_row_says_that_its_slowdown_is_against_the_latest_runs(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_machine, now = (find_device("cpu").name, 1), time.time()
    machine_best.remember(*of_machine, now - 3600, 600, (1e-8, 1e-8, 1e-9))
    of_cell = ("op=add", "size=8", "threads=1", "timing=quick")
    for run, against in (("first", "earlier runs"), ("second", "latest runs")):
        done = runner(*of_cell, "timing.patience_s=0", f"hydra.run.dir={run}")
        (row,) = pd.read_csv(tmp_path / run / "results.csv").to_dict("records")
        assert row["slowdown_against"] == against
        assert ("never came near its best of earlier runs" in done.stdout) == (run == "second")
        machine_best.remember(*of_machine, now - 60, 600, (1e-4, 1e-6, 1e-4))
