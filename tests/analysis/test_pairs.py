"""Ratios of visits: what they replace, what forbids them, and what is said of sides not in turn."""

import math
import random
from dataclasses import replace

import pytest

from runner.analysis.comparison import UNCLEAR, Speedup, compare
from runner.analysis.pairs import BUSY, Pairs
from runner.config.schema import Report
from runner.rows.rows import PairVisit
from tests.support.factories import row

REPORT = Report(baseline={"device": "cpu"})


def visits(ratio: float, count: int = 40, slow: float = 1.0) -> Pairs:
    """The CPU and an accelerator in turn; every fourth visit in a slow moment."""
    made = []
    for number in range(count):
        moment = slow if number % 4 == 0 else 1.0
        made.append(PairVisit("cpu", "gpu", number, 0, 1, 0, 1, ratio * moment, moment))
    return Pairs(made)


def told_apart(calm: list[float], slow: list[float], slowdown: float | None = None) -> Pairs:
    """The CPU and an accelerator in turn, with the ratios of calm and of slow moments."""
    told = [(ratio, True) for ratio in calm] + [(ratio, False) for ratio in slow]
    return Pairs(
        PairVisit("cpu", "gpu", number, 0, 1, 0, 1, ratio, 1.0, 1, slowdown, is_calm)
        for number, (ratio, is_calm) in enumerate(told)
    )


def test_a_ratio_is_of_the_visits_and_not_of_the_rows() -> None:
    (found,) = compare([row("cpu", 1.0), row("gpu", 1.0)], REPORT, pairs=visits(2.0))
    assert (found.speedup, found.paired, found.verdict) == (pytest.approx(2.0), 40, "faster")


@pytest.mark.parametrize("flag", ["view", "wrong_values", "throttled"])
def test_a_side_that_may_not_be_compared_has_no_ratio_in_turn_either(flag: str) -> None:
    rows = [row("cpu", 1.0, flags=(flag,)), row("gpu", 1.0)]
    (found,) = compare(rows, REPORT, pairs=visits(2.0))
    assert found.speedup is None
    assert (found.paired, found.as_it_came) == (None, None)
    assert found.reason is not None and found.reason.startswith("device=cpu: ")


@pytest.mark.parametrize("flag", ["contended", "slow_machine"])
def test_what_disturbed_a_row_has_been_set_aside_from_the_visits(flag: str) -> None:
    rows = [row("cpu", 1.0, flags=(flag,)), row("gpu", 1.0)]
    (found,) = compare(rows, REPORT, pairs=told_apart([2.0] * 20, [3.0] * 20))
    assert (found.speedup, found.paired, found.verdict) == (pytest.approx(2.0), 20, "faster")
    assert (found.as_it_came, found.in_all) == (pytest.approx(6**0.5), 40)
    (alone,) = compare(rows, REPORT, pairs=Pairs([]))
    assert (alone.speedup is None) == (flag == "contended") and alone.low is None
    assert alone.reason is not None and alone.reason.startswith("device=cpu: the machine was ")
    calm_in_one = told_apart([2.0] * 20, [3.0] * 20)._visits["cpu", "gpu"]
    in_two = [replace(visit, process=1 if visit.calm else 2) for visit in calm_in_one]
    (found,) = compare(rows, REPORT, pairs=Pairs(in_two))
    assert (found.pair_processes, found.processes_in_all) == (1, 2)


def test_a_ratio_of_two_moments_holds_how_slow_memory_was() -> None:
    pairs = told_apart([1.0] * 200, [], slowdown=1.0)
    found = [
        compare((row("cpu"), row("gpu", 0.9, cell="gpu alone", **values)), REPORT, pairs=pairs)[0]
        for values in ({}, {"flags": ("slow_memory",), "memory_slowdown": 1.2})
    ]
    assert [speedup.verdict for speedup in found] == ["faster", "unclear"]
    assert found[1].low == pytest.approx(found[0].low / 1.2)  # type: ignore[operator]


