"""Does a cell that is timed in turn with another have the time that it has alone?

The two sides of each pair have unlike working sets, such as a small sum and a large product. Each
pair is timed in turn, and each of its sides in a run of its own, the three taking turns, so that
all see the same machine. A row in the pair is compared with the row alone by the medians over the
turns. Rows that found no calm moment are left out; where a side has too few others there are more
turns, up to three times as many.

    python tests/benchmarks/paired_rows.py [--turns 3] [--timing quick] [--threads 1]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.program import run_program  # noqa: E402

CALLS = {
    "add": ("torch.add(a, b)", "p p, p p -> p p"),
    "sum": ("a.sum()", "p p ->"),
    "exp": ("torch.exp(a)", "p p -> p p"),
    "softmax": ("torch.softmax(a, -1)", "p p -> p p"),
    "transpose_copy": ("a.t().contiguous()", "p p -> p p"),
    "matmul": ("torch.mm(a, b)", "p p, p p -> p p"),
}
PAIRS = (
    ("add 256", "matmul 512"),
    ("add 1024", "matmul 256"),
    ("sum 64", "add 1024"),
    ("exp 128", "matmul 512"),
    ("softmax 256", "add 1024"),
    ("transpose_copy 256", "matmul 512"),
    ("matmul 64", "sum 2048"),
    ("sum 1024", "matmul 128"),
    ("exp 1024", "add 64"),
    ("softmax 1024", "matmul 256"),
    ("transpose_copy 1024", "sum 256"),
    ("add 64", "transpose_copy 1024"),
    ("matmul 256", "exp 2048"),
    ("sum 512", "softmax 1024"),
    ("exp 64", "matmul 1024"),
)
AGREES_WITHIN = 0.03
MORE_TURNS = 3  # times as many, at most, where some were not calm
STEP = 64  # the size of all cells, of which an operation's own length is a multiple


def main() -> None:
    """Time all pairs and their sides, and print how far a row in a pair is from one alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--timing", default="quick")
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()

    agreeing = 0
    for sides in PAIRS:
        together: dict[str, list[float]] = {side: [] for side in sides}
        alone: dict[str, list[float]] = {side: [] for side in sides}
        times = list(chain(together.values(), alone.values()))
        for turn in range(MORE_TURNS * options.turns):
            if min(map(len, times)) >= options.turns:
                break
            settings = [f"timing={options.timing}", f"threads={options.threads}", f"seed={turn}"]
            _measure(sides, settings, together)
            for side in sides:
                _measure([side], settings, alone)

        texts, distances = [], []
        for side in sides:
            if not (together[side] and alone[side]):
                texts.append(f"{side}: no calm row")
                continue
            ratio = median(together[side]) / median(alone[side])
            distances.append(abs(ratio - 1))
            texts.append(f"{side} {1e6 * median(alone[side]):.1f} us alone, {ratio:.3f} of it")
        agrees = len(distances) == len(sides) and max(distances) <= AGREES_WITHIN
        agreeing += agrees
        print(f"{'; '.join(texts)}{'' if agrees else '  <- differs'}", flush=True)
    print(f"{agreeing} of {len(PAIRS)} pairs agree within {AGREES_WITHIN:.0%} on both sides")


def _measure(sides: Iterable[str], settings: list[str], into: dict[str, list[float]]) -> None:
    """The median times of the sides' calm rows, of one run."""
    names = {side.replace(" ", "_"): side for side in sides}
    with tempfile.TemporaryDirectory(prefix="opsweep-pairs-") as folder:
        work = Path(folder)
        for side in names.values():
            _write(work, side)
        axes = ["-m", f"op={','.join(names)}", f"size={STEP}", *settings]
        baseline = f"report.baseline={{op: {next(iter(names))}}}"
        run_program(work, ["--config-dir", "conf", *axes, baseline, "hydra.sweep.dir=out"])
        with (work / "out" / "results.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if row["status"] == "ok" and "slow_machine" not in row["flags"]:
                    into[names[row["op"]]].append(float(row["median_s"]))


def _write(work: Path, side: str) -> None:
    """An operation's file and its function, whose tensors have lengths of the side's own.

    The first input, which gives all cells the same size, is not touched by the call.
    """
    op, length = side.split()
    name = f"{op}_{length}"
    expression, signature = CALLS[op]
    takes = "a, b" if "," in signature.partition("->")[0] else "a"
    (work / f"{name}.py").write_text(
        f"import torch\n\n\ndef run(size, {takes}):\n    return {expression}\n"
    )
    (work / "conf" / "op").mkdir(parents=True, exist_ok=True)
    (work / "conf" / "op" / f"{name}.yaml").write_text(
        f'name: {name}\ncall: {name}.run\nsignature: "m n, {signature}"\n'
        f'derived_dims: {{p: "{int(length) // STEP} * m"}}\ntolerance: 1000\n'
        "differentiable: false\n"
    )


if __name__ == "__main__":
    main()
