"""How often the speed-up's interval holds the truth.

On two simulated devices whose kernels are noisy.

    python tests/benchmarks/simulated_speedup.py [--cells 200] [--noise normal:0.05]

Each kernel's time is the model's times a number drawn from a distribution about 1 with that median,
so that the true speed-up is known for every cell. A share of 95 % is what the intervals promise;
the exit code is 1 below 93 %.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BANDWIDTH = (
    2e8,
    5e8,
)  # of the two devices; nothing here is bound by anything else, nor by its launch
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
    parser.add_argument("--timing", default="quick")
    chosen = parser.parse_args()
    seeds = range(-(-chosen.cells // (len(OPS) * len(SIZES))))
    model = {
        "BANDWIDTH_BYTES_S": ",".join(map(str, BANDWIDTH)),
        "PEAK_FLOP_S": "1e13",
        "NOISE": chosen.noise,
    }
    axes = [f"op={','.join(OPS)}", f"size={','.join(SIZES)}", f"seed={','.join(map(str, seeds))}"]
    pairs = [
        row for row in swept("speedup.csv", model, *axes, f"timing={chosen.timing}") if row["low"]
    ]
    held = [float(row["low"]) <= BANDWIDTH[1] / BANDWIDTH[0] <= float(row["high"]) for row in pairs]
    width = sorted(float(row["high"]) / float(row["low"]) - 1 for row in pairs)[len(pairs) // 2]
    share = sum(held) / len(held)
    print(
        f"{sum(held)} of {len(held)} intervals hold the true speed-up ({100 * share:.1f} %); "
        f"noise {chosen.noise}"
    )
    print(f"median width of an interval: {100 * width:.2f} %")
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
