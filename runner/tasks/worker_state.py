"""What a worker finds out once, by whichever cell needs it first, and keeps for its later cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from runner.measure.detectors import Float32Times
from runner.measure.event_clock import BusyWork
from runner.measure.peaks import Peak

VerdictKey = tuple[str, torch.dtype, torch.device, bool]
MemoryKey = tuple[str, int, float, float]


@dataclass
class WorkerState:
    """The state that lives as long as the worker."""

    # the devices for which torch.compile has been started, which takes some 10 s
    compilers: set[torch.device] = field(default_factory=set)
    # of operations at their own sizes, which hold for every size
    gradient_verdicts: dict[VerdictKey, str | None] = field(default_factory=dict)
    # seconds of calls in float32, which their other dtypes are compared with
    float32_times: Float32Times = field(default_factory=dict)
    # the bytes a second that a device reaches with so many threads
    memory_peaks: dict[MemoryKey, Peak] = field(default_factory=dict)
    busy_work: dict[str, BusyWork] = field(default_factory=dict)  # by the device's name
