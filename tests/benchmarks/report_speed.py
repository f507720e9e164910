"""What a report costs.

``job=report`` over so many rows, in seconds and in memory, from CSVs made for it.

    python tests/benchmarks/report_speed.py             100,000 rows in one results.csv
    python tests/benchmarks/report_speed.py --folders   each in a folder, as a sweep leaves them
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from random import Random

from runner.config.dtypes import ITEM_BYTES
from runner.rows.csv_store import write_atomically, write_rows
from runner.rows.rows import BenchmarkRow

ROOT = Path(__file__).parents[2]
DTYPES = ("float32", "bfloat16", "float16", "float64")
SIZES = [round(16 * 2 ** (step / 4)) for step in range(36)]


def main() -> None:
    """Make the rows, rebuild their report in a process of its own, say what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folders", action="store_true")
    parser.add_argument(
        "--folder", help="where to make them; a folder in memory shows the work without the disk"
    )
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="opsweep-report-", dir=given.folder))
    try:
        made = rows(given.rows)
        write_atomically(root / "environment.json", "{}\n", durable=False)
        if given.folders:
            for number, row in enumerate(made):
                folder = (
                    root
                    / f"{number}_op={row.op},size={row.size},dtype={row.dtype},device={row.device}"
                )
                folder.mkdir()
                write_rows(folder / "results.csv", [row])
        else:
            write_rows(root / "results.csv", made)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "runner", "job=report", f"run={root}"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        megabytes = used.ru_maxrss / 1024
        cpu = used.ru_utime + used.ru_stime
        where = "a folder each" if given.folders else "one file"
        print(
            f"{len(made):,} rows in {where}: {seconds:.1f} s ({cpu:.1f} s of CPU), "
            f"{megabytes:.0f} MB at most in one process"
        )
        for path in sorted(root.glob("*.*")):
            print(f"    {path.name}: {path.stat().st_size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(root)


def rows(count: int) -> list[BenchmarkRow]:
    """A sweep's rows: operations x sizes x dtypes x two devices, by a model with noise."""
    random = Random(0)
    operations = range(-(-count // (len(SIZES) * len(DTYPES) * 2)))
    grid = product(operations, SIZES, DTYPES, ("cpu", "gpu"))
    return [
        _row(number, choice, random) for number, choice in zip(range(count), grid, strict=False)
    ]


def _row(number: int, choice: tuple[int, int, str, str], random: Random) -> BenchmarkRow:
    operation, side, dtype, device = choice
    flop = 2 * side**3
    median = (
        2e-6 + flop / 5e10 if device == "cpu" else 2e-5 + flop / 1e12
    ) * random.lognormvariate(0, 0.01)
    moved = side * side * ITEM_BYTES[dtype]
    return BenchmarkRow(
        cell=f"c{number:015x}",
        job="benchmark",
        op=f"op{operation}",
        size=f"{side}x{side}",
        dtype=dtype,
        device=device,
        device_name=f"{device} of this benchmark",
        threads=2,
        node="here-1234abcd",
        variant=f"v{operation:06x}",
        seconds=0.5,
        cache="warm",
        layout="contiguous",
        fill="normal",
        compile="off",
        graph=False,
        median_s=median,
        ci_low_s=median * 0.98,
        ci_high_s=median * 1.02,
        min_s=median * 0.9,
        q1_s=median * 0.95,
        q3_s=median * 1.05,
        first_call_s=median * 10,
        samples=100,
        processes=1,
        preempted_samples=3,
        interruption_source="scheduler",
        calls_per_sample=10,
        timing_s=0.4,
        stop="precision",
        flop=flop,
        bytes=3 * moved,
        inputs=2,
        input_bytes=2 * moved,
        outputs=1,
        output_bytes=moved,
        flop_per_s=flop / median,
        bytes_per_s=3 * moved / median,
        finite_fraction=1.0,
        max_relative_error=1e-7,
        allowed_relative_error=1e-6,
        checked="full",
        checked_size=f"{side}x{side}",
        gradient="pass",
        concurrent_sweep=False,
        flags=("multimodal",) if random.random() < 0.1 else (),
    )


if __name__ == "__main__":
    main()
