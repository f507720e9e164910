"""The four questions are answered from the rows.

With their numbers and with causes only where there is evidence.
"""

import re
from dataclasses import replace

import pytest

from runner.analysis.analysis import Analysis, analyse
from runner.analysis.comparison import compare
from runner.analysis.crossover import crossovers
from runner.analysis.questions import Sentence, answers
from runner.analysis.transfer_model import Link, TransferModel
from runner.config.schema import Report
from runner.report.language import ENGLISH, sentence_text, words_of
from runner.rows.rows import BenchmarkRow
from runner.stats.estimate import Estimate
from tests.support import factories


def row(op: str, side: int, device: str, median_s: float | None, **fields: object) -> BenchmarkRow:
    """A row of an operation at a size, with a cell of its own."""
    cell = f"{op}-{side}-{fields.get('dtype', 'float32')}-{device}"
    return factories.row(device, median_s, cell=cell, op=op, size=f"{side}x{side}", **fields)


def pair(op: str, side: int, cpu_s: float, gpu_s: float, **of_gpu: object) -> list[BenchmarkRow]:
    """Both sides of a comparison of devices."""
    return [row(op, side, "cpu", cpu_s), row(op, side, "gpu", gpu_s, **of_gpu)]


def said(rows: list[BenchmarkRow], report: Report | None = None) -> dict[str, list[str]]:
    """The answers in English, by question."""
    found = analyse(rows, [], report or Report())
    return {
        answer.key: [sentence_text(one) for one in answer.sentences] for answer in found.answers
    }


def test_what_gains_most_comes_first_and_is_told_against_the_fastest_dtype_too() -> None:
    rows = [
        *pair("add", 64, 2e-3, 1e-3),
        *pair("mul", 64, 9e-3, 1e-3),
        *pair("sum", 64, 1e-3, 1e-3),
    ]
    half = [
        replace(one, dtype="float16", cell=f"{one.cell}h")
        for one in pair("matmul", 64, 500e-3, 1e-3)
    ]
    full = pair("matmul", 64, 4e-3, 2e-3)
    found = analyse([*rows, *half, *full], [], Report()).answers[0]
    first, second, third, counts = found.sentences
    assert sentence_text(found.question) == "Which operations gain most from device=gpu?"
    assert re.match(
        r"matmul 64x64 float16 .*: 500x \(.*\) \(500.0 ms -> 1.000 ms\), but 4.00x \(.*\) against "
        r"float32, the fastest dtype with device=cpu; faster in 2 of 2",
        sentence_text(first),
    )
    assert sentence_text(second) == (
        "mul 64x64 float32 with device=gpu: 9.00x (8.87 to 9.13) (9.000 ms -> 1.000 ms); "
        "faster in 1 of 1."
    )
    assert second.cells == ("mul-64-float32-cpu", "mul-64-float32-gpu")
    assert sentence_text(third).startswith("add")
    assert "Of 5 comparisons with device=cpu, 4 are faster, 0 slower" in sentence_text(counts)


CAUSES = {
    "Launch-bound: 1 comparison of add; .* launching a call takes 9.000 us, the call itself 5.0": {
        "launch_s": 9e-6,
        "launch_low_s": 8e-6,
        "launch_high_s": 1e-5,
    },
    "Memory-bound: 1 comparison of add; .* it reaches 80 % of the peak memory bandwidth": {
        "bound": "memory",
        "fraction_of_peak": 0.8,
    },
    "Compute-bound: .* 70 % of the peak compute rate": {
        "bound": "compute",
        "fraction_of_peak": 0.7,
    },
    "No cause shows in this run's rows: 1 comparison of add; .* 0.400x": {
        "launch_s": 1e-7,
        "fraction_of_peak": 0.1,
    },
}


@pytest.mark.parametrize("expected", CAUSES)
def test_a_loss_has_the_cause_that_its_row_shows(expected: str) -> None:
    (only,) = said(pair("add", 64, 2e-6, 5e-6, **CAUSES[expected]))["lose"]
    assert re.match(expected, only), only


def test_a_call_that_takes_as_long_at_every_size_pays_for_being_called() -> None:
    rows = [one for side in (16, 32, 64, 128) for one in pair("add", side, 1e-6, 1e-5)]
    (only,) = said(rows)["lose"]
    assert only.startswith("Overhead-bound: 4 comparisons of add; worst add 16x16")


