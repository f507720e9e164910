"""The bill: shares, sums with the interval of visits to all calls, and what it says of them."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runner.analysis.analysis import analyse
from runner.analysis.charge import Charge
from runner.config.schema import Report
from runner.report.language import sentence_text
from runner.rows.rows import BenchmarkRow, PairVisit, Row, TransferRow
from tests.support.factories import row

COUNTS = {"mm": 2, "add": 10}
SECONDS = {("mm", "float32"): 4.0, ("add", "float32"): 0.1}
SECONDS |= {("mm", "bfloat16"): 1.0, ("add", "bfloat16"): 0.2}
REPORT = Report(baseline={"dtype": "float32"})


def of_call(
    name: str, dtype: str, seconds: float | None, passes: str | None = None
) -> BenchmarkRow:
    """A row of a workload's call."""
    own = {"workload": "net", "count": COUNTS.get(name, 1), "modules": "a*1", "passes": passes}
    made = row("cpu", seconds, op=f"net.{name}", dtype=dtype, own=json.dumps(own), variant="v1")
    status = {} if seconds else {"status": "unsupported", "reason": "it cannot be made again"}
    return replace(made, cell=f"{name}-{dtype}", **status)


def rows() -> list[BenchmarkRow]:
    """Two calls and the model itself, on both sides."""
    calls = [of_call(*key, seconds) for key, seconds in SECONDS.items()]
    whole = [
        of_call("model", "float32", 10.0, "forward"),
        of_call("model", "bfloat16", 5.0, "forward"),
    ]
    return calls + whole


def rounds(visits: int = 20) -> list[PairVisit]:
    """Visits in which a phase of the machine slows all calls alike."""
    found = []
    for visit in range(visits):
        slow = 1 + visit % 3
        times = {f"{name}-{dtype}": slow * s for (name, dtype), s in SECONDS.items()}
        times |= {"model-float32": slow * 10.0, "model-bfloat16": slow * 5.0}
        first, *others = times
        places = (visit, 0, 1, 0, 0)
        found += [PairVisit(first, cell, *places, times[first], times[cell]) for cell in others]
    return found


def billed(visits: Sequence[PairVisit] = (), extra: Sequence[BenchmarkRow] = ()) -> list[Charge]:
    return list(analyse([*rows(), *extra], [], REPORT, None, visits).bill)


def test_each_call_has_its_share_and_the_dearest_comes_first() -> None:
    lines = [line for line in billed() if line.dtype == "float32"]
    assert [line.part for line in lines] == ["sum", "model", "call", "call"]
    assert lines[0].total_s == pytest.approx(9.0)
    assert [line.op for line in lines[2:]] == ["net.mm", "net.add"]
    assert [line.share for line in lines[2:]] == pytest.approx([8 / 9, 1 / 9])


def test_a_sum_has_the_interval_of_visits_that_go_through_all_calls() -> None:
    (total,) = [line for line in billed(rounds()) if line.part == "sum" and line.dtype != "float32"]
    assert total.speedup == pytest.approx(9.0 / 4.0)
    assert (total.low, total.high) == (pytest.approx(2.25), pytest.approx(2.25))
    assert total.verdict == "faster" and total.visits == 20
    assert total.of_model == pytest.approx(4.0 / 5.0)
    assert total.saved_s == pytest.approx(5.0)


def test_without_such_visits_a_sum_has_no_interval() -> None:
    for visits in ([], rounds()[:2]):  # none, or one that lacks a call
        (total,) = [
            line for line in billed(visits) if line.part == "sum" and line.dtype != "float32"
        ]
        assert total.speedup == pytest.approx(2.25)
        assert total.low is None and total.verdict is None
        assert "no visit went through all calls" in (total.reason or "")


def test_what_has_no_time_is_in_no_sum_and_is_told() -> None:
    left = of_call("item", "float32", None)
    analysis = analyse([*rows(), left], [], REPORT, None, rounds())
    (total,) = [x for x in analysis.bill if x.part == "sum" and x.dtype == "float32"]
    assert total.total_s == pytest.approx(9.0) and total.missing == 1
    said = [sentence_text(s) for a in analysis.answers if a.key == "bill" for s in a.sentences]
    assert any("1 calls have no time and are in no sum: item x 1" in text for text in said)


