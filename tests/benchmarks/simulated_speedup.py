"""How often the speed-up's interval holds the truth, and how often a difference is claimed.

On two simulated devices whose kernels are noisy.

    python tests/benchmarks/simulated_speedup.py                    intervals: 200 pairs, 2.5 times
    python tests/benchmarks/simulated_speedup.py --speedup 1        A/A
    python tests/benchmarks/simulated_speedup.py --speedup 1.05     power

Each kernel's time is the model's times a number drawn from a distribution about 1 with that median,
so that the true speed-up is known for every cell. A share of 95 % is what the intervals promise;
the exit code is 1 below 93 %.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BANDWIDTH_BYTES_S = 2e8  # of the first device; nothing is bound by anything else, nor by its launch
OPS = ("add", "mul", "transpose_copy", "relu")
SIZES = ("96", "128", "160", "192", "256")
FEWEST = 0.93


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
    chosen = parser.parse_args()
    seeds = range(-(-chosen.cells // (len(OPS) * len(SIZES))))
    model = {
        "BANDWIDTH_BYTES_S": f"{BANDWIDTH_BYTES_S},{BANDWIDTH_BYTES_S * chosen.speedup}",
        "PEAK_FLOP_S": "1e13",
        "NOISE": chosen.noise,
    }
    axes = [f"op={','.join(OPS)}", f"size={','.join(SIZES)}", f"seed={','.join(map(str, seeds))}"]
    compared = swept("speedup.csv", model, *axes, f"timing={chosen.timing}")
    pairs = [row for row in compared if row["low"]]
    held = [float(row["low"]) <= chosen.speedup <= float(row["high"]) for row in pairs]
    half_width = median(math.log(float(row["high"]) / float(row["low"])) / 2 for row in pairs)
    claimed = sum(row["verdict"] in ("faster", "slower") for row in compared)
    share = sum(held) / len(held)
    print(
        f"{len(compared)} pairs, {claimed} claimed; {sum(held)} of {len(held)} intervals hold "
        f"{chosen.speedup:g} ({share:.1%}); half width {half_width:.2%}; noise {chosen.noise}"
    )
    return int(share < FEWEST)


def swept(table: str, model: dict[str, str], *overrides: str) -> list[dict[str, str]]:
    """A table of a sweep over two simulated devices, of which the first is the baseline.

    Args:
        table: the file's name in the run's folder.
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
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": folder}
        given = {**os.environ, **environment, **own}
        subprocess.run(command, cwd=folder, env=given, stdout=subprocess.DEVNULL, check=True)
        with (Path(folder) / "out" / table).open(newline="") as file:
            return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
