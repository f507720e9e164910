"""Does a comparison of two runs, or of two environments, raise false alarms, and does it find?

Twenty operations, whose functions are in a module of the user's, in a checkout for each side.

    python tests/benchmarks/two_runs.py ab --cells 3000 --keep both
                                job=ab of equal checkouts: alarms at 5 %, and what could be seen
    python tests/benchmarks/two_runs.py found both --slower 0.1
    python tests/benchmarks/two_runs.py found both --slower 0.05 --slower-than 0.02
                                of 100 such runs with one operation slower: how often the gate
                                names it, and nothing else
    python tests/benchmarks/two_runs.py saved --cells 300 --runs 6
                                job=compare of each run with the next: alarms at 5 %, what could be
                                seen, and how often a third more work is found
    python tests/benchmarks/two_runs.py saved --cells 160 --sizes 600 1400 --runs 6 --keep wide
                                of calls that are bound by memory
    python tests/benchmarks/two_runs.py saved --runs 6 --pooled 3 --keep wide
                                of each three runs with the next three, those that are there

``found`` draws visits again, in runs of neighbours, from those of a run of ``ab`` (moving-block
bootstrap: Kuensch, Annals of Statistics 17, 1989), and takes the slower side's times that much
longer.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from runner.analysis.changes import Changes, changes, summary_of  # noqa: E402
from runner.analysis.pairs import Pairs  # noqa: E402
from runner.config.schema import Report  # noqa: E402
from runner.report.conclude import Run, load_run  # noqa: E402
from runner.rows.rows import BenchmarkRow, PairVisit, grouped  # noqa: E402
from tests.support.program import run_program  # noqa: E402

ONE, TWO = "... m n -> ... m n", "... m n, ... m n -> ... m n"
OPERATIONS = {
    "my_add": ("torch.add(a, b)", TWO),
    "my_sub": ("torch.sub(a, b)", TWO),
    "my_mul": ("torch.mul(a, b)", TWO),
    "my_maximum": ("torch.maximum(a, b)", TWO),
    "my_matmul": ("torch.mm(a, b)", "m k, k n -> m n"),
    "my_exp": ("torch.exp(a)", ONE),
    "my_tanh": ("torch.tanh(a)", ONE),
    "my_sigmoid": ("torch.sigmoid(a)", ONE),
    "my_relu": ("torch.relu(a)", ONE),
    "my_gelu": ("torch.nn.functional.gelu(a)", ONE),
    "my_abs": ("torch.abs(a)", ONE),
    "my_clamp": ("torch.clamp(a, -1, 1)", ONE),
    "my_softmax": ("torch.softmax(a, -1)", ONE),
    "my_log_softmax": ("torch.log_softmax(a, -1)", ONE),
    "my_cumsum": ("torch.cumsum(a, -1)", ONE),
    "my_flip": ("torch.flip(a, (-1,))", ONE),
    "my_transposed": ("a.t().contiguous()", "m n -> n m"),
    "my_sum": ("a.sum(-1)", "... m n -> ... m"),
    "my_mean": ("a.mean(-1)", "... m n -> ... m"),
    "my_amax": ("a.amax(-1)", "... m n -> ... m"),
}
SLOWER_THAN = 0.05
NEIGHBOURS = 4  # visits that are drawn together
SIZES = 16, 608  # from 1 us to milliseconds a call
SHOWN = (0.05, 0.1, 0.3)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["ab", "found", "saved"])
    parser.add_argument("folder", nargs="?", type=Path, help="of found: what ab --keep left")
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar=("LEAST", "MOST"))
    parser.add_argument("--timing", default="quick")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--pooled", type=int, default=1, help="of saved: runs of a side")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--slower", type=float, default=0.1)
    parser.add_argument("--slower-than", type=float, default=SLOWER_THAN)
    parser.add_argument("--keep", type=Path, help="a folder for the run, instead of a temporary")
    options = parser.parse_args()
    {"ab": _in_turn, "found": _found, "saved": _saved}[options.what](options)


def _in_turn(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="opsweep-ab-") as temporary:
        work = Path(options.keep or temporary)
        _write_sides(work, ("old", "new"))
        sides = ["ab.a.path=old", "ab.b.path=new", f"compare.slower_than={options.slower_than}"]
        begun = time.monotonic()
        code = run_program(work, ["job=ab", *_axes(options), *sides], codes=(0, 3, 4)).returncode
        seconds = time.monotonic() - begun
        with (work / "out" / "ab.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        found = _changes_of(work / "out", options.slower_than)
        alarms = [change.label for change in chain(*found) if change.is_slower]
        verdicts = Counter(line["verdict"] for line in lines)
        print(f"exit code {code}; alarms in {len(lines)} cells and in {len(found.operations)} ")
        print(f"operations: {alarms}; verdicts {dict(verdicts)}")
        print(f"{seconds:.0f} s, {seconds / len(lines):.2f} s a cell")
        _print_shares(found)


def _found(options: argparse.Namespace) -> None:
    """Draw runs in which one operation is slower, another one each time."""
    root = options.folder / "out"
    old, new = load_run(root / "a"), load_run(root)
    visits = grouped(new.pairs, attrgetter("other_cell"))
    op_of = {row.cell: row.op for row in _rows(new)}
    random, names = Random(0), sorted(set(op_of.values()))
    named = clean = 0
    for number in range(options.times):
        slower = names[number % len(names)]
        drawn: list[PairVisit] = []
        for cell, of_cell in visits.items():
            times = 1 + options.slower if op_of.get(cell) == slower else 1.0
            drawn += [replace(v, other_s=v.other_s * times) for v in _drawn(of_cell, random)]
        found = changes(
            [_rows(old)],
            [_rows(new)],
            margin=Report.same_within,
            slower_than=options.slower_than,
            pairs=Pairs(drawn),
        )
        alarms = {change.op for change in chain(*found) if change.is_slower}
        named += slower in alarms
        clean += not alarms - {slower}
        print(f"{number + 1}: {slower}, named {named}, nothing else {clean}", file=sys.stderr)
    print(
        f"one of {len(names)} operations slower by {options.slower:.0%}, gate at "
        f"{options.slower_than:.0%}: named in {named} of {options.times}, nothing else in {clean}"
    )


def _saved(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="opsweep-saved-") as temporary:
        work = Path(options.keep or temporary)
        _write_sides(work, ("old",))
        for number in range(options.runs):
            if (work / f"run{number}" / "results.csv").exists():  # kept by an earlier call
                continue
            run_program(work, ["-m", *_axes(options, f"run{number}")], codes=(0, 1))
            print(f"run {number + 1} of {options.runs}", file=sys.stderr, flush=True)
        runs = [load_run(work / f"run{number}") for number in range(options.runs)]
    pooled, named, tried = options.pooled, 0, 0
    sides = [runs[first : first + pooled] for first in range(0, len(runs) - pooled + 1, pooled)]
    alarms, claims = Counter[str](), Counter[str]()
    for earlier, later in pairwise(sides):
        found = _compared(earlier, later, options.slower_than)
        for kind, changed in found._asdict().items():
            alarms[kind] += sum(change.is_slower for change in changed)
            claims[kind] += len(changed)
        for op in OPERATIONS:
            tried += 1
            again = _compared(earlier, later, options.slower_than, slower=op)
            named += any(change.is_slower and change.op == op for change in chain(*again))
        _print_shares(found)
    said = (f"{alarms[kind]} alarms in {count} {kind}" for kind, count in claims.items())
    print(f"{', '.join(said)}; a third more work named in {named} of {tried}")


def _compared(
    earlier: Sequence[Run], later: Sequence[Run], slower_than: float, slower: str = ""
) -> Changes:
    """The changes, with an operation that does a third more work in the later runs."""
    before, after = ([_rows(run) for run in side] for side in (earlier, later))
    for run in after:
        for n, row in enumerate(run):
            if row.op == slower and row.median_s:
                run[n] = replace(row, median_s=row.median_s * 4 / 3)
    return changes(before, after, margin=Report.same_within, slower_than=slower_than)


def _changes_of(root: Path, slower_than: float) -> Changes:
    old, new = load_run(root / "a"), load_run(root)
    margin = Report.same_within
    return changes(
        [_rows(old)], [_rows(new)], margin=margin, slower_than=slower_than, pairs=Pairs(new.pairs)
    )


def _print_shares(found: Changes) -> None:
    summary = summary_of(found, SHOWN, SLOWER_THAN)
    shares = [f"{least:.0%}: {share:.1%}" for least, share in summary.could_show.items()]
    print(f"could have shown {', '.join(shares)}; named from {summary.named_from} on in 90 %")


def _rows(run: Run) -> list[BenchmarkRow]:
    return [row for row in run.rows_of_job["benchmark"] if isinstance(row, BenchmarkRow)]


def _drawn(visits: Sequence[PairVisit], random: Random) -> list[PairVisit]:
    """As many visits of each process, in runs of neighbours."""
    drawn: list[PairVisit] = []
    for of_process in grouped(visits, attrgetter("process")).values():
        together = min(NEIGHBOURS, len(of_process))
        last = len(of_process) - together
        runs = [random.randint(0, last) for _ in range(-(-len(of_process) // together))]
        series = chain.from_iterable(of_process[begin : begin + together] for begin in runs)
        drawn += list(series)[: len(of_process)]
    return drawn


def _axes(options: argparse.Namespace, folder: str = "out") -> list[str]:
    """About as many cells as were asked for: all operations, in as many sizes as that takes."""
    count = max(2, -(-options.cells // (2 * len(OPERATIONS))))
    low, high = options.sizes
    sizes = [round(low * (high / low) ** (number / (count - 1))) for number in range(count)]
    return [
        *("--config-dir", "conf"),
        f"op={','.join(OPERATIONS)}",
        f"size={','.join(map(str, dict.fromkeys(sizes)))}",
        *("dtype=float32,float64", "device=cpu", "threads=1"),
        f"timing={options.timing}",
        f"hydra.sweep.dir={folder}",
    ]


def _write_sides(work: Path, sides: Sequence[str]) -> None:
    """The op files, and a module of their functions in a checkout for each side."""
    (work / "conf" / "op").mkdir(parents=True, exist_ok=True)
    for name, (_, signature) in OPERATIONS.items():
        (work / "conf" / "op" / f"{name}.yaml").write_text(
            f'name: {name}\ncall: user_ops.{name}\nsignature: "{signature}"\ntolerance: 1000\n'
        )
    functions = ["import torch"]
    for name, (expression, signature) in OPERATIONS.items():
        inputs = "a, b" if "," in signature.partition("->")[0] else "a"
        functions += ["", "", f"def {name}({inputs}):", f"    return {expression}"]
    for side in sides:
        folder = work / side if len(sides) > 1 else work
        folder.mkdir(exist_ok=True)
        (folder / "user_ops.py").write_text("\n".join([*functions, ""]))


if __name__ == "__main__":
    main()