def test_a_loss_below_a_gain_is_told_as_that_and_no_more() -> None:
    rows = [
        *pair("add", 16, 1e-6, 5e-6),
        *pair("add", 64, 1e-5, 2e-5),
        *pair("add", 256, 9e-4, 3e-4),
    ]
    (only,) = said(rows)["lose"]
    assert re.match(
        r"Only below the size from which device=gpu wins: 2 comparisons of add; .* 256x256 wins",
        only,
    )


def test_a_dtype_that_is_no_wider_and_far_slower_has_no_fast_kernel() -> None:
    rows = [row("matmul", 512, "cpu", 2e-3), row("matmul", 512, "cpu", 0.2, dtype="float16")]
    rows += [row("matmul", 512, "cpu", 9e-3, dtype="float64")]  # wider: slower by its bytes
    lost = said(rows, Report(baseline={"dtype": "float32"}))["lose"]
    assert re.match(
        r"No fast kernel for float16: 1 comparison of matmul; .* 0.0100x .* is no wider than",
        lost[0],
    )
    assert lost[1].startswith("No cause")
    rows = [
        row("matmul", 512, "cpu", 2e-3),
        row("matmul", 512, "cpu", 3e-3, dtype="float16", flags=("cpu_fallback",)),
    ]
    assert "flagged cpu_fallback" in said(rows, Report(baseline={"dtype": "float32"}))["lose"][0]


def test_the_size_question_tells_each_curve() -> None:
    rows = [
        one
        for side, cpu in ((16, 1e-6), (64, 8e-6), (256, 4e-4))
        for one in pair("mul", side, cpu, 2e-5)
    ]
    rows += [one for side in (16, 256) for one in pair("exp", side, 1e-6, 2e-5)]
    rows += [one for side in (16, 256) for one in pair("sum", side, 1e-4, 2e-5)]
    curves, *each = said(rows)["size"]
    assert curves == (
        "Along the size, of 3 curves 1 win everywhere, 1 from some size on, 1 not at the largest; "
        "of 0 it cannot be told."
    )
    assert re.match(
        r"mul float32 with device=gpu wins from n = 8\d \(95 %: n = \d+ to n = \d+\): 0.0500x .* "
        r"20.0x",
        each[0],
    )
    assert each[1].startswith("exp float32 with device=gpu does not win at the largest size")
    assert each[2].startswith("sum float32 with device=gpu wins at every size measured")
    assert said(pair("add", 64, 2e-6, 1e-6))["size"] == [
        "This run cannot say: no operation has ratios at two sizes or more."
    ]


def test_sizes_without_intervals_or_with_as_many_elements_have_ratios_and_no_curve() -> None:
    cannot = "This run cannot say: no operation has ratios with an interval "
    few = {"ci_low_s": None, "ci_high_s": None}
    without = [
        one
        for side, known in ((16, {}), (64, few))
        for one in (row("add", side, "cpu", 2e-3, **known), row("add", side, "gpu", 1e-3, **known))
    ]
    alike = [replace(one, size="64x4", cell=f"{one.cell}a") for one in without[:2]]
    for found in (without, [*without[:2], *alike]):
        assert said(found)["size"][0].startswith(cannot)


def test_what_is_the_same_wins_at_no_size() -> None:
    rows = [
        row("add", side, device, seconds, ci_low_s=0.999 * seconds, ci_high_s=1.001 * seconds)
        for side, ratio in ((16, 1.004), (256, 1.006))
        for device, seconds in (("cpu", ratio * 1e-3), ("gpu", 1e-3))
    ]
    asked = {margin: said(rows, Report(same_within=margin)) for margin in (0.01, 0.001)}
    assert asked[0.01]["gain"][0].startswith("None is surely more than 1.0 % faster")
    assert "does not win at the largest size" in asked[0.01]["size"][1]
    assert "wins at every size measured" in asked[0.001]["size"][1]


