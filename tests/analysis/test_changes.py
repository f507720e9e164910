"""``compare.csv``: what two runs can tell, from rows whose truth is known."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, product
from random import Random
from typing import Any

import pytest

from runner.analysis.changes import Change, Runs, changes, summary_of, what_changed
from runner.analysis.pairs import BUSY, SLOW, Pairs
from runner.rows.rows import BenchmarkRow, PairVisit
from tests.support.factories import row

SETTINGS = {"margin": 0.01, "slower_than": 0.05}


def cells_of(before: Runs, after: Runs, pairs: Pairs | None = None) -> list[Change]:
    return changes(before, after, **SETTINGS, pairs=pairs).cells


def a_run(
    random: Random, spread: float, cells: int = 60, slower: dict[int, float] | None = None
) -> list[BenchmarkRow]:
    """Cells whose times vary between runs, each measured to 1 %; some take longer."""
    rows = []
    for number in range(cells):
        seconds = 1e-6 * 1.5 ** (number % 20) * (slower or {}).get(number, 1.0)
        seconds *= 2.718281828 ** random.gauss(0, spread)
        name = {"cell": f"c{number:015x}", "size": f"{8 + number}x8"}
        rows.append(row("cpu", seconds, **name, ci_low_s=0.99 * seconds, ci_high_s=1.01 * seconds))
    return rows


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("spread", [0.003, 0.02, 0.2])
def test_two_runs_of_the_same_raise_no_alarm(runs: int, spread: float) -> None:
    alarms = claims = held = total = 0
    for seed in range(20):
        random = Random(seed)
        before, after = ([a_run(random, spread) for _ in range(runs)] for _ in range(2))
        found = cells_of(before, after)
        alarms += sum(change.is_slower for change in found)
        claims += sum(change.verdict in ("faster", "slower") for change in found)
        held += sum((change.low or 9) <= 1 <= (change.high or 0) for change in found)
        total += len(found)
    assert total == 1_200
    assert (alarms, claims <= 6) == (0, True)
    assert held / total >= 0.93


def a_run_of_operations(
    random: Random,
    two_speeds: float = 1.0,
    times: dict[str, float] | None = None,
    count: int = 20,
    sizes: int = 8,
) -> list[BenchmarkRow]:
    """Operations with cells of which every third has one of two speeds in each run."""
    rows = []
    for op, number in product(range(count), range(sizes)):
        seconds = 1e-4 * random.lognormvariate(0, 0.02) * (times or {}).get(f"op{op}", 1.0)
        if number % 3 == 0 and random.random() < 0.5:
            seconds *= two_speeds
        name = {"cell": f"c{sizes * op + number:015x}", "op": f"op{op}", "size": f"{8 + number}x8"}
        rows.append(row("cpu", seconds, **name, ci_low_s=0.99 * seconds, ci_high_s=1.01 * seconds))
    return rows


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_cells_that_have_one_of_two_speeds_in_a_run_raise_no_alarm(runs: int) -> None:
    """As calls that are bound by memory, where the caches are shared with other machines."""
    for seed in range(20):
        random = Random(seed)
        before, after = ([a_run_of_operations(random, 1.22) for _ in range(runs)] for _ in "ab")
        assert not any(change.is_slower for change in cells_of(before, after))


@pytest.mark.parametrize("others", [0.5, 1.0])
def test_operations_that_became_faster_hide_none_that_became_slower(others: float) -> None:
    times = {"op3": 1.25, "op5": others, "op6": others}
    for seed in range(10):
        random = Random(seed)
        before, after = a_run_of_operations(random), a_run_of_operations(random, times=times)
        found = {change.op for change in cells_of([before], [after]) if change.is_slower}
        assert found == {"op3"}


def test_an_operation_that_became_slower_at_some_sizes_is_named_there() -> None:
    slower = [f"{8 + number}x8" for number in range(7, 12)]
    for seed in range(10):
        random = Random(seed)
        before, after = (a_run_of_operations(random, count=5, sizes=12) for _ in "ab")
        after = [
            replace(r, median_s=1.5 * r.median_s) if r.op == "op3" and r.size in slower else r
            for r in after
        ]
        found = [change for change in cells_of([before], [after]) if change.is_slower]
        assert [(change.op, change.size) for change in found] == [("op3", size) for size in slower]


def test_what_takes_a_third_longer_is_found_by_the_gate() -> None:
    named = 0
    for seed in range(20):
        random = Random(seed)
        before, after = a_run(random, 0.02), a_run(random, 0.02, slower={5: 4 / 3})
        found = [change.size for change in cells_of([before], [after]) if change.is_slower]
        assert set(found) <= {"13x8"}
        named += len(found)
    assert named >= 19


def test_that_all_became_slower_is_seen_too() -> None:
    random = Random(0)
    before = a_run(random, 0.005)
    after = a_run(random, 0.005, slower=dict.fromkeys(range(60), 1.2))
    found = changes([before], [after], **SETTINGS)
    assert all(change.is_slower for change in found.cells)
    summary = summary_of(found, [0.05], 0.05)
    assert summary.geometric_mean == pytest.approx(1 / 1.2, rel=0.01)


def test_what_little_all_have_in_common_may_be_the_process() -> None:
    random = Random(0)
    before = a_run(random, 0.002)
    after = a_run(random, 0.002, slower=dict.fromkeys(range(60), 1.03) | {7: 1.2})
    found = cells_of([before], [after])
    assert [change.size for change in found if change.verdict == "slower"] == ["15x8"]
    assert [change.size for change in found if change.is_slower] == ["15x8"]
    often = cells_of([before] * 2, [after] * 2)  # whose runs may be of one day
    assert [change.size for change in often if change.verdict == "slower"] == ["15x8"]


def test_short_calls_that_vary_more_raise_no_alarm_and_hide_nothing_of_long_ones() -> None:
    """As where a process's code lies is some time of any call, and most of a short one."""
    alarms = claims = named = 0
    for seed in range(10):
        random = Random(seed)
        one, other = (
            [
                replace(of, median_s=(of.median_s or 0.0) + random.gauss(0, 8e-8))
                for of in a_run(random, 0.003, cells=120)
            ]
            for _ in range(2)
        )
        found = cells_of([one], [other])
        alarms += sum(change.is_slower for change in found)
        claims += sum(change.verdict in ("faster", "slower") for change in found)
        other[19] = replace(other[19], median_s=1.1 * (other[19].median_s or 0.0))
        named += cells_of([one], [other])[19].is_slower
    assert (alarms, claims <= 3, named) == (0, True, 10)


