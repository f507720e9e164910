"""The sentences of the report's answers, with fields for what the data say.

A field may name a unit after a colon, so that each language writes numbers and units its own way:
``s``, ``B/s``, ``x`` (a ratio), ``%`` (a share), ``n`` (a count).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping

from runner.analysis.sentence import Sentence
from runner.report.language.words import templates_of, words_of
from runner.stats.estimate import Estimate
from runner.units import digits, time_text

ENGLISH = templates_of(words_of("en"))
Quantity = Callable[[object, str], str]


def quantity(value: object, unit: str) -> str:
    """A number with its unit in English, and its interval where it has one.

    >>> quantity(Estimate(12.3, 12.0, 12.6), "x"), quantity(0.0021, "s"), quantity(4096.4, "n")
    ('12.3x (12.0 to 12.6)', '2.100 ms', '4,096')
    """
    if isinstance(value, Estimate):
        if value.low is None or value.high is None:
            return quantity(value.value, unit)
        low, high = (quantity(end, unit).removesuffix("x") for end in (value.low, value.high))
        return f"{quantity(value.value, unit)} ({low} to {high})"
    if not isinstance(value, int | float):
        return str(value)
    if unit == "s":
        return time_text(value)
    if unit == "B/s":
        return f"{digits(value / 1e9, 3)} GB/s"
    if unit == "x":
        return f"{digits(value, 3)}x"
    if unit == "%":
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else digits(value, 2)


def say(
    sentence: Sentence, templates: Mapping[str, str] = ENGLISH, numbers: Quantity = quantity
) -> str:
    """A sentence in a language.

    Args:
        sentence: what to say.
        templates: the language's, by key.
        numbers: how the language writes a number (or an estimate) in a unit.
    """
    return _Fields(templates, numbers).vformat(templates[sentence.key], (), sentence.values)


class _Fields(string.Formatter):
    """Fills a template's fields; a field may hold a sentence itself."""

    def __init__(self, templates: Mapping[str, str], numbers: Quantity) -> None:
        self._templates, self._numbers = templates, numbers

    def format_field(self, value: object, spec: str) -> str:
        if isinstance(value, Sentence):
            return say(value, self._templates, self._numbers)
        return self._numbers(value, spec) if spec else str(value)