def test_a_call_that_one_side_lacks_is_in_neither_of_the_times_that_are_compared() -> None:
    calls = [("cpu", "mm", 2e-3), ("cpu", "add", None), ("gpu", "mm", 1e-3), ("gpu", "add", 10e-3)]
    timed = [
        replace(of_call(name, "float32", seconds), cell=f"{name}-{device}", device=device)
        for device, name, seconds in calls
    ]
    (answer,) = [a for a in analyse(timed, [], Report()).answers if a.key == "bill"]
    said = " ".join(map(sentence_text, answer.sentences))
    assert "Its calls that have a time on both sides (1 of 2), with device=gpu instead of" in said
    assert "2.00x (4.000 ms -> 2.000 ms)" in said
    assert "All of its calls" not in said


def test_a_call_that_is_never_made_has_no_bill() -> None:
    never = [
        row(name, 1.0, own=json.dumps({"workload": "net", "count": 0})) for name in ("cpu", "gpu")
    ]
    assert not analyse(never, [], Report()).bill


def test_the_answer_names_what_decides_and_what_loses() -> None:
    analysis = analyse(rows(), [], REPORT, None, rounds())
    (answer,) = [answer for answer in analysis.answers if answer.key == "bill"]
    said = " ".join(map(sentence_text, answer.sentences))
    assert "All of its calls with dtype=bfloat16 instead of dtype=float32: 2.25x" in said
    assert "1 of its 2 calls make 86 % of the difference: mm x 2" not in said  # below nine tenths
    assert "2 of its 2 calls make 100 % of the difference: mm x 2, add x 10" in said
    assert "the calls add up to 90 % (90 % to 90 %) of the time that the model" in said


def test_rows_of_no_workload_have_no_bill() -> None:
    assert analyse([row("cpu")], [], REPORT).bill == []


def with_model_time(
    flags: tuple[str, ...] = (), extra: str = "{}", **more: float
) -> list[BenchmarkRow]:
    """The rows, with what the model's time in float32 is made of."""
    calls = {"mm": 8.4, "add": 1.1, **json.loads(extra)}
    parts = {"caches_s": 0.4, "page_faults_s": None, "outside_s": 0.3, **more}
    found = []
    for one in rows():
        own = json.loads(one.own or "{}")
        if own["passes"] and one.dtype == "float32":
            own |= {**parts, "calls_s": json.dumps(calls)}
        found.append(replace(one, own=json.dumps(own), flags=flags))
    return found


def parts_of(found: Sequence[BenchmarkRow]) -> dict[str, Charge]:
    bill = analyse(found, [], REPORT, None, rounds()).bill
    return {line.part: line for line in bill if line.dtype == "float32" and line.part != "call"}


def test_the_models_time_is_told_in_parts() -> None:
    found = parts_of(with_model_time())
    shares = {part: line.of_model for part, line in found.items() if part != "model"}
    told = {"sum": 0.9, "caches": 0.04, "outside": 0.03, "unexplained": 0.03}  # no page faults
    assert shares == pytest.approx(told)
    assert found["unexplained"].total_s == pytest.approx(0.3)
    analysis = analyse(with_model_time(), [], REPORT, None, rounds())
    said = [sentence_text(s) for a in analysis.answers if a.key == "bill" for s in a.sentences]
    assert any("3.0 % pass outside the calls" in text and "3.0 % are not" in text for text in said)
    assert not any("New pages" in text for text in said)
    counted = parts_of(with_model_time(page_faults_s=0.2))
    assert counted["page_faults"].of_model == pytest.approx(0.02)
    assert counted["unexplained"].of_model == pytest.approx(0.01)


def test_parts_are_shares_of_the_pass_that_they_were_measured_in() -> None:
    """Whose process may have been slower than those of which the row's median is, too."""
    found = parts_of(with_model_time(pass_s=20.0))
    assert found["caches"].of_model == pytest.approx(0.02)
    assert found["caches"].total_s == pytest.approx(0.2)


def test_a_call_has_its_time_within_the_model() -> None:
    bill = analyse(with_model_time(), [], REPORT, None, rounds()).bill
    within = {line.op: line.in_model_s for line in bill if line.dtype == "float32"}
    assert within["net.mm"] == pytest.approx(4.2) and within["net.add"] == pytest.approx(0.11)


def test_a_call_that_has_no_time_alone_is_a_part_of_its_own() -> None:
    found = parts_of(with_model_time(extra='{"item": 0.2}'))
    assert found["untimed"].of_model == pytest.approx(0.02)
    assert found["unexplained"].of_model == pytest.approx(0.01)


def test_a_time_of_no_calm_moment_has_no_parts() -> None:
    assert parts_of(with_model_time(("slow_machine",))).keys() == {"sum", "model"}


