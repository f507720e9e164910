"""A sweep of 100,000 cells without what measures them.

What the driver itself takes in time, memory and files.

    python tests/benchmarks/scale.py [CELLS...]

Each size runs in a process of its own, through the command line, the grid sweeper, the planning,
the driver's loop, the writer and the report. Only the cluster is replaced, by one that answers a
chunk at once with rows and samples such as a real cell's are.
"""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAMPLES = 100  # of a cell
PER_GRID_POINT = 50 * 4  # sizes and dtypes; the rest are seeds and the two devices


class InstantCluster:
    """A hundred slots whose chunks end as soon as they are asked for."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.landed = 0
        self.memory: list[tuple[int, float]] = []
        self.playing_s = 0.0  # of pretending

    def slots(self) -> int:
        """How many chunks could run at once."""
        return 100

    def has_room(self, chunk: Any) -> bool:
        """Whether a slot is free."""
        return len(self.runs) < self.slots()

    def refusal(self, chunk: Any) -> str:
        """Nothing is refused."""
        return ""

    def send(self, run: Any) -> None:
        """Take a chunk."""
        self.runs.append(run)

    def ended(self, timeout_s: float) -> list[Any]:
        """All that was sent."""
        from runner.cluster.messages import CellResult, ChunkStarted, append
        from runner.execute.environment import describe_process

        begun = time.process_time()
        self.memory.append((self.landed, resident_bytes()))
        runs, self.runs = self.runs, []
        for number, run in enumerate(runs):
            run.take(
                ChunkStarted(
                    f"node{number:02}-000000",
                    describe_process() if self.landed == 0 else ENVIRONMENT,
                )
            )
            for cell in run.chunk.cells:
                ended = "2026-11-23T00:00:00+00:00"
                result = CellResult(cell.identity, [row_of(cell)], samples(), "ok\n", ended)
                append(run.messages, result)
                run.take(result)
            self.landed += len(run.chunk.cells)
        self.playing_s += time.process_time() - begun
        return runs

    def close(self) -> list[Any]:
        """Nothing is left."""
        return []


ENVIRONMENT: dict[str, Any] = {"started": "2026-11-23T00:00:00+00:00", "variables": {}}
DRAW = random.Random(0)


def samples() -> str:
    """A cell's raw blocks, no two cells' the same."""
    lines = [
        f"400,{DRAW.uniform(5.0e-4, 5.2e-4)!r},,0,0.0,{n % 5},True,1\n" for n in range(SAMPLES)
    ]
    return "".join(["calls,wall_s,cpu_s,preemptions,waiting_s,place,kept,process\n", *lines])


def row_of(cell: Any) -> Any:
    """A row with figures in the columns that a real one has them in."""
    from runner.rows.rows import BenchmarkRow, identified

    t = DRAW.lognormvariate(-13, 0.5)
    return replace(
        identified(BenchmarkRow, cell),
        device_name="cpu AMD EPYC",
        threads=2,
        node="node00-000000",
        seconds=0.31234567,
        **dict.fromkeys(("median_s", "min_s", "q1_s", "q3_s"), t),
        ci_low_s=t * 0.99,
        ci_high_s=t * 1.01,
        first_call_s=t * 10,
        samples=SAMPLES,
        calls_per_sample=400,
        timing_s=0.12345678,
        stop="precision",
        flop=1000,
        bytes=12000,
        flop_per_s=1e3 / t,
        bytes_per_s=12e3 / t,
        finite_fraction=1.0,
        max_relative_error=0.0,
        allowed_relative_error=1e-7,
        checked_size=cell.size,
        gradient="pass",
        concurrent_sweep=False,
    )


def resident_bytes() -> float:
    """What this process holds in memory now."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def one(cells: int, root: Path) -> None:
    """Run one size and print its line."""
    sys.path.insert(0, str(ROOT))
    from runner.cli import main as app
    from runner.cluster import cluster as sweep
    from runner.execute import session

    cluster = InstantCluster()
    sweep.Cluster._executor = lambda *arguments: cluster  # type: ignore[method-assign]
    concluded: list[float] = []
    finish = session.Session.finish

    def timed_finish(self: Any, *arguments: Any, **named: Any) -> None:
        begun = time.process_time()
        cluster.memory.append((cluster.landed, resident_bytes()))
        finish(self, *arguments, **named)
        concluded.append(time.process_time() - begun)

    session.Session.finish = timed_finish  # type: ignore[method-assign]
    sweep._installed = lambda package: True
    seeds = cells // (PER_GRID_POINT * 2)
    begun = time.process_time()
    app.offer_plugins()
    app.run(
        [
            "-m",
            "op=add",
            f"size={','.join(map(str, range(1, 51)))}",
            "dtype=float32,float64,float16,bfloat16",
            f"seed={','.join(map(str, range(seeds)))}",
            "device=cpu,gpu",
            "cluster=ray",
            "cluster.cells_per_chunk=100",
            f"hydra.sweep.dir={root}",
        ]
    )
    whole_s = time.process_time() - begun - cluster.playing_s
    first, before_report = cluster.memory[0], cluster.memory[-1]
    marks = [cluster.memory[len(cluster.memory) * part // 4][1] / 1e6 for part in (1, 2, 3)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    files = list(root.rglob("*"))
    size = sum(path.stat().st_size for path in files if path.is_file())
    results = (root / "results.csv").stat().st_size
    drive_s = whole_s - concluded[0]
    print(
        f"{cells:7} cells: {drive_s / cells * 1e3:.2f} ms of CPU a cell to compose, plan and land, "
        f"{concluded[0] / cells * 1e3:.3f} ms a cell to put together; "
        f"memory {first[1] / 1e6:.0f} MB when the first chunk is sent, "
        f"{', '.join(f'{mark:.0f}' for mark in marks)} MB at a quarter, half, three quarters, "
        f"{before_report[1] / 1e6:.0f} MB at the end, {peak / 1e6:.0f} MB at most, with the "
        f"report; "
        f"{len(files)} files and folders, {size / cells:.0f} bytes a cell, results.csv "
        f"{results / cells:.0f}",
        file=sys.stderr,
    )


def main() -> None:
    """Run the sizes given, or three."""
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]), Path(sys.argv[3]))
        return
    for cells in [int(text) for text in sys.argv[1:]] or [25_000, 50_000, 100_000]:
        folder = Path(tempfile.mkdtemp(prefix="opsweep-scale-"))
        try:
            done = subprocess.run(
                [sys.executable, __file__, "one", str(cells), str(folder / "out")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            print(done.stderr if done.returncode else done.stderr.splitlines()[-1], flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
