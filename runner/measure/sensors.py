"""What a device tells of itself: its clock, power and temperature, what slows it, and its energy.

An NVIDIA device tells by NVML, asked for by its UUID: indices there are in the order of the bus,
and CUDA's are not. Another tells by the functions of its PyTorch module, and of the CPU Linux tells
the energy (RAPL), where it may be read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from runner.errors import one_line, tell

# the bits of nvmlClocksEventReasons (nvml.h), without those of an idle device and of a clock that
# somebody has set
REASONS = {
    0x04: "power_cap",
    0x08: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}
OF_OTHERS = ("hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake")
"""Reasons that are not the doing of what runs at the moment alone."""
POWERCAP = Path("/sys/class/powercap")
SLOW_S = 0.005  # of a reading: one that takes longer would be in the way of sampling
BETWEEN_S = 0.1  # readings: NVML's own are as old
Sources = Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class Reading:
    """What a device tells at a moment; None, and no reasons, where it does not."""

    clock_hz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    reasons: tuple[str, ...] = ()  # of :data:`REASONS`, why its clock is not higher


class Sensors:
    """A device's sensors, each a function that gives a number in SI units."""

    def __init__(self, sources: Sources) -> None:
        self._sources = dict(sources)
        self._slow = False
        self._last_s = 0.0
        self.seen: list[Reading] = []  # while sampling

    @property
    def tells(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._sources)

    def read(self) -> Reading:
        """What it tells now."""
        begun = time.perf_counter()
        bits = int(self._number("reasons") or 0)
        reading = Reading(
            self._number("clock_hz"),
            self._number("power_w"),
            self._number("temperature_c"),
            tuple(compress(REASONS.values(), map(bits.__and__, REASONS))),
        )
        self._last_s = time.perf_counter()
        self._slow = self._last_s - begun > SLOW_S
        return reading

    def watch(self) -> None:
        """Read while sampling, now and then; never where reading takes long."""
        if self.tells and not self._slow and time.perf_counter() - self._last_s >= BETWEEN_S:
            self.seen.append(self.read())

    def energy_j(self) -> float | None:
        """Joules that it has used since some moment, whatever for; None where it does not count."""
        return self._number("energy_j")

    def _number(self, name: str) -> float | None:
        source = self._sources.get(name)
        if source is None:
            return None
        try:
            return float(source())
        except Exception as error:  # of a library or a device that has no such thing
            del self._sources[name]
            tell(f"{name} cannot be read: {one_line(error)}")
            return None


def sensors_of(device: torch.device, module: Any, nvml: dict[str, Sources]) -> Sensors:
    """The sensors of a device; none where it has none, or what they are read through is not there.

    ``module`` is ``torch.cuda`` or another's; None for the CPU. ``nvml`` has those of cards
    that were opened, by their UUIDs, to which this one's are added.
    """
    if device.type == "cpu":
        return Sensors(rapl(POWERCAP))
    if device.type == "cuda" and not torch.version.hip:
        return Sensors(_nvml(module.get_device_properties(device).uuid, nvml))

    # torch.cuda says milliwatts, of AMD's devices they are watts, as of Intel's
    in_watts = device.type in ("cuda", "xpu")
    units = {
        "clock_hz": ("clock_rate", 1e6),
        "power_w": ("power_draw", 1.0 if in_watts else 1e-3),
        "temperature_c": ("temperature", 1.0),
        "reasons": ("clocks_event_reasons", 1),
        "energy_j": ("total_energy", 1e-3),
    }

    def asked(ask: Callable[[torch.device], float], unit: float) -> float:
        return ask(device) * unit

    named = {key: (getattr(module, name, None), unit) for key, (name, unit) in units.items()}
    return Sensors({k: partial(asked, ask, unit) for k, (ask, unit) in named.items() if ask})


def _nvml(uuid: object, known: dict[str, Sources]) -> Sources:
    """A card's by NVML, opened once."""
    if (card := str(uuid)) not in known:
        known[card] = _opened(card)
    return known[card]


def _opened(uuid: str) -> Sources:
    """NVML's, by nvidia-ml-py (the extra ``gpu``); none where it or the driver is not there."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        handle = _handle(nvml, uuid)
    except Exception as error:
        tell(f"clock, power and energy are not known: {one_line(error)}")
        return {}
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    return {
        "clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "reasons": partial(reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle),
        "energy_j": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
        "power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3,
    }


def _handle(nvml: ModuleType, uuid: str) -> object:
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:  # a part of one
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def nvml_identity(uuid: object, known: dict[str, Sources]) -> dict[str, Any]:
    """Driver and power limit, for ``environment.json``; nothing where NVML is not there."""
    sources = _nvml(uuid, known)
    if not sources:
        return {}
    import pynvml

    limit_w = Sensors(sources)._number("power_limit_w")
    return {"driver": str(pynvml.nvmlSystemGetDriverVersion()), "power_limit_w": limit_w}


def rapl(folder: Path) -> Sources:
    """The energy of all of the CPU's packages, by the kernel's ``powercap``.

    Each counts microjoules up to a number of its own and begins at 0 again.
    """
    counters = []
    for package in sorted(folder.glob("intel-rapl:[0-9]*")):
        try:
            if package.name.count(":") == 1 and "package" in (package / "name").read_text():
                counters.append(_Counter(package))
        except (OSError, ValueError):  # some systems keep them from users
            return {}
    return {"energy_j": lambda: sum(counter.joules() for counter in counters)} if counters else {}


class _Counter:
    """A counter of microjoules that goes on where the file's begins again."""

    def __init__(self, package: Path) -> None:
        self._file = package / "energy_uj"
        self._most = int((package / "max_energy_range_uj").read_text())
        self._last, self._total = int(self._file.read_text()), 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        self._total += (now - self._last) % (self._most + 1)
        self._last = now
        return self._total / 1e6
