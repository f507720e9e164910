"""What a call uses: a device's counter of energy, read around long rows of calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from runner.calls import Thunk
from runner.stats.intervals import median_interval

WINDOWS = 8  # rows of calls, enough for an interval of their median
SHORTEST_S = 0.1  # of a row: NVML counts on at most every 0.1 s
MOST_AT_ONCE = 100  # calls before the clock is looked at


def energy_of(
    call: Thunk,
    call_s: float,
    seconds: float,
    counted_j: Callable[[], float | None],
    synchronize: Callable[[], None],
) -> dict[str, Any]:
    """Joules of a call that takes ``call_s``, over rows of calls that take ``seconds`` in all.

    They are by the row's columns, of which there are none where nothing counts. It is what the
    whole device uses meanwhile, its idle part too.
    """
    if counted_j() is None:
        return {}
    row_s = max(SHORTEST_S, seconds / WINDOWS)
    at_once = max(1, min(MOST_AT_ONCE, int(row_s / 10 / call_s) if call_s > 0 else MOST_AT_ONCE))
    each = []
    for _ in range(WINDOWS):
        before_j, end, calls = counted_j(), time.perf_counter() + row_s, 0
        while time.perf_counter() < end:
            for _ in range(at_once):
                call()
            synchronize()  # or the device would still be at it when the counter is read
            calls += at_once
        after_j = counted_j()
        if before_j is None or after_j is None:
            return {}
        each.append((after_j - before_j) / calls)
    low, high = median_interval(sorted(each)) or (None, None)
    return {"energy_j": median(each), "energy_low_j": low, "energy_high_j": high}