def test_what_moving_costs_is_told_from_the_runs_transfers() -> None:
    line = TransferModel(Estimate(1e-5, 0.9e-5, 1.1e-5), Estimate(1e10, 0.9e10, 1.1e10))
    links = {Link(None, "gpu", way): line for way in (True, False)}
    moved = {"inputs": 2, "input_bytes": 8_000_000, "outputs": 1, "output_bytes": 4_000_000}
    rows = [
        replace(one, **moved)
        for one in [*pair("add", 1024, 1e-3, 1e-4), *pair("matmul", 1024, 1e-1, 1e-3)]
    ]  # type: ignore[arg-type]
    speedups = compare(rows, Report(), links)
    found = {one.key: one for one in answers(rows, speedups, crossovers(speedups), links, Report())}
    sentences = [sentence_text(one) for one in found["transfers"].sentences]
    assert sentences[0] == (
        "To gpu from pageable memory: 10.00 us (9.000 us to 11.00 us) for each tensor, "
        "and 10.0 GB/s (9.00 GB/s to 11.0 GB/s)."
    )
    assert re.match(
        r"For add 1024x1024 float32 moving takes 1.230 ms \(.*\), 12.3x the 100.0 us of the call",
        sentences[2],
    )
    assert re.match(
        r"add 1024x1024 float32 pays once its data are used in 1.4 \(.*\) calls", sentences[4]
    )
    assert (
        sentences[-1]
        == "With transfers at each call device=gpu wins somewhere for 1 of 2 curves; without, for "
        "2."
    )
    (lost,) = [sentence_text(one) for one in found["lose"].sentences]
    assert re.match(
        r"Transfer-bound: 1 comparison of add win only .* 10.0x .* without transfers, 0.752x with",
        lost,
    )


def test_curves_without_transfers_are_not_counted_beside_those_with() -> None:
    line = TransferModel(Estimate(1e-5, 0.9e-5, 1.1e-5), Estimate(1e10, 0.9e10, 1.1e10))
    links = {Link(None, "gpu", way): line for way in (True, False)}
    moved = {"inputs": 2, "input_bytes": 8_000_000, "outputs": 1, "output_bytes": 4_000_000}
    rows = [replace(one, **moved) for one in pair("matmul", 1024, 1e-1, 1e-3)]  # type: ignore[arg-type]
    rows += [*pair("add", 1024, 1e-3, 1e-4), *pair("mul", 1024, 1e-3, 1e-4)]  # of unknown bytes
    speedups = compare(rows, Report(), links)
    found = {one.key: one for one in answers(rows, speedups, crossovers(speedups), links, Report())}
    said = sentence_text(found["transfers"].sentences[-1])
    assert said.endswith("wins somewhere for 1 of 1 curves; without, for 1.")


def test_where_the_data_cannot_answer_it_says_so() -> None:
    gone = {"status": "unavailable", "reason": "no accelerator here"}
    found = said([row("add", 64, "cpu", 1e-6), row("add", 64, "gpu", None, **gone)])
    assert found == {"transfers": ["This run cannot say: nothing in it ran on an accelerator."]}
    assert "+sweep=transfer" in said(pair("add", 64, 1e-6, 1e-6))["transfers"][0]
    assert said([row("add", 64, "cpu", 1e-6)], Report(baseline={"threads": 2})) == {}
    assert analyse([], [], Report()).answers == []


def test_every_sentence_points_to_rows_that_are_there() -> None:
    rows = [
        one
        for side, cpu in ((16, 1e-6), (64, 8e-6), (256, 4e-4))
        for one in pair("mul", side, cpu, 2e-5)
    ]
    found: Analysis = analyse(rows, [], Report())
    cells = {one.cell for one in rows}
    linked = [cell for answer in found.answers for one in answer.sentences for cell in one.cells]
    assert linked and set(linked) <= cells


def test_of_many_sides_and_sizes_the_first_are_named_and_linked() -> None:
    ops = {f"op{number}": (1 + number) * 1e-5 for number in range(40)}
    rows = [row(op, 64, "cpu", seconds) for op, seconds in ops.items()]
    found = analyse(rows, [], Report(baseline={"op": "op0"}))
    question = sentence_text(found.answers[0].question)
    assert "op=op12" in question and "op=op13" not in question and "27 more" in question

    rows = [one for side in range(8, 48) for one in pair("mul", side, 1e-5 * side, 2e-5)]
    found = analyse(rows, [], Report())
    assert all(len(one.cells) <= 12 for answer in found.answers for one in answer.sentences)


def test_another_language_brings_its_templates_and_its_numbers() -> None:
    sentence = Sentence(
        "size_found",
        {
            "what": "add",
            "other": "gpu",
            "at": Sentence("side", {"count": 81.0}),
            "low": Sentence("side", {"count": 80.0}),
            "high": Sentence("side", {"count": 82.0}),
            "first": 0.5,
            "last": 2.0,
            "smallest": "4x4",
            "largest": "9x9",
        },
    )
    words = {
        **words_of("ru"),
        "say_size_found": "{what}: от {at} ({low}..{high}), {first:x} и {last:x}",
        "say_side": "n={count:n}",
    }
    assert sentence_text(sentence, words) == "add: от n=81 (n=80..n=82), 0,500× и 2,00×"
    assert set(ENGLISH) >= {"say_gain", "say_lose", "say_size", "say_transfers"}
