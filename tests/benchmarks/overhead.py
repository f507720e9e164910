"""Overhead per cell apart from its measuring.

Next to a job's in a bare Hydra application with the stock launcher.

The bare application's task does nothing. It is run twice: with this project's configuration, so
that it composes the same jobs, and with four keys in all, the least that Hydra can cost.

    python tests/benchmarks/overhead.py

Both run in this one call, since machines are shared and differ. A cell's cost is the sweep's wall
time, less the seconds that its rows say were spent on timing, less its report, less what a sweep of
two cells takes likewise, by the number of cells.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
CONDUCT_CELLS = 10  # of each implementation
BLOCK = 512  # bytes that a file's st_blocks counts, whatever the disk's blocks are
STEADY_CELLS = 600  # small sweeps are run several times: starting up varies more than they cost
MEASURED = """
import json, resource, sys, time
sys.argv[0] = "runner"
from runner.cli.main import main
from runner.report import conclude as module
conclude, report_s, memory = module.conclude, 0.0, []
def peak(who):
    return resource.getrusage(who).ru_maxrss
def timed(*given, **named):
    global report_s
    memory.extend(map(peak, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    start = time.perf_counter()
    try:
        return conclude(*given, **named)
    finally:
        report_s = time.perf_counter() - start
module.conclude = timed
try:
    main()
finally:
    print("used " + json.dumps([*memory, peak(resource.RUSAGE_SELF), report_s]), file=sys.stderr)
"""
BARE = """
import hydra
from hydra.core.config_store import ConfigStore
node = {"op": "add", "size": 8, "seed": 0, "timing": "minimal"}
ConfigStore.instance().store(name="bare", node=node)
@hydra.main(config_path=None, config_name="bare", version_base="1.3")
def main(config):
    return config.seed
main()
"""
SAME = f"""
import sys
sys.path.append({str(ROOT / "runner" / "sweep" / "plugins")!r})
import hydra
import runner.cli.main  # the schema and the resolvers that the configuration names
@hydra.main(config_path={str(ROOT / "conf")!r}, config_name="config", version_base="1.3")
def main(config):
    return config.seed
main()
"""


def run(arguments: list[str]) -> tuple[float, str]:
    """Run Python with these arguments; seconds and standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(
            f"{arguments}: exit code "
            f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return seconds, done.stderr


def sweep(cells: int, folder: Path) -> tuple[float, int, int, int, float, float]:
    """Run that many cells of two operations.

    Seconds without timing and report, peak memory in bytes (the parent's and the worker's before
    the report, and with it), seconds of the report, and bytes on the disk a cell.
    """
    out = folder / f"cells_{cells}"
    choices = [
        "op=add,mul",
        "size=8",
        "timing=minimal",
        f"seed=range(0,{cells // 2})",
        f"hydra.sweep.dir={out}",
    ]
    seconds, stderr = run(["-c", MEASURED, "-m", *choices])
    rows = pd.read_csv(out / "results.csv")
    if len(rows) != cells or set(rows["status"]) != {"ok"}:
        sys.exit(f"{len(rows)} rows of {cells}: {rows['status'].value_counts().to_dict()}")
    used = next(line for line in stderr.splitlines() if line.startswith("used "))
    parent, worker, in_all, report_s = json.loads(used.partition(" ")[2])
    of_cells = [*out.glob("*_*"), *out.glob("*_*/**/*")]
    on_disk = sum(path.lstat().st_blocks * BLOCK for path in of_cells)
    beside_s = seconds - rows["timing_s"].sum() - report_s
    return beside_s, parent * 1024, worker * 1024, in_all * 1024, report_s, on_disk / cells


def stock(source: str, jobs: int, folder: Path, choices: list[str]) -> float:
    """Seconds that a job costs an application of nothing but Hydra's own sweeper and launcher."""
    script = folder / "stock.py"
    script.write_text(source)

    def seconds(count: int) -> float:
        seeds = ",".join(map(str, range(count)))
        return run(
            [
                str(script),
                "-m",
                f"seed={seeds}",
                *choices,
                f"hydra.sweep.dir={folder}/stock_{count}",
            ]
        )[0]

    return (seconds(jobs + 1) - seconds(1)) / jobs


def conduct_s(folder: Path) -> float:
    """Seconds a cell that further calls take of a callable that is not torch's own.

    They ask whether it does its work itself; the same function beside it is torch's.
    """
    out, choices = folder / "conduct", ["-m", "op=softmax", "size=64", "timing=minimal", "impl=all"]
    mine = "+op.implementations.mine=tests.support.attacks.honest"
    alone = ["compare.in_turn=false", f"seed=range(0,{CONDUCT_CELLS})", f"hydra.sweep.dir={out}"]
    run(["-m", "runner", *choices, mine, *alone])
    rows = pd.read_csv(out / "results.csv")
    beside_s = (rows["seconds"] - rows["timing_s"]).groupby(rows["impl"]).median()
    return float(beside_s["mine"] - beside_s["default"])


def main() -> None:
    """Print both costs, their ratio, and how they grow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 3000])
    parser.add_argument("--jobs", type=int, default=30, help="of the stock launcher")
    parser.add_argument(
        "--folder", help="where the runs go; a folder in memory shows the cost without the disk's"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sweep(2, folder / "warm")  # what the first import of anything costs is not asked here
        start_s = statistics.median(sweep(2, folder / f"start_{turn}")[0] for turn in range(5))
        least_s = stock(BARE, options.jobs, folder, [])
        print(
            f"stock launcher, an application of four keys and no groups: {least_s * 1e3:.1f} ms a "
            f"job"
        )
        basic = [
            "hydra/launcher=basic",
            "hydra/sweeper=basic",
            "op=add",
            "size=8",
            "timing=minimal",
        ]
        stock_s = stock(SAME, options.jobs, folder, basic)
        print(f"stock launcher, this project's configuration: {stock_s * 1e3:.1f} ms a job")
        base = None
        for cells in options.cells:
            turns = [
                sweep(cells, folder / f"turn_{turn}")
                for turn in range(max(1, STEADY_CELLS // cells))
            ]
            seconds, parent, worker, in_all, report_s, on_disk = (
                statistics.median(values) for values in zip(*turns, strict=True)
            )
            cost_s = (seconds - start_s) / (cells - 2)
            base = base or (cost_s, parent, worker, in_all)
            print(
                f"{cells:6} cells: {cost_s * 1e3:.2f} ms a cell, "
                f"{stock_s / cost_s:.0f} and {least_s / cost_s:.0f} times less than stock, "
                f"{cost_s / base[0]:.2f} of the first line's; memory over the first line's: "
                f"parent {(parent - base[1]) / 1e6:+.1f} MB, worker "
                f"{(worker - base[2]) / 1e6:+.1f} MB, with the report "
                f"{(in_all - base[3]) / 1e6:+.1f} MB; {on_disk / 1e3:.1f} kB of disk a cell; "
                f"its report {report_s:.1f} s"
            )
        print(f"asking a callable of one's own whether it does its work: {conduct_s(folder):.2f} s")


if __name__ == "__main__":
    main()
