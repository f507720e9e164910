"""The few numbers that are read first."""

from dataclasses import replace

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.language import finding_text, words_of
from runner.rows.rows import BenchmarkRow, Row
from tests.support.factories import row
from tests.support.report_rows import rows

SIZES = ("64x64", "128x128", "256x256", "512x512")


def said(found: list[Row], report: Report, language: str = "en") -> list[str]:
    """Each finding as one line."""
    texts = [finding_text(f, words_of(language)) for f in analyse(found, [], report).findings]
    return [" ".join(filter(None, text[:4])) for text in texts]


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
    gain, loss = said(crossing(), Report())
    assert gain.startswith(
        "faster 5.67× 5.59 to 5.75 as fast: matmul 512x512 float32 with device=gpu"
    )
    assert "against device=cpu; it wins from n = 1" in gain
    assert loss.startswith(
        "slower 4.98× 4.91 to 5.05 as long: matmul 64x64 float32 with device=gpu"
    )


def test_what_is_wrong_is_counted_and_named_and_what_is_right_is_said() -> None:
    right = [
        replace(found, max_relative_error=1e-7, allowed_relative_error=4e-7, gradient="pass")
        for found in crossing()
    ]
    assert said(right, Report())[-1] == (
        "right 8 of 8 timed cells have right values, at most 25 % of what is allowed off; "
        "8 gradients were checked beside the times and pass"
    )
    right[0] = replace(right[0], flags=("wrong_values",))
    assert said(right, Report())[-1] == "wrong 1 wrong: matmul 64x64 float32 cpu"


def test_both_languages_say_the_same_numbers() -> None:
    report = Report(baseline={"dtype": "float32"})
    english, russian = (said(list(rows()), report, language) for language in ("en", "ru"))
    assert len(english) == len(russian) > 2
    for one, other in zip(english, russian, strict=True):
        assert one.split()[:2] == [word.replace(",", ".") for word in other.split()[:2]]


def test_a_run_without_ratios_has_none() -> None:
    assert said([row("cpu", 1e-3)], Report()) == []
