"""A sweep that grows, whose code is edited and limits are raised, in two processes, with kills.

Is every row of what the record says?

    python tests/benchmarks/soak_changes.py

Each round draws what is changed, starts one or two processes in the same folder, and kills them
once a drawn number of cells has been measured. After each round every row has to be of the code
that its ``environment`` in ``environment.json`` has a hash of, as a column of its own says, and of
a limit that gives its status; and no cell may be gone. In the end every cell has to be there once,
of the code and limits of the last round.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from runner.rows.csv_store import collect
from runner.rows.rows import BenchmarkRow

ROOT = Path(__file__).parents[2]
OP = """\
name: own
call: own_code.f
signature: "... -> ..."
differentiable: false
columns: {version: own_code.version}
"""
CODE = """\
VERSION = {version}

def f(x):
    return x * VERSION

def version(row, output):
    return VERSION
"""
SMALL, LARGE = 5_000, 10**9  # bytes: enough for a size of 16, and for both
LONGEST_S = 180.0  # that a round waits for its cells, on a machine that is slow


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
        self._most_cells, self._cells, self._memory_bytes = cells, 2, SMALL
        self.versions = self.refused = 0
        (folder / "mine" / "op").mkdir(parents=True)
        (folder / "mine" / "op" / "own.yaml").write_text(OP)
        self._edit()

    def round(self) -> int:
        """Change something, have one or two processes at work, and kill them; the cells that ran.

        They are killed once a drawn number of cells has been measured, or they have ended.
        """
        draw = self._draw
        self._cells = min(self._most_cells, self._cells + draw.randrange(3))
        if draw.random() < 0.2:
            self._memory_bytes = LARGE
        if draw.random() < 0.3:
            self._edit()
        before = self._written()
        begun = [self.start(self._cells, self._memory_bytes) for _ in range(draw.choice([1, 2]))]
        self._wait(begun, before, draw.randrange(12))
        if draw.random() < 0.3:  # in the middle of it
            self._edit()
            self._wait(begun, self._written(), draw.randrange(4))
        time.sleep(draw.uniform(0, 0.05))
        for process in begun:
            self.refused += process.poll() == 2
            process.kill()
            process.communicate()
        return len(self._written() - before)

    def _written(self) -> set[tuple[str, int]]:
        """The cells' files as they are: each time that one is measured makes another of these."""
        return {(str(path), path.stat().st_mtime_ns) for path in self.out.glob("*/results.csv")}

    def _wait(
        self, begun: list[subprocess.Popen[str]], before: set[tuple[str, int]], cells: int
    ) -> None:
        limit = time.monotonic() + LONGEST_S
        while len(self._written() - before) < cells and time.monotonic() < limit:
            if all(process.poll() is not None for process in begun):
                return
            time.sleep(0.01)

    def wrong(self, rows: list[BenchmarkRow]) -> list[str]:
        """The rows that are not of the code or limit that the record says they are of."""
        if not rows:
            return []
        first = json.loads((self.out / "environment.json").read_text())
        made_with = {entry["id"]: entry for entry in [first, *first.get("resumed", [])]}
        found = []
        for row in rows:
            expected = "out_of_memory"
            if row.size == "16x16" or row.limit_memory_bytes == LARGE:
                expected = "ok"
            if row.status != expected:
                found.append(f"{row.op} {row.size} seed={row.seed}: {row.status}, {row.reason}")
            if row.op == "own" and row.status == "ok":
                version = _version(row)
                text = CODE.format(version=version)
                content = made_with[row.environment or ""]["code"]["own_code"]["content"]
                if content["own_code.py"] != hashlib.sha256(text.encode()).hexdigest()[:12]:
                    found.append(f"seed={row.seed}: version {version} is not {row.environment}'s")
        return found

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
        (self.folder / "own_code.py").write_text(CODE.format(version=self.versions))


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
        known: set[str] = set()
        faults: list[str] = []
        measured = []
        for turn in range(options.rounds):
            measured.append(sweep.round())
            rows, damaged, _ = collect(out, "benchmark") if out.is_dir() else ([], [], {})
            cells = {row.cell for row in rows}
            new = [*damaged, *sweep.wrong(rows), *(f"{cell} is gone" for cell in known - cells)]
            known |= cells
            faults += new
            print(
                f"round {turn}: {measured[-1]} ran, {len(rows)} cells", *new, sep="; ", flush=True
            )
        last = sweep.start(options.cells, LARGE)
        _, said = last.communicate()

        rows, damaged, _ = collect(out, "benchmark")
        faults += [*damaged, *sweep.wrong(rows)]
        of_old_code = sum(row.op == "own" and _version(row) != sweep.versions for row in rows)
        table = pd.read_csv(out / "results.csv")
    expected, statuses = 4 * options.cells, table["status"].value_counts().to_dict()
    print(
        f"{sweep.versions} versions of the code, {sweep.refused} processes refused, "
        f"{sum(measured)} cells ran in {sum(map(bool, measured))} rounds that were killed\n"
        f"{len(table)} rows of {expected}, {table['cell'].nunique()} different, "
        f"{of_old_code} of old code, statuses {statuses}, {len(faults)} faults"
    )
    whole = len(table) == expected and table["cell"].is_unique and statuses == {"ok": expected}
    if last.returncode or faults or of_old_code or not whole or not any(measured):
        print(said[-2000:])
        sys.exit(1)


def _version(row: BenchmarkRow) -> int:
    """The version of the code that measured a row, as its own column says."""
    return int(json.loads(row.own or "{}")["version"])


if __name__ == "__main__":
    main()
