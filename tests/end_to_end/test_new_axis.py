"""An axis is one line of the table of axes.

A copy of the program gets one more, and everything else follows from it.
"""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, make_runner
from tests.support.commands import answers

AFTER = "    graph: bool = _axis(False, benchmark_only=True)\n"
TOY = '    toy: str = _axis("plain", ("plain", "fancy"), benchmark_only=True)\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose only change is a line of the table of axes."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("runner", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "runner" / "config" / "axes.py"
    text = table.read_text(encoding="utf-8")
    assert text.count(AFTER) == 1
    table.write_text(text.replace(AFTER, AFTER + TOY), encoding="utf-8")
    return folder


def test_a_new_axis_is_a_key_with_its_default_and_labels_a_cell(copy: Path) -> None:
    grid = ["-m", "op=add", "size=8", "toy=plain,fancy", "dry_run=true"]
    key, unknown, elsewhere, both, one = answers(
        copy,
        [
            ["--cfg", "job"],
            ["op=add", "toy=plane"],
            ["job=autograd", "op=add", "toy=fancy"],
            grid,
            [*grid, "exclude=[{toy: plain}]"],
        ],
        root=copy,
    )
    assert "\ntoy: plain\n" in key.stdout
    assert unknown.stderr == (
        "toy=plane is unknown (did you mean 'plain'?); allowed: plain, fancy\n"
    )
    assert elsewhere.stderr.startswith("toy=fancy goes only with job=benchmark")
    plain, fancy = (f"add 8x8 float32 cpu{toy}    8x8, 8x8\n" for toy in ("", " toy=fancy"))
    assert both.stdout == f"{plain}{fancy}2 cells\n"
    assert one.stdout == f"{fancy}1 cell\n"


@pytest.mark.slow
def test_a_new_axis_is_a_column_is_compared_and_is_in_the_command(copy: Path) -> None:
    words = [
        "op=add",
        "size=8",
        "toy=plain,fancy",
        "timing=minimal",
        "report.baseline={toy: plain}",
    ]
    make_runner(copy, root=copy)("-m", *words, "hydra.sweep.dir=out")

    rows = pd.read_csv(copy / "out" / "results.csv")
    assert list(rows["toy"]) == ["plain", "fancy"]
    assert rows["cell"].nunique() == 2
    (ratio,) = pd.read_csv(copy / "out" / "speedup.csv").to_dict("records")
    assert (ratio["axis"], ratio["baseline"], ratio["other"]) == ("toy", "plain", "fancy")
    assert (ratio["baseline_cell"], ratio["other_cell"]) == tuple(rows["cell"])
    page = (copy / "out" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"op=add size=8x8 dtype=float32 device=cpu threads=\d+ toy=fancy", page)
    assert "| toy | time, ms |" in (copy / "out" / "report.md").read_text(encoding="utf-8")

    # a sweep is resumed by the names of its cells, of which the new axis is a part
    (resumed,) = answers(copy, [["-m", *words, "resume=out"]], heavy=True, root=copy)
    assert "2 of 2 cells are done" in resumed.stderr
