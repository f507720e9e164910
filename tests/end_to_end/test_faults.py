"""Real faults: what a cell does to its process, the disk to its rows, a signal to the sweep.

Nothing done is lost.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pandas as pd
import pytest

from runner.rows.csv_store import read_rows
from runner.rows.rows import BenchmarkRow
from tests.conftest import LONGEST_S, PATIENT, ROOT, Runner
from tests.support.commands import answers, sweep_of_ways

StartSweep = Callable[..., subprocess.Popen[str]]

OPS = """
import ctypes, os, time
import torch

calls = 0

def dies(x, how):
    global calls
    calls += 1
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "hang":
        print("about to hang", flush=True)
        ctypes.CDLL(None).pause()
    if how == "memory":
        return torch.empty(10**15)
    if how == "more memory":
        return torch.ones(2**30).sum() + x
    if how == "sleep":
        time.sleep(0.3)
    if how == "until told":
        print("about to wait", flush=True)
        while not os.path.exists("told"):
            time.sleep(0.02)
    if how == "raise":
        raise ValueError("not today,\\nmaybe tomorrow")
    if how == "wrong":
        return x * (1 if x.dtype is torch.float64 else 1.5)
    if how == "shape":
        return x[1:]
    if how == "type":
        return x + "a"
    if how == "mutate":
        return x.add_(1)
    if how == "infinite":
        return x / 0
    return x * 2
