"""What a large grid costs before and beside its cells: rules, a dry run, taking a sweep up again.

    python tests/benchmarks/large_grids.py                    all of it: some three minutes
    python tests/benchmarks/large_grids.py --only rules dry   without the sweep of 10,000 cells
    python tests/benchmarks/large_grids.py --program ../old   of another checkout

Printed are seconds and the largest memory of a process; of ``exclude`` what a hundred rules cost
over none, of a resumed sweep when its first missing cell is on its way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HUNDRED = range(100)
SWEPT = 10_000  # cells of the sweep that is taken up again
POLL_S = 0.01


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--program", type=Path, default=ROOT, help="the checkout that is run")
    options = parser.parse_args()
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="opsweep-grids-") as folder:
            PARTS[part](options.program.resolve(), Path(folder))


def _rules(program: Path, folder: Path) -> None:
    """Dry runs of 4,000 cells, without rules and with a hundred of one cell each."""
    rules = ",".join(f"{{op: add, size: {1 + n % 20}, seed: {n // 20}}}" for n in HUNDRED)
    axes = ["op=add,mul", "size=range(1,21)", "seed=range(0,100)", "dry_run=true"]
    (without_s, _), (with_s, _) = (
        _ran(program, folder, [*axes, f"exclude=[{text}]"]) for text in ("", rules)
    )
    print(
        f"4,000 cells: {without_s:.1f} s without rules, {with_s:.1f} s with a hundred, "
        f"{with_s / without_s:.2f} times"
    )


def _dry(program: Path, folder: Path) -> None:
    """Dry runs of a hundred thousand and a million cells."""
    for seeds in (500, 5_000):
        axes = ["op=add,mul", "size=range(1,51)", "dtype=float32,float64"]
        seconds, megabytes = _ran(
            program, folder, [*axes, f"seed=range(0,{seeds})", "dry_run=true"]
        )
        print(f"dry run of {200 * seeds:,} cells: {seconds:.1f} s, {megabytes:.0f} MB")


def _resume(program: Path, folder: Path) -> None:
    """A sweep of which the last cell is taken away, and taken up again."""
    axes = ["op=add,mul", "size=8", "timing=minimal", f"seed=range(0,{SWEPT // 2})"]
    out = folder / "out"
    seconds, megabytes = _ran(program, folder, [*axes, f"hydra.sweep.dir={out}"])
    print(f"sweep of {SWEPT:,} cells: {seconds:.1f} s, {megabytes:.0f} MB")
    (last,) = out.glob(f"{SWEPT - 1}_*")
    shutil.rmtree(last)
    begun = time.monotonic()
    going = _started(program, folder, [*axes, f"resume={out}"])
    while going.poll() is None and not last.exists():
        time.sleep(POLL_S)
    first_s = time.monotonic() - begun
    going.wait()
    print(f"resumed: the missing cell begins after {first_s:.1f} s", end=", ")
    print(f"all is done after {time.monotonic() - begun:.1f} s")


PARTS = {"rules": _rules, "dry": _dry, "resume": _resume}


def _started(program: Path, folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(program)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as a user has it
    command = [sys.executable, "-m", "runner", "-m", *words]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env=env, stdout=quiet, stderr=quiet)


def _ran(program: Path, folder: Path, words: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and the most megabytes of one of its processes."""
    begun = time.monotonic()
    _, status, used = os.wait4(_started(program, folder, words).pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - begun, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
