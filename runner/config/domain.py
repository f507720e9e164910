"""Domains: the real numbers that an input may hold. Nothing here imports torch; tensors are only called upon."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from runner.errors import ConfigError, suggestion

MARGIN = 1e-2  # of a bounded domain's width, kept from its ends by what is drawn, so that bfloat16 does not reach them
_NUMBER = r"[+-]?(?:inf|\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)"
_INTERVAL = re.compile(rf"([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])")


@dataclass(frozen=True)
class Domain:
    """An interval, whose ends may be infinite and belong to it or not.

    Attributes:
        low, high: its ends.
        with_low, with_high: whether they belong to it.
    """

    low: float = -math.inf
    high: float = math.inf
    with_low: bool = False
    with_high: bool = False

    @classmethod
    def parse(cls, text: str) -> Domain:
        """Read ``real``, ``positive``, ``nonnegative``, ``negative``, or an interval such as ``(-1, 1]``.

        Raises:
            ConfigError: the text is none of these, or the interval is empty.
        """
        words = text.strip().lower()
        if words in NAMED:
            return NAMED[words]
        found = _INTERVAL.fullmatch(words)
        if not found or not float(found[2]) < float(found[3]):
            raise ConfigError(
                f"{text!r} is no domain{suggestion(words, list(NAMED))}; allowed: {', '.join(NAMED)}, "
                'or an interval such as "[-1, 1]" or "(0, inf)"'
            )
        return cls(float(found[2]), float(found[3]), found[1] == "[", found[4] == "]")

    @property
    def is_real(self) -> bool:
        """Whether it is all of the real numbers."""
        return self.low == -math.inf and self.high == math.inf

    def fold(self, tensor: Any) -> Any:
        """Map real numbers into the interior: half-lines by the absolute value, intervals by a sigmoid."""
        if self.is_real:
            return tensor
        if self.high == math.inf:
            return self.low + tensor.abs()
        if self.low == -math.inf:
            return self.high - tensor.abs()
        width = self.high - self.low
        return self.low + width * (MARGIN + (1 - 2 * MARGIN) * tensor.sigmoid())

    def holds(self, tensor: Any) -> Any:
        """Where a tensor's elements are in the domain."""
        above = tensor >= self.low if self.with_low else tensor > self.low
        below = tensor <= self.high if self.with_high else tensor < self.high
        return above & below


NAMED = {
    "real": Domain(),
    "positive": Domain(0.0),
    "nonnegative": Domain(0.0, with_low=True),
    "negative": Domain(high=0.0),
}
