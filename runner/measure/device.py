"""The one place that knows how devices differ.

Everything is on PyTorch's general interface, so that CUDA, ROCm, XPU, MPS and out-of-tree devices
take the same path.
"""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.direction import restored_by
from runner.errors import ConfigError, one_line
from runner.measure.cold_clock import last_level_cache_bytes
from runner.measure.event_clock import LAUNCHES, BusyWork, EventClock, Queue
from runner.measure.event_clock import launch_and_wall as timed_launches
from runner.measure.host_clock import Clock, HostClock
from runner.measure.host_memory import memory_reading, reset_high_water_mark, values_in
from runner.measure.profiler import Profile, profiled, trace_of
from runner.measure.sensors import OF_OTHERS, Reading, Sensors, Sources, nvml_identity, sensors_of
from runner.measure.switches import made_current
from runner.rows.flags import merged

WORK_BEFORE_CLOCK_S = 0.02  # an idle device lowers its clock, and takes milliseconds to raise it
CALLS_BEFORE_CAPTURE = 3
CACHES = ("L2_cache_size", "last_level_cache_size")  # of a device's properties
# more than any accelerator's caches hold: some have one behind the L2 and do not tell of it
BEYOND_CACHES_BYTES = 512 * 1024**2
MEMORY_SHARE = 1 / 8  # of an accelerator's memory, for what is to be beyond its caches
# of a device's properties, for ``environment.json``
FACTS = ("total_memory", "major", "minor", "multi_processor_count", "gcnArchName", *CACHES)
THROTTLED_BELOW = 0.95  # of the clock before: steps of a few per cent are every device's habit


class DeviceUnavailable(Exception):
    """This machine does not have the device; the message says what it has."""


@dataclass
class KnownOfDevices:
    """What earlier cells' devices have found out, which later ones need not look for again."""

    busy_work: dict[str, BusyWork] = field(default_factory=dict)  # by the device's name
    nvml: dict[str, Sources] = field(default_factory=dict)  # by the UUID of a card
    # by whether one thread does all the work
    host_clocks: dict[bool, HostClock] = field(default_factory=dict)

    @cached_property
    def cpu_name(self) -> str:
        """What the CPU is called in results."""
        models = values_in("/proc/cpuinfo", "model name")
        return f"cpu {next(iter(models), platform.processor() or platform.machine())}"


