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
    """The state that lives as long as the worker.

    Attributes:
        compilers: the devices for which torch.compile has been started, which takes some 10 s.
        gradient_verdicts: of operations at their own sizes, which hold for every size.
        float32_times: seconds of calls in float32, which their other dtypes are compared with.
        memory_peaks: the bytes a second that a device reaches with so many threads.
        busy_work: what keeps a device busy, by its name.
    """

    compilers: set[torch.device] = field(default_factory=set)
    gradient_verdicts: dict[VerdictKey, str | None] = field(default_factory=dict)
    float32_times: Float32Times = field(default_factory=dict)
    memory_peaks: dict[MemoryKey, Peak] = field(default_factory=dict)
    busy_work: dict[str, BusyWork] = field(default_factory=dict)
