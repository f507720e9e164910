"""Where the other side begins to win.

Within 5 % of what a model says, inside its interval in 93 % of runs and more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from random import Random
from statistics import median

import pytest

from runner.analysis.comparison import compare
from runner.analysis.crossover import Crossover, CurvePoint, crossovers, locate
from runner.analysis.pairs import BUSY
from runner.analysis.transfer_model import Link, TransferModel
from runner.config.schema import Report
from runner.rows.rows import BenchmarkRow
from runner.stats.estimate import Estimate
from runner.stats.intervals import median_interval
from runner.sweep.crossover_search import Outcome, Range, requested_sizes
from tests.support.factories import row
from tests.support.marks import slow

RUNS = pytest.mark.parametrize("runs", [60, slow(200)])
HOLDS = 0.93
SAMPLES = 31
ITEM_BYTES = 4
LEAST = 1 + Report.same_within  # a ratio above it wins
LATENCY_S, BANDWIDTH = 1e-5, 1e10
Time = Callable[[int], float]


def matmul(flop_per_s: float, call_s: float) -> Time:
    """Seconds of an n x n product: what a call costs, and then its work."""
    return lambda n: call_s + 2 * n**3 / flop_per_s


def add(bytes_per_s: float, call_s: float) -> Time:
    """Seconds of an n x n sum, which is bound by memory."""
    return lambda n: max(call_s, 3 * ITEM_BYTES * n * n / bytes_per_s)


MODELS = {
    "matmul": (matmul(5e10, 2e-6), matmul(2e12, 2e-5)),
    "add": (add(1e10, 1e-6), add(5e11, 1e-5)),
}
LINK = TransferModel(
    Estimate(LATENCY_S, LATENCY_S, LATENCY_S), Estimate(BANDWIDTH, BANDWIDTH, BANDWIDTH)
)
LINKS = {Link(None, "gpu", way): LINK for way in (True, False)}


def transfer_s(n: int) -> float:
    """Seconds to move the three matrices of a call."""
    return 3 * LATENCY_S + 3 * ITEM_BYTES * n * n / BANDWIDTH


def truth(base: Time, other: Time) -> float:
    """The n from which the other side is faster by the margin, by halving."""
    low, high = 1.0, 1e6
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if base(middle) > LEAST * other(middle) else (middle, high)  # type: ignore[arg-type]
    return low


def measured(op: str, n: int, noise: float, random: Random) -> list[BenchmarkRow]:
    """Both sides at a size, as a run would leave them.

    Medians and their intervals of noisy samples.
    """
    rows = []
    for device, model in zip(("cpu", "gpu"), MODELS[op], strict=True):
        samples = sorted(model(n) * random.lognormvariate(0, noise) for _ in range(SAMPLES))
        low, high = median_interval(samples) or (None, None)
        moved = ITEM_BYTES * n * n
        tensors = {"inputs": 2, "input_bytes": 2 * moved, "outputs": 1, "output_bytes": moved}
        known = {"cell": f"{device}{n}", "op": op, "size": f"{n}x{n}", **tensors}
        rows.append(row(device, median(samples), ci_low_s=low, ci_high_s=high, **known))
    return rows


def test_a_ratio_of_which_nothing_may_be_claimed_is_no_point_of_a_curve() -> None:
    rows = [measured("add", n, 0.001, Random(n)) for n in (64, 256, 1024)]
    speedups = compare(list(chain.from_iterable(rows)), Report())
    assert all(curve.state != "no_ratio" for curve in crossovers(speedups))
    busy = [replace(speedup, verdict="unclear", reason=BUSY) for speedup in speedups]
    assert all(curve.state == "no_ratio" for curve in crossovers(busy))


def test_a_ratio_that_may_be_chance_among_so_many_makes_no_crossover() -> None:
    times = {8: 1.2, 16: 1.1, 32: 0.9}
    rows = list(chain.from_iterable(measured_once(n, seconds) for n, seconds in times.items()))
    speedups = compare(rows, Report())
    sure = [replace(one, verdict="faster" if one.size == "32x32" else "slower") for one in speedups]
    maybe = [replace(one, verdict="unclear") if one.size == "32x32" else one for one in sure]
    assert [crossovers(found)[0].state for found in (sure, maybe)] == ["found", "unresolved"]


def measured_once(n: int, other_s: float) -> list[BenchmarkRow]:
    """A row of each side at n x n; the baseline takes a second."""
    sides = {"cpu": 1.0, "gpu": other_s}
    return [
        row(device, seconds, cell=f"{device}{n}", size=f"{n}x{n}")
        for device, seconds in sides.items()
    ]


def bisected(op: str, noise: float, random: Random) -> list[BenchmarkRow]:
    """The rows of a search, which sees nothing but what it has measured."""
    rows: dict[int, list[BenchmarkRow]] = {}

    def outcome(n: int) -> Outcome:
        rows.setdefault(n, measured(op, n, noise, random))
        (found,) = compare(rows[n], Report())
        return "wins" if (found.speedup or 0) > LEAST else "loses"

    requested_sizes(outcome, Range(16, 4096))
    assert len(rows) <= Range(16, 4096).max_sizes
    return [row for pair in rows.values() for row in pair]


def on_grid(op: str, noise: float, random: Random) -> list[BenchmarkRow]:
    """The rows of a grid of sizes, each twice the one before."""
    return [
        row for n in (16, 32, 64, 128, 256, 512, 1024) for row in measured(op, n, noise, random)
    ]


@RUNS
@pytest.mark.parametrize("noise", [0.002, 0.02])
@pytest.mark.parametrize("op", MODELS)
def test_a_bisected_crossover_is_within_5_percent_and_inside_its_interval(
    op: str, noise: float, runs: int
) -> None:
    expected = truth(*MODELS[op])
    found = [crossing(bisected(op, noise, Random(seed))) for seed in range(runs)]
    sides = [one.side for one in found if one.side is not None]
    assert len(sides) >= HOLDS * runs
    assert sum(abs(side / expected - 1) <= 0.05 for side in sides) == len(sides)
    assert sum(holds(one, expected) for one in found) >= HOLDS * runs


@RUNS
@pytest.mark.parametrize("noise", [0.002, 0.02])
@pytest.mark.parametrize("op", MODELS)
def test_between_the_sizes_of_a_grid_the_interval_covers_that_the_curve_is_no_straight_line(
    op: str, noise: float, runs: int
) -> None:
    expected = truth(*MODELS[op])
    found = [crossing(on_grid(op, noise, Random(seed))) for seed in range(runs)]
    assert sum(holds(one, expected) for one in found) >= HOLDS * runs
    assert (
        median((one.side_high or math.inf) / (one.side_low or 1) for one in found) < 2
    )  # sizes are twice apart


@RUNS
@pytest.mark.parametrize(("transfers", "calls"), [("each_call", 1), ("once", 20)])
def test_with_transfers_the_other_side_begins_to_win_later(
    transfers: str, calls: int, runs: int
) -> None:
    base, other = MODELS["matmul"]
    expected = truth(base, lambda n: other(n) + transfer_s(n) / calls)
    without = truth(base, other)
    assert expected > 1.02 * without
    held = 0
    for seed in range(runs):
        speedups = compare(
            on_grid("matmul", 0.01, Random(seed)), Report(calls_per_transfer=calls), LINKS
        )
        (one,) = (one for one in crossovers(speedups) if one.transfers == transfers)
        held += holds(one, expected)
        assert one.calls_per_transfer == (calls if transfers == "once" else None)
    assert held >= HOLDS * runs


def crossing(rows: Sequence[BenchmarkRow]) -> Crossover:
    """The one crossover of one curve without transfers."""
    (found,) = crossovers(compare(rows, Report()))
    return found


def holds(one: Crossover, expected: float) -> bool:
    """Whether the interval holds the true size; an end that is not known excludes nothing."""
    return one.state in ("found", "unresolved") and (one.side_low or 0) <= expected <= (
        one.side_high or math.inf
    )


def points(*ratios: float, spread: float = 0.01) -> list[CurvePoint]:
    """A curve over sizes that are each twice the one before."""
    return [
        CurvePoint(
            math.log(2) * place,
            math.log(ratio),
            math.log(ratio / (1 + spread)),
            math.log(ratio * (1 + spread)),
        )
        for place, ratio in enumerate(ratios)
    ]


@pytest.mark.parametrize(
    ("ratios", "state"),
    [
        ((0.5, 0.8, 2, 4), "found"),
        ((2, 3, 4), "always"),
        ((3, 0.5, 2, 4), "found"),  # from the last time on
        ((0.5, 2, 0.5), "never"),
        ((0.5, 0.6), "never"),
        ((0.5, 1.001), "unresolved"),
        ((1.001, 2, 4), "unresolved"),
        ((0.5, 2, 1.001), "unresolved"),
        ((), "no_ratio"),
    ],
)
def test_never_and_always_are_answers_and_so_is_that_it_cannot_be_told(
    ratios: Sequence[float], state: str
) -> None:
    found, at, low, high = locate(points(*ratios))
    assert found == state
    assert (at is not None) == (state == "found")
    if at is not None:
        assert low is not None and high is not None
        assert low <= at <= high


def test_what_is_known_of_an_unresolved_crossover_is_kept() -> None:
    state, _, low, high = locate(points(1.001, 2, 4))
    assert (state, low) == ("unresolved", None)
    assert high is not None and 0 < high < math.log(2)
    state, _, low, high = locate(points(0.5, 0.9, 1.001))
    assert (state, high) == ("unresolved", None)
    assert low is not None and math.log(2) < low < 2 * math.log(2)


def test_two_sizes_tell_no_more_than_that_it_lies_between_them() -> None:
    state, at, low, high = locate(points(0.5, 2))
    assert (state, low, high) == ("found", 0, math.log(2))
    assert at == pytest.approx(math.log(2) / 2)


def test_cells_without_a_ratio_are_gaps_and_shapes_that_are_not_square_have_elements_only() -> None:
    rows = [row for n in (16, 64, 256) for row in measured("matmul", n, 0.001, Random(n))]
    rows[-1] = replace(rows[-1], flags=("contended",))
    one = crossing(rows)
    assert (one.sizes, one.gaps, one.state, one.largest) == (2, 1, "unresolved", "64x64")
    rows = [replace(row, size=row.size + "x4") for row in rows]
    (found,) = crossovers(compare([*rows[:-1], replace(rows[-1], flags=())], Report()))
    assert (found.state, found.side, found.size_below, found.size_above) == (
        "found",
        None,
        "64x64x4",
        "256x256x4",
    )
    assert found.elements is not None and 64 * 64 * 4 < found.elements < 256 * 256 * 4
