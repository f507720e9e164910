"""Do the sentinels show the same after every operation, and what do they cost?

    python tests/benchmarks/sentinels.py [--threads 2]
    python tests/benchmarks/sentinels.py sweep              what a sweep of 15 cells spends on them
    python tests/benchmarks/sentinels.py sweep --neighbour  beside processes busy in random phases

After each of several operations, in turn, the kernels are read; printed is each kernel's median
time after the operation over that after the first one, and how slow the readings say the machine
was: what they differ by where it is calm is their own noise. Of a sweep the shares of the time are
printed that go to readings and to waiting for calm moments.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from operator import truediv
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from runner.measure.host_clock import HostClock
from runner.measure.sentinel import Sentinel
from tests.support.neighbours import in_phases, neighbours
from tests.support.program import run_program
from tests.support.watched_gate import spent_in


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="after", choices=["after", "sweep"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=0.02, help="of an operation, as a block's")
    parser.add_argument("--sizes", default="64,256,1024", help="of a sweep")
    parser.add_argument("--timing", default="default", help="of a sweep")
    parser.add_argument("--neighbour", action="store_true")
    options = parser.parse_args()
    with neighbours(options.neighbour * (os.cpu_count() or 1), in_phases):
        if options.what == "sweep":
            _print_shares(options)
        else:
            _print_readings(options)


def _print_shares(options: argparse.Namespace) -> None:
    """What of a sweep's time goes to readings and to waiting."""
    operations = "op=matmul,add,mul,transpose_copy,sum"
    axes = [operations, f"size={options.sizes}", f"threads={options.threads}"]
    settings = [f"timing={options.timing}", "backend_module=tests.support.watched_gate"]
    with tempfile.TemporaryDirectory(prefix="opsweep-sentinels-") as folder:
        told = Path(folder) / "told"
        told.mkdir()
        os.environ["WATCHED_GATE"] = str(told)
        begun = time.monotonic()
        run_program(Path(folder), ["-m", *axes, *settings], codes=(0, 1))
        seconds = time.monotonic() - begun
        sampling_s, reading_s, waiting_s, slow_s = spent_in(told)
    print(
        f"{seconds:.0f} s in all, {sampling_s:.1f} s of sampling; readings take "
        f"{reading_s / (sampling_s - waiting_s):.1%} of what is not waited; waiting "
        f"{waiting_s / sampling_s:.1%} of the sampling and {waiting_s / seconds:.1%} of all; "
        f"samples of slow moments {slow_s / sampling_s:.1%} and {slow_s / seconds:.1%}"
    )


def _print_readings(options: argparse.Namespace) -> None:
    """Read after each operation in turn, and print the ratios."""
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
    sentinel = Sentinel(torch.device("cpu"), clock, None)
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
