"""A stage: its steps run one after the other, within its time; what has ended is not run again."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from runner import __version__
from runner.hardware.checks import Finding, findings_of
from runner.hardware.record import PASSED, Found, pack, read_found, table_of, unpack, write_found
from runner.hardware.stages import Step, steps_of
from runner.report.conclude import load_run

LONGEST_S = 340.0  # of a stage, beside starting, in six minutes; what is left is for another call
ENDING_S = 15.0  # for a run that is interrupted, and for packing
LEAST_S = 60.0  # without which no step is begun
NOT_OVER = "it was not over"


@dataclass(frozen=True)
class Machine:
    """What a stage runs on; ``backend_module`` is of a device that is not part of PyTorch."""

    device: str
    torch: str
    backend_module: str | None

    @property
    def is_simulated(self) -> bool:
        """Whether the device is one of the tests'."""
        return "simulated" in self.device

    def __str__(self) -> str:
        where = f"PyTorch {self.torch}, Python {platform.python_version()}, {platform.platform()}"
        return f"{self.device}; {where}; opsweep {__version__}"


def run_stage(stage: str, machine: Machine, out: Path, work: Path) -> list[Found]:
    """Run what is missing of a stage, and leave its CSV and archive in ``out``.

    Its runs are in ``work``. A run that is not over when the time is, is taken up by the next call.
    """
    begun, runs, table = time.monotonic(), work / stage, table_of(out, stage)
    unpack(table.with_suffix(".tar.gz"), runs)
    found = [line for line in read_found(table) if line.got != NOT_OVER]
    ended = {line.step for line in found}
    for name, step in steps_of(stage, simulated=machine.is_simulated).items():
        left_s = LONGEST_S - ENDING_S - (time.monotonic() - begun)
        if name in ended:
            continue
        if left_s < LEAST_S:
            print(f"{name}: not begun, for {left_s:.0f} s are left; run the stage again")
            break
        started = time.monotonic()
        findings = _run(step, machine, runs / name, left_s)
        found += _noted(stage, name, findings, machine, time.monotonic() - started)
        write_found(table, found)
        for finding in findings:
            word = {True: "ok", False: "FAILED", None: "figure"}[finding.passed]
            print(f"{name}: {word}: {finding.check}: {finding.got}", flush=True)
    if runs.is_dir():
        pack(runs, table.with_suffix(".tar.gz"))
    return found


def _run(step: Step, machine: Machine, folder: Path, longest_s: float) -> list[Finding]:
    """What the rows of a step say, or that it did not end."""
    words = shlex.split(step.run)
    words += [f"backend_module={machine.backend_module}"] if machine.backend_module else []
    is_begun = (folder / "multirun.yaml").is_file()
    words.append(f"{'resume' if is_begun else 'hydra.sweep.dir'}={folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"{folder.name}: python -m runner {shlex.join(words)}", flush=True)
    log = folder.with_suffix(".log")
    with log.open("wb") as file:
        command = [sys.executable, "-m", "runner", *words]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            code = process.wait(longest_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return [Finding("it ends in time", NOT_OVER, f"{longest_s:.0f} s", False)]
    findings = [Finding("exit code", str(code), str(step.code), code == step.code)]
    rows = load_run(folder).rows_of_job[step.job] if folder.is_dir() else []
    if not rows:
        said = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
        return [*findings, Finding("rows", f"none: {said[-300:]}", "some", False)]
    return [*findings, *findings_of(step, rows)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a run, which keeps what it has, and end it where it does not listen."""
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _noted(
    stage: str, step: str, findings: Sequence[Finding], machine: Machine, seconds: float
) -> list[Found]:
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    simulated = PASSED[machine.is_simulated]
    made = (at, f"{seconds:.1f}", str(machine), simulated)
    return [
        Found(stage, step, f.check, f.got, f.expected, PASSED[f.passed], *made) for f in findings
    ]
