"""Domains: the real numbers that an input may hold. Tensors are only called upon."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import ConfigError, suggestion

if TYPE_CHECKING:  # never imported in this room
    import torch

# of a bounded domain's width, kept from its ends by what is drawn: bfloat16 does not reach them
MARGIN = 1e-2
_NUMBER = r"[+-]?(?:inf|\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)"
_INTERVAL = re.compile(rf"([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])")


@dataclass(frozen=True)
class Domain:
    """An interval, whose ends may be infinite and belong to it or not."""

    # low, high: its ends
    low: float = -math.inf
    high: float = math.inf
    # with_low, with_high: whether they belong to it
    with_low: bool = False
    with_high: bool = False

    @classmethod
    def parse(cls, text: str) -> Domain:
        """Read a name of :data:`NAMED`, or an interval such as ``(-1, 1]`` that is not empty."""
        words = text.strip().lower()
        if words in NAMED:
            return NAMED[words]
        if interval := _INTERVAL.fullmatch(words):
            low, high = float(interval[2]), float(interval[3])
            if low < high:
                return cls(low, high, interval[1] == "[", interval[4] == "]")
        hint = suggestion(words, NAMED)
        raise ConfigError(
            f"{text!r} is no domain{hint}; allowed: {', '.join(NAMED)}, "
            'or an interval such as "[-1, 1]" or "(0, inf)"'
        )

    @property
    def is_real(self) -> bool:
        """Whether it is all of the real numbers."""
        return self.low == -math.inf and self.high == math.inf

    def fold(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map real numbers into it, by the absolute value or a sigmoid.

        Integers are mapped to those in the domain; ConfigError where there is none.
        """
        if self.is_real:
            return tensor
        if not tensor.is_floating_point():
            return self._fold_integers(tensor)
        if math.inf in (self.high, -self.low):
            end, sign = (self.low, 1) if self.high == math.inf else (self.high, -1)
            folded = end + sign * tensor.abs()
            # zeros, and what rounding makes of small numbers, fall on an end that is not in it
            return folded.where(self.holds(folded), end + sign * max(1.0, abs(end)))
        width = self.high - self.low
        return self.low + width * (MARGIN + (1 - 2 * MARGIN) * tensor.sigmoid())

    def _fold_integers(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.low == -math.inf:
            return -Domain(-self.high, math.inf, self.with_high).fold(-tensor)
        least = math.ceil(self.low) + (self.low % 1 == 0 and not self.with_low)
        if self.high == math.inf:
            return least + tensor.abs()
        most = math.floor(self.high) - (self.high % 1 == 0 and not self.with_high)
        if least > most:
            raise ConfigError(f"no integer is in the domain from {self.low:g} to {self.high:g}")
        return least + tensor.abs() % (most - least + 1)

    def holds(self, tensor: torch.Tensor) -> torch.Tensor:
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
