"""A sweep whose parent process is killed again and again, next to an undisturbed one.

The same cells in the end?

    python tests/benchmarks/soak.py

Each parent process lives for a random time and ends with SIGKILL; the next one resumes. In the end
every cell has to be there once, whole, and no process may be left.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from runner.rows.csv_store import read_rows
from runner.rows.rows import BenchmarkRow

ROOT = Path(__file__).parents[2]


def command(cells: int, *more: str) -> list[str]:
    """A sweep of so many small cells."""
    grid = ["-m", "op=add,mul,sum", "size=16", "timing=minimal", f"seed=range(0,{cells // 3})"]
    return [sys.executable, "-m", "runner", *grid, *more]


def left_over(folder: Path) -> int:
    """Processes that still work in the folder."""
    found = 0
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += Path(os.readlink(link)) == folder and int(link.parent.name) != os.getpid()
        except OSError:
            continue
    return found


def main() -> None:
    """Print what was found, and exit with 1 where it is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        subprocess.run(
            command(options.cells, "hydra.sweep.dir=left_alone"),
            cwd=folder,
            env=env,
            check=True,
            **quiet,
        )
        killed = folder / "killed"
        done_at = []
        for _ in range(options.kills):
            more = (
                "resume=killed" if (killed / "multirun.yaml").exists() else "hydra.sweep.dir=killed"
            )
            parent = subprocess.Popen(command(options.cells, more), cwd=folder, env=env, **quiet)
            limit = time.monotonic() + 600  # a start takes long where the machine is busy
            goal = sum(1 for _ in killed.glob("*_*/results.csv")) + draw.randint(
                0, options.cells // options.kills
            )
            while (
                sum(1 for _ in killed.glob("*_*/results.csv")) < goal and time.monotonic() < limit
            ):
                if parent.poll() is not None:
                    break
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.02))
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            done_at.append(sum(1 for _ in killed.glob("*_*/results.csv")))
        time.sleep(2)
        orphans = left_over(folder)
        subprocess.run(
            command(options.cells, "resume=killed"), cwd=folder, env=env, check=True, **quiet
        )
        alone, again = (
            pd.read_csv(folder / run / "results.csv") for run in ("left_alone", "killed")
        )
        files = list(killed.glob("*_*/results.csv"))
        whole = sum(len(read_rows(file, BenchmarkRow)) == 1 for file in files)
        same = list(alone["cell"]) == list(again["cell"])
        print(f"{options.kills} kills, with {done_at} cells done at each")
        print(
            f"{len(again)} rows of {len(alone)}, {again['cell'].nunique()} different, the same in "
            f"order: {same}"
        )
        print(
            f"{whole} whole files of {len(files)}, statuses "
            f"{again['status'].value_counts().to_dict()}"
        )
        print(
            f"{len(list(killed.rglob('.*.csv.*')))} temporary files, {orphans} processes left over"
        )
        if not same or whole != len(files) or orphans or len(files) != len(alone):
            sys.exit(1)


if __name__ == "__main__":
    main()
