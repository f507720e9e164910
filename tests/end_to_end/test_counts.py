"""Instructions of calls: what Valgrind counts of cells, and what is refused or blank."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Runner
from tests.support.commands import answers

COUNTED = "timing.counts=instructions"
WORKS = """
import os
import torch

HOLES = []

def works(x, rounds):
    if not rounds and "OPSWEEP_CALLGRIND" in os.environ:
        os._exit(7)
    if rounds == 110 and not HOLES:
        HOLES.extend(torch.empty(size) for size in range(1_000))
        del HOLES[::2]
    for _ in range(rounds):
        x = torch.neg(x)
    return x
"""
OP = """
name: works
call: mine.works
signature: "... n -> ... n"
differentiable: false
kwargs: {rounds: 1}
"""


def test_what_nothing_counts_is_refused_in_a_line(tmp_path: Path) -> None:
    (answer,) = answers(tmp_path, ["op=add timing.counts=cycles"])
    assert answer.code == 2
    assert answer.told == ["timing.counts=cycles is unknown; allowed: instructions"]


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind on the PATH")
@pytest.mark.slow
def test_a_cell_has_the_same_count_again_and_more_work_has_more(
    runner: Runner, tmp_path: Path
) -> None:
    """In turn, in two processes, and resumed; what ends Valgrind's process is blank."""
    (tmp_path / "mine.py").write_text(WORKS)
    (tmp_path / "conf" / "op").mkdir(parents=True)
    (tmp_path / "conf" / "op" / "works.yaml").write_text(OP)
    grid = ["--config-dir", "conf", "-m", "op=works", "size=8", "op.kwargs.rounds=110,100,0"]
    grid += ["threads=1,2", "report.baseline={threads: 1}", "timing=minimal", COUNTED]
    done = runner(*grid, "timing.processes=2", "hydra.sweep.dir=old")
    assert done.stderr.count("no instructions are counted: threads=2, and those of one thread") == 1
    log = next((tmp_path / "old").glob("4_*/run.log")).read_text()
    assert "no instructions are counted: the process ended with exit code 7" in log
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    # it was counted after a cell that left holes in the memory, and is now the process's first
    shutil.rmtree(next((tmp_path / "new").glob("2_*")))
    runner(*grid, "timing.processes=2", "resume=new")
    old, new = (pd.read_csv(tmp_path / name / "results.csv") for name in ("old", "new"))
    for table in (old, new):
        assert set(table["status"]) == {"ok"} and set(table["processes"]) == {2}
        counted = (table["threads"] == 1) & ~table["parameters"].str.endswith("rounds=0")
        assert list(table["instructions"].notna()) == list(counted)
        assert set(table.loc[counted, "instructions_by"]) == {"callgrind"}
        few, many = table.loc[counted].sort_values("parameters")["instructions"]
        assert many / few == pytest.approx(1.1, abs=0.03)
    runner("job=compare", "run=new", "against=old", "hydra.run.dir=same", code=None)
    compared = pd.read_csv(tmp_path / "same" / "compare.csv")
    ratios = compared["instructions_ratio"].dropna()
    assert list(ratios) == pytest.approx([1.0, 1.0], abs=0.005)
    assert not compared["has_more_instructions"].any()