@pytest.mark.parametrize("damage", ['"calls_s": "x"', '"calls_s": "{}", "outside_s": "much"'])
def test_parts_that_were_altered_are_left_out(damage: str) -> None:
    own = json.loads("{" + damage + "}")
    found = [replace(one, own=json.dumps({**json.loads(one.own or "{}"), **own})) for one in rows()]
    assert parts_of(found).keys() == {"sum", "model"}


# what is best to be moved to another device


def device_rows() -> list[Row]:
    """Two calls on the CPU and on an accelerator, where the model is given a and returns b."""
    flow = [["", ["a"], 1, 0], ["a", ["b"], 1, 0], ["b", [""], 1, 0]]
    seconds = {"a": (4.0, 1.0), "b": (1.0, 3.0)}
    made: list[Row] = []
    for position, device in enumerate(("cpu", "cuda:0")):
        for name, of_call in seconds.items():
            made.append(on_device(name, device, of_call[position], None))
        made.append(on_device("model", device, 5.0, "forward", flow=json.dumps(flow)))
    link = {"latency_s": 0.25, "bandwidth_bytes_per_s": 1e9}
    key = ("transfer", "", "float32", "cuda:0")
    return made + [
        TransferRow(f"t{way}", "transfer", *key, to_device=bool(way), **link) for way in (0, 1)
    ]


def on_device(
    name: str, device: str, seconds: float, passes: str | None, **further: object
) -> BenchmarkRow:
    own = {"workload": "net", "count": 1, "modules": "", "passes": passes, **further}
    made = row(device, seconds, op=f"net.{name}", own=json.dumps(own), variant="v1")
    return replace(made, cell=f"{name}-{device}")


def test_what_is_best_to_move_counts_its_transfers() -> None:
    analysis = analyse(device_rows(), [], Report(baseline={"device": "cpu"}))
    plans = {line.part: line for line in analysis.bill if line.moved is not None}
    everything, best = plans["all_moved"], plans["best_plan"]
    assert everything.moved == "a b" and best.moved == "a"
    assert everything.transfers_s == best.transfers_s == pytest.approx(0.5)
    assert (everything.total_s, best.total_s) == (pytest.approx(4.5), pytest.approx(2.5))
    assert best.speedup == pytest.approx(2.0) and best.saved_s == pytest.approx(2.5)
    said = [sentence_text(s) for a in analysis.answers if a.key == "bill" for s in a.sentences]
    assert any("It is best to move 1 call (a): 2.00x" in text for text in said)


def test_what_has_no_time_on_the_device_is_in_both_sums_of_a_plan() -> None:
    """A call, and the model itself, of whose row nobody knows where it ran."""
    made = [one for one in device_rows() if one.cell != "model-cuda:0"]
    late = on_device("model", "cuda:0", 0.0, "forward")
    made.insert(3, replace(late, status="timeout", median_s=None, device_name=None))
    made.insert(2, on_device("c", "cpu", 2.0, None))
    analysis = analyse(made, [], Report(baseline={"device": "cpu"}))
    (best,) = [line for line in analysis.bill if line.part == "best_plan"]
    assert (best.moved, best.baseline_total_s) == ("a", pytest.approx(7.0))
    assert best.total_s == pytest.approx(4.5)
    said = [sentence_text(s) for a in analysis.answers if a.key == "bill" for s in a.sentences]
    assert any("1.56x" in text and "(7.000 s -> 4.500 s)" in text for text in said)


def test_without_transfers_nothing_is_said_of_what_to_move() -> None:
    rows_of_calls = [one for one in device_rows() if isinstance(one, BenchmarkRow)]
    analysis = analyse(rows_of_calls, [], Report(baseline={"device": "cpu"}))
    assert not any(line.moved for line in analysis.bill)


def test_a_plan_has_the_interval_of_visits_to_all_calls() -> None:
    visits = []
    for visit in range(20):
        slow = 1 + visit % 3
        times = {"model-cpu": 5.0, "a-cpu": 4.0, "b-cpu": 1.0, "a-cuda:0": 1.0, "b-cuda:0": 3.0}
        first, *others = times
        places = (visit, 0, 1, 0, 0)
        visits += [
            PairVisit(first, cell, *places, slow * times[first], slow * times[cell])
            for cell in others
        ]
    analysis = analyse(device_rows(), [], Report(baseline={"device": "cpu"}), None, visits)
    (best,) = [line for line in analysis.bill if line.part == "best_plan"]
    assert best.visits == 20 and best.low is not None and best.high is not None
    assert 5 / 2.5 <= best.low <= best.high <= 15 / 6.5
