"""Cells, rows and bound operations for tests, made in one place."""

from dataclasses import replace
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from runner.calls.bound_operation import BoundOperation
from runner.cells.cell import Cell, cell_of
from runner.config.operation import Operation
from runner.config.schema import Config, Limit, Timing
from runner.config.size import parse_size
from runner.execute.cell_run import run_cell
from runner.rows.rows import BenchmarkRow, Row
from runner.tasks.task import WorkerState
from tests.conftest import ROOT

STATE = WorkerState()
"""What the cells of a test process find out once, as those of a worker do."""
QUICK = Timing(
    precision=0.05,
    max_time_s=0.05,
    min_samples=5,
    max_samples=200,
    warmup_s=0.01,
    patience_s=0.0,  # tests do not wait for a calm moment
)
PATIENT = Limit(time_s=900)
"""The check of a gradient has a share of it, and a machine may be busy."""


def op_file(name: str) -> dict[str, Any]:
    """What ``conf/op`` says of an operation."""
    fields: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "op" / f"{name}.yaml").read_text())
    return fields


def cell(op: str | dict[str, Any] = "add", **values: Any) -> Cell:
    """A cell of an operation of ``conf/op``, or of one of a test's own.

    Args:
        op: its name, or its fields.
        values: what differs from the defaults, such as ``size=8`` or ``limit={"time_s": 2.0}``.
    """
    fields = op_file(op) if isinstance(op, str) else op
    defaults = OmegaConf.structured(Config(op=fields, timing=QUICK, limit=PATIENT))
    return cell_of(OmegaConf.merge(defaults, values))  # type: ignore[arg-type]


def ran(op: str | dict[str, Any] = "add", **values: Any) -> BenchmarkRow:
    """The row of a benchmark cell that ran in this process."""
    (only,) = run_cell(cell(op, **values), STATE).rows
    assert isinstance(only, BenchmarkRow)
    return only


def flags(op: str | dict[str, Any] = "add", **values: Any) -> list[str]:
    """The flags of a cell that has to run."""
    measured = ran(op, **values)
    assert measured.status == "ok", measured.reason
    return list(measured.flags)


def case_rows(case: dict[str, Any], **values: Any) -> list[Row]:
    """The rows of a case that ran in this process."""
    return run_cell(cell(case=case, **values), STATE).rows


def row(
    device: str = "cpu", median_s: float | None = 1.0, spread: float = 0.01, **fields: Any
) -> BenchmarkRow:
    """A row that nothing has measured, of add at 8x8 in float32 with two threads.

    Args:
        device: where it ran.
        median_s: seconds a call; None: it did not run.
        spread: the relative half-width of the interval about them.
        fields: what else differs.
    """
    known = BenchmarkRow(device, "benchmark", "add", "8x8", "float32", device, threads=2)
    ends = (
        {}
        if median_s is None
        else {"ci_low_s": median_s * (1 - spread), "ci_high_s": median_s * (1 + spread)}
    )
    return replace(known, **{"median_s": median_s, **ends, **fields})


def bound(
    call: Any = torch.exp,
    dtype: torch.dtype = torch.float32,
    size: str = "8x16",
    seed: int = 1,
    **fields: Any,
) -> BoundOperation:
    """A callable as an operation, of one matrix to one of its shape unless it says otherwise.

    Args:
        call: the callable.
        dtype: of its inputs.
        size: of its first input.
        seed: of its numbers.
        fields: of an operation's file, and ``fill``, ``layout`` and ``reference`` of the call.
    """
    of_call = {key: fields.pop(key) for key in ("fill", "layout", "reference") if key in fields}
    given = {"name": "tested", "call": "torch.add", "signature": "... n -> ... n", "size": size}
    given |= fields
    op = Operation.from_mapping(given, "test")
    return BoundOperation(op, call, op.bind(parse_size(size)), dtype, seed, **of_call)
