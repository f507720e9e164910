"""What do rows say of a machine that is slow all the time, and where its best is not known yet?

The cases are timed on the machine as it is, with several seeds: these are the times that others are
compared with, and what leaves the machine's best for later runs. Then they are timed beside
processes that keep every core busy all the time, with this history and without one, without one
beside processes that are busy in random phases, and on the machine as it is with a history that
says that it was 1.5 times as fast.

    python tests/benchmarks/slow_machine.py         a quarter of an hour

Printed are the flags, the slowdown and what it is against, how far times are from the idle ones,
flagged and unflagged, and what the report says.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from runner.measure.gate import WAITING  # noqa: E402
from runner.measure.kernels import OF_MACHINE  # noqa: E402
from runner.measure.machine_best import KEPT  # noqa: E402
from runner.rows.rows import grouped  # noqa: E402
from tests.support.neighbours import in_phases, neighbours, throughout  # noqa: E402
from tests.support.program import run_program  # noqa: E402

OPERATIONS = ("matmul", "add", "mul", "transpose_copy", "sum")
SCENARIOS = {
    "busy all the time, with a history": (throughout, "history"),
    "busy all the time, without a history": (throughout, "none"),
    "busy in phases, without a history": (in_phases, "nor here"),
    "as it is, with a history of faster days": (None, "faster"),
}
FASTER = 1.5
OFF_ABOVE = 1.10  # times the idle time
Row = dict[str, str]
case_of = itemgetter("op", "size")


def main() -> None:
    """Time the cases on the machine as it is, and in each scenario."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["64", "256", "1024"])
    parser.add_argument("--seeds", type=int, default=5, help="of the idle run")
    parser.add_argument("--timing", default="default")
    options = parser.parse_args()
    axes = [f"op={','.join(OPERATIONS)}", f"size={','.join(options.sizes)}", "threads=1"]
    axes.append(f"timing={options.timing}")

    with tempfile.TemporaryDirectory(prefix="opsweep-slow-") as folder:
        work = Path(folder)
        seeds = f"seed={','.join(map(str, range(options.seeds)))}"
        idle = _swept("idle", work, "history", [*axes, seeds])
        of_case = grouped((row for row in idle if row["median_s"]), case_of)
        idle_s = {case: median(map(_seconds, rows)) for case, rows in of_case.items()}
        _print(idle, idle_s)
        print(f"  history: {len(KEPT[OF_MACHINE].read())} lines")
        _keep_faster(work)
        for name, (busy, caches) in SCENARIOS.items():
            with neighbours(os.cpu_count() or 1, busy) if busy else nullcontext():
                _print(_swept(name, work, caches, axes), idle_s)


def _keep_faster(work: Path) -> None:
    """A history in which all kernels took less time than in the idle run's."""
    lines = KEPT[OF_MACHINE].read()
    os.environ["XDG_CACHE_HOME"] = str(work / "faster")
    for line in lines:
        seconds = {name: best_s / FASTER for name, best_s in line.kernels.items()}
        KEPT[OF_MACHINE].put(replace(line, **seconds), patience_s=1)


def _swept(name: str, work: Path, caches: str, axes: Sequence[str]) -> list[Row]:
    """The rows of a sweep with a folder of its own for caches; what it said is printed."""
    os.environ["XDG_CACHE_HOME"] = str(work / caches)
    root, begun = work / name.replace(" ", "_"), time.monotonic()
    root.mkdir()
    done = run_program(root, ["-m", *axes, "hydra.sweep.dir=out"], codes=(0, 1))
    seconds = time.monotonic() - begun
    print(f"\n{name}: {seconds:.0f} s; {done.stderr.count(WAITING)} cells waited for a second")
    lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    of_cells = ("[", WAITING, *(f"{op} " for op in OPERATIONS))
    print(*(f"  | {line}" for line in lines if not line.startswith(of_cells)), sep="\n")
    with (root / "out" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _print(rows: Sequence[Row], idle_s: dict[tuple[str, str], float]) -> None:
    flags = Counter(chain.from_iterable(row["flags"].split() for row in rows))
    against = Counter(row["slowdown_against"] or "nothing" for row in rows)
    slowdowns = [float(row["machine_slowdown"]) for row in rows if row["machine_slowdown"]]
    print(f"  {len(rows)} rows; flags {dict(flags)}; slowdowns are against {dict(against)}")
    if slowdowns:
        print(f"  slowdown: {median(slowdowns):.2f} in the median, {max(slowdowns):.2f} at most")
    timed = [row for row in rows if row["median_s"]]
    for name, which in {"slow_machine": True, "no slow_machine": False}.items():
        ratios = sorted(
            (_seconds(row) / idle_s[case_of(row)], " ".join((*case_of(row), row["flags"])))
            for row in timed
            if ("slow_machine" in row["flags"].split()) == which
        )
        if ratios:
            (least, _), (most, farthest) = ratios[0], ratios[-1]
            off = sum(not 1 / OFF_ABOVE <= ratio <= OFF_ABOVE for ratio, _ in ratios)
            middle = median(ratio for ratio, _ in ratios)
            print(
                f"  {name}: {len(ratios)} rows, {middle:.3f} of the idle time in the median, "
                f"from {least:.2f} to {most:.2f} ({farthest}); {off} more than "
                f"{OFF_ABOVE - 1:.0%} off"
            )


def _seconds(row: Row) -> float:
    return float(row["median_s"])


if __name__ == "__main__":
    main()
