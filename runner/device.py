"""The one place that knows how devices differ.

Everything is on PyTorch's general interface, so that CUDA, ROCm, XPU, MPS and out-of-tree devices take the same path.
"""

from __future__ import annotations

import importlib
import platform
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from runner.cache import last_level_cache_bytes
from runner.errors import ConfigError
from runner.timing import Block, Call, Clock, HostClock


class DeviceUnavailable(Exception):
    """This machine does not have the device; the message says what it has."""


class Device:
    """A device found on this machine.

    Attributes:
        torch: the PyTorch device.
        name: for people and results: ``cpu``, ``cuda:0 NVIDIA A100``.
    """

    def __init__(self, device: torch.device) -> None:
        self.torch = device
        self.is_cpu = device.type == "cpu"
        self._module: Any = None if self.is_cpu else torch.get_device_module(device)
        self._flushed: torch.Tensor | None = None
        self.name = _cpu_name() if self.is_cpu else f"{device} {_described(self._module, device)}".strip()

    def clock(self, threads: int) -> Clock:
        """A clock for what runs here: the host's for the CPU, the device's events elsewhere."""
        if self.is_cpu:
            return HostClock(single_threaded=threads == 1)
        return EventClock(self._module, self.torch)

    def flush_cache(self) -> None:
        """Overwrite twice what the last-level cache holds, so that a call after it finds none of its data there.

        All of the intra-op threads take part, so that the caches of their cores are overwritten too.

        Raises:
            NotImplementedError: nobody has said how to do this on the device.
        """
        if not self.is_cpu:
            raise NotImplementedError(f"cache=cold is not supported on {self.torch}; use cache=warm")
        if self._flushed is None:
            self._flushed = torch.empty(2 * last_level_cache_bytes() // 8, dtype=torch.int64)
        self._flushed.fill_(0)  # writing also frees it from the system's one page of zeros, which fits into any cache

    def synchronize(self) -> None:
        """Wait until all that was launched has ended."""
        if self._module is not None:
            self._module.synchronize(self.torch)

    def reset_peak_memory(self) -> None:
        """Forget the peak of the cell before."""
        reset = getattr(self._module, "reset_peak_memory_stats", None)
        if reset is not None:
            reset(self.torch)

    def peak_memory_bytes(self) -> int | None:
        """The most memory allocated since the reset; None where the device does not count."""
        peak = getattr(self._module, "max_memory_allocated", None)
        return None if peak is None else int(peak(self.torch))

    def release(self) -> None:
        """Give memory that is cached but not used back to the device."""
        empty = getattr(self._module, "empty_cache", None)
        if empty is not None:
            empty()

    def identity(self) -> dict[str, Any]:
        """What the device is, for ``environment.json``."""
        known: dict[str, Any] = {"device": str(self.torch), "name": self.name}
        properties = getattr(self._module, "get_device_properties", None)
        if properties is not None:
            found = properties(self.torch)
            for key in ("total_memory", "major", "minor", "multi_processor_count", "driver_version", "gcnArchName"):
                if hasattr(found, key):
                    known[key] = getattr(found, key)
        return known


class EventClock:
    """Device events round each block: what the device took, gaps between launches included."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module, self._device = module, device
        event = getattr(module, "Event", None)
        self._start: Any = event(enable_timing=True) if event else None
        self._end: Any = event(enable_timing=True) if event else None

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(self, call: Call, calls: int) -> Block:
        """Time calls between two events; a synchronized wall clock where the device has none."""
        self._module.synchronize(self._device)
        if self._start is None:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            self._module.synchronize(self._device)
            return Block(time.perf_counter() - start)
        self._start.record()
        for _ in range(calls):
            call()
        self._end.record()
        self._module.synchronize(self._device)
        return Block(self._start.elapsed_time(self._end) / 1_000)  # events count in milliseconds


def find_device(name: str, backend_module: str | None = None) -> Device:
    """The device that a configuration names.

    Args:
        name: ``cpu``, ``gpu`` (whatever accelerator there is), or a type with or without an index, ``cuda:1``.
        backend_module: imported first, for devices that are not part of PyTorch.

    Raises:
        DeviceUnavailable: this machine has no such device.
        ConfigError: ``backend_module`` cannot be imported.
    """
    load_backend(backend_module)
    if name.partition(":")[0] == "cpu":
        return Device(torch.device("cpu"))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        raise DeviceUnavailable(
            f"{name}: PyTorch {torch.__version__} finds no accelerator on this machine, only the CPU"
        )
    kind, _, index_text = name.partition(":")
    if kind not in ("gpu", accelerator.type):
        raise DeviceUnavailable(f"{name}: this machine's accelerator is {accelerator.type}")
    index, count = int(index_text or 0), torch.accelerator.device_count()
    if index >= count:
        raise DeviceUnavailable(f"{name}: this machine has {count} of {accelerator.type}, numbered from 0")
    return Device(torch.device(accelerator.type, index))


def load_backend(module: str | None) -> None:
    """Import the module that adds a device to PyTorch.

    Raises:
        ConfigError: it cannot be imported.
    """
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ConfigError(f"backend_module={module} cannot be imported: {error!r}") from error


def precision_modes() -> dict[str, Any]:
    """The switches that change what a float32 product means."""
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "flush_denormal": flushes_denormals(),
    }


def flushes_denormals() -> bool:
    """Whether the CPU takes denormal numbers for 0 (``torch.set_flush_denormal``)."""
    return bool((torch.tensor([1e-310], dtype=torch.float64) * 0.5 == 0).item())


def _described(module: Any, device: torch.device) -> str:
    name = getattr(module, "get_device_name", None)
    return str(name(device)) if name is not None else ""


@lru_cache(maxsize=1)
def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"cpu {line.partition(':')[2].strip()}"
    except OSError:
        pass
    return f"cpu {platform.processor() or platform.machine()}"
