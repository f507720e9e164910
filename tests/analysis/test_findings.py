"""The few numbers that are read first."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runner.analysis.analysis import analyse
from runner.analysis.findings import Finding, findings, trust
from runner.analysis.questions import Sentence
from runner.config.schema import Report
from runner.report.language import ENGLISH, finding_text, sentence_text, words_of
from runner.rows.rows import AutogradRow, BenchmarkRow, Row
from tests.support.factories import row
from tests.support.report_rows import rows

SIZES = ("64x64", "128x128", "256x256", "512x512")


def said(found: Sequence[Row], report: Report, language: str = "en") -> list[str]:
    """Each finding of what was asked as one line."""
    texts = [finding_text(f, words_of(language)) for f in analyse(found, [], report).findings]
    return [f"{text.tone} {text}" for text in texts]


def crossing() -> list[BenchmarkRow]:
    """A device whose calls take long at any size, and whose work takes little."""
    made = []
    for size in SIZES:
        elements = int(size.partition("x")[0]) ** 2
        for device, seconds in (("cpu", 1e-9 * elements), ("gpu", 2e-5 + 1e-10 * elements)):
            ends = {"ci_low_s": 0.99 * seconds, "ci_high_s": 1.01 * seconds}
            name = f"{size}{device}"
            made.append(row(device, seconds, size=size, cell=name, op="matmul", **ends))
    return made


def test_the_surest_gain_and_loss_of_each_side_come_first() -> None:
    gain, loss, trust = said(crossing(), Report())
    assert gain.startswith("faster 5.67× (5.59 to 5.75) as fast: matmul 512x512 float32 with gpu")
    assert "; it wins from n = 1" in gain
    assert loss.startswith("slower 4.98× (4.91 to 5.05) as long: matmul 64x64 float32 with gpu")
    assert trust.startswith(
        "right Trustworthy: 4 of 4 comparisons have a verdict [8 times without a doubt; "
    )
    assert "less than one of 4 verdicts is chance; 4 ratios are of sides that were not" in trust


def test_what_is_wrong_is_counted_and_named_and_what_is_right_is_said() -> None:
    right = [
        replace(found, max_relative_error=1e-7, allowed_relative_error=4e-7, gradient="pass")
        for found in crossing()
    ]
    assert said(right, Report())[-2] == (
        "right 8 of 8 timed cells have the values of the function itself in float64, at most 25 % "
        "of what is allowed off; "
        "8 gradients were checked beside the times and pass"
    )
    itself = [replace(found, dtype="float64", impl="default", compile="off") for found in right]
    itself[0] = replace(itself[0], impl="mine")  # which is compared with another one
    assert said(itself, Report())[-2].startswith(
        "right 5 of 5 timed cells have the values of a reference (1) or of the function itself (4) "
    )
    itself = [replace(found, reference="torch.matmul") for found in itself]
    assert said(itself, Report())[-2].startswith(
        "right 8 of 8 timed cells have the values of a reference in float64, at most"
    )
    right[0] = replace(right[0], flags=("wrong_values",), impl="mine")
    *_, wrong, trust = said(right, Report())
    assert wrong == "wrong 1 wrong: matmul 64x64 float32 cpu impl=mine"
    assert trust.startswith("unclear Trustworthy in part: 3 of 4 comparisons have a verdict [")
    assert "1 of 8 times is in doubt (wrong_values: 1)" in trust


def test_checks_that_neither_pass_nor_fail_are_counted_by_their_verdict() -> None:
    verdicts = ["pass", "kink", "pass", "inconclusive", "kink", "pass"]
    checks = [AutogradRow(f"c{n}", "autograd", "abs", verdict=v) for n, v in enumerate(verdicts)]
    first = next(iter(trust(checks, [])))
    assert str(finding_text(first, ENGLISH)) == (
        "3 of 6 checks of gradients and tensors pass, and none fails "
        "[the others: kink: 2, inconclusive: 1]"
    )
    passed = [check for check in checks if check.verdict == "pass"]
    assert "others" not in str(finding_text(next(iter(trust(passed, []))), ENGLISH))


def test_both_languages_say_the_same_numbers() -> None:
    report = Report(baseline={"dtype": "float32"})
    english, russian = (said(rows(), report, language) for language in ("en", "ru"))
    assert len(english) == len(russian) > 2
    for one, other in zip(english, russian, strict=True):
        assert re.findall(r"\d+", one) == re.findall(r"\d+", other)


def test_a_large_number_is_written_like_the_one_beside_it() -> None:
    finding = Finding("right", 1081, Sentence("find_checks", {"count": 1094}))
    assert str(finding_text(finding, ENGLISH)).startswith("1,081 of 1,094 checks of gradients")
    russian = str(finding_text(finding, words_of("ru")))
    assert russian.startswith("1\N{NO-BREAK SPACE}081 из 1\N{NO-BREAK SPACE}094 проверок")


def test_one_of_several_is_told_in_the_singular() -> None:
    told = [sentence_text(Sentence("told", {"told": n, "count": 4})) for n in (0, 1, 2)]
    verbs = ("have", "has", "have")
    assert told == [f"{n} of 4 comparisons {verb} a verdict" for n, verb in enumerate(verbs)]


def test_a_single_comparison_is_told_in_the_singular() -> None:
    *_, last = said(crossing()[:2], Report())
    assert last.startswith("right Trustworthy: 1 of 1 comparison has a verdict [")
    assert "; of 20 such verdicts one may be chance; " in last
    same = [replace(found, median_s=1.0, ci_low_s=0.9, ci_high_s=1.1) for found in crossing()[:2]]
    first = said(same, Report())[0]
    assert first.startswith("unclear 0 of 1 comparison shows a sure difference from device=cpu; ")


def test_what_was_not_measured_is_in_none_of_the_counts() -> None:
    same = [replace(found, median_s=1.0, ci_low_s=0.9, ci_high_s=1.1) for found in crossing()]
    missing = {"median_s": None, "status": "unavailable", "reason": "no room"}
    same[-1] = replace(same[-1], **missing)
    first, *_, last = said(same, Report())
    assert first.startswith("unclear 0 of 3 comparisons show a sure difference from device=cpu; ")
    assert first.endswith("without a ratio: 0")
    assert " of 3 comparisons have a verdict" in last


def test_doubtful_times_beside_ratios_of_turns_are_no_contradiction() -> None:
    speedups = [replace(s, paired=40) for s in analyse(crossing(), [], Report()).speedups]
    busy = [replace(found, flags=("slow_machine",)) for found in crossing()]
    told = "what is said of the ratios rests on visits in turn, where both sides met the same "
    doubt = "moments; of the times on their own, 8 of 8 cannot be relied on (slow_machine: 8)"
    text = str(finding_text(trust(busy, speedups)[-1], ENGLISH))
    assert text.startswith(f"Trustworthy: 4 of 4 comparisons have a verdict [{told}{doubt}; ")
    alone = [replace(s, paired=None) for s in speedups]
    text = str(finding_text(trust(busy, alone)[-1], ENGLISH))
    assert "[8 of 8 times are in doubt (slow_machine: 8); " in text


def test_a_run_without_ratios_says_what_it_timed() -> None:
    found = analyse([row("cpu", 1e-3)], [], Report())
    assert sentence_text(found.headline) == "add 8x8 float32 cpu: 1.000 ms (990.0 us to 1.010 ms)"
    assert [finding.tone for finding in found.findings] == ["right"]


def test_what_has_no_answer_is_said_once_and_what_the_rows_allow_takes_its_place() -> None:
    gone = {"status": "unavailable", "reason": "gpu: no accelerator here"}
    found: list[BenchmarkRow] = []
    for dtype, seconds in (("float32", 2e-3), ("bfloat16", 1e-3)):
        busy = {"flags": ("contended",)} if dtype == "float32" else {}
        found.append(row("cpu", seconds, dtype=dtype, cell=f"{dtype}cpu", size="4x4"))
        found.append(row("cpu", seconds, dtype=dtype, cell=f"{dtype}busy", **busy))
        found.append(row("gpu", None, dtype=dtype, cell=f"{dtype}gpu", **gone))
    read = analyse(found, [], Report(baseline={"device": "cpu"}))
    first, gain, *_ = [str(finding_text(finding, ENGLISH)) for finding in read.findings]
    assert first == "No answer: device, gpu against cpu; no accelerator here"
    assert gain.startswith("2.00× (1.97 to 2.03) as fast: add 4x4 with bfloat16")
    assert sentence_text(read.headline) == "dtype: bfloat16 against float32"
    # a side that does not exist comes before a flag of the other
    assert {speedup.reason for speedup in read.asked} == {"device=gpu: unavailable"}


def test_further_comparisons_of_a_run_follow_the_one_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = analyse(rows(), [], Report())
    assert sentence_text(read.headline) == "device: gpu against cpu"
    ((headline, found),) = read.further
    assert sentence_text(headline) == "dtype: bfloat16, float16 against float32"
    assert re.match(r"1\.67× .* device=cpu with bfloat16", str(finding_text(found[0], ENGLISH)))
    monkeypatch.setattr("runner.analysis.analysis.MANY", 10)  # rows
    assert analyse(rows(), [], Report()).further == []


def test_a_larger_ratio_without_an_interval_is_named_as_unsure() -> None:
    found = crossing()
    for device, seconds in (("cpu", 0.3), ("gpu", 0.01)):
        few = {"ci_low_s": None, "ci_high_s": None, "cell": device}
        found.append(row(device, seconds, op="linear", size="9x9", **few))
    unsure = said(found, Report())[2]
    assert unsure.startswith("unclear 30.0× as fast, but not surely: linear 9x9 float32 with gpu")


def test_ratios_of_a_single_process_are_counted_and_said_to_be_so() -> None:
    found = crossing()
    speedups = analyse(found, [], Report()).speedups
    in_turn = [replace(s, paired=40, pair_processes=n) for n, s in enumerate(speedups, 1)]
    text = str(finding_text(trust(found, in_turn)[-1], ENGLISH))
    assert (
        "1 ratio is of one process, and may differ in another (timing=default takes three)" in text
    )
    text = str(finding_text(trust(found, in_turn[1:])[-1], ENGLISH))
    assert "of one process" not in text
    # which timing=default would not change
    calm = [replace(in_turn[0], processes_in_all=2)]
    text = str(finding_text(trust(found, calm)[-1], ENGLISH))
    assert "1 ratio is of one process, as the others found no calm moments" in text
    assert "timing=default" not in text


@pytest.mark.parametrize(
    ("flagged", "side"), [("c", "device=cpu"), ("g", "device=gpu"), ("cg", ""), ("", "")]
)
def test_a_ratio_of_fresh_memory_to_none_is_said_to_be_one(flagged: str, side: str) -> None:
    rows = [
        row(device, seconds, flags=("first_touch",) if device[0] in flagged else ())
        for device, seconds in (("cpu", 2.0), ("gpu", 1.0))
    ]
    read = analyse(rows, [], Report(baseline={"device": "cpu"}))
    top = str(finding_text(read.findings[0], ENGLISH))
    (gain,) = (answer for answer in read.answers if answer.key == "gain")
    for text in (top, sentence_text(gain.sentences[0])):
        assert ("fresh memory" in text) == bool(side)
        assert not side or f"add 8x8 float32 (with {side} alone" in text


def test_a_ratio_that_one_interruption_may_have_made_is_not_named() -> None:
    found = crossing()
    for device, seconds in (("cpu", 0.3), ("gpu", 0.01)):
        few = {"ci_low_s": None, "ci_high_s": None, "cell": device}
        found.append(row(device, seconds, op="linear", size="9x9", **few))
    speedups = analyse(found, [], Report()).speedups
    for visits, tones in {1: 2, 3: 3}.items():
        of_visits = [replace(s, paired=visits) if s.op == "linear" else s for s in speedups]
        assert len(findings(of_visits, [])) == tones
