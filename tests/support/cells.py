"""Cells for tests that run them in their own process."""

from typing import Any

import yaml
from omegaconf import OmegaConf

from runner.cells.cell import Cell, cell_of
from runner.config.schema import Config, Timing
from runner.execute.cell_run import run_cell
from runner.rows.rows import BenchmarkRow
from runner.tasks.worker_state import WorkerState
from tests.conftest import ROOT

STATE = WorkerState()
"""What the cells of a test process find out once, as those of a worker do."""
QUICK = Timing(precision=0.05, max_time_s=0.05, min_samples=5, max_samples=200, warmup_s=0.01)


def cell(op: str | dict[str, Any] = "add", **values: Any) -> Cell:
    """A cell of an operation of ``conf/op``, or of one of a test's own."""
    fields = (
        yaml.safe_load((ROOT / "conf" / "op" / f"{op}.yaml").read_text())
        if isinstance(op, str)
        else op
    )
    return cell_of(OmegaConf.structured(Config(**{"op": fields, "timing": QUICK, **values})))


def row(op: str | dict[str, Any] = "add", **values: Any) -> BenchmarkRow:
    """The row of a benchmark cell that ran in this process."""
    (only,) = run_cell(cell(op, **values), STATE).rows
    assert isinstance(only, BenchmarkRow)
    return only


def flags(op: str | dict[str, Any] = "add", **values: Any) -> list[str]:
    """The flags of a cell that has to run."""
    measured = row(op, **values)
    assert measured.status == "ok", measured.reason
    return list(measured.flags)