def test_of_few_cells_nothing_is_said_but_their_ratios() -> None:
    before, after = a_run(Random(1), 0.0, 5), a_run(Random(2), 0.0, 5, {2: 2.0})
    found = changes([before], [after], **SETTINGS)
    cells = found.cells
    assert [change.verdict for change in cells] == ["unclear"] * 5
    assert cells[2].speedup == pytest.approx(0.5)
    assert not any(change.low or change.smallest_difference or change.is_slower for change in cells)
    assert summary_of(found, [0.05], 0.05).could_show == {0.05: 0.0}


def test_several_runs_a_side_show_less_than_one() -> None:
    random = Random(3)
    once = cells_of([a_run(random, 0.05)], [a_run(random, 0.05)])
    often = cells_of(
        [a_run(random, 0.05) for _ in range(8)], [a_run(random, 0.05) for _ in range(8)]
    )
    (least, *_), (far_less, *_) = (
        [change.smallest_difference or 9 for change in found] for found in (once, often)
    )
    assert far_less < 0.5 * least


def test_what_only_one_side_has_or_nobody_can_trust_is_not_compared() -> None:
    before, after = a_run(Random(4), 0.01, 30), a_run(Random(5), 0.01, 31)[1:]
    after[0] = replace(after[0], flags=("contended",))
    found = {change.size: change for change in cells_of([before], [after])}
    assert found["8x8"].reason == "it was not measured after"
    assert found["38x8"].reason == "it was not measured before"
    assert found["9x8"].reason == "after: the machine was busy with something else"
    assert found["9x8"].changed is None
    assert all(found[size].verdict is None for size in ("8x8", "38x8", "9x8"))