@pytest.mark.parametrize("is_paired_elsewhere", [False, True])
def test_a_ratio_of_two_moments_holds_how_slow_the_machine_was(is_paired_elsewhere: bool) -> None:
    pairs = told_apart([1.0] * 200, [], slowdown=1.1) if is_paired_elsewhere else Pairs([])

    def compared(gpu_s: float, slowdown: float | None) -> Speedup:
        build = {"build_s": 1.0, "cell": "gpu alone"}
        slow = {"flags": ("slow_machine",), "machine_slowdown": slowdown}
        sides = row("cpu"), row("gpu", gpu_s, **build, **slow)
        (found,) = compare(sides, REPORT, pairs=pairs)
        assert found.speedup == pytest.approx(1 / gpu_s)
        return found

    of_slow, of_unknown, of_far = compared(0.5, 1.9), compared(0.5, None), compared(0.25, 1.9)
    for unclear in (of_slow, of_unknown):
        assert unclear.verdict == "unclear"
        assert unclear.reason == "device=gpu: the machine was slow all the time"
    assert of_unknown.low is None
    if is_paired_elsewhere:
        assert of_slow.low is not None and of_slow.low == pytest.approx(2 / 1.1 / 1.9, rel=0.05)
        assert (of_far.verdict, of_far.reason) == ("faster", None)
        # how many seconds are gained is not known, for what was built once to be paid by
        assert (of_far.build_s, of_far.build_calls) == (1.0, None)
    else:
        assert (of_far.verdict, of_far.low) == ("unclear", None)


def test_few_calm_moments_count_where_they_agree_with_the_others() -> None:
    rows = [row("cpu", 1.0), row("gpu", 1.0)]
    slow = [1.9, 2.0, 2.1] * 10
    (agree,) = compare(rows, REPORT, pairs=told_apart([2.0] * 5, slow))
    assert (agree.speedup, agree.paired, agree.verdict) == (pytest.approx(2.0), 35, "faster")
    for calm in ([3.0] * 5, []):
        (disagree,) = compare(rows, REPORT, pairs=told_apart(calm, slow, slowdown=1.5))
        assert (disagree.speedup, disagree.verdict) == (pytest.approx(2.0), "faster")
        assert disagree.low is not None and disagree.low == pytest.approx(2.0 / 1.5, rel=0.05)
        (unclear,) = compare(rows, REPORT, pairs=told_apart(calm, slow, slowdown=1.99))
        assert (unclear.verdict, unclear.reason) == ("unclear", UNCLEAR["wide"])
        large = [5.0 * ratio for ratio in slow]  # though the machine was three times as slow
        (sure,) = compare(rows, REPORT, pairs=told_apart([], large, slowdown=3.0))
        assert (sure.verdict, sure.low) == ("faster", pytest.approx(10 / 3, rel=0.06))
        (far,) = compare(rows, REPORT, pairs=told_apart(calm, slow, slowdown=84.0))
        assert (far.speedup, far.low, far.high, far.verdict) == (None, None, None, None)
        assert far.reason is not None and "slow nearly all the time" in far.reason
        assert far.as_it_came is not None and (far.in_all, far.paired) == (len(calm) + 30,) * 2
    # one or two calm ones say nothing, as any may lie there
    (lucky,) = compare(rows, REPORT, pairs=told_apart([2.0] * 2, slow, slowdown=1.5))
    assert lucky.low == pytest.approx(2.0 / 1.5, rel=0.05)


def disturbed(ratio: float, slowdown: float | None) -> list[PairVisit]:
    return [
        PairVisit("cpu", "gpu", n, 0, 1, 0, 1, ratio, 1.0, 1, slowdown, False, False)
        for n in range(40)
    ]


