"""How far do results differ between runs? This engine beside torch.utils.benchmark's two.

Idle and under load.

Each method times the same cases in fresh processes, the methods taking turns, so that all see the
same machine. Under load two processes that do nothing but count compete for the cores; they are
started and ended here.

    python tests/benchmarks/repeatability.py                      all of it: some ten minutes
    python tests/benchmarks/repeatability.py --repetitions 3 --sizes 64 256
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.neighbours import counting, neighbours  # noqa: E402

METHODS = ("opsweep", "blocked_autorange", "adaptive_autorange")
OPERATIONS = ("matmul", "add", "mul", "transpose_copy", "sum")
SIZES = (64, 256, 1024)
WRONG_ABOVE = 1.10  # times the best of all
AGREES_WITHIN = 0.03
TURNS = 9
COMPETITORS = 2
LONGEST_S = 120  # of a process that runs all cases

Result = dict[str, Any]


def main() -> None:
    """Run both conditions and print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--conditions", nargs="+", default=("idle", "loaded", "same"))
    parser.add_argument("--verbose", action="store_true", help="each case's medians")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run = _run_same if options.child == "same" else partial(_run_all, options.child)
        print(json.dumps(run(options.sizes)))
        return
    for condition in (name for name in options.conditions if name != "same"):
        with neighbours(COMPETITORS if condition == "loaded" else 0, counting):
            results = [
                {**result, "method": method, "repetition": repetition}
                for repetition in range(options.repetitions)
                for method in options.methods
                for result in _in_a_fresh_process(method, options.sizes)
            ]
        _print(condition, results, options.methods, options.verbose)
    same = _in_a_fresh_process("same", options.sizes) if "same" in options.conditions else []
    for statistic in dict.fromkeys(result["statistic"] for result in same):
        _print_agreement(statistic, [result for result in same if result["statistic"] == statistic])


def _in_a_fresh_process(method: str, sizes: list[int]) -> list[Result]:
    command = [sys.executable, __file__, "--child", method, "--sizes", *map(str, sizes)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=LONGEST_S
        )
    except (
        subprocess.TimeoutExpired
    ):  # adaptive_autorange looks at all of its samples after each one of them
        print(
            f"\n{method} has not ended within {LONGEST_S} s; its results are missing",
            file=sys.stderr,
        )
        return []
    print(".", end="", flush=True, file=sys.stderr)
    found: list[Result] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cases(
    sizes: list[int],
) -> Iterator[tuple[str, Callable[[list[Any]], Callable[[], Any]], list[Any]]]:
    """A case's name, how it is called on tensors, and these."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    for size in sizes:
        pair = [torch.randn(size, size), torch.randn(size, size)]
        for operation in OPERATIONS:
            yield f"{operation} {size}", partial(_call_on, operation), pair


def _run_same(sizes: list[int]) -> list[Result]:
    results = []
    for case, call_on, pair in _cases(sizes):
        call = call_on(pair)
        turns = [
            {
                method: _timed(method, lambda same, call=call: call, pair, moves=False)[0]
                for method in METHODS
            }
            for _ in range(TURNS)
        ]
        for statistic in (min, median):
            of = {method: statistic([turn[method] for turn in turns]) for method in METHODS}
            results.append({"case": case, "statistic": statistic.__name__, **of})
    return results


def _run_all(method: str, sizes: list[int]) -> list[Result]:
    results = []
    for case, call_on, pair in _cases(sizes):
        begun = time.perf_counter()
        seconds, flagged = _timed(method, call_on, pair)
        results.append(
            {"case": case, "s": seconds, "flagged": flagged, "took_s": time.perf_counter() - begun}
        )
    return results


def _call_on(operation: str, tensors: list[Any]) -> Callable[[], Any]:
    import torch

    a, b = tensors
    if operation == "transpose_copy":
        return partial(torch.transpose_copy, a, 0, 1)
    return partial(torch.sum, a) if operation == "sum" else partial(getattr(torch, operation), a, b)


def _timed(
    method: str,
    call_on: Callable[[list[Any]], Callable[[], Any]],
    tensors: list[Any],
    moves: bool = True,
) -> tuple[float, bool]:
    """Seconds a call, and whether the method itself says that they are not to be trusted."""
    call = call_on(tensors)
    if method == "opsweep":
        from runner.config.schema import Timing
        from runner.measure.engine import measure
        from runner.measure.host_clock import HostClock

        kept = []

        def reallocate() -> Callable[[], Any]:
            moved = call_on([t.clone() for t in tensors])
            kept.append(moved())
            return moved

        measured = measure(
            call,
            HostClock(single_threaded=True),
            Timing(),
            reallocate=reallocate if moves else None,
        )
        return measured.median_s, bool(measured.flags)
    from torch.utils.benchmark import Timer

    timer = Timer("call()", globals={"call": call}, num_threads=1)
    found = (
        timer.blocked_autorange() if method == "blocked_autorange" else timer.adaptive_autorange()
    )
    return found.median, bool(found.has_warnings)


def _print(condition: str, results: list[Result], methods: list[str], verbose: bool) -> None:
    cases = list(dict.fromkeys(r["case"] for r in results))
    best = {case: min(r["s"] for r in results if r["case"] == case) for case in cases}
    print(f"\n{condition}: {len(results)} results, in fresh processes, one thread, float32")
    for method in methods:
        own = [r for r in results if r["method"] == method]
        by_case = {case: [r["s"] for r in own if r["case"] == case] for case in cases}
        spread = {case: max(times) / min(times) for case, times in by_case.items() if times}
        worst = max(spread, key=spread.__getitem__)
        off = [r for r in own if r["s"] > WRONG_ABOVE * best[r["case"]]]
        silent = [r for r in off if not r["flagged"]]
        print(
            f"  {method:18} run-to-run max / min: median {median(spread.values()):.3f}, worst "
            f"{spread[worst]:.2f} "
            f"({worst}); more than 10 % above the best: {len(off)} of {len(own)}, without a flag "
            f"{len(silent)} "
            f"({len(silent) / len(own):.0%}); {sum(r['flagged'] for r in own)} flagged; "
            f"{mean(r['took_s'] for r in own):.2f} s a result"
        )
        if verbose:
            for case in cases:
                shown = "  ".join(
                    f"{r['s'] * 1e6:.5g}{'!' if r['flagged'] else ''}"
                    for r in own
                    if r["case"] == case
                )
                print(
                    f"      {case:20} us: {shown}    "
                    f"{mean(r['took_s'] for r in own if r['case'] == case):.2f} s"
                )


def _print_agreement(statistic: str, results: list[Result]) -> None:
    """This engine and the better of the two others on the very same tensors.

    In one process, taking turns.

    Where a call's output lies is each call's own affair, so that one turn says little: the turns'
    least and median do.
    """
    ratios = {
        r["case"]: r["opsweep"] / min(r["blocked_autorange"], r["adaptive_autorange"])
        for r in results
    }
    far = max(ratios, key=lambda case: abs(ratios[case] - 1))
    within = sum(abs(ratio - 1) <= AGREES_WITHIN for ratio in ratios.values())
    print(
        f"\nthe same tensors, idle, {statistic} of {TURNS} turns: this engine's over "
        f"torch.utils.benchmark's best: "
        f"median {median(ratios.values()):.3f}, farthest {ratios[far]:.3f} ({far}); "
        f"within 3 %: {within} of {len(ratios)} cases"
    )


if __name__ == "__main__":
    main()
