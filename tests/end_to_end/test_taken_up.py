"""Rows that stay: of cells that would share a folder, of edited code, of raised limits."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from runner.rows.csv_store import collect
from tests.conftest import PATIENT
from tests.support.commands import Answer, answers

OP = 'name: {name}\ncall: own_code.{name}\nsignature: "... -> ..."\ndifferentiable: false\n'
CODE = """
import os, time
from own_helper import FACTOR

def scaled(x):
    return x * FACTOR

def slow(x):
    time.sleep(0.4)
    return x * 1

def edits(x):
    open("own_helper.py", "a").write("# more\\n")
    os._exit(3)

def told(x):
    raise ValueError(os.environ.get("OWN_WORD", "nothing"))
"""

LISTENER = """
from hydra.experimental.callback import Callback

class Listener(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        size = job_return.hydra_cfg.hydra.overrides.task
        print("heard", job_return.status.name, job_return.cfg.op.name, job_return.cfg.size)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with operations of one's own, which another module of it helps."""
    (tmp_path / "own_code.py").write_text(CODE)
    (tmp_path / "own_helper.py").write_text("FACTOR = 2\n")
    (tmp_path / "mine" / "op").mkdir(parents=True)
    for name in ("scaled", "slow", "edits", "told"):
        (tmp_path / "mine" / "op" / f"{name}.yaml").write_text(OP.format(name=name))
    return tmp_path


def swept(folder: Path, *commands: str, code: int = 0) -> list[Answer]:
    """Sweeps of one's own operations; each has to end with this code."""
    words = f"--config-dir mine -m timing=minimal {PATIENT}"
    said = answers(folder, [f"{words} {command}" for command in commands], heavy=True)
    assert [answer.code for answer in said] == [code] * len(said), said
    return said


def rows_in(folder: Path) -> pd.DataFrame:
    """A sweep's table, which holds each of its cells once."""
    table = pd.read_csv(folder / "results.csv").set_index("size", drop=False)
    rows, damaged, _ = collect(folder, "benchmark")
    assert not damaged
    assert sorted(row.cell for row in rows) == sorted(table["cell"])
    assert table["cell"].is_unique
    return table


@pytest.mark.slow
def test_cells_that_would_share_a_folder_are_kept_apart(own: Path) -> None:
    """Also where a grid that has grown gives a finished cell's number to another."""
    subdir = "hydra.sweep.subdir=${hydra.job.num}"
    swept(own, f"op=add size=4,5 hydra.sweep.dir=numbered {subdir}")
    before = {path: path.read_bytes() for path in own.glob("numbered/*/results.csv")}
    assert len(before) == 2
    swept(
        own,
        f"op=add size=3,4,5 resume=numbered {subdir}",
        "op=add,mul size=4 timing.processes=2 hydra.sweep.dir=shared hydra.sweep.subdir=x",
        "op=add size=4,5 hydra.sweep.dir=stock hydra.sweep.subdir=x hydra/launcher=basic",
    )
    assert list(rows_in(own / "numbered").index) == ["4x4", "3x3", "5x5"]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert sorted(rows_in(own / "shared")["op"]) == ["add", "mul"]
    assert sorted(rows_in(own / "stock").index) == ["4x4", "5x5"]

    # what is refused leaves all as it was
    everything = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    within = "op=add size=9 hydra.run.dir="
    refused = answers(own, [f"{within}shared", f"{within}shared/x", f"{within}shared/new"])
    assert [answer.code for answer in refused] == [2, 2, 2]
    assert "lies in the folder of a sweep" in refused[2].stderr
    assert everything == {path: path.stat().st_mtime_ns for path in own.rglob("*")}


@pytest.mark.slow
def test_rows_of_other_code_are_noticed_and_measured_again_only_by_force(own: Path) -> None:
    command, helper, op = "op=scaled size=4,5", own / "own_helper.py", own / "mine/op/scaled.yaml"
    swept(own, f"{command} hydra.sweep.dir=out")
    environment = json.loads((own / "out" / "environment.json").read_text())
    assert set(environment["code"]["own_code"]["content"]) == {"own_code.py", "own_helper.py"}
    first = rows_in(own / "out")
    assert set(first["environment"]) == {environment["id"]}

    # words for people are no part of a cell, and what is imported by what is called is
    op.write_text(op.read_text() + "description: a word more\n")
    helper.write_text("FACTOR = 3\n")
    (refused,) = swept(own, f"{command},6 resume=out", code=2)
    assert refused.stderr.endswith(
        "resume=out: own_helper.py has changed since; restore it, or say resume_force=true to "
        "measure its cells again\n"
    )
    (forced,) = swept(own, f"{command},6 resume=out resume_force=true")
    assert "0 of 3 cells are done" in forced.stderr
    again = rows_in(own / "out")
    assert len(again) == 3
    assert environment["id"] not in set(again["environment"])
    (done,) = swept(own, f"{command},6 resume=out")
    assert "3 of 3 cells are done" in done.stderr


@pytest.mark.slow
def test_code_that_is_edited_while_a_sweep_runs_ends_it_at_the_next_process(own: Path) -> None:
    (said,) = swept(own, "op=scaled,edits size=4,5 hydra.sweep.dir=out", code=1)
    assert "own_helper.py has changed since this run began; restore it and resume" in said.stderr
    assert list(rows_in(own / "out")["op"]) == ["scaled", "scaled", "edits"]
    log = next((own / "out").glob("2_*/run.log")).read_text()
    assert re.search(r"edits 4x4 float32 cpu: crashed: the process ended with exit code 3", log)


@pytest.mark.slow
def test_a_raised_limit_and_what_is_asked_for_by_name_run_again(own: Path) -> None:
    command = "op=slow,add size=512 limit.time_s={} limit.memory_bytes={}"
    small = command.format(900, 1000)
    swept(own, f"{small} hydra.sweep.dir=out", "op=add size=4 hydra.sweep.dir=ok")
    assert list(rows_in(own / "out")["status"]) == ["out_of_memory"] * 2
    same, raised, wrong = answers(
        own,
        [
            f"--config-dir mine -m timing=minimal {small} resume=out",
            f"--config-dir mine -m timing=minimal {command.format(900, 10**10)} resume=out",
            f"--config-dir mine -m timing=minimal {small} resume=out retry=[timeot]",
        ],
        heavy=True,
    )
    assert "2 of 2 cells are done" in same.stderr
    assert same.stderr.splitlines()[-1] == (
        "left as they are: 2 out_of_memory, as nothing that decides them has changed; "
        "retry=[out_of_memory] runs them again"
    )
    assert "0 of 2 cells are done" in raised.stderr
    assert set(rows_in(own / "out")["status"]) == {"ok"}
    assert set(rows_in(own / "out")["limit_memory_bytes"]) == {10**10}
    assert (wrong.code, "did you mean 'timeout'?" in wrong.stderr) == (2, True)


@pytest.mark.slow
def test_a_sweep_ends_after_so_many_failures_and_sets_variables_for_every_worker(
    own: Path,
) -> None:
    (own / "own_listener.py").write_text(LISTENER)
    more = "+hydra.job.env_set.OWN_WORD=hello hydra.sweep.dir=out stop_after=2 "
    more += "+hydra.callbacks.own._target_=own_listener.Listener"
    (said,) = swept(own, f"op=told size=3,4,5,6 {more}", code=1)
    assert "stopped: 2 failed, and stop_after=2; resume= goes on" in said.stderr
    assert set(rows_in(own / "out")["reason"]) == {"ValueError: hello"}
    assert len(rows_in(own / "out")) == 2
    assert said.stdout.count("heard FAILED told 3") == said.stdout.count("heard FAILED") / 2 == 1
    (stock,) = swept(own, "op=told size=3 hydra/sweeper=basic hydra.sweep.dir=stock", code=1)
    assert "told 3x3 float32 cpu: failed, ValueError: nothing" in stock.stderr
    (dry,) = swept(own, "op=told size=3 hydra/sweeper=basic hydra.sweep.dir=dry dry_run=true")
    assert "told 3x3 float32 cpu" in dry.stdout
    assert "OWN_WORD" not in os.environ


@pytest.mark.slow
def test_what_one_package_does_not_support_is_not_tried_again_at_each_resume(own: Path) -> None:
    """As the environment is that of the packages of all cells, also of those that are done."""
    (own / "other_code.py").write_text("def lacking(x):\n    raise NotImplementedError('no')\n")
    fields = OP.format(name="lacking").replace("own_code", "other_code")
    (own / "mine" / "op" / "lacking.yaml").write_text(fields)
    first = "op=scaled,lacking size=4"
    _, again = swept(own, f"{first} hydra.sweep.dir=out", f"{first} resume=out")
    assert "2 of 2 cells are done" in again.stderr
