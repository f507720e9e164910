"""Numbers for people; everything else keeps SI units and full precision."""

from __future__ import annotations

import math

UNITS = {
    **{"flop_per_s": "FLOP/s", "bytes_per_s": "B/s", "_bytes": "B", "_s": "s"},
    **{"_hz": "Hz", "_w": "W", "seconds": "s"},
}
"""By a column's ending."""


def time_text(seconds: float) -> str:
    """A time with a fitting unit: ``1.23 ms``."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 cell``, ``2 cells``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def unit_of(column: str) -> str:
    """The unit of a column's numbers, which is in its name; blank where they have none."""
    return next((unit for end, unit in UNITS.items() if column.endswith(end)), "")


def digits(value: float, significant: int = 4) -> str:
    """A number with a few significant digits and no exponent: ``0.01234``, ``1234``."""
    if value == 0 or not math.isfinite(value):
        return str(value).removesuffix(".0")
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
