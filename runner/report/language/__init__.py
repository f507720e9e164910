"""The words of the report in each of its languages, and its numbers with their units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from importlib import import_module

from runner.analysis.sentence import Sentence
from runner.report.language.sentences import quantity, say
from runner.stats.estimate import Estimate
from runner.units import digits

Words = Mapping[str, str]
PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def words_of(language: str) -> Words:
    """All of the report's words in a language.

    Args:
        language: one of :data:`runner.config.schema.LANGUAGES`.
    """
    words: Words = import_module(f"runner.report.language.{language}").WORDS
    return words


def amount(value: float, unit: str, words: Words, significant: int = 3) -> str:
    """A number with its unit and a prefix, in the language's letters and with its decimal sign.

    Args:
        value: in the unit.
        unit: ``s``, ``B``, ``FLOP/s``; blank for a plain number, which has words instead of prefixes.
        words: the language's.
        significant: digits.

    >>> en, ru = words_of("en"), words_of("ru")
    >>> amount(0.0123, "s", en), amount(1.5e-7, "s", ru), amount(4096, "", en), amount(4.1e6, "", ru)
    ('12.3 ms', '150 нс', '4.1k', '4,1 млн')
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


def sentence_text(sentence: Sentence, words: Words) -> str:
    """A sentence of the report's answers in a language."""
    templates = {
        key.removeprefix("say_"): text for key, text in words.items() if key.startswith("say_")
    }
    return say(
        sentence,
        templates,
        quantity if words["language"] == "en" else partial(_quantity, words=words),
    )


def ratio_text(value: float, words: Words) -> str:
    """``12.3×``."""
    return f"{digits(value, 3)}×".replace(".", words["decimal"])


def _quantity(value: object, unit: str, words: Words) -> str:
    """A number, or an estimate with its interval, as :func:`.sentences.quantity` writes it in English."""
    if isinstance(value, Estimate):
        text = _quantity(value.value, unit, words)
        if value.low is None or value.high is None:
            return text
        ends = [_quantity(end, unit, words) for end in (value.low, value.high)]
        return f"{text} ({words['from_to'].format(low=ends[0].removesuffix('×'), high=ends[1].removesuffix('×'))})"
    if not isinstance(value, int | float):
        return str(value)
    if unit == "x":
        return ratio_text(value, words)
    if unit == "%":
        return f"{100 * value:.0f} %"
    if unit == "n":
        text = quantity(value, unit)
        return (
            text.replace(",", "\N{NO-BREAK SPACE}")
            if value >= 100
            else text.replace(".", words["decimal"])
        )
    return amount(value, unit, words, 4)