"""


@pytest.fixture
def dying(tmp_path: Path) -> Path:
    """A folder with an operation that ends as its ``how`` says."""
    (tmp_path / "dying_ops.py").write_text(OPS)
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "dies.yaml").write_text(
        'name: dies\ncall: dying_ops.dies\nsignature: "... -> ..."\nkwargs: {how: '
        "well}\ndifferentiable: false\n"
    )
    return tmp_path


WAYS = sweep_of_ways(
    "dies",
    "segfault,exit,memory,raise,wrong,shape,infinite,type,mutate",
    "{op: dies, op.kwargs.how: hang, size: 8, limit.time_s: 6}",
    "{op: dies, op.kwargs.how: well, size: 8}",
    "{op: dies, op.kwargs.how: more memory, size: 8, limit.memory_bytes: 1000000000}",
    "{op: dies, op.kwargs.how: sleep, size: 8, timing.max_time_s: 0.05, timing.max_samples: 99}",
    "{op: add, size: 1024, limit.memory_bytes: 1000000}",
)


@pytest.mark.slow
def test_every_way_to_fail_becomes_a_row_and_the_sweep_goes_on(dying: Path, runner: Runner) -> None:
    """A cell that hangs does so for good, in a worker that has run others.

    It has long begun when its time is over.
    """
    (dying / "mine" / "sweep").mkdir()
    (dying / "mine" / "sweep" / "ways.yaml").write_text(WAYS)
    runner("--config-dir", "mine", "+sweep=ways", "hydra.sweep.dir=out", code=1, limit="")
    ways = "segfault,exit,memory,raise,wrong,shape,infinite,type,mutate,hang,well,more,sleep,large"
    rows = pd.read_csv(dying / "out" / "results.csv").set_axis(ways.split(","))
    assert rows["status"].to_dict() == {
        "segfault": "crashed",
        "exit": "crashed",
        "memory": "out_of_memory",
        "raise": "failed",
        "wrong": "ok",
        "shape": "failed",
        "infinite": "ok",
        "type": "failed",
        "mutate": "ok",
        "hang": "timeout",
        "well": "ok",
        "more": "out_of_memory",
        "sleep": "ok",
        "large": "out_of_memory",
    }
    reasons = rows["reason"]
    assert reasons["segfault"] == "the process was ended by SIGSEGV, while drawing inputs"
    assert reasons["exit"] == "the process ended with exit code 7, while drawing inputs"
    assert reasons["hang"] == "stopped after limit.time_s=6 s, while drawing inputs"
    assert reasons["raise"] == "ValueError: not today, maybe tomorrow"
    assert (
        "its signature '... -> ...' promises outputs [(8, 8)], the call gave [(7, 8)]"
        in reasons["shape"]
    )
    assert "wrong_values" in rows.loc["wrong", "flags"]
    assert "nonfinite" in rows.loc["infinite", "flags"]
    assert rows.loc["infinite", "finite_fraction"] == 0
    assert "mutates_input" in rows.loc["mutate", "flags"]
    assert "wrong_values" not in rows.loc["mutate", "flags"]
    assert rows["median_s"].notna().to_dict() == {
        way: way in ("wrong", "infinite", "mutate", "well", "sleep") for way in ways.split(",")
    }
    # it may not take more than its limit, and what cannot fit is not tried
    assert "memory" in reasons["more"]
    assert reasons["large"] == (
        "MemoryError: inputs and outputs take 12,582,912 bytes; limit.memory_bytes is 1,000,000"
    )
    # a call that is longer than its budget is measured once
    once = rows.loc["sleep"]
    assert (once["samples"], once["stop"]) == (1, "first_call")
    assert "single_call" in once["flags"]
    assert once["median_s"] >= 0.3
    assert pd.isna(once["first_call_s"])  # the function was called at this shape before
    assert pd.isna(once["ci_low_s"])
    log = next((dying / "out").glob("9_*/run.log")).read_text()
    assert "about to hang" in log
    assert "ValueError: not today" in next((dying / "out").glob("3_*/run.log")).read_text()


@pytest.fixture
def start_sweep(dying: Path) -> Iterator[StartSweep]:
    """Begins a sweep of cells, in the folder ``out``.

    Waits until one of them hangs, or waits to be told.
    """
    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [
            "--config-dir",
            "mine",
            "-m",
            "op=dies",
            "size=8",
            "timing=minimal",
            "hydra.sweep.dir=out",
            "compare.in_turn=false",  # each cell has its row before the next one
            PATIENT,
        ]
        process = started(dying, *command, *arguments)
        begun.append(process)
        logs = "out/*/run.log"
        await_that(lambda: any("about to" in log.read_text() for log in dying.glob(logs)), process)
        return process

    yield begin
    for process in begun:
        with suppress(
            ProcessLookupError
        ):  # a worker that outlived its parent would keep the pipes open
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def started(
    folder: Path, *arguments: str, stderr: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen[str]:
    """``python -m runner`` with these arguments, which goes on beside the test."""
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and so
    try:  # would what they start
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def await_that(
    come: Callable[[], bool],
    process: subprocess.Popen[str] | None = None,
    limit_s: float = LONGEST_S,
) -> None:
    """Wait until something is so.

    However long that takes on this machine, unless a process ends before.
    """
    deadline = time.monotonic() + limit_s
    while not come():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def workers_of(process: int) -> list[int]:
    """The children of a process, from ``/proc``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = re.search(r"^PPid:\s+(\d+)", status.read_text(), re.MULTILINE)
        except OSError:
            continue
        if parent and int(parent[1]) == process:
            found.append(int(status.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_sweep_has_its_folder_alone_and_leaves_no_worker_when_it_is_killed(
    dying: Path, start_sweep: StartSweep
) -> None:
    process = start_sweep("op.kwargs.how=hang")
    command = "--config-dir mine -m op=dies op.kwargs.how=hang size=8 timing=minimal"
    fresh, resumed = answers(dying, [f"{command} hydra.sweep.dir=out", f"{command} resume=out"])
    assert (fresh.code, resumed.code) == (2, 2)
    assert "already holds the results" in fresh.stderr
    assert "out is in use by another run; wait for its end" in resumed.stderr
    workers = workers_of(process.pid)
    assert workers
    process.kill()
    process.wait()
    await_that(
        lambda: not any(map(alive, workers)), limit_s=60
    )  # they hang for good, if nobody ends them


def test_an_interrupt_keeps_what_was_finished(dying: Path, start_sweep: StartSweep) -> None:
    process = start_sweep("op.kwargs.how=well,hang,segfault")
    process.send_signal(signal.SIGINT)
    assert_interrupted(process)
    assert list(pd.read_csv(dying / "out" / "results.csv")["status"]) == ["ok"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_is_replaced_and_the_sweep_ends_when_it_is_told_to(
    dying: Path, start_sweep: StartSweep
) -> None:
    process = start_sweep("size=8,9", "op.kwargs.how=hang,well")
    for worker in workers_of(process.pid):
        if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
            os.kill(worker, signal.SIGKILL)
    await_that(lambda: hanging(dying) == 2, process)  # the cell after the next one
    process.send_signal(signal.SIGTERM)
    assert_interrupted(process)
    rows = pd.read_csv(dying / "out" / "results.csv")
    assert list(rows["status"]) == ["crashed", "ok"]
    assert rows["reason"][0].startswith(
        "the process was ended by SIGKILL (possibly out of memory), while"
    )


def hanging(folder: Path) -> int:
    """How many cells of a sweep have come to where they hang."""
    return sum("about to hang" in log.read_text() for log in folder.glob("out/*/run.log"))


def assert_interrupted(process: subprocess.Popen[str]) -> None:
    """A sweep that was told to end ends, and says that it does."""
    _, stderr = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130, stderr
    assert "interrupted; what was finished is kept" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_two_interrupts_end_it_at_once_and_damage_nothing(
    dying: Path, start_sweep: StartSweep
) -> None:
    process = start_sweep("op.kwargs.how=well,hang,segfault")
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130, stderr
    (file,) = (dying / "out").glob("0_*/results.csv")
    assert read_rows(file, BenchmarkRow)[0].status == "ok"


SLOW = [
    "--config-dir",
    "mine",
    "-m",
    "op=dies",
    "op.kwargs.how=sleep",
    "size=4,5,6,7,8,9",
    "timing=minimal",
    PATIENT,
]


def ended(folder: Path) -> int:
    """How many cells of a sweep have left their rows."""
    return len(list((folder / "out").glob("*_*/results.csv")))


def results(folder: Path) -> pd.DataFrame:
    """A finished sweep's table, each of its cells' files being whole."""
    for file in folder.glob("*_*/results.csv"):
        assert read_rows(file, BenchmarkRow)
    return pd.read_csv(folder / "results.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "turns"),
    [
        (signal.SIGINT, 4),
        pytest.param(signal.SIGKILL, 2, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGKILL, 4, marks=pytest.mark.exhaustive),
    ],
)
def test_a_sweep_ended_at_random_moments_and_resumed_ends_as_if_it_never_was(
    kill: signal.Signals, turns: int, dying: Path, runner: Runner
) -> None:
    draw = random.Random(7)
    done = 0
    for turn in range(turns):
        again = (
            ["resume=out"]
            if (dying / "out" / "multirun.yaml").exists()
            else ["hydra.sweep.dir=out"]
        )
        said = dying / f"said_{turn}"
        with said.open("w") as file:
            process = started(dying, *SLOW, *again, stderr=file)
        await_that(lambda: said.stat().st_size > 0, process)  # noqa: B023  (so that it has taken over its signals)
        more = draw.randrange(3)  # cells, however long they take here
        await_that(lambda: ended(dying) >= min(6, done + more) or process.poll() is not None)  # noqa: B023
        time.sleep(draw.uniform(0, 1))
        process.send_signal(kill)
        process.communicate(timeout=LONGEST_S)
        stderr = said.read_text()
        assert process.returncode in ((130, 0) if kill == signal.SIGINT else (-9, 0)), (
            turn,
            stderr,
        )
        assert "Traceback" not in stderr
        done = ended(dying)
    runner(
        *SLOW,
        *(
            ["resume=out"]
            if (dying / "out" / "multirun.yaml").exists()
            else ["hydra.sweep.dir=out"]
        ),
    )
    rows = results(dying / "out")
    assert sorted(rows["size"]) == [f"{n}x{n}" for n in range(4, 10)]
    assert len(list((dying / "out").glob("*_*/"))) == 6  # the same folders again
    assert set(rows["status"]) == {"ok"}
    before = (dying / "out" / "results.csv").read_bytes()
    again = runner(*SLOW, "resume=out")
    assert "6 of 6 cells are done" in again.stderr
    assert "importing torch" not in again.stderr
    assert (dying / "out" / "results.csv").read_bytes() == before


@pytest.mark.slow
def test_resume_runs_what_is_not_done_and_refuses_what_has_changed(
    dying: Path, runner: Runner
) -> None:
    words = ["--config-dir", "mine", "-m", "op=dies", "op.kwargs.how=well,exit", "timing=minimal"]
    words.append("compare.in_turn=false")  # or what crashed would take its partner with it
    runner(*words, "size=4,5", "hydra.sweep.dir=out", code=1)
    out, op = dying / "out", dying / "mine" / "op" / "dies.yaml"
    first = pd.read_csv(out / "results.csv")
    assert list(first["status"]) == ["ok", "ok", "crashed", "crashed"]
    whole, cut = sorted(out.glob("[01]_*/results.csv"))
    cut.write_text(cut.read_text()[:-20])
    stamp = whole.stat().st_mtime_ns

    # nothing of this is run
    two, three = [*words, "size=4,5", "resume=out"], [*words, "size=4,5,6", "resume=out"]
    listed, elsewhere, foreign, quick = answers(
        dying,
        [
            [*two, "dry_run=true"],
            [*two[:-1], "resume=elsewhere"],
            ["resume=out"],
            [*two, "timing=quick"],
        ],
    )
    assert "1 of 4 cells are done" in listed.stderr
    assert [line.partition("    ")[0] for line in listed.stdout.splitlines()] == [
        "dies 5x5 float32 cpu how=well",
        "dies 4x4 float32 cpu how=exit",
        "dies 5x5 float32 cpu how=exit",
        "3 cells",
    ]
    assert elsewhere.code == foreign.code == quick.code == 2
    assert "no sweep's folder" in elsewhere.stderr
    assert (
        "none of this command's cells (1) exists in that folder (which has 3); "
        "add resume= to the sweep's own command: "
    ) in foreign.stderr
    assert "op.kwargs.how=well,exit" in foreign.stderr
    assert "timing.precision: 1.0 -> 0.02" in quick.stderr

    text = op.read_text()
    op.write_text(text + "flop: 3 * batch\n")
    (changed,) = answers(dying, [two])
    assert changed.code == 2
    assert re.search(
        r"dies 4x4 float32 cpu how=well was measured with a different definition "
        r"\(op.flop: '' -> '3 \* batch'.*\); restore it",
        changed.stderr,
    )

    op.write_text(text)
    environment = out / "environment.json"
    there = environment.read_text()
    environment.write_text(there.replace('"threads": ', '"threads": 1'))
    refused = runner(*three, code=2).stderr
    assert re.search(
        r"torch.threads was 1\d+ and is \d+; resume there, or say resume_force=true", refused
    )

    done = runner(*three, "resume_force=true", code=1)
    assert "1 of 6 cells are done" in done.stderr
    assert whole.stat().st_mtime_ns == stamp
    again = pd.read_csv(out / "results.csv")
    ends = [(size, status) for size in ("4x4", "5x5", "6x6") for status in ("crashed", "ok")]
    assert sorted(zip(again["size"], again["status"], strict=True)) == ends
    assert set(first["cell"]) < set(again["cell"])

    (fewer,) = answers(dying, [two])
    assert re.search(
        r"resume=out: that folder has cells \(2 of 6\) that this command \(of 4\) has not, such as "
        r"dies 6x6 float32 cpu how=well; add resume=",
        fewer.stderr,
    )
    cut.unlink()  # so that there is something to run
    environment.write_text("{")
    (damaged,) = answers(dying, [three])
    assert "environment.json is damaged" in damaged.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="locks that can be shared are POSIX's")
def test_a_sweep_beside_another_says_so_or_waits_until_the_other_has_ended(
    dying: Path, start_sweep: StartSweep, runner: Runner
) -> None:
    process = start_sweep("op.kwargs.how='until told'")
    command = ["op=add", "size=8", "timing=minimal", PATIENT]
    runner(*command, "hydra.run.dir=concurrent")
    row = pd.read_csv(dying / "concurrent" / "results.csv").iloc[0]
    assert row["concurrent_sweep"]
    assert "contended" in row["flags"]
    waits = started(dying, *command, "on_contention=wait", "hydra.run.dir=alone")
    assert waits.stderr is not None
    said = next((line for line in waits.stderr if line.startswith("waiting")), "")
    assert "waiting for another sweep's cell on cpu" in said
    assert waits.poll() is None

    # the other one ends in an error, since its folder is gone
    shutil.rmtree(dying / "out")
    (dying / "told").touch()
    _, stderr = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1
    assert re.search(
        r"cannot write .*: No such file or directory; what was finished is kept", stderr
    )
    assert "Traceback" not in stderr

    waits.communicate(timeout=LONGEST_S)
    assert waits.returncode == 0
    assert not pd.read_csv(dying / "alone" / "results.csv").iloc[0]["concurrent_sweep"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_or_read_only_is_said_to_be_and_damages_nothing(
    runner: Runner, small_disk: Path, tmp_path: Path
) -> None:
    sizes = ",".join(map(str, range(1, 40)))
    sweep = ["-m", "op=add", f"size={sizes}", "timing=minimal"]
    done = runner(*sweep, f"hydra.sweep.dir={small_disk}/out", code=1)
    assert re.search(
        r"cannot write .*: No space left on device; what was finished is kept", done.stderr
    )
    assert "Traceback" not in done.stderr
    files = [file for file in small_disk.glob("out/*_*/results.csv") if file.stat().st_size]
    assert len(files) >= 5
    assert all(read_rows(file, BenchmarkRow)[0].status == "ok" for file in files)

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    *measured, report = answers(
        tmp_path,
        [
            ["op=add", f"hydra.run.dir={small_disk}/a"],
            ["+sweep=smoke", f"hydra.sweep.dir={small_disk}/b"],
            ["job=report", f"run={small_disk}/out"],
        ],
        heavy=True,
    )
    for said in measured:
        assert said.code == 2
        assert re.search(
            r"cannot write .*: Read-only file system; choose another with", said.stderr
        )
        assert "importing torch" not in said.stderr
    assert report.code == 2
    advice = "copy that run's folder to where"
    assert re.search(rf"cannot write .*: Read-only file system; {advice} .*\n", report.stderr)
