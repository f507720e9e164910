"""``python -m runner.hardware --stage 1``: one stage, of six minutes at most."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from runner.errors import ConfigError, tell, unknown
from runner.execute.worker import Worker, WorkerDied
from runner.files import write_atomically
from runner.hardware.page import page_of
from runner.hardware.stage import Machine, run_stage
from runner.hardware.stages import stages

OUT, PAGE = Path("outputs", "hardware"), Path("docs", "hardware.md")


def main() -> int:
    """Run what is asked for; 0 also without an accelerator, 1: a check failed, 2: a wrong word."""
    asked = _asked()
    if asked.page:
        write_atomically(asked.page, page_of(asked.out))
        print(asked.page)
        return 0
    try:
        stage = _stage(asked.stage)
        machine, why = _machine(asked.backend_module)
    except ConfigError as error:
        tell(error)
        return 2
    if machine is None:
        print(f"skipped: {why}")
        return 0
    name = asked.name or re.sub(r"[^a-z0-9.]+", "-", f"{machine.device} {machine.torch}".lower())
    work = asked.work or Path(tempfile.gettempdir()) / "opsweep-hardware"
    print(f"{stage} on {machine.device}, into {asked.out / name}", flush=True)
    found = run_stage(stage, machine, asked.out / name, work / name)
    failed = sum(line.passed == "no" for line in found)
    print(f"{sum(bool(line.passed) for line in found)} checks, {failed} failed")
    return 1 if failed else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runner.hardware", description=__doc__)
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(stages(), start=1))
    parser.add_argument("--stage", default="1", help=f"by number or name: {numbered}")
    parser.add_argument("--out", type=Path, default=OUT, help="where a folder is left")
    parser.add_argument("--name", help="of that folder; by default the device's and PyTorch's")
    parser.add_argument("--work", type=Path, help="where runs are kept, to be taken up again")
    parser.add_argument("--backend-module", help="for a device that is not part of PyTorch")
    parser.add_argument(
        "--page", type=Path, nargs="?", const=PAGE, help=f"write this page ({PAGE}) of all folders"
    )
    return parser.parse_args()


def _stage(asked: str) -> str:
    """The name of a stage; ConfigError where there is no such one."""
    names = list(stages())
    if asked.isdecimal() and 1 <= int(asked) <= len(names):
        return names[int(asked) - 1]
    if asked not in names:
        raise unknown(f"--stage={asked} is unknown", asked, names)
    return asked


def _machine(backend_module: str | None) -> tuple[Machine | None, str]:
    """The accelerator, asked for in a process of its own; or why there is none.

    ConfigError where its module cannot be imported.
    """
    worker = Worker()
    try:
        said = worker.prepare([], ["gpu"], backend_module)
    except WorkerDied as death:
        return None, str(death)
    finally:
        worker.close()
    if said.problems:
        raise ConfigError("; ".join(said.problems))
    if said.unavailable:
        return None, "; ".join(said.unavailable.values())
    (device,) = said.environment["devices"]
    return Machine(device["name"], said.environment["torch"]["version"], backend_module), ""


if __name__ == "__main__":
    sys.exit(main())
