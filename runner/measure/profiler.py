"""A second opinion of a device's time: which kernels a call runs, by PyTorch's profiler.

The profiler has it from the device's own tracing (CUPTI, roctracer, Level Zero) and not from
events, so that the two are hardly wrong alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from torch.autograd import DeviceType  # type: ignore[attr-defined]  # documented, not exported
from torch.profiler import ProfilerActivity, profile, supported_activities

from runner.calls import Thunk
from runner.errors import one_line

DIFFERS = 0.05  # of the events' time: what the profiler says otherwise is flagged
ROW_S, MOST_CALLS = 0.02, 100  # of calls in a row that are profiled
LONGEST_NAME = 100  # characters of a kernel's, which are C++ templates


class Kernel(NamedTuple):
    """A kernel that ran, in seconds of the profiler's clock."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Profile:
    """What ran for a call, by the row's columns; None where the profiler saw nothing."""

    kernel_s: float | None = None
    gap_s: float | None = None
    kernels: str | None = None

    def differs(self, median_s: float | None) -> bool:
        """Whether events tell another time, the gaps between kernels counted or not."""
        if self.kernel_s is None or self.gap_s is None or median_s is None:
            return False
        low, high = self.kernel_s, self.kernel_s + self.gap_s
        return not (1 - DIFFERS) * low <= median_s <= (1 + DIFFERS) * high


Trace = Callable[[Callable[[], None]], Sequence[Kernel]]


def profiled(
    call: Thunk,
    seconds: float,
    trace: Trace,
    keep_busy: Callable[[float], None],
    synchronize: Callable[[], None],
) -> Profile:
    """What runs for a call that takes some ``seconds``, in a row behind other work.

    ``trace`` gives the kernels of what it is given to run. A first, single call starts the
    profiler, which takes seconds, and may run what is run once; a second tells how many kernels a
    call has. Where fewer ran in the row, nobody can say which are the calls'.
    """
    calls = calls_in_a_row(seconds)

    def single() -> None:
        call()
        synchronize()

    def in_a_row() -> None:
        keep_busy(ROW_S)
        for _ in range(calls):
            call()
        synchronize()

    synchronize()
    trace(single)
    count = calls * len(trace(single))
    seen = sorted(trace(in_a_row), key=attrgetter("start_s"))
    return summary(seen[-count:], calls) if 0 < count <= len(seen) else Profile()


def calls_in_a_row(seconds: float) -> int:
    """How many calls that take some ``seconds`` each are profiled."""
    return max(1, min(MOST_CALLS, round(ROW_S / seconds) if seconds > 0 else MOST_CALLS))


def activity_of(kind: str) -> ProfilerActivity | None:
    """What the profiler calls the work of a kind of device; None: it sees none of it here."""
    activity: ProfilerActivity | None = getattr(ProfilerActivity, kind.upper(), None)
    known = supported_activities()  # type: ignore[no-untyped-call]
    return activity if activity in known else None


def summary(kernels: Sequence[Kernel], calls: int) -> Profile:
    """Seconds of kernels and of gaps between them in a call, and each kernel's by its name.

    Kernels that run at the same time count once.
    """
    if not kernels:
        return Profile()
    busy_s, end_s = 0.0, kernels[0].start_s
    by_name: dict[str, list[float]] = {}
    for kernel in kernels:
        busy_s += max(0.0, kernel.end_s - max(end_s, kernel.start_s))
        end_s = max(end_s, kernel.end_s)
        by_name.setdefault(kernel.name, []).append(kernel.end_s - kernel.start_s)
    named = [
        [one_line(name, LONGEST_NAME), round(len(of) / calls, 3), sum(of) / calls]
        for name, of in by_name.items()
    ]
    # there is one gap less than kernels; a call has one before each of its own
    gaps_s = max(0.0, end_s - kernels[0].start_s - busy_s)
    gap_s = gaps_s * len(kernels) / max(1, len(kernels) - 1) / calls
    return Profile(busy_s / calls, gap_s, json.dumps(named))


def trace_of(kind: str) -> Trace:
    """Traces what runs on a kind of device; NotImplementedError where the profiler knows it not."""
    activity = activity_of(kind)
    if activity is None:
        raise NotImplementedError(f"PyTorch's profiler does not see the kernels of {kind} here")

    def trace(run: Callable[[], None]) -> Sequence[Kernel]:
        with profile(activities=[activity]) as profiler:
            run()
        return kernels_in(profiler.events() or (), getattr(DeviceType, kind.upper()))

    return trace


def kernels_in(events: Iterable[Any], kind: DeviceType) -> list[Kernel]:
    """What of a profiler's events ran on a kind of device, but for what users have marked."""
    of_device = (e for e in events if e.device_type == kind and not e.is_user_annotation)
    spans = ((event.name, event.time_range) for event in of_device)  # in microseconds
    return [Kernel(name, span.start / 1e6, span.end / 1e6) for name, span in spans]
