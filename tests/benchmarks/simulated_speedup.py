"""How often the speed-up's interval holds the truth, on two simulated devices whose kernels are noisy.

    python tests/benchmarks/simulated_speedup.py [--cells 200] [--noise normal:0.05]

Each kernel's time is the model's times a number drawn from a distribution about 1 with that median, so that the true
speed-up is known for every cell. A share of 95 % is what the intervals promise; the exit code is 1 below 93 %.
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
BANDWIDTH = (1e9, 2.5e9)  # of the two devices; nothing here is bound by anything else
OPS = ("add", "mul", "transpose_copy", "relu")
SIZES = ("96", "128", "256", "384", "512")
FEWEST = 0.93


def main() -> int:
    """Run the sweep, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200, help="pairs of cells")
    parser.add_argument("--noise", default="normal:0.05", help="normal:SD or uniform:HALF-WIDTH, relative")
    parser.add_argument("--timing", default="quick")
    chosen = parser.parse_args()
    seeds = range(-(-chosen.cells // (len(OPS) * len(SIZES))))
    environment = {
        "SIM_MODEL": "small,small",
        "SIM_BANDWIDTH_BYTES_S": ",".join(map(str, BANDWIDTH)),
        "SIM_PEAK_FLOP_S": "1e13",
        "SIM_NOISE": chosen.noise,
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        axes = [f"op={','.join(OPS)}", f"size={','.join(SIZES)}", f"seed={','.join(map(str, seeds))}"]
        devices = ["device=sim:0,sim:1", "report.baseline={device: 'sim:0'}"]
        settings = [f"timing={chosen.timing}", "backend_module=tests.simulated_device", "hydra.sweep.dir=out"]
        command = [sys.executable, "-m", "runner", "-m", *axes, *devices, *settings]
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment, "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with (Path(folder) / "out" / "speedup.csv").open(newline="") as file:
            pairs = [row for row in csv.DictReader(file) if row["low"]]
    held = [float(row["low"]) <= BANDWIDTH[1] / BANDWIDTH[0] <= float(row["high"]) for row in pairs]
    width = sorted(float(row["high"]) / float(row["low"]) - 1 for row in pairs)[len(pairs) // 2]
    share = sum(held) / len(held)
    print(f"{sum(held)} of {len(held)} intervals hold the true speed-up ({100 * share:.1f} %); noise {chosen.noise}")
    print(f"median width of an interval: {100 * width:.2f} %")
    return int(share < FEWEST)


if __name__ == "__main__":
    sys.exit(main())
