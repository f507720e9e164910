"""What is read before the first word: files that have no end, and files that say too much."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from runner.config.schema import Compare, Limit, Timing, check_ranges
from runner.errors import ConfigError
from tests.conftest import ROOT
from tests.support.commands import answers
from tests.support.marks import slow

BOMB = "((((9**64)**64)**64)**64)**64"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
WHOLE = "name: zz\ncall: torch.add\nsignature: n, n -> n\n"


def op(**fields: object) -> str:
    return json.dumps({"name": "zz", "call": "torch.add", "signature": "n, n -> n", **fields})


FILES = {
    op(flop=BOMB): "a power is too large",
    op(tolerance=BOMB): "a power is too large",
    op(kwargs={"alpha": "{" + BOMB + "}"}): "a power is too large",
    op(signature="n, n -> k", derived_dims={"k": BOMB}): "a power is too large",
    op(flop="*".join(["1e99"] * 5)): "beyond all measure",
    op(flop="+".join(["n"] * 3_000)): "5,999 characters; at most 500 are read",
    op(flop="-" * 400 + "n"): "nested too deeply",
    op(flop="-5*n"): "below 0",
    op(tolerance="-8"): "below 0",
    op(name="a\x1b[2J\nb"): r"has signs that no terminal shows",
    LAUGHS + WHOLE: "more than 100,000 values, or itself",
    WHOLE + "kwargs: &k {a: *k}\n": "more than 100,000 values, or itself",
    WHOLE + "kwargs: {a: " + "[" * 2_000 + "]" * 2_000 + "}\n": "cannot be read",
    WHOLE + "description: " + "x" * 2**20: "at most 1,048,576 are read",
    "5\n": "cannot be read",
    "# @package _global_\nop: {name: z, call: torch.add, signature: 'n, n -> n'}\n"
    "hydra: {callbacks: {x: {_target_: evil.Evil}}}\n": "@package reaches beyond",
    "#@package hydra\n" + WHOLE: "@package reaches beyond",
    WHOLE + "description: x${oc.env:HOME}y\n": r"${ reaches beyond",
    "defaults:\n  - override /hydra/launcher: basic\n" + WHOLE: "reaches beyond",
}


def test_op_files_without_end_or_beyond_their_group_get_one_line(tmp_path: Path) -> None:
    """And nothing of what they name is imported, or made."""
    (tmp_path / "evil.py").write_text("open('RAN', 'w')\n")
    commands = []
    for number, text in enumerate(FILES):
        folder = tmp_path / f"pack{number}" / "op"
        folder.mkdir(parents=True)
        (folder / "zz.yaml").write_text(text)
        commands.append(["--config-dir", f"pack{number}", "op=zz", "dry_run=true"])
    (tmp_path / "pack0" / "op" / "latin.yaml").write_bytes(b"name: \xe9\n")
    commands.append(["--config-dir", "pack0", "op=latin", "dry_run=true"])
    said = answers(tmp_path, commands)
    for answer, expected in zip(said, [*FILES.values(), "cannot be read"], strict=True):
        assert answer.code == 2, (expected, answer)
        assert len(answer.told) == 1, answer.stderr
        assert expected in answer.stderr
        assert len(answer.stderr) < 1_000
    assert not (tmp_path / "RAN").exists()


WRONG = {
    "-m size=range(1,1e9)": "more than sweep.max_cells=1,000,000 cells; narrow an axis",
    "-m size=8,16 op=add,mul sweep.max_cells=3": "more than sweep.max_cells=3 cells",
    "+sweep=crossover hydra.sweeper.crossover=5": "hydra.sweeper.crossover=5: give low, high",
    "+sweep=gpu hydra.sweeper.also=[5]": "hydra.sweeper.also: 5 is no grid",
    "hydra=5": "hydra=...: give one of its keys",
    "~limit": "~limit: this key is needed",
    f"size={'9' * 10_000}": "",
    "limit.time_s=1e13": "limit.time_s=10000000000000.0 is too large",
    "limit.memory_bytes=10000000000000000000000000": "is too large",
    "timing.warmup_s=inf": "timing.warmup_s=inf is too large",
    f"size={'x'.join('1' * 65)}": "is not a size",
    "op=add run=outputs": "run=outputs goes with job=report",
    "-m op=add run=outputs": "run=outputs goes with job=report",
    "op=add run=outputs hydra/sweeper=basic -m": "run=outputs goes with job=report",
    "workload=mlp hydra/sweeper=basic -m": "workload= goes with hydra/sweeper=grid, not with basic",
    "timing.processes=1000000000": "timing.processes=1000000000 is too large",
    "report.same_within=inf": "report.same_within=inf is too large",
    "-sc x": "",
    "--resolve": "",
}


def test_each_setting_that_is_a_number_has_bounds() -> None:
    """Whatever it is called: no clock and no system call takes more than so much."""
    for part, settings in (("timing", Timing), ("limit", Limit), ("compare", Compare)):
        for field in fields(settings):
            if not re.match("int|float", str(field.type)):
                continue
            for odd in (-1, float("inf"), float("nan"), 10**25):
                with pytest.raises(ConfigError, match=rf"{part}.{field.name}=\S+ is too"):
                    check_ranges({f"{part}.{field.name}": odd})


@pytest.mark.parametrize("how", ["", slow("dry_run=true")])
def test_settings_without_bounds_get_one_line(how: str, tmp_path: Path) -> None:
    commands = [f"{command} {how}" for command in WRONG]
    for answer, (command, expected) in zip(answers(tmp_path, commands), WRONG.items(), strict=True):
        assert answer.code == 2, (command[:60], answer)
        assert len(answer.told) == 1, (command[:60], answer.stderr)
        assert expected in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--config-dir", "mine", "+sweep=own", "dry_run=true"],
        ["--config-dir", "mine", "+sweep=own", "--help"],
        slow(["--config-dir", "mine", "+sweep=own", "--cfg", "hydra"]),
        ["job=ab", "op=add", "size=8", "ab.b.python=./python", "dry_run=true"],
        ["job=report", "run=out"],
    ],
    ids=lambda words: words[-1],
)
def test_a_dry_run_a_report_and_help_run_nothing_of_the_folder(
    words: list[str], tmp_path: Path, smoke_copy: Path
) -> None:
    """Neither what stands in for a library, nor a plugin, nor what a sweep's file names.

    That is a callback, a log's handler or file, or another program.
    """
    trap = "import pathlib\npathlib.Path('RAN').touch()\nclass Evil: pass\n"
    for name in ("yaml", "json", "rich", "evil", "omegaconf", "jinja2"):
        (tmp_path / f"{name}.py").write_text(trap)
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "evil_plugin.py").write_text(trap)
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "own.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks: {x: {_target_: evil.Evil}}\n"
        "  sweeper: {params: {op: add, size: 8}}\n"
        "  hydra_logging: &logs {version: 1, handlers: {h: {class: evil.Evil}, f: {class: "
        "logging.FileHandler, filename: RAN}}, root: {handlers: [h, f]}}\n  job_logging: *logs\n"
    )
    (tmp_path / "python").write_text("#!/bin/sh\n/bin/touch RAN\n")
    (tmp_path / "python").chmod(0o755)
    assert smoke_copy == tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "RAN").exists()


def test_a_dry_run_measures_nothing_however_it_is_said(tmp_path: Path) -> None:
    said = ["dry_run=y", "dry_run='true'", "++dry_run=2", "dry_run=On hydra/sweeper=basic"]
    refused = ["dry_run=true hydra.mode=RUN", "dry_run=${strict} strict=true"]
    found = answers(tmp_path, [f"op=add size=8 {words}" for words in (*said, *refused)])
    assert [answer.code for answer in found] == [0] * len(said) + [2] * len(refused)
    assert all("1 cell" in answer.stdout for answer in found[: len(said)])
    assert not (tmp_path / "outputs").exists()


def test_a_calibration_is_of_one_thread_too_unless_a_number_is_given(tmp_path: Path) -> None:
    sweep = "+sweep=noise op=add size=8 device=cpu dry_run=true"
    both, one = answers(tmp_path, [sweep, f"{sweep} threads=1"])
    assert "cpu threads=1 " in both.stdout and "2 cells" in both.stdout
    assert "cpu threads=1 " in one.stdout and "1 cell" in one.stdout


def test_a_dry_run_says_what_code_a_run_would_call(tmp_path: Path) -> None:
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "own.yaml").write_text(
        "name: own\ncall: nowhere_ops.f\nsignature: n -> n\nsize: 8\n"
    )
    (own, plain) = answers(
        tmp_path, ["--config-dir mine op=own dry_run=true", "op=add size=8 dry_run=true"]
    )
    assert (own.code, plain.code) == (0, 0)
    assert "a run imports and calls nowhere_ops.f\n" in own.stderr
    assert "imports" not in plain.stderr
