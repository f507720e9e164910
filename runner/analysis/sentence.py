"""A sentence of a report before it is said in a language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sentence:
    """What the data say, for any language.

    Attributes:
        key: of its template, which is ``say_`` and the key in ``report/language/*.yaml``.
        values: what the template's fields stand for: text, numbers, numbers with intervals.
        cells: the rows that it is made from.
    """

    key: str
    values: Mapping[str, object] = field(default_factory=dict)
    cells: tuple[str, ...] = ()
