"""Sweeps on a real Slurm of two nodes, whose jobs and driver are ended in the middle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
OP = """
import os, pathlib, time

def slow(x):
    name = f"{x.shape[0]}-{os.getpid()}-{time.monotonic_ns()}-{os.environ.get('WORD')}.call"
    pathlib.Path(os.environ["CALLS"], name).touch()
    time.sleep(float(os.environ.get('CALL_S', 0.02)))
    return x * 2
"""
OP_FILE = 'name: slow\ncall: slow_op.slow\nsignature: "... -> ..."\ndifferentiable: false\n'
LIMIT_S = 900.0  # of a sweep: who else is on the machine is not known
BEGUN = 4  # cells, of which some have ended


@pytest.fixture(autouse=True)
def _on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with an operation that leaves a file a call; afterwards the queue is empty."""
    pytest.importorskip(
        "submitit", reason="submitit is not installed: pip install 'opsweep[slurm]'"
    )
    if "SLURM_CONF" not in os.environ:
        pytest.skip(os.environ.get("NO_SLURM", "make test-slurm runs these on a Slurm of its own"))
    for name in ("mine/op", "calls"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "slow_op.py").write_text(OP)
    (tmp_path / "mine" / "op" / "slow.yaml").write_text(OP_FILE)
    for name, value in {"CALLS": tmp_path / "calls", "PYTHONPATH": f"{ROOT}:{tmp_path}"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    yield
    try:
        until(lambda: not queue(), 60.0)
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)


