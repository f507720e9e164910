"""Does the program claim a difference where there is none, and does it find one that there is?

Two operation files with functions of their own, in modules of their own, are compared by the
command line with its shipped defaults. In the A/A test both functions do the same; in the power
test one calls the operation once more often.

    python tests/benchmarks/aa.py --pairs 1000               A/A, on the machine as it is
    python tests/benchmarks/aa.py --pairs 1000 --neighbour   beside processes busy in random phases
    python tests/benchmarks/aa.py --pairs 100 --afterwards   baseline asked for by job=report
    python tests/benchmarks/aa.py --pairs 100 --calls 20 21  power: 5 % (50 51: 2 %)
    python tests/benchmarks/aa.py --pairs 100 --blocked      torch.utils.benchmark, side after side

A figure is printed for each size, and in how many curves over size a crossover was found. A pair is
one operation, size and number of threads. With --keep the visits stay, for interval_coverage.py.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median, quantiles

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.neighbours import in_phases, neighbours  # noqa: E402
from tests.support.program import run_program  # noqa: E402

SIGNATURES = {
    "add": ("torch.add(a, b)", "... m n, ... m n -> ... m n"),
    "sum": ("a.sum()", "... m n ->"),
    "softmax": ("torch.softmax(a, -1)", "... m n -> ... m n"),
    "matmul": ("torch.mm(a, b)", "m k, k n -> m n"),
    "transpose_copy": ("a.t().contiguous()", "m n -> n m"),
    "exp": ("torch.exp(a)", "... m n -> ... m n"),
}
SIZES = (32, 64, 128, 256, 512, 768, 1024, 1536)
SIDES = ("first", "second")
Pair = dict[str, str]


def main() -> None:
    """Run passes over all operations until there are enough pairs, and print what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--ops", nargs="+", default=list(SIGNATURES))
    parser.add_argument("--threads", nargs="+", default=["1", str(os.cpu_count())])
    parser.add_argument("--timing", default="quick")
    parser.add_argument("--calls", type=int, nargs=2, default=(1, 1), help="of either side")
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--afterwards", action="store_true")
    parser.add_argument("--blocked", action="store_true")
    parser.add_argument("--processes", default="null", help="that share a pair's visits")
    parser.add_argument("--save", help="a CSV file for the rows of speedup.csv")
    parser.add_argument("--keep", type=Path, help="a folder for each sweep's pairs.csv")
    options = parser.parse_args()

    compare = _blocked_pairs if options.blocked else _pairs
    pairs: list[Pair] = []
    curves: list[Pair] = []
    begun = time.monotonic()
    with neighbours(os.cpu_count() or 1 if options.neighbour else 0, in_phases):
        while len(pairs) < options.pairs:
            for op in options.ops:
                found, of_sizes = compare(op, options, seed=len(pairs))
                pairs += found
                curves += of_sizes
                claimed = sum(pair["verdict"] in ("faster", "slower") for pair in pairs)
                seconds = time.monotonic() - begun
                progress = f"{len(pairs)} pairs, {seconds:.0f} s, {claimed} claimed"
                print(progress, file=sys.stderr, flush=True)
                if options.save:
                    pd.DataFrame(pairs).to_csv(options.save, index=False)
                if len(pairs) >= options.pairs:
                    break
    _print(pairs, time.monotonic() - begun)
    crossing = sum(curve["state"] == "found" for curve in curves)
    print(f"crossovers found in {crossing} of {len(curves)} curves over size")


def _pairs(op: str, options: argparse.Namespace, seed: int) -> tuple[list[Pair], list[Pair]]:
    """The rows of ``speedup.csv`` and of ``crossover.csv`` of one sweep."""
    with tempfile.TemporaryDirectory(prefix="opsweep-aa-") as folder:
        work = Path(folder)
        for side, calls in zip(SIDES, options.calls, strict=True):
            _write_side(work, op, side, calls)
        axes = [
            f"op={','.join(f'{op}_{side}' for side in SIDES)}",
            f"size={','.join(map(str, options.sizes))}",
            f"threads={','.join(options.threads)}",
        ]
        baseline = f"report.baseline={{op: {op}_first}}"
        command = ["--config-dir", "conf", "-m", *axes, f"timing={options.timing}", f"seed={seed}"]
        command += [f"compare.processes={options.processes}", "hydra.sweep.dir=out"]
        if options.afterwards:
            run_program(work, command)
            run_program(work, ["job=report", "run=out", baseline])
        else:
            run_program(work, [*command, baseline])
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(work / "out" / "pairs.csv", options.keep / f"{op}_{seed}.csv")
        # where no pair has a ratio the report has other comparisons beside them
        tables = (_table(work / "out" / name) for name in ("speedup.csv", "crossover.csv"))
        pairs, curves = ([row for row in table if row["axis"] == "op"] for table in tables)
        return pairs, curves


