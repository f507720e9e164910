"""Functions that misbehave: each has its own row, and leaves nothing to the next."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Runner
from tests.support.commands import sweep_of_ways

OPS = """
import gc, multiprocessing.connection, os, subprocess, sys
import torch

done = set()


def once(name):
    is_first = name not in done
    done.add(name)
    return is_first


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def misbehaves(x, how):
    if how == "forks" and once(how):
        os.fork()  # the child goes on in the worker's own code
    if how == "garbage":
        for thing in gc.get_objects():
            if isinstance(thing, multiprocessing.connection.Connection):
                os.write(thing.fileno(), b'[1,"done",false,[],[]]\\n{{{\\n')
    if how == "interrupts":
        raise KeyboardInterrupt("not by hand")
    if how == "base":
        raise BaseException("from below")
    if how == "textless":
        raise NoText
    if how == "long":
        raise ValueError("y" * 50_000_000)
    if how == "closes":
        sys.stdout.close()
        sys.stderr = None
    if how == "floods" and once(how):
        for _ in range(30):
            print("x" * 1_000_000)
        print("the end of it", flush=True)
    if how == "leaves" and once(how):
        subprocess.Popen(["sleep", "7777"], start_new_session=True)
    if how == "hangs":
        subprocess.Popen(["sleep", "7778"])
        subprocess.run(["sleep", "7779"])
    if how == "replaces":
        torch.add = torch.sub
    if how == "shallow":
        sys.setrecursionlimit(120)
    return x + 1
"""

WAYS = "forks,garbage,interrupts,base,textless,long,closes,floods,leaves,replaces,shallow"
SWEEP = sweep_of_ways(
    "misbehaves",
    WAYS,
    "{op: misbehaves, op.kwargs.how: hangs, size: 8, limit.time_s: 15}",
    "{op: add, size: 8}",
)


def sleeping() -> list[str]:
    """The commands of the children that the functions above leave."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if words[:1] == [b"sleep"] and words[1:2] and words[1].startswith(b"777"):
            found.append(words[1].decode())
    return found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_each_function_has_its_own_row_and_leaves_nothing(tmp_path: Path, runner: Runner) -> None:
    (tmp_path / "odd_ops.py").write_text(OPS)
    for kind in ("op", "sweep"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    (tmp_path / "mine" / "op" / "misbehaves.yaml").write_text(
        'name: misbehaves\ncall: odd_ops.misbehaves\nsignature: "... -> ..."\n'
        "kwargs: {how: well}\ndifferentiable: false\n"
    )
    (tmp_path / "mine" / "sweep" / "ways.yaml").write_text(SWEEP)
    done = runner("--config-dir", "mine", "+sweep=ways", "hydra.sweep.dir=out", code=1, limit="")
    assert "Traceback" not in done.stderr
    ways = [*WAYS.split(","), "hangs", "add"]
    rows = pd.read_csv(tmp_path / "out" / "results.csv").set_axis(ways)
    crashed, failed = ["garbage"], ["interrupts", "base", "textless", "long"]
    expected = dict.fromkeys(ways, "ok") | dict.fromkeys(failed, "failed")
    expected |= dict.fromkeys(crashed, "crashed") | {"hangs": "timeout"}
    assert rows["status"].to_dict() == expected
    for number, way in enumerate(ways):  # each in its own folder
        (folder,) = (tmp_path / "out").glob(f"{number}_*")
        (cell,) = pd.read_csv(folder / "results.csv")["cell"]
        assert cell == rows.loc[way, "cell"]
    reasons = rows["reason"]
    assert reasons["garbage"].startswith("the process gave what is no answer (")
    assert reasons["interrupts"] == "KeyboardInterrupt: not by hand"
    assert reasons["base"] == "BaseException: from below"
    assert reasons["textless"] == "NoText: (its text cannot be had: RuntimeError)"
    assert reasons["long"].startswith("ValueError: yyyy")
    assert len(reasons["long"]) <= 300
    assert "wrong_values" not in str(rows.loc["add", "flags"])
    flood = next((tmp_path / "out").glob("7_*/run.log"))
    assert flood.stat().st_size < 2 * 2**20
    text = flood.read_text()
    assert "bytes were left out here" in text
    assert "the end of it" in text
    assert not sleeping()
