"""The session, which has the worker, and what the worker says before the first cell."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.cells.cell import cell_of
from runner.cli.main import CellTask
from runner.config.cases import read_case
from runner.config.operation import Operation
from runner.errors import ConfigError
from runner.execute.cell_run import run_cell
from runner.execute.preflight import preflight
from runner.execute.session import Session, session_of
from runner.rows.csv_store import read_rows
from runner.rows.rows import BenchmarkRow
from runner.tasks.task import WorkerState
from tests.support.factories import cell


def test_a_task_sent_to_another_process_has_a_session_of_its_own_there() -> None:
    session = Session()
    there = [pickle.loads(pickle.dumps(CellTask(session))) for _ in range(2)]
    assert there[0] is there[1]  # so that the process's cells share a worker
    assert session_of(there[0]) is not session
    assert session_of(CellTask(session)) is session


def test_all_that_is_wrong_with_what_is_called_is_said_at_once() -> None:
    add = {"name": "add", "call": "torch.ad", "signature": "..., ... -> ..."}
    case = {"name": "own", "function": "torch.logaddexpp", "values": {"x": 1.0, "y": 2.0}}
    wrong = [Operation.from_mapping(add, "test"), read_case(case)]
    found = preflight(WorkerState(), wrong, ["cpu"], "nowhere")
    assert found.problems[:2] == [
        "op add: call 'torch.ad': torch has no 'ad' (did you mean 'add'?)",
        "case own: function 'torch.logaddexpp': torch has no 'logaddexpp' "
        "(did you mean 'logaddexp'?)",
    ]
    assert found.problems[2].startswith("backend_module=nowhere cannot be imported: Module")
    assert len(found.problems) == 3


def test_a_device_that_is_not_here_is_no_problem_of_what_is_called() -> None:
    right = Operation("add", "torch.add", "..., ... -> ...")
    found = preflight(WorkerState(), [right], ["cpu", "hpu"], None)
    assert (found.problems, found.devices) == ([], {"cpu": "cpu"})
    assert found.unavailable["hpu"].startswith("hpu: ")


def test_a_function_that_does_not_fit_an_operations_file_is_told_what_does() -> None:
    call = "torch.nn.functional.gelu"
    op = {"name": "matmul", "call": call, "signature": "m k, k n -> m n"}
    of_file = cell(op, size=8)
    by_override = replace(of_file, parameters=f"op.call={call}")
    (said,), (advised,) = (run_cell(each, WorkerState()).rows for each in (of_file, by_override))
    assert (said.status, advised.status) == ("failed", "failed")
    assert said.reason and advised.reason
    assert "1 positional argument" in said.reason and "op.call=" not in said.reason
    assert advised.reason.startswith(f"{said.reason}; op.call= leaves the rest of matmul as it is")
    for way in (f"'+op.implementations.mine={call}' impl=all", "'~op.kwargs'", "mine/op/mine.yaml"):
        assert way in advised.reason


def test_timing_through_the_worker_is_the_engine_in_process(smoke: Path) -> None:
    folder = next(smoke.glob("0_*"))
    same = cell_of(OmegaConf.load(folder / ".hydra" / "config.yaml"))  # type: ignore[arg-type]
    (row,), samples = run_cell(same, WorkerState())
    (there,) = read_rows(folder / "results.csv", BenchmarkRow)
    assert row.cell == there.cell
    assert row.max_relative_error == there.max_relative_error
    assert len(samples) <= there.samples <= 2 * len(samples)


def test_a_device_that_is_not_here_is_an_error_unless_something_else_runs() -> None:
    session = Session()
    absent, here = cell(device="hpu"), cell()
    message = (
        r"device=hpu: PyTorch .* finds no accelerator on this machine, only the CPU; "
        r"use device=cpu, or device=gpu in a sweep"
    )
    try:
        with pytest.raises(ConfigError, match=message):
            session.cells.prepare([absent], require_devices=True)
        with pytest.raises(ConfigError, match=message):  # a sweep of nothing else
            session.cells.prepare([absent], require_devices=False)
        session.cells.prepare([absent, here], require_devices=False)
        session.cells.prepare([cell(device="gpu")], require_devices=False)
    finally:
        session.close()
    assert not session.measuring