def start(*words: str, cells: int = 20, op: str = "slow") -> subprocess.Popen[str]:
    """``python -m runner`` with cells of one operation; its output comes with its end."""
    sizes = ",".join(map(str, range(2, 2 + cells)))
    command = f"--config-dir mine -m op={op} size={sizes} timing=minimal cluster=slurm"
    arguments = [sys.executable, "-m", "runner", *command.split(), *words]
    if not any(word.startswith("device=") for word in words):
        arguments.append("device=cpu")
    if not any(word.startswith("resume=") for word in words):
        arguments.append("hydra.sweep.dir=out")
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said on standard error."""
    try:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, f"exit {process.returncode}\n{stdout}\n{stderr}"
    return stderr


def queue(state: str = "") -> list[str]:
    """The numbers of the jobs in the queue, or of those in a state."""
    chosen = ["-t", state] if state else []
    asked = ["squeue", "-h", "-o", "%i", *chosen]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def calls() -> Counter[str]:
    """How many times each size was called, which is no fixed number."""
    return Counter(path.name.partition("-")[0] for path in Path("calls").iterdir())


def begun() -> Counter[str]:
    """How many processes have begun each size, of which each job has its own."""
    begun_by = {tuple(path.name.split("-")[:2]) for path in Path("calls").iterdir()}
    return Counter(size for size, _ in begun_by)


def until(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_rows(cells: int, disturbed: int) -> None:
    """Each cell is there once and well, and was run once, but those that were disturbed."""
    rows = pd.read_csv("out/results.csv")
    assert len(rows) == rows["cell"].nunique() == cells
    assert set(rows["status"]) == {"ok"}
    times = begun()
    assert len(times) == cells
    assert sum(count > 1 for count in times.values()) <= disturbed, times


def test_every_row_comes_back_and_a_job_for_the_gpu_has_one() -> None:
    ended(start("cluster.cells_per_chunk=10", "device=cpu,gpu", op="add,mul", cells=10))
    rows = pd.read_csv("out/results.csv")
    assert len(rows) == rows["cell"].nunique() == 40
    assert set(rows.loc[rows["device"] == "cpu", "status"]) == {"ok"}
    told = [json.loads(path.read_text()) for path in Path("out").glob("*/chunk.json")]
    assert len(told) == 4
    assert {chunk["variables"].get("CUDA_VISIBLE_DEVICES") for chunk in told} == {"0"}
    assert len(list(Path("out").glob("*/samples.csv.gz"))) == 4
    assert not [path for path in Path("out/.submitit").iterdir() if not path.is_symlink()]


def test_jobs_that_are_cancelled_and_requeued_lose_nothing_and_do_nothing_twice() -> None:
    sweep = start("cluster.cells_per_chunk=12", "+hydra.job.env_set.WORD=hello", cells=40)
    until(lambda: len(begun()) >= BEGUN and len(queue("RUNNING")) == 2)
    first, second = sorted(queue("RUNNING"), key=int)
    subprocess.run(["scontrol", "requeue", first], check=True)
    subprocess.run(["scancel", second], check=True)
    said = ended(sweep)
    check_rows(40, disturbed=2)
    assert re.search(rf"lost: .*Slurm's job {second} ended on node\d: CANCELLED", said)
    assert said.count("lost: ") == 1
    assert all(path.name.endswith("-hello.call") for path in Path("calls").iterdir())


def test_what_a_killed_drivers_jobs_measure_is_there_and_what_waits_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALL_S", "0.05")  # the jobs are to outlast the start of the next driver
    sweep = start("cluster.cells_per_chunk=12", cells=36)
    until(lambda: len(begun()) >= BEGUN and len(queue("RUNNING")) == 2)
    sweep.send_signal(signal.SIGKILL)
    ended(sweep, -signal.SIGKILL)
    before = begun()
    until(lambda: len(begun()) > len(before) + 2)  # they run on
    assert len(queue()) == 3
    said = ended(start("cluster.cells_per_chunk=12", "resume=out", cells=36))
    told = re.search(r"(\d+) cells? had ended in 3 jobs whose driver was gone; cancelled: 3", said)
    assert told, said
    assert f"{told[1]} of 36 cells are done" in said
    assert int(told[1]) >= len(before)
    check_rows(36, disturbed=2)


def test_a_time_limit_costs_no_cell_and_one_in_which_none_fits_is_refused() -> None:
    launcher = "cluster.launcher."
    limits = ["limit.time_s=28", f"{launcher}timeout_min=1", "cluster.cells_per_chunk=30"]
    said = ended(start(*limits), 2)
    assert "timeout_min=1 less signal_delay_s=120 is 0 s, and a job of a cell with" in said
    assert "give timeout_min=3 or more" in said
    assert not Path("out").exists()
    ended(start(*limits, f"{launcher}signal_delay_s=15", cells=8))
    check_rows(8, disturbed=0)
    assert len(list(Path("out").glob("*/chunk.json"))) > 1


def test_a_job_goes_on_when_it_is_warned_and_costs_no_try_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALL_S", "0.1")  # more than a minute for all cells
    sweep = start("cluster.cells_per_chunk=20", "cluster.retries=0", cells=20)
    until(lambda: len(begun()) >= BEGUN)
    (job,) = queue("RUNNING")
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    said = ended(sweep)
    over = f"Slurm's job {job} was out of time: what is left is sent again, which is no try"
    assert over in said
    check_rows(20, disturbed=1)


SBATCH = """#!/bin/sh
if [ $(squeue -h --me | wc -l) -ge 2 ]; then
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    exit 1
fi
exec SBATCH "$@"
"""


def test_a_limit_on_the_jobs_of_a_user_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    limited = tmp_path / "bin" / "sbatch"
    limited.write_text(SBATCH.replace("SBATCH", shutil.which("sbatch") or ""))
    limited.chmod(0o755)
    monkeypatch.setenv("PATH", f"{limited.parent}:{os.environ['PATH']}")
    said = ended(start("cluster.cells_per_chunk=2", "cluster.retries=0", cells=8))
    check_rows(8, disturbed=0)
    assert said.count("sbatch takes no job more for now, which is sent later: ") == 1
    assert "QOSMaxSubmitJobPerUserLimit" in said


def test_what_can_never_run_is_said_and_leaves_the_folder_as_it_was() -> None:
    said = ended(start("cluster.launcher.partition=nosuch"), 2)
    assert "sbatch takes no such job" in said
    assert "nvalid partition name" in said
    assert not Path("out").exists()
    said = ended(start("cluster.launcher.cpus_per_task=64"), 2)
    assert re.search("PartitionConfig|onfiguration is not available", said)
    assert not Path("out").exists()
    ended(start("cluster.launcher.cpus_per_task=1", cells=1))
    assert list(pd.read_csv("out/results.csv")["threads"]) == [1]


def test_nodes_that_lack_a_module_are_named_once_and_what_they_can_run_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    elsewhere = ["cluster.launcher.setup=[cd /]", "cluster.cells_per_chunk=2"]
    said = ended(start(*elsewhere, cells=4, op="slow,add"), 1)
    rows = pd.read_csv("out/results.csv")
    assert Counter(rows["op"] + " " + rows["status"]) == {"slow crashed": 4, "add ok": 4}
    assert said.count("not used: ") <= 2  # nodes, which have one name here
    assert "call 'slow_op.slow' cannot be imported" in rows["reason"].dropna().iloc[0]
    assert "have both on every node" in said


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "torch-2.0.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: torch\nVersion: 2.0.0\n",
            r"has torch 2\.0\.0 and not .*",
        ),
        (
            "runner/__init__.py",
            "raise ModuleNotFoundError(\"No module named 'runner'\", name='runner')\n",
            "node2: .*No module named 'runner'; install the same on every node",
        ),
    ],
    ids=["other torch", "no opsweep"],
)
def test_a_node_that_differs_is_named_once_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, said: str
) -> None:
    (tmp_path / "other" / file).parent.mkdir(parents=True)
    (tmp_path / "other" / file).write_text(text)
    monkeypatch.setenv("OTHER", f"{tmp_path}/other:{os.environ['PYTHONPATH']}")
    prolog = Path(os.environ["SLURM_CONF"]).with_name("prolog")
    # of the second node alone
    prolog.write_text(
        '#!/bin/sh\n[ "$SLURMD_NODENAME" = node1 ] || echo export PYTHONPATH="$OTHER"\n'
    )
    try:
        stderr = ended(start("cluster.cells_per_chunk=2", "cluster.retries=0", cells=8))
    finally:
        prolog.write_text("#!/bin/sh\n")
    assert re.findall(f"not used: .*{said}", stderr)
    assert stderr.count("not used: ") == 1
    check_rows(8, disturbed=0)
    told = [json.loads(path.read_text()) for path in Path("out").glob("*/chunk.json")]
    assert {chunk["attempt"] for chunk in told} == {1}
