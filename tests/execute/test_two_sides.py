"""Both sides of ``job=ab`` in this process, without their workers."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from runner.config.schema import Compare, Report
from runner.execute.cell_runner import CellRun
from runner.execute.interpreter import Interpreter
from runner.execute.two_sides import TwoSides
from runner.execute.worker_process import Preflight
from runner.rows.csv_store import write_rows
from tests.analysis.test_changes import a_run
from tests.support.factories import cell


def two_sides(root: Path) -> TwoSides:
    """Both in a folder, where there is no accelerator."""
    sides = TwoSides(lambda: None, *(Interpreter.of(name, None, None, None) for name in "ab"))
    environment = {"torch": {"threads": 1}, "id": "1", "node": "n"}
    preflight = Preflight(environment, {"cpu": "cpu"}, {"cuda": "it is not here"}, [])
    sides._preflight = sides._before._preflight = preflight
    root.mkdir(exist_ok=True)
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


def test_a_code_of_the_rows_counts_where_the_comparison_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(name: str, before: str, after: str, spread: float, **quiet: bool) -> int:
        """Of rows of which the first ended with these, which strict=true gives 1."""
        sides = two_sides(tmp_path / name)
        for seed, (folder, of_first) in enumerate((("", after), ("a", before))):
            rows = a_run(Random(seed), spread)
            path = tmp_path / name / folder / "0" / "results.csv"
            path.parent.mkdir()
            write_rows(path, [replace(rows[0], status=of_first, median_s=None), *rows[1:]])
        return sides.judged(1, Report(), **quiet)

    assert judged("rows", "timeout", "timeout", 0.003) == 1
    assert judged("unclear", "timeout", "timeout", 0.1) == 4
    assert judged("wrong", "ok", "timeout", 0.003) == 3
    assert len(capsys.readouterr().out.splitlines()) > 180
    judged("quiet", "timeout", "timeout", 0.003, quiet=True)
    assert len(capsys.readouterr().out.splitlines()) < 60