@pytest.mark.parametrize(
    ("after", "is_wrong", "said"),
    [
        ({"status": "crashed", "median_s": None}, True, "status ok to crashed"),
        ({"status": "timeout", "median_s": None}, True, "status ok to timeout"),
        ({"status": "unsupported", "median_s": None}, False, "status ok to unsupported"),
        ({"flags": ("wrong_values",)}, True, "flagged wrong_values"),
        ({"gradient": "fail", "flags": ("wrong_gradient",)}, True, "gradient pass to fail"),
        ({"max_relative_error": 1e-3}, False, "max_relative_error 1e-07 to 0.001"),
        ({"saved_bytes": 2048}, False, "saved_bytes 1024 to 2048"),
        ({"page_faults": 1026}, False, "page_faults 2 to 1026"),
        ({"aten_calls": '{"mm": 2, "add.Tensor": 1}'}, False, "aten_calls mm 1 to 2"),
        ({"aten_calls": '{"mm": 1, "t": 1}'}, False, "aten_calls t 0 to 1"),
        ({"kernels": '[["gemm", 1.998, 1e-6]]'}, False, "kernels gemm 1 to 2"),
        ({"peak_memory_bytes": 2**27}, False, "peak_memory_bytes 6.711e+07 to 1.342e+08"),
    ],
)
def test_what_else_changed_is_said(after: dict, is_wrong: bool, said: str) -> None:
    known = {"gradient": "pass", "max_relative_error": 1e-7, "saved_bytes": 1024}
    known |= {"aten_calls": '{"mm": 1}', "page_faults": 2, "kernels": '[["gemm", 1.0, 2e-6]]'}
    before = row("cpu", 1e-3, **known, peak_memory_bytes=2**26)
    (found,) = cells_of([[before]], [[replace(before, **after)]])
    assert (found.changed or "").startswith(said)
    assert found.became_wrong is is_wrong
    assert not what_changed(before, replace(before, max_relative_error=2e-7))
    for unknown in (None, "{", "[1]", '[["gemm", "twice", 1]]'):  # not looked at, or damaged
        assert not what_changed(before, replace(before, aten_calls=unknown, kernels=unknown))


def counted(by: str, count: int) -> BenchmarkRow:
    return row("cpu", 1e-3, instructions=count, instructions_by=by)


def test_counts_are_compared_with_those_of_the_same_counter() -> None:
    perf, valgrind = counted("perf", 1_000), counted("callgrind", 700)
    for before in ([perf, valgrind], [valgrind, perf]):
        (found,) = cells_of([[old] for old in before], [[counted("perf", 1_100)]])
        assert (found.before_instructions, found.after_instructions) == (1_000, 1_100)
        assert found.has_more_instructions and found.instructions_ratio == pytest.approx(1.1)
    (found,) = cells_of([[perf]], [[valgrind]])
    assert (found.before_instructions, found.after_instructions) == (1_000, 700)
    assert found.instructions_ratio is None and not found.has_more_instructions
    assert found.changed == "instructions_by perf to callgrind"


def test_what_failed_before_did_not_become_wrong() -> None:
    failed = row("cpu", None, status="crashed")
    (found,) = cells_of([[failed]], [[failed]])
    assert not found.became_wrong and found.changed is None


def test_ten_runs_a_side_tell_of_nine_cells() -> None:
    named = 0
    for seed in range(40):
        random = Random(seed)
        before, after = ([a_run(random, 0.03, 9) for _ in range(10)] for _ in range(2))
        found = changes(before, after, margin=0.01, slower_than=0.0).cells
        assert all(change.low and not change.is_slower for change in found), seed
        after = [a_run(random, 0.03, 9, {4: 1.15}) for _ in range(10)]
        slower = [change.size for change in cells_of(before, after) if change.is_slower]
        assert slower in ([], ["12x8"])
        named += len(slower)
    assert named >= 36


def test_a_cell_that_varies_more_than_others_from_run_to_run_raises_no_alarm() -> None:
    alarms = 0
    for seed in range(40):
        random = Random(seed)
        before, after = ([a_run(random, 0.003, 30) for _ in range(4)] for _ in range(2))
        for run in (*before, *after):
            run[7] = replace(run[7], median_s=1e-4 * math.exp(random.gauss(0, 0.15)))
        alarms += sum(change.is_slower for change in cells_of(before, after))
    assert alarms <= 1


def visits_of(
    random: Random, rows: list[BenchmarkRow], slower: dict[int, float], noise: float = 0.02
) -> list[PairVisit]:
    """Forty visits to each cell in two environments, of a machine that slows both for a while."""
    visits = []
    for number, cell in enumerate(rows):
        for visit in range(40):
            slow = random.choice((1.0, 1.0, 1.6)) * (cell.median_s or 0.0)
            times = (slow * 2.718281828 ** random.gauss(0, noise) for _ in range(2))
            before_s, after_s = next(times), next(times) * slower.get(number, 1.0)
            places = (visit, 0, 1, 0, 0)
            visits.append(PairVisit(cell.cell, cell.cell, *places, before_s, after_s))
    return visits


def turns(
    row_of: BenchmarkRow, times: Iterable[float], count: int = 6, **moment: Any
) -> list[PairVisit]:
    """Visits to a cell in each process, in which the later side takes so many times as long."""
    seconds, cell = row_of.median_s or 0.0, row_of.cell
    visits = product(enumerate(times, 1), range(count))
    return [
        PairVisit(cell, cell, visit, 0, 1, 0, 1, seconds, seconds * slower, process, **moment)
        for (process, slower), visit in visits
    ]


