"""The report speaks each of its languages fully.

Numbers are written as its readers write them.
"""

import string
from pathlib import Path

import pytest

from runner.analysis.questions import Sentence
from runner.config.schema import LANGUAGES, Report
from runner.report.language import amount, said, sentence_text, words_of
from runner.report.summary import show
from runner.rows.flags import FLAGS
from runner.rows.rows import STATUSES
from runner.stats.estimate import Estimate
from tests.support.report_rows import rows


def fields(text: str) -> set[str]:
    """What stands in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_word_with_the_same_fields(language: str) -> None:
    english, words = words_of("en"), words_of(language)
    assert words.keys() == english.keys()
    for key, text in words.items():
        assert fields(text) == fields(english[key]), key
    assert {f"flag_{name}" for name in FLAGS} | {
        f"status_{status}" for status in STATUSES
    } <= words.keys()


@pytest.mark.parametrize(
    ("value", "unit", "english", "russian"),
    [
        (0.0123, "s", "12.3 ms", "12,3 мс"),
        (9.999e-4, "s", "1 ms", "1 мс"),
        (2.5e-10, "s", "250 ps", "250 пс"),
        (3.2e9, "B/s", "3.2 GB/s", "3,2 ГБ/с"),
        (4096, "", "4.1k", "4,1 тыс."),
        (0.05, "", "0.05", "0,05"),
        (1e6, "", "1M", "1 млн"),
    ],
)
def test_a_number_is_written_as_its_readers_write_it(
    value: float, unit: str, english: str, russian: str
) -> None:
    assert amount(value, unit, words_of("en")) == english
    assert amount(value, unit, words_of("ru")) == russian


@pytest.mark.parametrize(
    ("count", "english", "russian"),
    [
        (1, "1 line more", "1 строка"),
        (2, "2 lines more", "2 строки"),
        (5, "5 lines more", "5 строк"),
        (11, "11 lines more", "11 строк"),
        (21, "21 lines more", "21 строка"),
        (112, "112 lines more", "112 строк"),
        (1_104, "1,104 lines more", "1\N{NO-BREAK SPACE}104 строки"),
    ],
)
def test_a_noun_takes_the_form_of_its_count(count: int, english: str, russian: str) -> None:
    assert f" {english} in" in said(words_of("en"), "more_lines", more=count)
    assert f" {russian} в" in said(words_of("ru"), "more_lines", more=count)


def test_every_noun_has_the_forms_of_its_language() -> None:
    for language, forms in (("en", 2), ("ru", 3)):
        for key, text in words_of(language).items():
            for _, name, spec, _ in string.Formatter().parse(text):
                _, _, noun = (spec or "").partition(" ")
                assert not noun or noun.count("|") == forms - 1, (language, key, name)


def test_a_sentence_is_said_in_russian_with_its_interval() -> None:
    gain = Sentence(
        "gains",
        {
            "what": "add 64x64",
            "other": "device=gpu",
            "ratio": Estimate(2.5, 2.25, 2.75),
            "before": 1e-3,
            "after": 4e-4,
            "wins": 1,
            "of": 2,
        },
    )
    expected = (
        "add 64x64 с device=gpu: 2,50× (от 2,25 до 2,75) (1 мс -> 400 мкс); быстрее в 1 из 2."
    )
    assert sentence_text(gain, words_of("ru")) == expected


def test_no_english_is_left_in_a_russian_report(tmp_path: Path) -> None:
    show(tmp_path, rows(), ["x.csv: cut short"], Report(language="ru"), {"cells": 100})
    english, russian = words_of("en"), words_of("ru")
    texts = [
        (tmp_path / name).read_text() for name in ("report.md", "report.html", "figures/times.svg")
    ]
    texts[1] = texts[1].partition("<!--")[0]  # before the libraries' licences
    for key, text in english.items():
        phrases = (
            [part.strip() for part in text.replace("{", "}").split("}")[::2]] if " " in text else []
        )
        for phrase in (
            phrase for phrase in phrases if phrase.count(" ") >= 2 and phrase not in russian[key]
        ):
            assert not any(phrase in found for found in texts), (key, phrase)
    assert "Отчёт opsweep" in texts[0]
    assert '<html lang="ru">' in texts[1]
    assert "по числу элементов первого входа" in texts[2]


@pytest.mark.usefixtures("_without_pictures")
def test_the_language_is_remembered_and_can_be_changed(tmp_path: Path) -> None:
    from runner.report.conclude import conclude

    (tmp_path / "environment.json").write_text(
        '{"report": {"baseline": null, "same_within": 0.01, "language": "ru"}}'
    )
    from runner.rows.csv_store import write_rows

    write_rows(tmp_path / "results.csv", rows()[:1])
    for asked, title in ((None, "# Отчёт opsweep"), ("en", "# opsweep report")):
        conclude(tmp_path, Report(language=asked), strict=False)
        assert (tmp_path / "report.md").read_text().startswith(title)
