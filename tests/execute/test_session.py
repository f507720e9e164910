"""The session, which has the worker, and what the worker says before the first cell."""

import pickle

from runner.cli.main import CellTask
from runner.config.cases import read_case
from runner.config.operation import Operation
from runner.execute.preflight import preflight
from runner.execute.session import Session, session_of


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
    found = preflight(wrong, ["cpu"], "nowhere")
    assert found.problems[:2] == [
        "op add: call 'torch.ad': torch has no 'ad' (did you mean 'add'?)",
        "case own: function 'torch.logaddexpp': torch has no 'logaddexpp' "
        "(did you mean 'logaddexp'?)",
    ]
    assert found.problems[2].startswith("backend_module=nowhere cannot be imported: Module")
    assert len(found.problems) == 3


def test_a_device_that_is_not_here_is_no_problem_of_what_is_called() -> None:
    right = Operation("add", "torch.add", "..., ... -> ...")
    found = preflight([right], ["cpu", "hpu"], None)
    assert (found.problems, found.devices) == ([], {"cpu": "cpu"})
    assert "PyTorch" in found.unavailable["hpu"]
