"""A trace of calls opens in the usual viewers, and its table says what took their time."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.execute.cell_run import run_cell
from runner.measure.call_trace import shares_of
from tests.support.factories import STATE, cell

PROFILED = {"profile": True, "max_time_s": 0.05, "warmup_s": 0.0}


def test_a_cell_leaves_a_trace_and_the_largest_shares_of_its_calls(tmp_path: Path) -> None:
    (row,) = run_cell(cell("matmul", size=64, timing=PROFILED), STATE, folder=tmp_path).rows
    assert row.status == "ok"
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) >= 1
    shares = pd.read_csv(tmp_path / "profile.csv")
    assert shares["name"][0] == "aten::mm" and shares["calls"][0] == 1
    assert shares["share"].is_monotonic_decreasing
    assert shares["share"].sum() == pytest.approx(1)


def test_nothing_is_left_where_nothing_was_asked_and_a_cell_stays_the_same(tmp_path: Path) -> None:
    run_cell(cell("add", size=8), STATE, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    asked = cell("add", size=8, timing={"profile": True})
    assert asked.identity == cell("add", size=8).identity


def test_calls_are_counted_by_the_call_and_those_of_the_device_by_themselves() -> None:
    x = torch.ones(64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(4):
            torch.exp(x) + torch.exp(x)
    of_host = shares_of(profiler.events() or (), 4)
    assert {share.name: share.calls for share in of_host} == {"aten::exp": 2, "aten::add": 1}
    assert {share.where for share in of_host} == {"host"}


def test_a_folder_that_cannot_be_written_costs_the_trace_alone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (row,) = run_cell(cell("add", size=8, timing=PROFILED), STATE, folder=gone).rows
    assert row.status == "ok" and row.median_s is not None
