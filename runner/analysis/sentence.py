"""A sentence of a report before it is said in a language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sentence:
    """What the data say, for any language."""

    key: str  # of its template, which is ``say_`` and the key in ``report/language/*.yaml``
    # what the template's fields stand for: text, numbers, numbers with intervals
    values: Mapping[str, object] = field(default_factory=dict)
    cells: tuple[str, ...] = ()  # the rows that it is made from
