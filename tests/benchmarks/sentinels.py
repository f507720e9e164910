"""Do the sentinels show the same after every operation, and what do they cost?

    python tests/benchmarks/sentinels.py [--threads 2]

After each of several operations, in turn, the kernels are read; printed is each kernel's median
time after the operation over that after the first one, and how slow the readings say the machine
was: what they differ by where it is calm is their own noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from operator import truediv
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from runner.measure.host_clock import HostClock
from runner.measure.sentinel import Sentinel


def main() -> None:
    """Read after each operation in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=0.02, help="of an operation, as a block's")
    options = parser.parse_args()
    threads = options.threads
    torch.set_num_threads(threads)
    sides = {size: torch.randn(size, size) for size in (64, 256, 512, 1024, 2048)}
    half = sides[1024].bfloat16()
    operations = {
        "add 64": lambda: torch.add(sides[64], sides[64]),
        "matmul 256": lambda: torch.mm(sides[256], sides[256]),
        "matmul 512": lambda: torch.mm(sides[512], sides[512]),
        "transpose_copy 2048": lambda: sides[2048].t().contiguous(),
        "softmax 1024": lambda: torch.softmax(sides[1024], -1),
        "sum 1024": sides[1024].sum,
        "bfloat16 product of 1024x1024 by 1024x64": lambda: torch.mm(half, half[:, :64]),
    }
    clock = HostClock(single_threaded=False, watched=False)
    sentinel = Sentinel(torch.device("cpu"), clock, threads, None)
    readings: dict[str, list[tuple[float, ...]]] = {name: [] for name in operations}
    reading_s = []
    for _ in range(options.rounds):
        for name, operation in operations.items():
            begun = time.perf_counter()
            while time.perf_counter() - begun < options.seconds:
                operation()
            begun = time.perf_counter()
            readings[name].append(sentinel.read())
            reading_s.append(time.perf_counter() - begun)
    first, *_ = operations
    best = [quantiles(of_kernel, n=20)[0] for of_kernel in zip(*readings[first], strict=True)]
    for name, of_kernels in readings.items():
        rounds = zip(of_kernels, readings[first], strict=True)
        ratios = [
            [seconds / before for seconds, before in zip(now, reference, strict=True)]
            for now, reference in rounds
        ]
        middle = [median(of_kernel) for of_kernel in zip(*ratios, strict=True)]
        slowdowns = [max(map(truediv, reading, best)) for reading in of_kernels]
        ends = quantiles(slowdowns, n=20)
        text = f"slowdown {median(slowdowns):.3f}, nine of ten {ends[0]:.3f} to {ends[-1]:.3f}"
        print(f"after {name:42}", *(f"{ratio:.3f}" for ratio in middle), text)
    print(f"a reading takes {median(reading_s) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
