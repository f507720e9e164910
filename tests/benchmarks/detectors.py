"""How often two flags that are found by experiment are right by a real clock.

The flags are cpu_fallback and first_touch.

    python tests/benchmarks/detectors.py [--cells 20] [--busy 2]

Each operation is measured so many times, beside so many processes that do nothing but count. Prints
the share of cells with the flag, beside whether it should be there. On an idle machine the shares
are all or nothing; on a busy one a flag may be missed, and is never to be raised without its cause:
the exit code is 1 where it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.factories import flags

OWN = {"name": "own", "signature": "m n -> m n", "differentiable": False}


def slow_in_half(x: torch.Tensor) -> torch.Tensor:
    """What takes 64 steps in float16 and one in other dtypes."""
    for _ in range(63 if x.dtype is torch.float16 else 0):
        x.clone()
    return x.clone()


def filled(x: torch.Tensor) -> torch.Tensor:
    """A fresh tensor, and nothing else."""
    return torch.ones_like(x)


CASES: list[tuple[str, bool, dict[str, Any]]] = [
    ("cpu_fallback", True, {"call": "slow_in_half", "size": 256, "dtype": "float16"}),
    ("cpu_fallback", False, {"call": "slow_in_half", "size": 256, "dtype": "bfloat16"}),
    ("first_touch", True, {"call": "filled", "size": 4096, "dtype": "float32"}),
    ("first_touch", False, {"call": "filled", "size": 256, "dtype": "float32"}),
]


def main() -> int:
    """Measure the cells and print a line for each flag."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--busy", type=int, default=0, help="processes that compete for the cores")
    chosen = parser.parse_args()
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(chosen.busy)
    ]
    wrong = 0
    try:
        for name, expected, asked in CASES:
            op = {**OWN, "call": f"{__name__}.{asked['call']}"}
            axes = {"size": asked["size"], "dtype": asked["dtype"], "threads": 1}
            found = sum(name in flags(op, **axes) for _ in range(chosen.cells))
            wrong += found * (not expected)
            words = " ".join(map(str, asked.values()))
            print(
                f"{name:12} {words:26} {found} of {chosen.cells}, should be "
                f"{chosen.cells * expected}"
            )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
