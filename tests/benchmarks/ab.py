"""Do ratios of unlike sides stay from process to process, on a calm machine and a busy one?

Fifteen pairs of unlike sides are compared by the command line in fresh processes.

    python tests/benchmarks/ab.py                  five times, on the machine as it is
    python tests/benchmarks/ab.py --neighbour      as often again beside processes that are busy in
                                                   random phases
    python tests/benchmarks/ab.py --processes 5    that share each pair's visits

For each pair: its ratios, how many of its runs have one, the largest over the smallest, its
verdicts and the intervals' half width. Then of all pairs how far the ratios lie apart (of those
with two or more), and how many intervals hold the ratio of all runs pooled (their median).
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
from itertools import chain
from pathlib import Path
from statistics import median

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.neighbours import in_phases, neighbours  # noqa: E402
from tests.support.program import run_program  # noqa: E402

COMPARISONS = (
    ("op=matmul,gelu size=256,512 threads=1 dtype=float32,bfloat16", "{dtype: float32}"),
    ("op=add,matmul size=512 threads=1 dtype=float32,float64", "{dtype: float32}"),
    ("op=matmul,softmax size=512 dtype=float32 threads=1,2", "{threads: 1}"),
    ("op=matmul,sum size=512 threads=1 layout=contiguous,transposed", "{layout: contiguous}"),
    ("op=matmul,add size=64,256,512 threads=1", "{op: matmul}"),
    (
        "op=scaled_dot_product_attention size=8x12x512x64 threads=2 dtype=float32,bfloat16",
        "{dtype: float32}",
    ),
    ("op=gelu size=512 threads=1 compile=off,default", "{compile: off}"),
)
KEY = ("op", "size", "dtype", "threads", "layout", "compile", "axis", "baseline", "other")
Ratio = dict[str, str]


def main() -> None:
    """Run all comparisons again and again, and print how far their ratios differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timing", default="default")
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--processes", default="null", help="that share a pair's visits")
    parser.add_argument("--save", help="a CSV file for the rows of speedup.csv")
    parser.add_argument("--keep", type=Path, help="a folder for each sweep's pairs.csv")
    options = parser.parse_args()

    of_pair: dict[tuple[str, ...], list[Ratio]] = {}
    for busy in (0, os.cpu_count() or 1)[: 1 + options.neighbour]:
        with neighbours(busy, in_phases):
            for run in range(options.runs):
                begun = time.monotonic()
                keep = options.keep and options.keep / f"{busy}-busy-{run}"
                for ratio in _run(run, options.timing, options.processes, keep):
                    of_pair.setdefault(tuple(ratio[name] for name in KEY), []).append(ratio)
                if options.save:  # all so far, which stays where a run is ended
                    so_far = list(chain.from_iterable(of_pair.values()))
                    pd.DataFrame(so_far).to_csv(options.save, index=False)
                seconds = time.monotonic() - begun
                print(f"run {run + 1}, {busy} busy: {seconds:.0f} s", file=sys.stderr, flush=True)
    _print(of_pair)


def _run(seed: int, timing: str, processes: str, keep: Path | None) -> list[Ratio]:
    """The rows of ``speedup.csv`` of all comparisons, each in a process of its own."""
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory(prefix="opsweep-ab-") as folder:
        for number, (axes, baseline) in enumerate(COMPARISONS):
            command = ["-m", *axes.split(), f"timing={timing}", f"seed={seed}"]
            command += [f"report.baseline={baseline}", f"hydra.sweep.dir={number}"]
            command.append(f"compare.processes={processes}")
            run_program(Path(folder), command)
            with (Path(folder) / str(number) / "speedup.csv").open(newline="") as file:
                ratios += csv.DictReader(file)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / str(number) / "pairs.csv", keep / f"{number}.csv")
    return ratios


def _print(of_pair: dict[tuple[str, ...], list[Ratio]]) -> None:
    spreads, held, contradicted, without = [], [], 0, 0
    for key, found in of_pair.items():
        ratios = [float(ratio["speedup"]) for ratio in found if ratio["speedup"]]
        without += len(found) - len(ratios)
        if len(ratios) < 2:
            print(*key, ratios, found[0]["reason"])
            continue
        pooled, spread = median(ratios), max(ratios) / min(ratios)
        with_ends = [ratio for ratio in found if ratio["low"]]
        holds = [float(ratio["low"]) <= pooled <= float(ratio["high"]) for ratio in with_ends]
        widths = [math.log(float(ratio["high"]) / float(ratio["low"])) / 2 for ratio in with_ends]
        verdicts = {ratio["verdict"] for ratio in found}
        spreads.append(spread)
        held.append(holds)
        contradicted += {"faster", "slower"} <= verdicts
        texts = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"{' '.join(key)}: {texts} ({len(ratios)} of {len(found)}); max/min {spread:.3f}; "
            f"{' '.join(sorted(verdicts))}; half width {median(widths or [math.nan]):.2%}"
        )
    intervals = list(chain.from_iterable(held))
    if not spreads:
        return
    print(
        f"{len(spreads)} of {len(of_pair)} pairs: max/min median {median(spreads):.3f}, worst "
        f"{max(spreads):.3f}; faster in one and slower in another: {contradicted}; intervals that "
        f"hold the pooled ratio: {sum(intervals)} of {len(intervals)}, "
        f"{sum(intervals) / max(1, len(intervals)):.1%}; runs without a ratio: {without}"
    )


if __name__ == "__main__":
    main()
