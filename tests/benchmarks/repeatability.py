"""How far do a case's times differ from run to run, on an idle machine and on a busy one?

Fifteen cases are timed again and again, in fresh processes: by this program's command line, and by
torch.utils.benchmark's two methods. They take turns, so that all see the same machine, which is
idle first, then beside two busy processes, then beside processes that are busy in random phases.

    python tests/benchmarks/repeatability.py                        all of it: up to an hour
    python tests/benchmarks/repeatability.py --conditions idle --methods opsweep
    python tests/benchmarks/repeatability.py --keep rows.csv        adds its rows to those there
    python tests/benchmarks/repeatability.py --keep rows.csv --repetitions 0      prints them again

For each condition and method: the largest over the smallest time of each case (median and worst
over the cases), of all rows and of those that are not flagged; the share of the rows that are more
than 10 % above the case's best time, of any method and condition, without a flag; the share of rows
that are not flagged; and the median of the cases' own medians over the best time. A flag is one
that says that the time of this moment cannot be trusted, of torch.utils.benchmark its warning.
The command line knows the machine's best from earlier runs, unless XDG_CACHE_HOME names a new
folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from runner.analysis.changes import PASSING  # noqa: E402
from runner.rows.rows import grouped  # noqa: E402
from tests.support.neighbours import counting, in_phases, neighbours  # noqa: E402
from tests.support.program import run_program  # noqa: E402

METHODS = ("opsweep", "blocked_autorange", "adaptive_autorange")
CONDITIONS = {
    "idle": (0, counting),
    "busy": (2, counting),
    "phases": (os.cpu_count() or 1, in_phases),
}
OPERATIONS = ("matmul", "add", "mul", "transpose_copy", "sum")
SIZES = (64, 256, 1024)
DOUBTS = PASSING - {"placement"}  # which is of the memory, in calm moments too
OFF_ABOVE = 1.10  # times the best
LONGEST_S = 300  # of torch.utils.benchmark with all cases
TITLES = (
    *("condition", "method", "rows", "all: median", "worst", "unflagged: median", "worst"),
    *("off without a flag", "unflagged", "over the best", "s a row"),
)
TARGETS = ("", "targets", "", "1.050", "", "", "1.15", "2.0 %", "80 % idle", "", "")


class Result(NamedTuple):
    """A line of the file that is kept."""

    condition: str
    method: str
    case: str
    seconds: float  # a call
    flags: str  # by which the method itself says that this cannot be trusted
    took_s: float  # with its part of the process's start


def main() -> None:
    """Time all cases in all conditions, and print a line for each method in each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--timing", default="default")
    parser.add_argument("--keep", type=Path, help="a CSV for the rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_of_torch(options.child, options.sizes)))
        return
    with tempfile.TemporaryDirectory(prefix="opsweep-repeatability-") as folder:
        kept = options.keep or Path(folder) / "rows.csv"
        for condition in options.conditions:
            with neighbours(*CONDITIONS[condition]):
                for number, method in product(range(options.repetitions), options.methods):
                    begun = time.monotonic()
                    if method == "opsweep":
                        found = _of_command_line(options.sizes, options.timing, number)
                    else:
                        found = _in_a_process(method, options.sizes)
                    seconds = time.monotonic() - begun
                    _keep(kept, condition, method, found, seconds)
                    print(f"{condition} {number + 1} {method}: {seconds:.0f} s", file=sys.stderr)
        with kept.open(newline="") as file:
            _print([_read(line) for line in csv.reader(file)])


def _of_command_line(sizes: Sequence[int], timing: str, seed: int) -> list[tuple[str, float, str]]:
    """Each case, its time and its flags, by the rows of a sweep."""
    with tempfile.TemporaryDirectory(prefix="opsweep-repeatability-") as folder:
        axes = [f"op={','.join(OPERATIONS)}", f"size={','.join(map(str, sizes))}", "threads=1"]
        settings = [f"timing={timing}", f"seed={seed}", "hydra.sweep.dir=out"]
        run_program(Path(folder), ["-m", *axes, *settings], codes=(0, 1))
        with (Path(folder) / "out" / "results.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["median_s"]]
    return [
        (
            f"{row['op']} {row['size'].partition('x')[0]}",
            float(row["median_s"]),
            " ".join(DOUBTS.intersection(row["flags"].split())),
        )
        for row in rows
    ]


def _in_a_process(method: str, sizes: Sequence[int]) -> list[tuple[str, float, str]]:
    """The same by torch.utils.benchmark; nothing where it takes too long.

    ``adaptive_autorange`` looks at all of its samples after each one of them.
    """
    command = [sys.executable, __file__, "--child", method, "--sizes", *map(str, sizes)]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, **streams, text=True, check=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"{method} has not ended within {LONGEST_S} s", file=sys.stderr)
        return []
    return [(case, seconds, flags) for case, seconds, flags in json.loads(done.stdout)]


def _of_torch(method: str, sizes: Sequence[int]) -> list[tuple[str, float, str]]:
    import torch
    from torch.utils.benchmark import Timer

    torch.manual_seed(0)
    found = []
    for operation, size in product(OPERATIONS, sizes):
        a, b = torch.randn(size, size), torch.randn(size, size)
        calls: dict[str, Callable[[], Any]] = {
            "transpose_copy": partial(torch.transpose_copy, a, 0, 1),
            "sum": partial(torch.sum, a),
        }
        call = calls.get(operation) or partial(getattr(torch, operation), a, b)
        timer = Timer("call()", globals={"call": call}, num_threads=1)
        measured = getattr(timer, method)()
        flags = "warning" if measured.has_warnings else ""
        found.append((f"{operation} {size}", measured.median, flags))
    return found


def _keep(
    kept: Path, condition: str, method: str, found: list[tuple[str, float, str]], seconds: float
) -> None:
    with kept.open("a", newline="") as file:
        for one in found:
            csv.writer(file).writerow(Result(condition, method, *one, seconds / len(found)))


def _read(line: Sequence[str]) -> Result:
    condition, method, case, seconds, flags, took_s = line
    return Result(condition, method, case, float(seconds), flags, float(took_s))


def _print(results: Sequence[Result]) -> None:
    best = {
        case: min(result.seconds for result in of_case)
        for case, of_case in grouped(results, attrgetter("case")).items()
    }
    groups = grouped(results, attrgetter("condition", "method"))
    lines = [TITLES, TARGETS, *(_line(of_method, best) for of_method in groups.values())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def _line(results: Sequence[Result], best: dict[str, float]) -> tuple[str, ...]:
    """What is said of a method in a condition."""
    unflagged = [result for result in results if not result.flags]
    off = [result for result in unflagged if result.seconds > OFF_ABOVE * best[result.case]]
    by_case = grouped(results, attrgetter("case"))
    over = [median(r.seconds for r in of_case) / best[case] for case, of_case in by_case.items()]
    return (
        *(results[0].condition, results[0].method, str(len(results))),
        *_spread(results),
        *_spread(unflagged),
        f"{len(off)} ({len(off) / len(results):.1%})",
        f"{len(unflagged)} ({len(unflagged) / len(results):.0%})",
        f"{median(over):.3f}",
        f"{fmean(result.took_s for result in results):.1f}",
    )


def _spread(results: Sequence[Result]) -> tuple[str, str]:
    """The median and the worst of the cases' largest time over their smallest."""
    spreads = {}
    for case, of_case in grouped(results, attrgetter("case")).items():
        times = [result.seconds for result in of_case]
        if len(times) > 1:
            spreads[case] = max(times) / min(times)
    if not spreads:
        return "", ""
    worst = max(spreads, key=spreads.__getitem__)
    return f"{median(spreads.values()):.3f}", f"{spreads[worst]:.2f} {worst} of {len(spreads)}"


if __name__ == "__main__":
    main()