def test_a_pair_that_was_busy_all_the_time_has_a_ratio_where_it_can_be_trusted() -> None:
    rows = [row("cpu", 1.0), row("gpu", 1.0)]
    busy = disturbed(2.0, 1.5)
    (wide,) = compare(rows, REPORT, pairs=Pairs(busy))
    assert (wide.speedup, wide.low, wide.high) == pytest.approx((2.0, 2.0 / 1.5, 3.0))
    assert (wide.verdict, wide.reason, wide.adjusted_p) == ("unclear", BUSY, 1.0)

    # where nothing tells how slow it was, or it was too slow, there is what came
    for slowdown in (None, 84.0):
        (none,) = compare(rows, REPORT, pairs=Pairs(disturbed(2.0, slowdown)))
        assert (none.speedup, none.low, none.verdict, none.reason) == (None, None, None, BUSY)
        assert (none.as_it_came, none.in_all, none.paired) == (pytest.approx(2.0), 40, 40)

    # that a visit was disturbed shows in its times too
    half = [replace(v, baseline_s=8.0) if v.visit % 4 else v for v in disturbed(1.0, 1.0)]
    (hidden,) = compare(rows, REPORT, pairs=Pairs(half))
    assert (hidden.speedup, hidden.reason) == (None, BUSY)

    # a few calm ones that agree are what it is of
    calm = [replace(visit, calm=True, undisturbed=True) for visit in busy[:9]]
    (agree,) = compare(rows, REPORT, pairs=Pairs([*calm, *disturbed(2.0, 84.0)]))
    assert (agree.verdict, agree.reason, agree.paired) == ("faster", None, 49)


@pytest.mark.parametrize("calm", [3, 5, 6, 9])
@pytest.mark.parametrize(("most", "slowdown"), [(0.0, 1.4), (0.03, 1.1), (0.3, 1.1)])
def test_an_interval_of_few_calm_visits_holds_their_ratio(
    calm: int, most: float, slowdown: float
) -> None:
    """Though slow moments change it by more than they are slow; equal sides are seldom widened."""
    draw = random.Random(1)
    held, widened, runs = 0, 0, 200
    for _ in range(runs):
        change = math.exp(draw.choice((-most, most)) if most < 0.1 else draw.uniform(-most, most))
        ratios = [draw.lognormvariate(0.0, 0.025) for _ in range(calm)]
        slow = [change * draw.lognormvariate(0.0, 0.03) for _ in range(40 - calm)]
        found = told_apart(ratios, slow, slowdown).ratio("cpu", "gpu", 0.01)
        assert found is not None and found.low is not None and found.high is not None
        held += found.low <= 1 <= found.high
        widened += found.high / found.low > 1.4**2
    assert held >= 0.95 * runs
    assert most or widened <= 0.05 * runs


def test_sides_not_in_turn_are_told_apart_only_beyond_what_moments_differ_by() -> None:
    near, far = row("xpu", 0.7), row("mps", 0.1)
    compared = compare([row("cpu", 1.0), near, far], REPORT, pairs=visits(2.0, slow=2.0))
    assert [(found.paired, found.verdict) for found in compared] == [
        (None, "unclear"),
        (None, "faster"),
    ]
    for pairs in (Pairs([]), visits(2.0, slow=84.0)):
        unknown = compare([row("cpu", 1.0), far], REPORT, pairs=pairs)
        assert [(found.low, found.verdict) for found in unknown] == [(None, "unclear")]


def test_moments_differ_by_as_much_as_the_machine_was_slow_from_pair_to_pair() -> None:
    """Though within each pair nothing varies."""
    near = row("xpu", 0.95)
    for slow, verdict in ((1.0, "faster"), (1.14, "unclear")):
        told = told_apart([2.0] * 40, [], slowdown=1.0)._visits.values()
        other = told_apart([2.0] * 40, [], slowdown=slow)._visits.values()
        of_other = [replace(v, other_cell="mps") for visits in other for v in visits]
        pairs = Pairs([*(v for visits in told for v in visits), *of_other])
        (found,) = compare([row("cpu", 1.0), near], REPORT, pairs=pairs)
        assert found.verdict == verdict


