"""Where a call goes: ``place.json``, from what was compared, and what reads it.

:func:`place` needs nothing but Python, and may be copied.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.analysis.analysis import Analysis
from runner.config.size import first_input_shape

FILE = "place.json"
SURE, EVEN = 0.95, 0.5  # where the interval of 95 % tells, and where it does not


def place(op: str, shape: Sequence[int], dtype: str, file: str = FILE) -> tuple[str, float]:
    """The device on which a call is faster, and how sure that is.

    A call that was measured counts most, then the curve of its operation along the sizes. The
    confidence is 0.95 where an interval of 95 % tells, 0.5 where the medians alone do, and 0 with
    the baseline's device where nothing like it was measured, or calls alike in this went elsewhere.
    """
    known: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    found = set()
    for call in known["calls"]:
        if (call["op"], call["shape"], call["dtype"]) == (op, list(shape), dtype):
            found.add((call["device"], SURE if call["sure"] else EVEN))
    elements = math.prod(shape)
    for curve in known["curves"] if not found else ():
        if (curve["op"], curve["dtype"]) != (op, dtype):
            continue
        low, at, high = (math.inf if end is None else end for end in curve["wins_from"])
        device = curve["device"] if elements >= at else known["baseline"]
        is_measured = curve["smallest"] <= elements <= curve["largest"]
        found.add((device, SURE if is_measured and not low < elements < high else EVEN))
    # calls that differ in what is not asked here may each have been faster elsewhere
    if len({device for device, _ in found}) != 1:
        return known["baseline"], 0.0
    return min(found)


def placements(analysis: Analysis) -> str:
    """The content of ``place.json``; blank where devices were not compared."""
    compared = [s for s in analysis.speedups if s.axis == "device" and s.speedup is not None]
    if not compared:
        return ""
    calls, workloads = [], {line.workload for line in analysis.bill}
    for speedup in compared:
        is_faster = (speedup.speedup or 0.0) > 1
        workload, _, op = speedup.op.rpartition(".")
        if workload in workloads:  # which numbers its calls of a function
            op = re.sub(r"_\d+$", "", op)
        call = {"op": op, "shape": first_input_shape(speedup.size), "dtype": speedup.dtype}
        device = speedup.other if is_faster else speedup.baseline
        calls.append({**call, "device": device, "sure": speedup.verdict in ("faster", "slower")})
    curves = []
    for curve in analysis.crossovers:
        ends = {
            "always": (0, 0, 0),
            "never": (None, None, None),  # at any size
            "found": (curve.elements_low, curve.elements, curve.elements_high),
        }.get(curve.state)
        if curve.transfers != "none" or curve.sizes < 2 or ends is None:
            continue
        sizes = [first_input_shape(size or "") or () for size in (curve.smallest, curve.largest)]
        measured = dict(zip(("smallest", "largest"), map(math.prod, sizes), strict=True))
        of_curve = {"op": curve.op, "dtype": curve.dtype, "device": curve.other}
        curves.append({**of_curve, "wins_from": ends, **measured})
    # with a line for each, as json indents a hundred times slower than it writes them
    listed = (",\n  ".join(map(json.dumps, items)) for items in (calls, curves))
    of_calls, of_curves = (f"[\n  {lines}\n ]" for lines in listed)
    baseline = json.dumps(compared[0].baseline)
    return f'{{"baseline": {baseline},\n "calls": {of_calls},\n "curves": {of_curves}}}\n'
