"""A sweep on a real Ray cluster of two nodes, and what is left of it when one of them dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, Runner
from tests.support.two_nodes import NO_NAMESPACES

pytestmark = pytest.mark.slow
GRID = ["-m", "op=add,mul,sum,relu,exp", "size=8,16,32,64", "device=cpu,gpu", "timing=minimal"]
OP = """
import pathlib, platform, time

def slow(x):
    pathlib.Path("FOLDER", f"{platform.node()}-{time.monotonic_ns()}.call").touch()
    time.sleep(0.15)
    return x * 2
"""


@pytest.fixture
def on_two_nodes(tmp_path: Path) -> Runner:
    """``python -m runner`` on the cluster; skips with the reason where there can be none."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'opsweep[ray]'")

    def run(
        *arguments: str, options: tuple[str, ...] = (), code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", *arguments, "cluster=ray", "hydra.sweep.dir=out"]
        done = subprocess.run(
            [
                sys.executable,
                str(ROOT / "tests" / "support" / "two_nodes.py"),
                str(tmp_path),
                *options,
                "--",
                *command,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        if done.returncode == NO_NAMESPACES:
            pytest.skip(done.stdout.strip())
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run  # type: ignore[return-value]


def chunks(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in folder.glob("out/*/chunk.json")]


def test_every_row_comes_back_from_both_nodes_and_is_the_single_machines_cell(
    on_two_nodes: Runner, runner: Runner, tmp_path: Path
) -> None:
    on_two_nodes(*GRID, "cluster.cells_per_chunk=4")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(rows) == 40
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    assert rows["node"].nunique() == 2
    assert (
        rows.groupby(["op", "size"])["node"].nunique().eq(1).all()
    )  # what is compared stays together
    assert {chunk["variables"]["CUDA_VISIBLE_DEVICES"] for chunk in chunks(tmp_path)} == {"0"}  # type: ignore[index]
    environment = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert set(environment["nodes"]) == set(rows["node"])
    samples = pd.concat(pd.read_csv(path) for path in tmp_path.glob("out/*/samples.csv.gz"))
    assert set(samples["cell"]) == set(rows.loc[rows["status"] == "ok", "cell"])
    runner(*GRID, "hydra.sweep.dir=alone")
    alone = pd.read_csv(tmp_path / "alone" / "results.csv")
    same = [
        "cell",
        "op",
        "size",
        "dtype",
        "device",
        "variant",
        "status",
        "reason",
        "max_relative_error",
        "gradient",
    ]
    pd.testing.assert_frame_equal(
        rows[same].sort_values("cell").reset_index(drop=True),
        alone[same].sort_values("cell").reset_index(drop=True),
    )


def test_a_node_that_is_killed_in_the_middle_loses_no_row(
    on_two_nodes: Runner, runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "my_ops.py").write_text(OP.replace("FOLDER", str(tmp_path)))
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "slow.yaml").write_text(
        'name: slow\ncall: my_ops.slow\nsignature: "... -> ..."\ndifferentiable: false\n'
    )
    sizes = ",".join(map(str, range(2, 22)))
    command = [
        "--config-dir",
        "mine",
        "-m",
        "op=slow",
        f"size={sizes}",
        "device=cpu,gpu",
        "timing=minimal",
    ]
    done = on_two_nodes(
        *command, "cluster.cells_per_chunk=10", options=("--kill-when", "node2-*.call")
    )
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(rows) == rows["cell"].nunique() == 40, done.stderr
    assert set(rows["status"]) == {"ok", "unavailable"}
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    assert rows["node"].nunique() == 2
    assert rows.groupby("size")["node"].nunique().eq(1).all()
    assert "lost: " in done.stderr
    assert "killed the second node" in done.stdout
    assert any(chunk["lost"] for chunk in chunks(tmp_path))
    again = runner(*command, "resume=out")
    assert "40 of 40 cells are done" in again.stderr
