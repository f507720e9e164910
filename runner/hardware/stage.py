"""A stage: its steps run one after the other, within its time; what has ended is not run again."""

from __future__ import annotations

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
from runner.hardware.checks import Finding
from runner.hardware.record import Found, pack, read_found, table_of, unpack, write_found
from runner.hardware.stages import LONGEST_S, SIZES, STAGES, Step
from runner.report.conclude import load_run

ENDING_S = 15.0  # for a run that is interrupted, and for packing
NOT_OVER = "the step had not ended"


@dataclass(frozen=True)
class Machine:
    """What a stage runs on."""

    device: str
    torch: str
    backend_module: str | None

    @property
    def is_simulated(self) -> bool:
        """Whether the device is one of the tests'."""
        return "simulated" in self.device


def run_stage(stage: str, machine: Machine, out: Path, work: Path) -> list[Found]:
    """Run what is missing of a stage, and leave its CSV and archive in ``out``.

    Its runs are in ``work``. A run that is not over when the time is, is taken up by the next call.
    """
    begun, runs, table = time.monotonic(), work / stage, table_of(out, stage)
    unpack(table.with_suffix(".tar.gz"), runs)
    found = [line for line in read_found(table) if line.got != NOT_OVER]
    ended = {line.step for line in found}
    for step in STAGES[stage]:
        left_s = LONGEST_S - ENDING_S - (time.monotonic() - begun)
        if step.name in ended:
            continue
        if left_s < step.least_s:
            print(f"{step.name}: not begun, for {left_s:.0f} s are left; run the stage again")
            break
        started = time.monotonic()
        findings = _run(step, machine, runs / step.name, left_s)
        found += _noted(stage, step, findings, machine, time.monotonic() - started)
        write_found(table, found)
        for finding in findings:
            print(f"{step.name}: {_shown(finding)}", flush=True)
    if runs.is_dir():
        pack(runs, table.with_suffix(".tar.gz"))
    return found


def _run(step: Step, machine: Machine, folder: Path, longest_s: float) -> list[Finding]:
    """What the rows of a step say, or that it did not end."""
    words = shlex.split(step.arguments.format(**SIZES[machine.is_simulated]))
    words += [f"backend_module={machine.backend_module}"] if machine.backend_module else []
    is_begun = (folder / "multirun.yaml").is_file()
    words.append(f"{'resume' if is_begun else 'hydra.sweep.dir'}={folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"{step.name}: python -m runner {shlex.join(words)}", flush=True)
    with (folder.parent / f"{step.name}.log").open("ab") as log:
        command = [sys.executable, "-m", "runner", *words]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            code = process.wait(longest_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return [Finding("it ends in time", NOT_OVER, f"{longest_s:.0f} s", False)]
    findings = [Finding("exit code", str(code), str(step.code), code == step.code)]
    rows = load_run(folder).rows_of_job[step.job] if folder.is_dir() else []
    if not rows:
        tail = (folder.parent / f"{step.name}.log").read_text(errors="replace")[-300:]
        return [*findings, Finding("rows", f"none: {' '.join(tail.split())}", "some", False)]
    return [*findings, *step.check(rows)]


def _noted(
    stage: str, step: Step, findings: Sequence[Finding], machine: Machine, seconds: float
) -> list[Found]:
    passed = {True: "yes", False: "no", None: ""}
    of_machine = {
        "device": machine.device,
        "simulated": passed[machine.is_simulated],
        "torch": machine.torch,
        "python": platform.python_version(),
        "host": platform.platform(),
        "opsweep": __version__,
    }
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return [
        Found(
            stage=stage,
            step=step.name,
            check=finding.check,
            got=finding.got,
            expected=finding.expected,
            passed=passed[finding.passed],
            at=at,
            seconds=f"{seconds:.1f}",
            **of_machine,
        )
        for finding in findings
    ]


def _shown(finding: Finding) -> str:
    words = {True: "ok", False: "FAILED", None: "figure"}
    expected = f" (expected: {finding.expected})" if finding.passed is False else ""
    return f"{words[finding.passed]}: {finding.check}: {finding.got}{expected}"