def _table(path: Path) -> list[Pair]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write_side(work: Path, op: str, side: str, calls: int) -> None:
    """An operation's file, and the module of its function."""
    expression, signature = SIGNATURES[op]
    inputs = ["a", "b"] if "," in signature.partition("->")[0] else ["a"]
    body = [f"    for _ in range({calls}):", f"        result = {expression}", "    return result"]
    if calls == 1:
        body = [f"    return {expression}"]
    (work / f"{op}_{side}.py").write_text(
        "\n".join(["import torch", "", "", f"def run({', '.join(inputs)}):", *body, ""])
    )
    (work / "conf" / "op").mkdir(parents=True, exist_ok=True)
    (work / "conf" / "op" / f"{op}_{side}.yaml").write_text(
        f'name: {op}_{side}\ncall: {op}_{side}.run\nsignature: "{signature}"\ntolerance: 1000\n'
    )


def _blocked_pairs(
    op: str, options: argparse.Namespace, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """One side after the other by ``blocked_autorange``; no curves.

    Claimed where its intervals do not meet.
    """
    import torch
    from torch.utils.benchmark import Timer

    torch.manual_seed(seed)
    pairs = []
    for threads, size in product(options.threads, options.sizes):
        timed = []
        for calls in options.calls:
            names = {"torch": torch, "a": torch.randn(size, size), "b": torch.randn(size, size)}
            statement = "; ".join([SIGNATURES[op][0]] * calls)
            timer = Timer(statement, globals=names, num_threads=int(threads))
            timed.append(timer.blocked_autorange(min_run_time=0.35))
        first, second = timed
        quartiles = [
            quantiles(side.times, n=4) if len(side.times) > 1 else [side.median] * 3
            for side in timed
        ]
        apart = quartiles[0][0] > quartiles[1][2] or quartiles[1][0] > quartiles[0][2]
        differs = abs(math.log(first.median / second.median)) > math.log(1.01)
        pairs.append(
            {
                "size": f"{size}x{size}",
                "speedup": str(first.median / second.median),
                "low": str(quartiles[0][0] / quartiles[1][2]),
                "high": str(quartiles[0][2] / quartiles[1][0]),
                "verdict": "faster" if apart and differs else "unclear",
            }
        )
    return pairs, []


def _print(pairs: Sequence[Pair], seconds: float) -> None:
    """Claims, coverage of 1, the ratios' middle 90 % and the half width, for each size."""
    print(f"{len(pairs)} pairs in {seconds:.0f} s, {seconds / len(pairs):.2f} s each")
    sizes = dict.fromkeys(pair["size"] for pair in pairs)
    for size in [*sizes, "all"]:
        chosen = [pair for pair in pairs if size in (pair["size"], "all")]
        with_ratio = [pair for pair in chosen if pair["speedup"]]
        ratios = sorted(float(pair["speedup"]) for pair in with_ratio)
        with_ends = [pair for pair in with_ratio if pair["low"]]
        holds = [float(pair["low"]) <= 1 <= float(pair["high"]) for pair in with_ends]
        widths = [math.log(float(pair["high"]) / float(pair["low"])) / 2 for pair in with_ends]
        claimed = sum(pair["verdict"] in ("faster", "slower") for pair in chosen)
        same = sum(pair["verdict"] == "same" for pair in chosen)
        tail = int(0.05 * len(ratios))
        print(
            f"{size:>10}: claimed {claimed} of {len(chosen)}, same {same}; ratio in "
            f"{len(with_ratio)}, "
            f"interval in {len(with_ends)}, holds 1 in {sum(holds) / max(1, len(holds)):.1%}; "
            f"central 90 % {ratios[tail]:.3f} to {ratios[-1 - tail]:.3f}; "
            f"half width {median(widths or [math.nan]):.2%}"
        )


if __name__ == "__main__":
    main()
