"""What the report says in each of its languages, and its numbers with their units."""

from __future__ import annotations

import math
from functools import partial

from runner.analysis.sentence import Sentence
from runner.report.language.sentences import quantity, say
from runner.report.language.words import Words, templates_of, words_of
from runner.stats.estimate import Estimate
from runner.units import digits

__all__ = ["Words", "amount", "ratio_text", "sentence_text", "words_of"]
PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


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


def sentence_text(sentence: Sentence, words: Words) -> str:
    """A sentence of the report's answers in a language."""
    if words["language"] == "en":
        return say(sentence)
    return say(sentence, templates_of(words), partial(_quantity, words=words))


def ratio_text(value: float, words: Words) -> str:
    """``12.3×``."""
    return f"{digits(value, 3)}×".replace(".", words["decimal"])


def _quantity(value: object, unit: str, words: Words) -> str:
    """A number, or an estimate with its interval, as ``quantity`` writes it in English."""
    if isinstance(value, Estimate):
        text = _quantity(value.value, unit, words)
        if value.low is None or value.high is None:
            return text
        ends = [_quantity(end, unit, words).removesuffix("×") for end in (value.low, value.high)]
        return f"{text} ({words['from_to'].format(low=ends[0], high=ends[1])})"
    if not isinstance(value, int | float):
        return str(value)
    if unit == "x":
        return ratio_text(value, words)
    if unit == "%":
        return f"{100 * value:.0f} %"
    if unit == "n":
        text = quantity(value, unit)
        old, new = (",", "\N{NO-BREAK SPACE}") if value >= 100 else (".", words["decimal"])
        return text.replace(old, new)
    return amount(value, unit, words, 4)
