"""How often the speed-up's interval holds the truth, and how often a difference is claimed.

On two simulated devices whose kernels are noisy.

    python tests/benchmarks/simulated_speedup.py                    intervals: 200 pairs, 2.5 times
    python tests/benchmarks/simulated_speedup.py --speedup 1        A/A
    python tests/benchmarks/simulated_speedup.py --speedup 1.05     power
    python tests/benchmarks/simulated_speedup.py --phases 8:2:0.5   its clocks fall, see SIM_PHASES

Each kernel's time is the model's times a number drawn from a distribution about 1 with that median,
so that the true speed-up and the true times are known for every cell. In phases, which are not the
same of the two devices, kernels take longer. A share of 95 % is what the intervals promise; the
exit code is 1 below 93 %.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
# of the first device; nothing is bound by anything else, nor by its launch, and the sentinels take
# milliseconds
BANDWIDTH_BYTES_S = 2e9
OPS = ("add", "mul", "transpose_copy", "relu")
SIZES = ("320", "416", "512", "608", "800")
FEWEST = 0.93
OFF_ABOVE = 0.1  # relative
Row = dict[str, str]


def main() -> int:
    """Run the sweep, compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200, help="pairs of cells")
    parser.add_argument(
        "--noise", default="normal:0.05", help="normal:SD or uniform:HALF-WIDTH, relative"
    )
    parser.add_argument("--speedup", type=float, default=2.5, help="of the second device")
    parser.add_argument("--timing", default="quick")
    parser.add_argument("--phases", default="1:0:1", help="EVERY:LENGTH:FACTOR[:REASONS]")
    chosen = parser.parse_args()
    seeds = range(-(-chosen.cells // (len(OPS) * len(SIZES))))
    model = {
        "BANDWIDTH_BYTES_S": f"{BANDWIDTH_BYTES_S},{BANDWIDTH_BYTES_S * chosen.speedup}",
        "PEAK_FLOP_S": "1e13",
        "NOISE": chosen.noise,
        "PHASES": chosen.phases,
    }
    axes = [f"op={','.join(OPS)}", f"size={','.join(SIZES)}", f"seed={','.join(map(str, seeds))}"]
    tables = ("results.csv", "speedup.csv")
    rows, compared = swept(tables, model, *axes, f"timing={chosen.timing}")
    print(f"noise {chosen.noise}; phases {chosen.phases}")
    _print_rows(rows, chosen.speedup)
    return int(_print_pairs(compared, chosen.speedup) < FEWEST)


def _print_rows(rows: Sequence[Row], speedup: float) -> None:
    """How far the times are from the model's, with a flag and without."""
    flags = Counter(chain.from_iterable(row["flags"].split() for row in rows))
    off: dict[bool, list[float]] = {True: [], False: []}
    for row in (row for row in rows if row["median_s"]):
        rate = BANDWIDTH_BYTES_S * (speedup if row["device"] == "sim:1" else 1.0)
        off[bool(row["flags"])].append(abs(float(row["median_s"]) * rate / float(row["bytes"]) - 1))
    print(f"{len(rows)} rows, {len(off[True])} flagged: {dict(flags)}")
    _print_spread("times", rows, "median_s", ("op", "size", "device"))
    for is_flagged, distances in off.items():
        if distances:
            far = sum(distance > OFF_ABOVE for distance in distances)
            print(
                f"  {'flagged' if is_flagged else 'unflagged'}: off the model's time by "
                f"{median(distances):.1%} in the median, {max(distances):.1%} at most; "
                f"{far} ({far / len(rows):.1%} of all) by more than {OFF_ABOVE:.0%}"
            )


def _print_pairs(compared: Sequence[Row], speedup: float) -> float:
    """What is said of the speed-up; the share of the intervals that hold the true one."""
    pairs = [row for row in compared if row["low"]]
    held = [float(row["low"]) <= speedup <= float(row["high"]) for row in pairs]
    widths = [math.log(float(row["high"]) / float(row["low"])) / 2 for row in pairs]
    verdicts = Counter(row["verdict"] or row["reason"] for row in compared)
    share = sum(held) / len(held) if held else 0.0
    width = f"; half width {median(widths):.2%}" if widths else ""
    print(f"{len(compared)} pairs: {dict(verdicts)}")
    if pairs:
        used, of_all = (median(int(row[name]) for row in pairs) for name in ("paired", "in_all"))
        print(f"  visits of a ratio with an interval: {used:g} of {of_all:g} in the median")
    print(f"  {sum(held)} of {len(held)} intervals hold {speedup:g} ({share:.1%}){width}")
    _print_spread("ratios", compared, "speedup", ("op", "size"))
    return share


def _print_spread(what: str, rows: Sequence[Row], column: str, of: Sequence[str]) -> None:
    """How far what the seeds gave lies apart."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row[column]:
            groups.setdefault(tuple(row[name] for name in of), []).append(float(row[column]))
    spreads = [max(values) / min(values) for values in groups.values() if len(values) > 1]
    if spreads:
        print(f"  {what}, max/min over the seeds: {median(spreads):.3f}, worst {max(spreads):.3f}")


def swept(tables: Sequence[str], model: dict[str, str], *overrides: str) -> list[list[Row]]:
    """Tables of a sweep over two simulated devices, of which the first is the baseline.

    Args:
        tables: the files' names in the run's folder.
        model: the devices' fields, by their names after ``SIM_``.
        overrides: what else is swept.
    """
    environment = {
        "SIM_MODEL": "small,small",
        **{f"SIM_{key}": value for key, value in model.items()},
    }
    devices = [
        "device=sim:0,sim:1",
        "report.baseline={device: 'sim:0'}",
        "backend_module=tests.support.simulated_device",
    ]
    settings = [
        "++op.differentiable=false",
        "hydra.sweep.dir=out",
    ]  # the second device has no autograd
    command = [sys.executable, "-m", "runner", "-m", *devices, *settings, *overrides]
    with tempfile.TemporaryDirectory() as folder:
        # another model's best is none of these devices'
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": folder, "XDG_CACHE_HOME": folder}
        given = {**os.environ, **environment, **own}
        subprocess.run(command, cwd=folder, env=given, stdout=subprocess.DEVNULL, check=True)
        found = [(Path(folder) / "out" / table).read_text().splitlines() for table in tables]
    return [list(csv.DictReader(lines)) for lines in found]


if __name__ == "__main__":
    sys.exit(main())