class Device:
    """A device found on this machine."""

    def __init__(self, device: torch.device, known: KnownOfDevices | None = None) -> None:
        self.torch = device
        self._known = known or KnownOfDevices()
        self.is_cpu = device.type == "cpu"
        self._module: Any = None if self.is_cpu else torch.get_device_module(device)
        self._flushed: torch.Tensor | None = None
        self.name = self._known.cpu_name  # for people and results: ``cpu``, ``cuda:0 NVIDIA A100``
        if not self.is_cpu:
            self.name = f"{device} {self._asked('get_device_name') or ''}".strip()

    def _asked(self, name: str) -> Any:
        """What a function of the device's module says of it; None where it has no such one."""
        ask = getattr(self._module, name, None)
        return None if ask is None else ask(self.torch)

    @cached_property
    def _queue(self) -> Queue:
        return Queue(self._module, self.torch, self._known.busy_work)

    def clock(self, threads: int) -> Clock:
        """A clock for what runs here: the host's for the CPU, the device's events elsewhere."""
        if not self.is_cpu:
            return EventClock(self._queue)
        clocks, alone = self._known.host_clocks, threads == 1
        if alone not in clocks:
            clocks[alone] = HostClock(single_threaded=alone)
        return clocks[alone]

    def plain_clock(self) -> Clock:
        """One that does not ask what the scheduler did meanwhile."""
        if not self.is_cpu:
            return EventClock(self._queue)
        return HostClock(single_threaded=False, watched=False)

    def launch_and_wall(self, call: Thunk, most: int = LAUNCHES) -> dict[str, Any]:
        """Host seconds of a call's launch and to its end; none on the CPU, which launches none."""
        return {} if self.is_cpu else timed_launches(call, self.synchronize, most)

    def synchronize(self) -> None:
        """Wait until all that was launched has ended."""
        if not self.is_cpu:
            self._queue.synchronize()

    @cached_property
    def sensors(self) -> Sensors:
        """What it tells of itself."""
        return sensors_of(self.torch, self._module, self._known.nvml)

    def reading_at_work(self) -> Reading:
        """What the sensors tell while it works; an idle device lowers its clock."""
        if self.is_cpu or not self.sensors.tells:
            return Reading()
        self._queue.keep_busy(WORK_BEFORE_CLOCK_S)
        try:
            return self.sensors.read()
        finally:
            self.synchronize()

    def profile(self, call: Thunk, seconds: float) -> Profile:
        """The kernels of a call that takes some ``seconds``, by PyTorch's profiler.

        NotImplementedError on the CPU, which launches none, and where the profiler sees none.
        """
        # a device that is not part of PyTorch may have a tracing of its own
        trace = getattr(self._module, "trace_kernels", None) or trace_of(self.torch.type)
        return profiled(call, seconds, trace, self._queue.keep_busy, self.synchronize)

    def start_libraries(self) -> None:
        """Have the libraries for products take what memory they keep, before any is counted."""
        if not self.is_cpu:
            self._queue.keep_busy(0.0)

    @cached_property
    def _stream_aside(self) -> Any:
        return self._module.Stream(self.torch)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On the stream that graphs are captured on, after what was launched before.

        A backward pass runs on the stream of its forward pass, whichever is current then. Nothing
        where the device has no streams.
        """
        if not hasattr(self._module, "Stream"):
            yield
            return
        with made_current(self.torch):
            usual, stream = self._module.current_stream(), self._stream_aside
            stream.wait_stream(usual)
            with self._module.stream(stream):
                yield
            usual.wait_stream(stream)

    def captured(self, call: Thunk) -> Thunk:
        """A call's launches as a CUDA graph, launched all at once; its inputs are as before.

        NotImplementedError where the device has no such graphs.
        """
        names = ("graph", "CUDAGraph")
        capture, graph_type = (getattr(self._module, name, None) for name in names)
        graph_type = graph_type or getattr(self._module, "XPUGraph", None)
        if capture is None or graph_type is None:
            raise NotImplementedError(
                f"graph=true needs CUDA graphs, which {self.torch.type} has not; use graph=false"
            )
        # what is loaded or allocated at a first call must not be captured
        restore = getattr(call, "restore", lambda: None)
        with self.aside():
            for _ in range(CALLS_BEFORE_CAPTURE):
                call()
                restore()

        # the result is the graph's own memory, which each replay fills again; PyTorch's own stream
        # for it is of the device that was the first to need one
        graph = graph_type()
        with made_current(self.torch), capture(graph, stream=self._stream_aside):
            result = call()

        def replay() -> object:
            graph.replay()
            return result

        return restored_by(restore, replay)

    @property
    def cache_bytes(self) -> int:
        """Bytes of its last-level caches, as far as it tells of them."""
        if self.is_cpu:
            return last_level_cache_bytes()
        properties = self._asked("get_device_properties")
        return max(int(getattr(properties, name, 0) or 0) for name in CACHES)

    def share_of(self, size: int) -> int:
        """So many bytes, or of a small accelerator's memory a part that leaves room for others."""
        memory = getattr(self._asked("get_device_properties"), "total_memory", None)
        return size if memory is None else min(size, int(memory * MEMORY_SHARE))

    def flush_cache(self) -> None:
        """Overwrite twice what the last-level cache holds: the next call finds nothing there.

        On the CPU all of the intra-op threads take part, so that the caches of their cores are
        overwritten too; on another device this is launched like any work.
        """
        if self._flushed is None:
            size = 2 * self.cache_bytes
            if not self.is_cpu:
                size = max(size, self.share_of(BEYOND_CACHES_BYTES))
            self._flushed = torch.empty(size // 8, dtype=torch.int64, device=self.torch)
        # also frees it from the system's one page of zeros, which fits into any cache
        self._flushed.fill_(0)

    def reset_peak_memory(self) -> None:
        """Forget the peak of the cell before."""
        self._asked("reset_peak_memory_stats")
        if self.is_cpu:
            reset_high_water_mark()

    def peak_memory_bytes(self) -> int | None:
        """The most that a cell allocated since the reset; None where the device does not count."""
        return self._memory_but_own("max_memory_allocated", "VmHWM")

    def held_bytes(self) -> int:
        """What is allocated now, such as another cell's; 0 where the device does not count."""
        return self._memory_but_own("memory_allocated", "VmRSS") or 0

    def _memory_but_own(self, reading: str, of_process: str) -> int | None:
        """A number of bytes without those that timing itself takes; on the CPU the process's."""
        allocated = memory_reading(of_process) if self.is_cpu else self._asked(reading)
        own = 0 if self.is_cpu else self._queue.own_bytes
        own += self._flushed.nbytes if self._flushed is not None else 0
        return None if allocated is None else int(allocated) - own

    def release(self) -> None:
        """Give memory that is cached but not used back to the device."""
        self._flushed = None
        self.__dict__.pop("_queue", None)
        empty = getattr(self._module, "empty_cache", None)
        if empty is not None:
            empty()

    def try_out(self) -> None:
        """Have it do something, which starts it; RuntimeError where it cannot."""
        if float(torch.ones(1, device=self.torch).item()) != 1.0:
            raise RuntimeError("it holds another number than the one that was written")

    def is_well(self) -> bool:
        """Whether the device still works for this process: an error may have taken its context."""
        if self.is_cpu:
            return True
        try:
            self.synchronize()
            return float((torch.ones(2, device=self.torch) + 1).sum().item()) == 4.0
        except Exception:
            return False

    def identity(self) -> dict[str, Any]:
        """What the device is, for ``environment.json``."""
        properties = self._asked("get_device_properties")
        told = {key: getattr(properties, key) for key in FACTS if hasattr(properties, key)}
        if hasattr(properties, "uuid"):
            told["uuid"] = str(properties.uuid)
        if self.torch.type == "cuda" and not torch.version.hip:  # AMD's have no NVML
            told |= nvml_identity(properties.uuid, self._known.nvml)
        return {"device": str(self.torch), "name": self.name, "index": self.torch.index, **told}


class DeviceReadings:
    """Sensors, memory and launch times; None where the device does not tell.

    The device is asked shortly before and after, and now and then while it is timed.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        device.start_libraries()
        self._held_bytes = device.held_bytes()
        self._before, self._after = Reading(), Reading()
        # the most that the first call needed, what other cells hold not counted
        self.peak_memory_bytes: int | None = None
        self.launch: dict[str, Any] = {}

    def timing_begins(self) -> None:
        """Before the first timed call."""
        self._before = self._device.reading_at_work()
        self._device.reset_peak_memory()

    def first_call_ended(self) -> None:
        """After the first one."""
        peak = self._device.peak_memory_bytes()
        self.peak_memory_bytes = None if peak is None else max(0, peak - self._held_bytes) or None

    def timing_ended(self, call: Thunk) -> None:
        """After the last one."""
        self.launch = self._device.launch_and_wall(call)
        self._after = self._device.reading_at_work()

    @property
    def throttled(self) -> bool:
        """Whether the clock fell, or the device was slowed by what is not the call's alone."""
        before_hz, after_hz = self._before.clock_hz, self._after.clock_hz
        fell = before_hz and after_hz and after_hz < THROTTLED_BELOW * before_hz
        return bool(fell) or not set(OF_OTHERS).isdisjoint(self.columns()["throttle_reasons"])

    def columns(self) -> dict[str, Any]:
        """The row's columns of the sensors."""
        readings = [self._before, *self._device.sensors.seen, self._after]
        clocks = [reading.clock_hz for reading in readings if reading.clock_hz is not None]
        warmths = [r.temperature_c for r in readings if r.temperature_c is not None]
        return {
            "clock_before_hz": self._before.clock_hz,
            "clock_after_hz": self._after.clock_hz,
            "clock_low_hz": min(clocks, default=None),
            "power_before_w": self._before.power_w,
            "power_after_w": self._after.power_w,
            "temperature_c": max(warmths, default=None),
            "throttle_reasons": merged(*(reading.reasons for reading in readings)),
        }


def find_device(
    name: str, backend_module: str | None = None, known: KnownOfDevices | None = None
) -> Device:
    """The device of a name: ``cpu``, ``gpu`` (whichever there is), ``cuda`` or ``cuda:1``.

    ``backend_module`` is imported first, for a device that is not part of PyTorch; ``known`` is
    what was found out for earlier cells. DeviceUnavailable where this machine
    has no such device, or it cannot be used; ConfigError where the module cannot be imported.
    """
    if backend_module:
        try:
            importlib.import_module(backend_module)
        except Exception as error:
            problem = f"backend_module={backend_module} cannot be imported: {error!r}"
            raise ConfigError(problem) from error
    kind, _, index_text = name.partition(":")
    if kind == "cpu":
        return Device(torch.device("cpu"), known)
    with warnings.catch_warnings(record=True) as said:  # such as that the driver is too old
        warnings.simplefilter("always")
        accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        finds = f"PyTorch {torch.__version__} finds no accelerator on this machine, only the CPU"
        why = "; ".join(one_line(warning.message) for warning in said)
        raise DeviceUnavailable(f"{name}: {finds}{f' ({why})' if why else ''}")
    if kind not in ("gpu", accelerator.type):
        raise DeviceUnavailable(f"{name}: this machine's accelerator is {accelerator.type}")
    index, count = int(index_text or 0), torch.accelerator.device_count()
    if index >= count:
        has = f"this machine has {count} of {accelerator.type}, numbered from 0"
        raise DeviceUnavailable(f"{name}: {has}")
    try:
        device = Device(torch.device(accelerator.type, index), known)
        device.try_out()
    except RuntimeError as error:  # another process has it alone, or this build has no code for it
        problem = f"{accelerator.type}:{index} cannot be used ({one_line(error)})"
        raise DeviceUnavailable(f"{name}: {problem}") from error
    return device
