"""The grid sweeper and launcher compared with Hydra's own: the same folders and files."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml

from tests.conftest import PATIENT, ROOT, Runner


def files(root: Path) -> dict[str, object]:
    """Each job's ``.hydra`` files, parsed, with the sweep's own folder taken out."""
    found = {}
    for path in sorted(root.glob("*/.hydra/*.yaml")):
        text = path.read_text().replace(str(root), "ROOT")
        found[str(path.relative_to(root))] = yaml.safe_load(text)
    return found


@pytest.mark.slow
def test_run_folders_are_those_of_the_stock_launcher(runner: Runner, tmp_path: Path) -> None:
    command = [
        "-m",
        "op=add,matmul",
        "size=8",
        "+sweep=smoke",
        "dtype=float32",
        "device=cpu",
        "seed=3,4",
    ]
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    runner(*command, f"hydra.sweep.dir={ours}")
    runner(*command, f"hydra.sweep.dir={stock}", "hydra/launcher=basic")
    mine, theirs = files(ours), files(stock)
    assert len(mine) == 2 * 4
    # of hydra.yaml, all that differs between jobs stands in overrides.yaml and the folder's name
    assert mine == {name: file for name, file in theirs.items() if "hydra.yaml" not in name}
    rows = [pd.read_csv(root / "results.csv") for root in (ours, stock)]
    assert list(rows[0]["cell"]) == list(rows[1]["cell"])
    assert (
        stock / f"0_device=cpu,dtype=float32,{PATIENT},op=add,seed=3,size=8" / "run.log"
    ).is_file()
    assert {p.name for p in ours.iterdir()} == {p.name for p in stock.iterdir()}


LISTENER = """
import sys
from hydra.experimental.callback import Callback

class Listener(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        row = job_return.return_value[0]
        print('heard', config.op.name, config.op.kwargs.dim, config.hydra.job.num, row.status)

    def on_multirun_end(self, config, **kwargs):
        print('imported', [name for name in ('torch', 'pandas') if name in sys.modules])
"""


class Swept(NamedTuple):
    """A finished sweep.

    Attributes:
        folder: its own.
        stdout: what it printed.
        shown: what it showed on a terminal; blank where there are none.
    """

    folder: Path
    stdout: str
    shown: str


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A sweep whose values need care, with a callback, on a terminal."""
    folder = tmp_path_factory.mktemp("care")
    (folder / "listening.py").write_text(LISTENER)
    values = ["op=softmax", "op.kwargs.dim=0,1", "size=8,{batch: 4, n: 8}", "seed=3"]
    callback = "+hydra.callbacks.mine._target_=listening.Listener"
    words = ["-m", *values, "timing=minimal", PATIENT, callback, "hydra.sweep.dir=out dir"]
    ours, theirs = os.openpty() if hasattr(os, "openpty") else (None, subprocess.DEVNULL)
    with (folder / "stdout").open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm"},
            stdout=stdout,
            stderr=theirs,
        )
    shown = b""
    if ours is not None:
        os.close(theirs)
        while part := read(ours):
            shown += part
        os.close(ours)
    assert process.wait() == 0, shown
    return Swept(folder / "out dir", (folder / "stdout").read_text(), shown.decode())


def read(terminal: int) -> bytes:
    """What comes next from a terminal; nothing at its end."""
    with suppress(OSError):  # Linux says so when the other side is closed
        return os.read(terminal, 65536)
    return b""


def test_progress_is_a_bar_with_the_time_left_on_a_terminal(swept: Swept) -> None:
    if not swept.shown:
        pytest.skip("needs a pseudo-terminal")
    for words in ("/4", "left", "softmax 4x8 float32 cpu"):
        assert words in swept.shown


def test_values_that_need_care_survive_in_the_hydra_files(swept: Swept) -> None:
    files = {
        name: [
            yaml.safe_load(path.read_text()) for path in swept.folder.glob(f"*/.hydra/{name}.yaml")
        ]
        for name in ("overrides", "config")
    }
    chosen = ["op=softmax", "op.kwargs.dim=0", "size={batch:4,n:8}", "seed=3", "timing=minimal"]
    assert [*chosen, PATIENT] in files["overrides"]
    sizes = [config["size"] for config in files["config"]]
    assert sizes.count({"batch": 4, "n": 8}) == sizes.count(8) == 2


def test_callbacks_get_each_jobs_own_configuration(swept: Swept) -> None:
    # beside a bar, what is printed comes on the terminal too
    heard = re.findall(r"heard \w+ \d \d \w+", swept.stdout + swept.shown)
    assert sorted(heard) == [
        "heard softmax 0 0 ok",
        "heard softmax 0 1 ok",
        "heard softmax 1 2 ok",
        "heard softmax 1 3 ok",
    ]


def test_the_parent_process_never_imports_torch_even_where_it_runs_cells(
    swept: Swept,
) -> None:
    assert "\nimported []\n" in swept.stdout


def test_swept_fields_of_an_operation_are_told_apart(swept: Swept) -> None:
    lines = swept.stdout.splitlines()
    header = next(n for n, line in enumerate(lines) if line.startswith("size"))
    assert lines[header - 1].startswith("Times, operation=softmax, dtype=float32")
    assert re.match(r"size +parameters +time ms", lines[header])
    assert [line.split()[1] for line in lines[header + 1 : header + 5]] == ["dim=0", "dim=1"] * 2


def test_progress_comes_in_plain_lines_where_there_is_no_terminal(smoke: Path) -> None:
    said = json.loads((smoke.parent / "said.json").read_text())["stderr"]
    time = r"\d[\d.]* (ns|us|ms)"
    assert re.search(
        rf"^\[1/8\] add 16x16 float32 cpu threads=1: {time}(, [\d:]+ left)?$", said, re.MULTILINE
    )
    assert re.search(r"^\[(\d-)?8/8\] add 16x16 bfloat16 gpu threads=2: ", said, re.MULTILINE)
