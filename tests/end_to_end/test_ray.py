"""A sweep on a real Ray cluster of two nodes, and what is left of it when one of them dies."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from runner.errors import ConfigError
from tests.conftest import PATIENT, ROOT, Runner
from tests.support.two_nodes import NO_NAMESPACES

pytestmark = pytest.mark.slow
GRID = ["-m", "op=add,mul,sum,relu,exp", "size=8,16,32,64", "device=cpu,gpu", "timing=minimal"]
GRID.append(PATIENT)
OP = """
import os, pathlib, platform, time

def slow(x):
    name = f"{platform.node()}-{x.shape[0]}-{os.getpid()}-{time.monotonic_ns()}.call"
    pathlib.Path("FOLDER", name).touch()
    time.sleep(0.05)
    return x * 2
"""

LISTENER = """
from hydra.experimental.callback import Callback

class Listener(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        print("heard", job_return.status.name, job_return.cfg.op.name)
"""


@pytest.fixture
def on_two_nodes(tmp_path: Path) -> Runner:
    """``python -m runner`` on the cluster; skips with the reason where there can be none."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'opsweep[ray]'")

    def run(
        *arguments: str, options: tuple[str | Path, ...] = (), code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", *arguments, "cluster=ray", "hydra.sweep.dir=out"]
        done = subprocess.run(
            [
                sys.executable,
                str(ROOT / "tests" / "support" / "two_nodes.py"),
                str(tmp_path),
                *map(str, options),
                "--",
                *command,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=1200,
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
    (tmp_path / "own_listener.py").write_text(LISTENER)
    own = ["+hydra.callbacks.own._target_=own_listener.Listener", "cluster.cells_per_chunk=4"]
    done = on_two_nodes(*GRID, *own, "+hydra.job.env_set.TORCH_WORD=hello")
    assert done.stdout.count("heard COMPLETED ") == 40
    assert {chunk["variables"]["TORCH_WORD"] for chunk in chunks(tmp_path)} == {"hello"}  # type: ignore[index]
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


SIZES = ",".join(map(str, range(2, 22)))
SLOW = [
    "--config-dir",
    "mine",
    "-m",
    "op=slow",
    f"size={SIZES}",
    "device=cpu,gpu",
    "timing=minimal",
]


@pytest.fixture
def _slow(tmp_path: Path) -> None:
    """An operation that leaves a file a call."""
    (tmp_path / "my_ops.py").write_text(OP.replace("FOLDER", str(tmp_path)))
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "slow.yaml").write_text(
        'name: slow\ncall: my_ops.slow\nsignature: "... -> ..."\ndifferentiable: false\n'
    )


@pytest.mark.usefixtures("_slow")
def test_a_node_that_is_killed_in_the_middle_loses_no_row(
    on_two_nodes: Runner, runner: Runner, tmp_path: Path
) -> None:
    done = on_two_nodes(*SLOW, "cluster.cells_per_chunk=10", options=("--files", "node2-*.call"))
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(rows) == rows["cell"].nunique() == 40, done.stderr
    assert set(rows["status"]) == {"ok", "unavailable"}
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    assert rows["node"].nunique() == 2
    assert rows.groupby("size")["node"].nunique().eq(1).all()
    assert "lost: " in done.stderr
    assert "killed the second node" in done.stdout
    assert any(chunk["lost"] for chunk in chunks(tmp_path))
    again = runner(*SLOW, "resume=out")
    assert "40 of 40 cells are done" in again.stderr


@pytest.mark.exhaustive
@pytest.mark.usefixtures("_slow")
def test_a_driver_that_is_ended_or_killed_loses_no_cell_that_has_ended(
    on_two_nodes: Runner, tmp_path: Path
) -> None:
    ends = ("--files", "*.call", "--end", "TERM", "KILL")
    done = on_two_nodes(*SLOW, "cluster.cells_per_chunk=10", options=ends)
    assert "TERM ended it with 130" in done.stdout
    assert "interrupted; what was finished is kept" in done.stderr
    assert "SIGTERM received" not in done.stderr
    assert "KILL ended it with -9" in done.stdout
    terminated, killed = map(int, re.findall(r"(\d+) of 40 cells are done", done.stderr))
    assert 0 < terminated < killed < 40
    assert re.search(r"\d+ cells? had ended in [12] jobs? whose driver was gone", done.stderr)
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(rows) == rows["cell"].nunique() == 40
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    # by which process on which node each size was begun: each job has its own
    begun_by = {tuple(path.name.rsplit("-", 3)[:3]) for path in tmp_path.glob("*.call")}
    times = Counter(size for _, size, _ in begun_by)
    assert len(times) == 20
    twice = sum(count > 1 for count in times.values())
    assert twice <= 4, times  # the cells that two nodes were at, two times


@pytest.mark.exhaustive
def test_a_node_with_another_torch_is_named_once_and_not_used(
    on_two_nodes: Runner, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "torch-2.0.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.0.0\n")
    done = on_two_nodes(
        *GRID, "cluster.cells_per_chunk=4", "cluster.retries=0", options=("--path", other.parent)
    )
    assert re.findall("not used: node2-.* has torch 2.0.0 and not .*", done.stderr)
    assert done.stderr.count("not used") == 1
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert (len(rows), rows["node"].nunique()) == (40, 1)
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    assert {chunk["attempt"] for chunk in chunks(tmp_path)} == {1}


@pytest.mark.exhaustive
def test_an_address_where_nothing_answers_is_said(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'opsweep[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            address = f"cluster.launcher.ray.init.address=127.0.0.1:{port}"
            done = subprocess.run(
                [sys.executable, "-m", "runner", "-m", "op=add", "size=8", "cluster=ray", address],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 2
            said = f"cluster=ray: nothing answers at 127.0.0.1:{port}: "
            assert said in done.stderr.splitlines()[-1]
            assert not list(tmp_path.glob("**/environment.json"))


def test_what_listens_and_is_not_ray_is_told_from_what_is() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'opsweep[ray]'")
    from runner.cluster.ray_executor import check_answers

    def answer(server: socket.socket, reply: bytes) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(reply)

    for reply, is_ray in ((b"HTTP/1.1 400", False), (b"", False), (b"\0\0\6\4\0", True)):
        with socket.create_server(("127.0.0.1", 0)) as server:
            answering = threading.Thread(target=answer, args=(server, reply))
            answering.start()
            refused = pytest.raises(ConfigError, match="what listens there is not Ray")
            with contextlib.nullcontext() if is_ray else refused:
                check_answers(f"ray://127.0.0.1:{server.getsockname()[1]}")
            answering.join()
