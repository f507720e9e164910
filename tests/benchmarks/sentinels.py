"""Do the sentinels show the same after every operation, and what do they cost?

    python tests/benchmarks/sentinels.py [--threads 2]

After each of several operations, in turn, the kernels are read; printed is each kernel's median
time after the operation over that after the smallest one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from runner.measure.host_clock import HostClock
from runner.measure.sentinel import Sentinel

ROUNDS = 150


def main() -> None:
    """Read after each operation in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    sides = {size: torch.randn(size, size) for size in (64, 256, 512, 1024, 2048)}
    half = sides[1024].bfloat16()
    operations = {
        "add 64": (lambda: torch.add(sides[64], sides[64]), 300),
        "matmul 256": (lambda: torch.mm(sides[256], sides[256]), 4),
        "matmul 512": (lambda: torch.mm(sides[512], sides[512]), 2),
        "transpose_copy 2048": (lambda: sides[2048].t().contiguous(), 1),
        "softmax 1024": (lambda: torch.softmax(sides[1024], -1), 2),
        "sum 1024": (sides[1024].sum, 5),
        "bfloat16 product of 1024x1024 by 1024x64": (lambda: torch.mm(half, half[:, :64]), 1),
    }
    clock = HostClock(single_threaded=threads == 1)
    sentinel = Sentinel(torch.device("cpu"), clock, threads, None)
    readings: dict[str, list[tuple[float, ...]]] = {name: [] for name in operations}
    reading_s = []
    for _ in range(ROUNDS):
        for name, (operation, calls) in operations.items():
            for _ in range(calls):
                operation()
            begun = time.perf_counter()
            readings[name].append(sentinel.read())
            reading_s.append(time.perf_counter() - begun)
    first, *_ = operations
    for name, of_kernels in readings.items():
        rounds = zip(of_kernels, readings[first], strict=True)
        ratios = [
            [seconds / before for seconds, before in zip(now, reference, strict=True)]
            for now, reference in rounds
        ]
        middle = [median(of_kernel) for of_kernel in zip(*ratios, strict=True)]
        print(f"after {name:42}", *(f"{ratio:.3f}" for ratio in middle))
    print(f"a reading takes {median(reading_s) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