def test_cells_taken_in_turn_have_the_interval_of_their_visits_on_a_busy_machine() -> None:
    random = Random(0)
    before, after = ([replace(r, flags=("contended",)) for r in a_run(random, 0.3)] for _ in "ab")
    assert not any(change.speedup for change in cells_of([before], [after]))
    pairs = Pairs(visits_of(random, before, {5: 1.1}))
    found = cells_of([before], [after], pairs=pairs)
    assert [change.size for change in found if change.is_slower] == ["13x8"]
    assert found[5].verdict == "slower" and found[5].speedup == pytest.approx(1 / 1.1, rel=0.02)
    held = sum((change.low or 9) <= 1 <= (change.high or 0) for change in found)
    assert held >= 55
    for change in found:  # by the wider end
        assert change.speedup and change.low and change.high and change.smallest_difference
        widest = max(change.speedup / change.low, change.high / change.speedup)
        assert change.smallest_difference == pytest.approx(1.01 * widest - 1)
        assert change.smallest_difference < 0.05


def test_in_two_environments_a_cell_that_took_no_turns_has_no_verdict() -> None:
    """The other cells were measured at the same moments, and so say nothing of two moments."""
    random = Random(0)
    before, after = a_run(random, 0.003), a_run(random, 0.003, slower={5: 2.0, 6: 2.0})
    after[6] = replace(after[6], flags=("slow_machine",))
    for alone in (before[5:7], before[:40]):  # few, or many
        taken = [row for row in before if row not in alone]
        found = cells_of([before], [after], pairs=Pairs(visits_of(random, taken, {})))
        assert (found[5].verdict, found[5].low) == ("unclear", None)
        assert found[6].speedup is None and "slow" in (found[6].reason or "")
        assert not any(change.is_slower for change in found)


def test_what_a_slow_machine_may_have_done_names_nothing() -> None:
    """Neither the cell nor its operation."""
    random = Random(0)
    rows = [replace(r, op=f"op{n // 6}") for n, r in enumerate(a_run(random, 0.0))]
    moments = {4: {"calm": False, "machine_slowdown": 5.0}, 5: {"machine_slowdown": 1.6}}
    moments[5]["calm"] = False
    moments[10] = {"calm": False, "machine_slowdown": 1.02, "undisturbed": False}
    visits: list[PairVisit] = []
    for number, one in enumerate(rows):
        moment = moments.get(number, {})
        times = [(1.5 if moment else 1.0) * (1 + random.gauss(0, 0.004)) for _ in range(5)]
        visits += turns(one, times, **moment)
    found = changes([rows], [rows], **SETTINGS, pairs=Pairs(visits))
    withheld, widened, busy = found.cells[4], found.cells[5], found.cells[10]
    assert withheld.verdict == "unclear" and withheld.speedup == pytest.approx(1 / 1.5, rel=0.01)
    assert (withheld.low, withheld.estimate, withheld.reason) == (None, None, SLOW)
    assert widened.low and widened.high and widened.high > 1 and widened.estimate
    assert widened.estimate.high > widened.high * 0.99
    assert (busy.low, busy.smallest_difference, busy.adjusted_p) == (None, None, None)
    assert (busy.verdict, busy.estimate, busy.reason) == ("unclear", None, BUSY)
    assert [operation.of_cells for operation in found.operations] == ["4/6", "5/6", *["6"] * 8]
    assert not any(change.is_slower for change in chain(*found))


@pytest.mark.parametrize(("errors", "is_named"), [(5.0, False), (6.0, True)])
def test_of_few_cells_the_gate_asks_for_what_students_t_does(errors: float, is_named: bool) -> None:
    """Of five processes; of four claims, p of 0.0025: 5.6 standard errors, and 2.8 if known."""
    around = [math.exp(0.01 * place) for place in (-2, -1, 0, 1, 2)]
    mean = 1.05 * math.exp(errors * 0.01 / 2**0.5)
    rows = a_run(Random(0), 0.0, cells=3)
    visits = [turns(rows[0], [mean * slower for slower in around]), turns(rows[1], around)]
    pairs = Pairs([*chain(*visits), *turns(rows[2], around)])
    found = changes([rows], [rows], **SETTINGS, pairs=pairs)
    assert [change.is_slower for change in found.cells] == [is_named, False, False]
    named_from = summary_of(found, [0.05], 0.05).named_from
    assert named_from == pytest.approx(1.05 * math.exp(5.598 * 0.01 / 2**0.5) - 1, rel=1e-3)


