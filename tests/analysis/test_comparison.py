"""``speedup.csv``.

Ratios and intervals beside SciPy's bootstrap, what data transfers add, and what is not compared.
"""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from runner.analysis.analysis import analyse
from runner.analysis.comparison import UNCLEAR, Speedup, compare, elements_of
from runner.analysis.pairs import Pairs
from runner.analysis.transfer_model import Link, TransferModel
from runner.config.axes import COMPARED
from runner.config.schema import Report
from runner.rows.csv_store import read_rows, write_records
from runner.rows.rows import BenchmarkRow, PairVisit
from runner.stats.estimate import Estimate
from runner.stats.intervals import median_interval
from tests.conftest import ROOT
from tests.support.factories import row

DATA = ROOT / "tests" / "data" / "schema1"
DEVICES = Report()


def sampled(device: str, samples: np.ndarray, **fields: object) -> BenchmarkRow:
    """A row whose median and interval are those of samples, as the engine takes them."""
    ordered = sorted(samples.tolist())
    ends = median_interval(ordered)
    assert ends is not None
    return replace(
        row(device, float(np.median(ordered))), ci_low_s=ends[0], ci_high_s=ends[1], **fields
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_a_ratio_and_its_interval_are_those_of_scipys_bootstrap(seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = [0.01, 0.05, 0.2, 0.02, 0.5, 0.1, 0.03, 0.3][seed]
    base = 1e-3 * random.lognormal(0, noise, 301)
    other = 2e-4 * (
        1 + random.exponential(noise, 201)
    )  # a skewed side, with as many samples as it has
    (found,) = compare([sampled("cpu", base), sampled("gpu", other)], DEVICES)

    def ratio(one: np.ndarray, another: np.ndarray, axis: int) -> np.ndarray:
        return np.median(one, axis=axis) / np.median(another, axis=axis)

    expected = stats.bootstrap(
        (base, other), ratio, method="percentile", n_resamples=2_000, vectorized=True, rng=random
    ).confidence_interval
    assert found.speedup == pytest.approx(np.median(base) / np.median(other))
    assert found.low is not None and found.high is not None
    width = expected.high - expected.low
    assert abs(found.low - expected.low) < 0.3 * width
    assert abs(found.high - expected.high) < 0.3 * width
    assert 0.8 < (found.high - found.low) / width < 1.4


def test_the_baselines_fastest_dtype_has_a_ratio_and_an_interval_of_its_own() -> None:
    random = np.random.default_rng(0)
    slow, fast = 50e-3 * random.lognormal(0, 0.05, 101), 1e-3 * random.lognormal(0, 0.05, 101)
    gpu = 1e-4 * random.lognormal(0, 0.05, 101)
    rows = [
        sampled("cpu", slow, dtype="float16"),
        sampled("cpu", fast),
        row("cpu", 1e-6, dtype="int8"),  # of another kind: nobody would use it instead
        row("cpu", 1e-6, dtype="float64", flags=("wrong_values",)),
        row("gpu", None, dtype="float32", status="unavailable"),
        sampled("gpu", gpu, dtype="float16"),
    ]
    unavailable, found = compare(rows, DEVICES)
    assert unavailable.reason == "device=gpu: unavailable"
    assert found.speedup == pytest.approx(np.median(slow) / np.median(gpu))
    assert (found.fastest_dtype, found.fastest_s) == ("float32", np.median(fast))
    assert found.fastest_speedup == pytest.approx(np.median(fast) / np.median(gpu))
    assert found.fastest_low is not None and found.fastest_high is not None
    assert (
        found.fastest_low < found.fastest_speedup < found.fastest_high < found.fastest_speedup * 1.1
    )


EXACT = {
    Link(None, "gpu", True): TransferModel(Estimate(1e-5, 1e-5, 1e-5), Estimate(1e9, 1e9, 1e9)),
    Link(None, "gpu", False): TransferModel(Estimate(2e-5, 2e-5, 2e-5), Estimate(2e9, 2e9, 2e9)),
}
MOVED = {"inputs": 2, "input_bytes": 3_000_000, "outputs": 1, "output_bytes": 1_000_000}


def test_transfers_make_a_ratio_each_call_one_shared_by_many_and_a_break_even() -> None:
    (found,) = compare(
        [row("cpu", 6e-3, **MOVED), row("gpu", 1e-3, **MOVED)], Report(calls_per_transfer=10), EXACT
    )
    transfer = 2e-5 + 3e-3 + 2e-5 + 0.5e-3
    assert found.transfer_s == pytest.approx(transfer)
    assert found.each_speedup == pytest.approx(6e-3 / (1e-3 + transfer))
    assert found.once_speedup == pytest.approx(10 * 6e-3 / (10 * 1e-3 + transfer))
    assert found.break_even_calls == pytest.approx(transfer / 5e-3)
    ends = [
        found.each_low,
        found.each_high,
        found.once_low,
        found.once_high,
        found.break_even_low,
        found.break_even_high,
    ]
    assert all(end is not None for end in ends)
    assert found.break_even_low < found.break_even_calls < found.break_even_high  # type: ignore[operator]
    assert (found.transfer_memory, found.calls_per_transfer) == ("pageable", 10)


def test_no_break_even_where_no_side_is_surely_faster_or_no_transfer_was_measured() -> None:
    (found,) = compare([row("cpu", 1e-3, **MOVED), row("gpu", 0.999e-3, **MOVED)], DEVICES, EXACT)
    assert found.each_speedup is not None
    assert (found.verdict, found.break_even_calls) == ("unclear", None)
    (found,) = compare([row("cpu", 6e-3, **MOVED), row("gpu", 1e-3, **MOVED)], DEVICES)
    assert (found.transfer_s, found.each_speedup, found.break_even_calls) == (None, None, None)
    (found,) = compare(
        [row("cpu", 6e-3), row("gpu", 1e-3)], DEVICES, EXACT
    )  # what is moved is not known
    assert found.each_speedup is None
    (found,) = compare([row(dtype="float64"), row()], Report(baseline={"dtype": "float64"}), EXACT)
    assert found.transfer_s is None


AXES = {
    "op": ("mul", "add"),
    "impl": ("fast", None),
    "size": ("4x4", "8x8"),
    "dtype": ("float64", "float32"),
    "device": ("gpu", "cpu"),
    "threads": (1, 2),
    "direction": ("backward", None),
    "cache": ("cold", None),
    "layout": ("transposed", None),
    "fill": ("zeros", None),
    "compile": ("default", None),
    "dynamic": (True, None),
    "grad_mode": ("inference", None),
    "autocast": ("bfloat16", None),
    "deterministic": (True, None),
    "graph": (False, None),
    "parameters": ("dim=0", None),
}


@pytest.mark.parametrize("axis", COMPARED)
def test_any_axis_can_be_the_compared_one(axis: str) -> None:
    value, other = AXES[axis]
    rows = [replace(row(median_s=3.0), **{axis: value}), row(), row(seed=7)]
    found, alone = compare(rows, Report(baseline={axis: value}))
    assert (found.axis, found.baseline, found.other, found.speedup) == (
        axis,
        str(value),
        str(other),
        3.0,
    )
    assert alone.reason == f"{axis}={value} was not measured"


def test_times_of_different_machines_are_compared_only_when_told() -> None:
    rows = [row("cpu", 2.0, node="here-1"), row("gpu", 1.0, node="there-2")]
    (found,) = compare(rows, DEVICES)
    assert (found.speedup, found.reason) == (
        None,
        "device=cpu ran on here-1, device=gpu on there-2; "
        "report.compare_across_nodes=true compares times of different machines",
    )
    assert compare(rows, Report(compare_across_nodes=True))[0].speedup == 2.0
    twice = [row("cpu", 3.0, node="there-2"), *rows]  # the one on its own machine is its baseline
    assert compare(twice, DEVICES)[0].speedup == 3.0


def test_a_ratio_without_intervals_is_unclear() -> None:
    (found,) = compare([row(), row("gpu", 0.1, ci_low_s=None, ci_high_s=None)], DEVICES)
    assert (found.speedup, found.low, found.verdict) == (10.0, None, "unclear")
    assert found.reason == UNCLEAR["no_interval"]


def test_elements_are_counted_from_the_size() -> None:
    assert [elements_of(size) for size in ("8x8", "3x4x6 n=8", "7", "scalar", "default")] == [
        64,
        72,
        7,
        1,
        None,
    ]


def test_speedup_csv_of_fixed_rows_is_as_it_always_was(tmp_path: Path) -> None:
    rows, path = read_rows(DATA / "results.csv", BenchmarkRow), tmp_path / "speedup.csv"
    by_hand = pd.read_csv(DATA / "results.csv").set_index("cell")
    for axis, baseline in (("threads", 1), ("dtype", "float32")):
        report = Report(baseline={axis: baseline})
        write_records(path, analyse(rows, [], report).speedups)
        found, golden = pd.read_csv(path), pd.read_csv(DATA / f"speedup_{axis}.csv")
        assert list(found.columns) == [field.name for field in fields(Speedup)]
        pd.testing.assert_frame_equal(found[golden.columns], golden, rtol=1e-12)
        for one in found[found["speedup"].notna()].itertuples():
            base, other = by_hand.loc[one.baseline_cell], by_hand.loc[one.other_cell]
            assert one.speedup == pytest.approx(base["median_s"] / other["median_s"])
            if math.isnan(other["ci_low_s"]) or math.isnan(base["ci_low_s"]):
                assert math.isnan(one.low) and one.verdict == "unclear"


def test_of_a_disturbed_baseline_the_fastest_dtype_is_not_known() -> None:
    visits = [PairVisit("cpu-float32", "gpu-float32", n, 0, 1, 0, 1, 2.0, 1.0) for n in range(20)]
    rows = [
        row("cpu", 2.0, cell="cpu-float32", flags=("slow_machine",)),
        row("cpu", 40.0, dtype="float64"),
        row("gpu", 1.0, cell="gpu-float32"),
    ]
    (found,) = [one for one in compare(rows, DEVICES, pairs=Pairs(visits)) if one.speedup]
    assert found.speedup == pytest.approx(2.0)
    assert (found.fastest_dtype, found.fastest_speedup) == (None, None)


def test_what_was_not_measured_in_turn_has_no_surer_ratio_with_transfers() -> None:
    rows = [row("cpu", 6e-3, **MOVED), row("gpu", 1e-3, **MOVED)]
    (found,) = compare(rows, Report(calls_per_transfer=10), EXACT, pairs=Pairs([]))
    assert (found.verdict, found.low) == ("unclear", None)
    assert found.each_speedup is not None and found.once_speedup is not None
    ends = (found.each_low, found.each_high, found.once_low, found.break_even_calls)
    assert ends == (None, None, None, None)