def test_a_verdict_has_the_smallest_difference_that_its_own_visits_could_show() -> None:
    rows = [row("cpu", 1.0, device_name="here"), row("gpu", 1.0, device_name="there")]
    noisy = told_apart([1.98, 2.0, 2.02] * 10, [])
    (found,) = compare(rows, REPORT, pairs=noisy)
    assert found.low is not None and found.smallest_difference is not None
    assert found.smallest_difference == pytest.approx(1.01 * 2.0 / found.low - 1, abs=2e-3)

    # what equal sides differ by is its floor, of the nearest size and of the operation if known
    line = {
        "device_name": "there",
        "threads": 2,
        "op": "add",
        "size": "8x8",
        "largest_difference": 0.3,
    }
    larger = {**line, "size": "1024x1024", "largest_difference": 0.9}
    other = {**line, "op": "sum", "largest_difference": 0.6}
    damaged = {"device_name": "there", "size": None}
    for lines, floor in (
        ([line, larger, other, damaged], 0.3),
        ([larger, other], 0.9),
        ([other], 0.6),
        ([{**line, "device_name": "elsewhere"}, {**line, "threads": 1}], 0.0),
    ):
        visits_too = [visit for visits in noisy._visits.values() for visit in visits]
        (told,) = compare(rows, REPORT, pairs=Pairs(visits_too, lines))
        assert told.smallest_difference == max(floor, found.smallest_difference)


def test_verdicts_of_a_run_hold_together() -> None:
    """Ten visits on one side are a claim alone, and may be chance among many."""
    alone = compare([row("cpu", 1.0), row("gpu", 1.0)], REPORT, pairs=visits(2.0, count=10))
    assert alone[0].verdict == "faster"
    others = [row(f"gpu:{number}", 1.0) for number in range(9)]
    same = []
    for other in others:
        same += [PairVisit("cpu", other.cell, n, 0, 1, 0, 1, 1.0, 1.0) for n in range(40)]
    claim = [PairVisit("cpu", "gpu", n, 0, 1, 0, 1, 2.0, 1.0) for n in range(10)]
    rows = [row("cpu", 1.0), row("gpu", 1.0), *others]
    found = compare(rows, REPORT, pairs=Pairs([*claim, *same]))[0]
    assert (found.verdict, found.reason) == ("unclear", UNCLEAR["chance"])
    few = compare(rows[:2], REPORT, pairs=Pairs(claim[:3]))[0]
    assert (few.verdict, few.reason) == ("unclear", UNCLEAR["few_visits"])


def test_what_was_not_in_turn_holds_together_too() -> None:
    """One of many that just passes its interval may be chance."""
    near = row("xpu", 0.95, ci_low_s=0.92, ci_high_s=0.98)
    base = row("cpu", 1.0, ci_low_s=0.99, ci_high_s=1.01)
    (alone,) = compare([base, near], REPORT)
    assert alone.verdict == "faster" and alone.adjusted_p is not None
    equal = [row(f"gpu:{number}", 1.0, ci_low_s=0.99, ci_high_s=1.01) for number in range(99)]
    among = compare([base, near, *equal], REPORT)[0]
    assert (among.verdict, among.reason) == ("unclear", UNCLEAR["chance"])
    assert among.adjusted_p == pytest.approx(min(1.0, 100 * alone.adjusted_p))


def test_what_slowness_may_have_made_is_no_evidence() -> None:
    slow = [1.9, 2.0, 2.1] * 10
    surely = told_apart([2.0] * 20, slow).ratio("cpu", "gpu", 0.01)
    widened = told_apart([], slow, slowdown=1.99).ratio("cpu", "gpu", 0.01)
    withheld = told_apart([], slow, slowdown=84.0).ratio("cpu", "gpu", 0.01)
    assert surely is not None and widened is not None and withheld is not None
    assert surely.p_value < 0.001 and widened.p_value > 0.05
    assert (withheld.low, withheld.p_value) == (None, 1.0)