@pytest.mark.parametrize(("others", "is_named"), [((1.2, 1.2), True), ((1.5, 1.53), False)])
def test_a_few_processes_name_a_cell_unless_they_contradict_each_other(
    others: tuple[float, float], is_named: bool
) -> None:
    random = Random(0)
    rows = a_run(random, 0.0, cells=3)
    visits = [
        replace(visit, other_s=visit.other_s * (1 + random.gauss(0, 0.005)))
        for visit in [*turns(rows[0], others, 20), *turns(rows[1], (1.0, 1.0), 20)]
    ]
    found = cells_of([rows], [rows], pairs=Pairs(visits))
    assert [change.is_slower for change in found] == [is_named, False, False]


def test_what_is_wrong_in_one_of_several_runs_became_wrong() -> None:
    right, wrong = row("cpu", 1e-3), row("cpu", 1e-3, flags=("wrong_values",))
    (found,) = cells_of([[right]], [[right], [wrong]])
    assert found.became_wrong and found.changed == "flagged wrong_values"
    (found,) = cells_of([[right], [wrong]], [[right], [wrong]])
    assert not found.became_wrong


def test_sides_that_leave_threads_to_torch_are_of_one_cell_whatever_these_are() -> None:
    random = Random(0)
    before, after = ([replace(r, threads=n) for r in a_run(random, 0.3)] for n in (2, 1))
    found = cells_of([before], [after], pairs=Pairs(visits_of(random, before, {})))
    assert len(found) == 60 and all(change.speedup for change in found)
    assert {change.changed for change in found} == {"threads 2 to 1"}
    assert len(cells_of([before], [after])) == 120  # of two commands


@pytest.mark.parametrize(
    ("before", "after", "is_left_out"),
    [
        ({"flags": ("view",)}, {"flags": ("placement", "view")}, True),
        ({"status": "unavailable"}, {"status": "unavailable"}, True),
        ({"status": "crashed"}, {}, True),  # there was nothing to compare with
        ({"flags": ("contended",)}, {"flags": ("contended",)}, False),  # another time there is
        ({}, {"flags": ("view",)}, False),
        ({}, {"status": "unsupported"}, False),
        ({"flags": ("denormal",)}, {"flags": ("view",)}, False),
    ],
)
def test_what_no_two_runs_could_compare_counts_in_no_share(
    before: dict, after: dict, is_left_out: bool
) -> None:
    random = Random(0)
    old, new = a_run(random, 0.003, 30), a_run(random, 0.003, 30)
    old[:10] = [replace(row, **before) for row in old[:10]]
    new[:10] = [replace(row, **after) for row in new[:10]]
    summary = summary_of(changes([old], [new], **SETTINGS), [0.05], 0.05)
    assert (summary.both, summary.left_out) == (30, 10 if is_left_out else 0)
    assert summary.could_show[0.05] == pytest.approx(1 if is_left_out else 20 / 30)
    assert (summary.named_from is None) is not is_left_out

    # where nothing else is there, nothing can be seen
    alone = summary_of(changes([old[:10]], [new[:10]], **SETTINGS), [0.05], 0.05)
    assert (alone.could_show[0.05], alone.named_from) == (0, None)


def test_a_cell_is_named_from_the_slowdown_on_that_is_said() -> None:
    before, after = a_run(Random(0), 0.02), a_run(Random(1), 0.02, slower={5: 1.5})
    summary = summary_of(changes([before], [after], **SETTINGS), [0.05], 0.05)
    least = summary.named_from
    assert least is not None and 0.05 < least < 0.4
    for slowdown, is_named in ((0.98 * least, False), (1.02 * least, True)):
        after[5] = replace(after[5], median_s=(1 + slowdown) * (before[5].median_s or 0.0))
        (change,) = cells_of([before], [after])[5:6]
        assert change.is_slower is is_named


def test_what_processes_differ_by_raises_no_alarm_of_environments_and_hides_no_slow_one() -> None:
    """Of 200 cells, each in five pairs of processes with a ratio of its own."""
    alarms = named = 0
    for seed in range(5):
        random = Random(seed)
        rows = a_run(random, 0.0, cells=200)
        visits = []
        for number, row_of in enumerate(rows):
            seconds = row_of.median_s or 0.0
            own = [random.gauss(0, 0.004) + random.gauss(0, 8e-8) / seconds for _ in range(5)]
            visits += turns(row_of, [(1 + of) * (1.1 if number == 19 else 1.0) for of in own])
        found = cells_of([rows], [rows], pairs=Pairs(visits))
        slower = {position for position, change in enumerate(found) if change.is_slower}
        alarms += len(slower - {19})
        named += 19 in slower
    assert (alarms, named) == (0, 5)
