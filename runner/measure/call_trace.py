"""``timing.profile=true``: a trace of calls for the usual viewers, and what takes their time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]  # documented, not exported
from torch.profiler import ProfilerActivity, profile

from runner.calls import Thunk
from runner.errors import one_line
from runner.measure.profiler import LONGEST_NAME, activity_of, calls_in_a_row
from runner.rows.csv_store import write_records
from runner.rows.rows import SHARES_FILE, Share

TRACE_FILE = "trace.json"
MOST_SHARES = 100  # rows


def write_trace(
    call: Thunk, seconds: float, kind: str, folder: Path, synchronize: Callable[[], None]
) -> None:
    """Leave a trace of calls that take some ``seconds`` each, and the largest shares, in a folder.

    ``trace.json`` opens in Perfetto, chrome://tracing and TensorBoard. ``kind`` is that of the
    device; one that the profiler does not see has the host's part alone.
    """
    calls = calls_in_a_row(seconds)
    activities = {ProfilerActivity.CPU, activity_of(kind) or ProfilerActivity.CPU}

    def traced(count: int) -> Any:
        with profile(activities=activities) as profiler:
            for _ in range(count):
                call()
            synchronize()
        return profiler

    traced(1)  # the first starts the profiler, which would be in the trace
    profiler = traced(calls)
    profiler.export_chrome_trace(str(folder / TRACE_FILE))
    shares = shares_of(profiler.events() or (), calls)
    if shares:
        write_records(folder / SHARES_FILE, shares[:MOST_SHARES])


def shares_of(events: Iterable[Any], calls: int) -> list[Share]:
    """What takes the time of so many calls, on the host and then on the device, longest first."""
    spent_us: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.is_user_annotation:
            continue
        if event.device_type == DeviceType.CPU:
            spent_us["host", event.name].append(event.self_cpu_time_total)
        else:
            spent_us["device", event.name].append(event.time_range.elapsed_us())

    totals_us = {"host": 0.0, "device": 0.0}
    for (where, _), times_us in spent_us.items():
        totals_us[where] += sum(times_us)
    shares = [
        Share(
            where,
            one_line(name, LONGEST_NAME),
            len(times_us) / calls,
            sum(times_us) / 1e6 / calls,
            sum(times_us) / totals_us[where] if totals_us[where] else 0.0,
        )
        for (where, name), times_us in spent_us.items()
    ]
    return sorted(shares, key=lambda share: (share.where == "device", -share.self_s))
