"""What the report says in each of its languages, and its numbers with their units.

A field of a sentence may name a unit after a colon, so that each language writes numbers and units
its own way: ``s``, ``B/s``, ``x`` (a ratio), ``%`` (a share), ``n`` (a count). The forms of a noun
may follow, of which the count takes one: ``{count:n cell|cells}``. ``{count:of has|have}`` is a
form alone, without the number.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from runner.analysis.comparison import UNCLEAR
from runner.analysis.findings import Finding
from runner.analysis.questions import Sentence
from runner.rows.flags import FLAGS
from runner.stats.estimate import Estimate
from runner.units import digits, time_text

Words = Mapping[str, str]
PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


class FindingText(NamedTuple):
    """A finding in a language."""

    tone: str
    number: str
    interval: str
    text: str
    cells: Sequence[str] = ()  # that it is made from
    notes: Sequence[str] = ()
    ratio: Estimate | None = None  # what the number is; None: no ratio
    is_longer: bool = False  # whether the ratio says how many times as long

    def __str__(self) -> str:
        """As a line of text."""
        interval = f"({self.interval})" if self.interval else ""
        notes = f"[{'; '.join(self.notes)}]" if self.notes else ""
        number = self.number if self.number[0].isdigit() else f"{self.number}:"
        return " ".join(filter(None, (number, interval, self.text, notes)))


@cache
def words_of(language: str) -> Words:
    """All of the report's words in a language, one of :data:`runner.config.schema.LANGUAGES`."""
    path = Path(__file__).with_name(f"{language}.yaml")
    text, in_c = path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    words: dict[str, str] = yaml.load(text, Loader=in_c)  # which takes a tenth of the time
    if language == "en":
        words |= {f"flag_{name}": flag.why for name, flag in FLAGS.items()}
        words |= {f"unclear_{name}": why for name, why in UNCLEAR.items()}
    return words


ENGLISH = words_of("en")  # what the terminal speaks


def amount(value: float, unit: str, words: Words, significant: int = 3) -> str:
    """A number with its unit and a prefix, in the language's letters and with its decimal sign.

    The unit is ``s``, ``B`` or ``FLOP/s``; blank: a plain number, with words in place of prefixes.

    >>> en, ru = words_of("en"), words_of("ru")
    >>> amount(0.0123, "s", en), amount(1.5e-7, "s", ru), amount(4.1e6, "", ru)
    ('12.3 ms', '150 нс', '4,1 млн')
    """
    if not value or not math.isfinite(value):
        return str(value)
    # rounded first: 999.9 ms are a second
    value = float(f"{value:.{significant - 1}e}")
    power = max(-12, min(12, 3 * math.floor(math.log10(abs(value)) / 3)))
    if not unit:
        power = max(0, power)

    number = value / 10.0**power
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(number))))
    text = f"{number:.{decimals}f}"
    text = (text.rstrip("0").rstrip(".") if "." in text else text).replace(".", words["decimal"])
    if not unit:
        return f"{text}{words[f'count_{PREFIXES[power]}']}"
    return f"{text} {words[f'prefix_{PREFIXES[power]}']}{words.get(f'unit_{unit}', unit)}"


def ratio_text(value: float, words: Words) -> str:
    """``12.3×``."""
    return f"{digits(value, 3)}×".replace(".", words["decimal"])


def finding_text(finding: Finding, words: Words) -> FindingText:
    """A finding in a language."""
    number, interval, ratio = _quantity(finding.number, "n", words), "", None
    if isinstance(finding.number, Sentence):
        number = sentence_text(finding.number, words)
    if isinstance(finding.number, Estimate):
        ratio, number = finding.number, ratio_text(finding.number.value, words)
        low, high = finding.number.low, finding.number.high
        if low is not None and high is not None:
            ends = [ratio_text(end, words).removesuffix("×") for end in (low, high)]
            interval = words["from_to"].format(low=ends[0], high=ends[1])
    text = sentence_text(finding.sentence, words)
    notes = [sentence_text(note, words) for note in finding.notes]
    is_longer = finding.sentence.key.endswith("slower")
    cells = finding.sentence.cells
    return FindingText(finding.tone, number, interval, text, cells, notes, ratio, is_longer)


def sentence_text(sentence: Sentence, words: Words = ENGLISH) -> str:
    """What the data say, in a language."""
    return said(words, f"say_{sentence.key}", **sentence.values)


def first_of(texts: Sequence[str], most: int, words: Words) -> list[str]:
    """The first of many texts, and how many more there are."""
    more = len(texts) - most
    return [*texts[:most], *([words["more_notes"].format(more=more)] if more > 0 else [])]


def said(words: Words, key: str, **values: object) -> str:
    """One of a language's templates, filled in.

    >>> said(words_of("ru"), "more_lines", more=21), said(ENGLISH, "more_lines", more=1)
    ('... и ещё 21 строка в CSV', '... and 1 line more in the CSV')
    """
    return _Fields(words).vformat(words[key], (), values)


class _Fields(string.Formatter):
    """Fills a template's fields; a field may hold a sentence itself."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def format_field(self, value: object, spec: str) -> str:
        if isinstance(value, Sentence):
            return sentence_text(value, self._words)
        unit, _, forms = spec.partition(" ")
        if unit == "of":
            return _form_for(value, forms.split("|"), self._words)
        text = _quantity(value, unit, self._words) if unit else str(value)
        return f"{text} {_form_for(value, forms.split('|'), self._words)}" if forms else text


def _form_for(value: object, forms: Sequence[str], words: Words) -> str:
    """The form of a noun that a count takes: 1 строка, 2 строки, 5 строк, 21 строка."""
    count = value.value if isinstance(value, Estimate) else value
    if not isinstance(count, int | float) or count != round(count):
        return forms[1]
    if words["language"] == "en":
        return forms[count != 1]
    tens, ones = count % 100, count % 10
    if ones == 1 and tens != 11:
        return forms[0]
    return forms[1 if 2 <= ones <= 4 and not 12 <= tens <= 14 else 2]


def _quantity(value: object, unit: str, words: Words) -> str:
    """A number, or an estimate with its interval.

    >>> _quantity(Estimate(12.3, 12.0, 12.6), "x", ENGLISH), _quantity(0.0021, "s", ENGLISH)
    ('12.3x (12.0 to 12.6)', '2.100 ms')
    """
    if isinstance(value, Estimate):
        text = _quantity(value.value, unit, words)
        if value.low is None or value.high is None:
            return text
        low, high = (_quantity(end, unit, words).rstrip("x×") for end in (value.low, value.high))
        return f"{text} ({words['from_to'].format(low=low, high=high)})"
    if not isinstance(value, int | float):
        return str(value)
    if words["language"] == "en":
        return _in_english(value, unit)
    if unit == "x":
        return ratio_text(value, words)
    if unit == "n":
        old, new = (",", "\N{NO-BREAK SPACE}") if value >= 100 else (".", words["decimal"])
        return _in_english(value, unit).replace(old, new)
    if unit == "%":
        return _in_english(value, unit).replace(".", words["decimal"])
    return amount(value, unit, words, 4)


def _in_english(value: float, unit: str) -> str:
    if unit == "s":
        return time_text(value)
    if unit == "B/s":
        return f"{digits(value / 1e9, 3)} GB/s"
    if unit == "x":
        return f"{digits(value, 3)}x"
    if unit == "%":
        return f"{digits(100 * value, 2)} %"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else digits(value, 2)
