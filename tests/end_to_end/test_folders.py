"""The folder of a run: never written over, read again for a report, refused where it cannot be."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import PATIENT, ROOT, SMOKE
from tests.support.commands import answers


def test_a_run_never_writes_over_another(smoke_copy: Path, tmp_path: Path) -> None:
    shutil.copytree(next(smoke_copy.glob("0_*")), tmp_path / "one")
    there = [tmp_path / "one" / "results.csv", smoke_copy / "results.csv"]
    before = [path.read_bytes() for path in there]
    again = [["op=add", "size=4", "hydra.run.dir=one"], [*SMOKE, "hydra.sweep.dir=out"]]
    for answer in answers(tmp_path, again):
        assert answer.code == 2
        assert "already holds the results of a run" in answer.stderr
    assert [path.read_bytes() for path in there] == before


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for answer in answers(
        tmp_path, ["hydra.run.dir=taken/out", "+sweep=smoke hydra.sweep.dir=taken/out"]
    ):
        advice = "choose another with hydra.run.dir= or hydra.sweep.dir="
        assert answer.code == 2
        assert re.search(rf"cannot write .*taken.*; {advice}", answer.stderr)


def test_what_cannot_be_called_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    command = ["-m", "op=add", "op.call=torch.ad,nopackage.f", "hydra.sweep.dir=out"]
    (said,) = answers(tmp_path, [command])
    assert said.code == 2
    assert said.stderr.splitlines()[-1] == (
        "op add: call 'torch.ad': torch has no 'ad' (did you mean 'add'?); "
        "op add: call 'nopackage.f' cannot be imported; give a dotted name such as torch.matmul "
        "or package.module.function, importable from this folder or an installed package"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def reported(smoke_copy: Path, tmp_path: Path) -> Path:
    """A folder with copies of the sweep, ``out`` and ``a b``."""
    shutil.copytree(smoke_copy, tmp_path / "a b")
    return tmp_path


def test_a_report_is_made_of_what_the_cells_left(reported: Path) -> None:
    """From the jobs' folders alone, by what the run was made with, without what is damaged."""
    out, other = reported / "out", reported / "a b"
    before = (out / "results.csv").read_bytes()
    compared = (other / "speedup.csv").read_text()
    for name in ("results.csv", "report.md"):
        (out / name).unlink()
    commands = [["job=report", "run=out"], ["job=report", "run=a b", "--quiet"]]
    rebuilt, as_it_was = answers(reported, commands, heavy=True)
    headline, *_, last = as_it_was.stdout.splitlines()
    assert (headline, last) == ("threads: 2 against 1", "8 rows in a b")
    assert as_it_was.stderr == ""
    assert as_it_was.stdout in rebuilt.stdout.replace("rows in out", "rows in a b")
    assert rebuilt.code == as_it_was.code == 0
    assert (out / "results.csv").read_bytes() == before
    assert (out / "report.md").is_file()
    assert not (out / ".hydra").exists()
    assert sorted(path.name for path in reported.iterdir()) == ["a b", "out"]
    assert (other / "speedup.csv").read_text() == compared  # by threads, not by device

    victim = next(out.glob("0_*/results.csv"))
    victim.write_text(victim.read_text().replace("16x16", "5x5"))
    shutil.rmtree(next(other.glob("3_*")))
    commands = [
        ["job=report", "run=out"],
        ["job=report", "run=a b", "report.baseline={threads: 3}"],
        ["job=report", "run='a b'"],
        ["job=report", "run='a b'", "strict=true"],
    ]
    damaged, refused, gap, strict = answers(reported, commands, heavy=True)
    assert damaged.code == 1
    assert re.search(r"damaged, not used: .*0_.*results.csv: line 2 was altered", damaged.stdout)
    assert "5x5" not in (out / "results.csv").read_text()
    assert (refused.code, refused.stderr) == (
        2,
        "report.baseline: no row has threads=3; the rows' values are 1, 2\n",
    )
    assert gap.code == 0
    assert "8 rows in a b" in gap.stdout  # what its folder no longer has, the run's table has
    unavailable = "unavailable" in set(pd.read_csv(other / "results.csv")["status"])
    assert strict.code == int(unavailable)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the shell and the devices of Linux")
def test_an_output_that_cannot_be_written_is_named_and_takes_nothing_with_it(
    tmp_path: Path,
) -> None:
    program = f"'{sys.executable}' -m runner"
    ends = [
        (
            f"{program} op=add size=4 timing=minimal {PATIENT} hydra.run.dir=out >&-",
            0,
            "importing torch",
        ),
        (f"{program} job=report run=out | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        (
            f"{program} job=report run=out >/dev/full",
            1,
            "cannot write standard output: No space left on device; what",
        ),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line, code, said in ends:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
        assert not re.search("Traceback|folder: |Exception ignored", done.stderr)
        (tmp_path / "out" / "report.html").unlink()  # the last file to be written


def test_a_folder_whose_name_means_a_value_is_refused(smoke_copy: Path, tmp_path: Path) -> None:
    smoke_copy.rename(tmp_path / "a${x}")
    commands = [["job=report", "run=a${x}"], [*SMOKE, "resume=a${x}", "dry_run=true"]]
    for answer in answers(tmp_path, commands):
        assert answer.code == 2
        assert "rename it" in answer.stderr
        assert len(answer.told) == 1


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


def test_a_damaged_configuration_of_a_job_is_named(smoke: Path, tmp_path: Path) -> None:
    """Where a sweep is to be taken up with another definition, which it is asked for."""
    texts = (LAUGHS, "{{{", "", "- a\n", "op: !!python/name:os.system\n", "op: {name: x}\n")
    commands = []
    for number, text in enumerate(texts):
        folder = shutil.copytree(smoke, tmp_path / f"damaged{number}")
        for path in folder.glob("*/.hydra/config.yaml"):
            path.write_text(text)
        words = [*SMOKE, "timing.max_time_s=0.77", f"resume={folder.name}", "dry_run=true"]
        commands.append(words)
    for answer in answers(tmp_path, commands):
        lines = answer.told
        assert answer.code == 2 and len(lines) == 1, answer.stderr
        assert "config.yaml is damaged" in lines[0]


@pytest.mark.slow
def test_a_sweep_that_is_killed_as_it_begins_is_taken_up(tmp_path: Path) -> None:
    """Between the two files by which it is known."""
    killed = (
        "import os, runner.execute.cell_runner as c; from runner.cli import main as m;"
        "before = c.CellRunner.record_environment;"
        "c.CellRunner.record_environment = lambda *a, **k: (before(*a, **k), os._exit(9));"
        "m.offer_plugins(); m.run(['-m', 'op=add', 'size=4,5', 'hydra.sweep.dir=out'])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, env=env, check=False)
    assert done.returncode == 9
    (answer,) = answers(tmp_path, ["-m op=add size=4,5 resume=out dry_run=true"])
    assert answer.code == 0, answer.stderr
    assert "2 cells" in answer.stdout
