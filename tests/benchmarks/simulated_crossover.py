"""How well the crossover is found by bisection.

On two simulated devices whose true crossover is known.

    python tests/benchmarks/simulated_crossover.py [--runs 200] [--noise normal:0.02]

The first device's products are bound by its peak rate, the second's by its bandwidth: 2 n^3 / peak
seconds against 3 n^2 * 4 bytes / bandwidth, which are equal at n = 6 peak / bandwidth. Each run has
a seed and noise of its own. The exit code is 1 if a crossover is more than 5 % off, or if fewer
than 93 % of the intervals hold the true one.
"""

from __future__ import annotations

import argparse
import sys

from simulated_speedup import FEWEST, swept

PEAK_FLOP_S, BANDWIDTH = 1.5e10, 5e8
TRUE_SIDE = 6 * PEAK_FLOP_S / BANDWIDTH
OFF_AT_MOST = 0.05


def main() -> int:
    """Run the searches and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--noise", default="normal:0.02", help="normal:SD or uniform:HALF-WIDTH, relative"
    )
    parser.add_argument("--timing", default="quick")
    chosen = parser.parse_args()
    model = {
        "PEAK_FLOP_S": f"{PEAK_FLOP_S},1e15",
        "BANDWIDTH_BYTES_S": f"1e13,{BANDWIDTH}",
        "NOISE": chosen.noise,
    }
    seeds = f"seed={','.join(map(str, range(chosen.runs)))}"
    search = "hydra.sweeper.crossover={low: 96, high: 384}"
    words = ["op=matmul", seeds, search, f"timing={chosen.timing}"]
    words.append("report.same_within=0")  # the formula's ratio is 1 there, and not a little more
    (rows,) = swept(["crossover.csv"], model, *words)
    found = [row for row in rows if row["transfers"] == "none"]
    sides = [float(row["side"]) for row in found if row["side"]]
    held = sum(
        float(row["side_low"] or 0) <= TRUE_SIDE <= float(row["side_high"] or "inf")
        for row in found
        if row["state"] in ("found", "unresolved")
    )
    off = max((abs(side / TRUE_SIDE - 1) for side in sides), default=1.0)
    width = sorted(
        float(row["side_high"]) / float(row["side_low"]) - 1 for row in found if row["side"]
    )
    print(f"true crossover n = {TRUE_SIDE:g}; noise {chosen.noise}; {chosen.runs} runs")
    share = f"{100 * held / chosen.runs:.1f} %"
    print(
        f"found in {len(sides)}, at most {100 * off:.1f} % off; {held} intervals hold it ({share})"
    )
    print(
        f"median width of an interval: {100 * width[len(width) // 2]:.1f} %"
        if width
        else "no interval"
    )
    return int(off > OFF_AT_MOST or held < FEWEST * chosen.runs)


if __name__ == "__main__":
    sys.exit(main())
