"""Both sides of ``job=ab`` in this process, without their workers."""

from pathlib import Path

from runner.config.schema import Compare, Report
from runner.execute.cell_runner import CellRun
from runner.execute.interpreter import Interpreter
from runner.execute.two_sides import TwoSides
from runner.execute.worker_process import Preflight
from tests.support.factories import cell


def two_sides(root: Path) -> TwoSides:
    """Both in a folder, where there is no accelerator."""
    sides = TwoSides(lambda: None, *(Interpreter.of(name, None, None, None) for name in "ab"))
    environment = {"torch": {"threads": 1}, "id": "1", "node": "n"}
    preflight = Preflight(environment, {"cpu": "cpu"}, {"cuda": "it is not here"}, [])
    sides._preflight = sides._before._preflight = preflight
    sides.record_environment(root, 1, Report())
    return sides


def test_what_failed_on_both_sides_has_no_second_process(tmp_path: Path) -> None:
    sides, folder = two_sides(tmp_path), tmp_path / "0"
    folder.mkdir()
    run = CellRun(cell("add", size=8, device="cuda", timing={"processes": 2}), folder)
    (group,) = sides.groups([run], Report(), Compare())
    for process in (1, 2):
        sides.run_group(group, process)
    (row,) = run.rows
    assert (group.processes, row.status, row.reason) == (2, "unavailable", "it is not here")
    assert (tmp_path / "a" / "0" / "results.csv").is_file()
