"""A task: one cell, and what is needed to do its job in the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from runner.calls.bound_arguments import BoundArguments
from runner.calls.bound_operation import BoundOperation
from runner.calls.module import ModuleFunction, made_callable
from runner.calls.whole_model import made_model
from runner.cells.cell import Cell
from runner.config.operation import Operation
from runner.config.signature import Dimensions
from runner.measure.detectors import Float32Times
from runner.measure.device import Device, KnownOfDevices
from runner.measure.gate import WAITING, Gate
from runner.measure.kernels import Kernels
from runner.measure.peaks import Peak
from runner.measure.sentinel import Sentinel
from runner.measure.switches import Switches
from runner.rows.rows import AnyRow, Row, Sample, identified, with_values

Function = Callable[..., Any]
ReportStep = Callable[[str], None]
VerdictKey = tuple[str, torch.dtype, torch.device, str]
MemoryKey = tuple[str, int, float, float]
SentinelKey = tuple[str, int, Kernels]


class Verdict(NamedTuple):
    """What is known of an operation's gradient, and why, where there is more to say."""

    verdict: str | None = None
    reason: str = ""


@dataclass
class WorkerState:
    """The state that lives as long as the worker."""

    # the devices for which torch.compile has been started, which takes some 10 s
    compilers: set[torch.device] = field(default_factory=set)
    # of operations at their own sizes, which hold for every size
    gradient_verdicts: dict[VerdictKey, Verdict] = field(default_factory=dict)
    # seconds of calls in float32, which their other dtypes are compared with
    float32_times: Float32Times = field(default_factory=dict)
    # the bytes a second that a device reaches with so many threads
    memory_peaks: dict[MemoryKey, Peak] = field(default_factory=dict)
    # what has been called here, by callable, size, dtype, device and whether it is compiled
    called: set[tuple[object, ...]] = field(default_factory=set)
    devices: KnownOfDevices = field(default_factory=KnownOfDevices)
    # by the device's name, the number of threads and what they time
    sentinels: dict[SentinelKey, Sentinel] = field(default_factory=dict)
    # whether this machine's best is the same as in other runs: an environment may slow kernels down
    shares_best: bool = True
    began_s: float = field(default_factory=time.monotonic)
    gates: list[Gate] = field(default_factory=list)  # the latest
    lost_s: float = 0.0  # to slow moments, waited or measured in them, before the latest gate
    futile_s: float = 0.0  # lost in a row without a calm moment
    switches: Switches = field(default_factory=Switches)  # as they were before any user's module


class TaskResult(NamedTuple):
    """A cell's rows, and the blocks that its times were taken from."""

    rows: Sequence[Row]
    samples: Sequence[Sample] = ()


Keep = Callable[[TaskResult], None]
MOST_SHOWN = 256  # elements of a tensor in a row's text
MANY_TIMES = 100  # beyond which a slowdown is not said to the digit


@dataclass(frozen=True)
class Task:
    """What a job gets; whatever it raises becomes the cell's status and reason."""

    cell: Cell  # its dimensions are known
    device: Device
    function: Function | None  # what the operation or case calls; None: its code is in its file
    state: WorkerState  # what earlier cells of this worker have found out
    report_step: ReportStep  # is called as each step begins, for a cell that ends in it
    # is given what is known before a step that may end the process; of what is not kept, the cell
    # runs again
    keep: Keep = lambda result: None
    folder: Path | None = None  # for what is no row; None: the cell has none
    memory_bytes: int | None = None  # that it may take of the host's; None: it is not known

    @property
    def threads(self) -> int:
        """The intra-op threads that the cell has."""
        return self.state.switches.threads_of(self.cell)

    def report_wait(self, slowdown: float) -> None:
        """Say that the cell waits for a calm moment.

        A small kernel that waited for a core is thousands of times slower, which says no more.
        """
        slow = f"{slowdown:.1f}" if slowdown < MANY_TIMES else f"more than {MANY_TIMES}"
        self.report_step(f"{WAITING} the machine is {slow} times slower than at its best")

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's, by the cell's name of it."""
        dtype: torch.dtype = getattr(torch, self.cell.dtype)
        return dtype

    def bound(self, dimensions: Dimensions | None = None, **drawn: Any) -> BoundOperation:
        """The cell's operation, at its own dimensions or at others."""
        cell, sizes = self.cell, dimensions or self.cell.dimensions
        assert self.function is not None and sizes is not None
        op, reference = cell.operation, cell.operation.load_reference()
        function = self._made(self.function, op, sizes)
        if op is not op.declared and reference is not None:
            reference = self._made(reference, op.declared, sizes)
        modules = [made for made in (reference, function) if isinstance(made, ModuleFunction)]
        drawn |= {"module": modules[0]} if modules else {}
        drawn |= {"device": self.device.torch, "reference": reference}
        bound = BoundOperation(cell.operation, function, sizes, self.dtype, cell.seed, **drawn)
        return BoundArguments.of(bound) if op.parsed.is_open else bound

    def _made(self, function: Function, op: Operation, sizes: Dimensions) -> Function:
        if op.passes:
            who = f"model {op.call}"
            return ModuleFunction(made_model(function, op.passes, self.cell.seed, who))
        args, _, kwargs = op.constants(sizes)
        return made_callable(function, args, kwargs, self.cell.seed)

    def blank(self, row_type: type[AnyRow]) -> AnyRow:
        """A row of the cell, with what it ran on."""
        threads = self.state.switches.threads_of(self.cell)
        row = identified(row_type, self.cell)
        return with_values(row, device_name=self.device.name, threads=threads)
