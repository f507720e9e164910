"""A sweep that grows, whose code is edited and limits are raised, in two processes, with kills.

Is every row of what the record says?

    python tests/benchmarks/soak_changes.py

Each round draws what is changed, starts one or two processes in the same folder, and kills them at
a random moment. In the end every cell has to be there once, of the code and limits of the last
round, as its row's ``environment`` says in ``environment.json``.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from runner.execute.user_code import edited
from runner.rows.csv_store import collect

ROOT = Path(__file__).parents[2]
OP = 'name: own\ncall: own_code.f\nsignature: "... -> ..."\ndifferentiable: false\n'


def command(cells: int, memory_bytes: int, *more: str) -> list[str]:
    """The sweep as it is by now."""
    grid = ["op=own,add", "size=16,64", f"seed=range(0,{cells})", "timing=minimal"]
    limits = ["limit.time_s=60", f"limit.memory_bytes={memory_bytes}"]
    subdir = "hydra.sweep.subdir=${hydra.job.num}"  # numbers change as the grid grows
    return [
        *(sys.executable, "-m", "runner", "--config-dir", "mine", "-m"),
        *(*grid, *limits, subdir, *more),
    ]


class Disturbed:
    """The sweep's folder, and what is drawn for each round."""

    def __init__(self, folder: Path, cells: int, draw: random.Random) -> None:
        self.folder, self.out, self._draw = folder, folder / "out", draw
        self._most_cells, self._cells, self._memory_bytes = cells, 2, 5_000
        self.versions = self.refused = 0
        (folder / "mine" / "op").mkdir(parents=True)
        (folder / "mine" / "op" / "own.yaml").write_text(OP)
        self._edit()

    def round(self) -> None:
        """Change something, and have one or two processes at work until they are killed."""
        draw = self._draw
        self._cells = min(self._most_cells, self._cells + draw.randrange(3))
        if draw.random() < 0.2:
            self._memory_bytes = 10**9
        if draw.random() < 0.3:
            self._edit()
        begun = [self.start(self._cells, self._memory_bytes) for _ in range(draw.choice([1, 2]))]
        time.sleep(draw.uniform(3, 15))
        if draw.random() < 0.2:  # in the middle of it
            self._edit()
            time.sleep(draw.uniform(0, 3))
        for process in begun:
            self.refused += process.poll() == 2
            process.kill()
            process.communicate()

    def start(self, cells: int, memory_bytes: int) -> subprocess.Popen[str]:
        """A process that begins the sweep, or takes it up."""
        going = (self.out / "multirun.yaml").exists()
        more = ["resume=out", "resume_force=true"] if going else ["hydra.sweep.dir=out"]
        return subprocess.Popen(
            command(cells, memory_bytes, *more),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _edit(self) -> None:
        self.versions += 1
        text = f"def f(x):\n    return x * {self.versions}\n"
        (self.folder / "own_code.py").write_text(text)


def main() -> None:
    """Print what was found, and exit with 1 where it is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cells", type=int, default=20, help="of each of four kinds, at last")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sweep = Disturbed(Path(name).resolve(), options.cells, random.Random(options.seed))
        out = sweep.out
        for turn in range(options.rounds):
            sweep.round()
            rows, damaged = collect(out, "benchmark") if out.is_dir() else ([], [])
            print(f"round {turn}: {len(rows)} rows, {len(damaged)} damaged", flush=True)
        last = sweep.start(options.cells, 10**9)
        _, said = last.communicate()

        rows, damaged = collect(out, "benchmark")
        first = json.loads((out / "environment.json").read_text())
        made_with = {entry["id"]: entry for entry in [first, *first.get("resumed", [])]}
        codes = [made_with[row.environment]["code"] for row in rows if row.op == "own"]
        of_old_code = sum(bool(edited(code, {"own_code"})) for code in codes)
        table = pd.read_csv(out / "results.csv")
    expected, statuses = 4 * options.cells, table["status"].value_counts().to_dict()
    print(
        f"{sweep.versions} versions of the code, {sweep.refused} processes refused\n"
        f"{len(table)} rows of {expected}, {table['cell'].nunique()} different, {len(damaged)} "
        f"damaged, {of_old_code} of old code, statuses {statuses}"
    )
    whole = len(table) == expected and table["cell"].is_unique and statuses == {"ok": expected}
    if last.returncode or damaged or of_old_code or not whole:
        print(said[-2000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
