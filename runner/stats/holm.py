"""Claims of which none is to be wrong: Holm, Scandinavian Journal of Statistics 6, 1979."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def holding_together(p_values: Mapping[Key, float], error: float, count: int) -> set[Key]:
    """The claims that all hold, but for a chance of ``error``, among ``count`` hypotheses.

    >>> sorted(holding_together({"a": 0.001, "b": 0.04, "c": 0.009}, 0.05, 4))
    ['a', 'c']
    """
    found: set[Key] = set()
    for rank, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if p_values[key] > error / (count - rank):
            break
        found.add(key)
    return found
