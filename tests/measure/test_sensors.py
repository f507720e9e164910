"""What a device tells of itself, by files and modules of the tests' own."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from runner.measure.energy import WINDOWS, energy_of
from runner.measure.sensors import Reading, Sensors, nvml_identity, rapl, sensors_of


def test_sensors_give_si_units_and_the_names_of_what_slows_the_device() -> None:
    module = SimpleNamespace(
        clock_rate=lambda device: 1_500,
        power_draw=lambda device: 200_000,
        temperature=lambda device: 40,
        clocks_event_reasons=lambda device: 0x1 | 0x4 | 0x40,
    )
    sensors = sensors_of(torch.device("privateuseone"), module, {})
    assert sensors.read() == Reading(1.5e9, 200.0, 40.0, ("power_cap", "hardware_thermal"))
    assert sensors.energy_j() is None


def test_a_sensor_that_cannot_be_read_is_blank_and_is_not_asked_again() -> None:
    asked = []

    def broken() -> float:
        asked.append(1)
        raise OSError("no permission")

    sensors = Sensors({"clock_hz": broken, "power_w": lambda: 3.0})
    assert sensors.read() == sensors.read() == Reading(None, 3.0)
    assert len(asked) == 1


def test_a_device_without_sensors_is_not_read_while_sampling() -> None:
    silent, telling = Sensors({}), Sensors({"power_w": lambda: 1.0})
    for sensors in (silent, telling):
        sensors.watch()
        sensors.watch()  # too soon after the first
    assert not silent.tells and not silent.seen
    assert telling.seen == [Reading(power_w=1.0)]


def package(folder: Path, number: int, name: str = "package-0", energy: int = 0) -> Path:
    """A package of the CPU as the kernel shows it."""
    path = folder / f"intel-rapl:{number}"
    path.mkdir()
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text("999999\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    return path


def test_the_energy_of_all_packages_is_counted_over_the_counters_end(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, energy=900_000), package(tmp_path, 1, "package-1")
    package(tmp_path, 2, "psys", energy=5)  # holds the packages' too
    sensors = Sensors(rapl(tmp_path))
    assert sensors.energy_j() == 0
    (first / "energy_uj").write_text("100000\n")  # it began at 0 again
    (second / "energy_uj").write_text("50000\n")
    assert sensors.energy_j() == pytest.approx(0.25)


def test_a_cpu_whose_energy_may_not_be_read_has_none(tmp_path: Path) -> None:
    assert rapl(tmp_path) == {}
    (package(tmp_path, 0) / "energy_uj").write_text("none of yours\n")
    assert rapl(tmp_path) == {}


def test_a_call_uses_what_is_counted_over_all_calls_of_a_row() -> None:
    used = [0.0]

    def call() -> None:
        used[0] += 0.5

    energy = energy_of(call, 1e-3, 0.8, lambda: used[0], lambda: None)
    assert list(energy) == ["energy_j", "energy_low_j", "energy_high_j"]
    assert list(energy.values()) == pytest.approx([0.5] * 3)
    assert used[0] >= 0.5 * WINDOWS
    assert energy_of(call, 1e-3, 0.8, lambda: None, lambda: None) == {}


class Nvml(ModuleType):
    """NVML as nvidia-ml-py has it, with one card, or a part of one."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    class NVMLError(Exception):
        """What it raises."""

    def __init__(self, uuid: str) -> None:
        super().__init__("pynvml")
        self.uuid, self.asked = uuid, []
        functions = {
            "Init": lambda: None,
            "DeviceGetHandleByUUID": self.handle,
            "DeviceGetClockInfo": lambda handle, kind: 1_980,
            "DeviceGetPowerUsage": lambda handle: 700_000,
            "DeviceGetTemperature": lambda handle, kind: 61,
            "DeviceGetCurrentClocksThrottleReasons": lambda handle: 0x4,
            "DeviceGetTotalEnergyConsumption": self.refused,
            "DeviceGetPowerManagementLimit": lambda handle: 700_000,
            "SystemGetDriverVersion": lambda: "580.1",
        }
        for name, function in functions.items():
            setattr(self, f"nvml{name}", function)

    def handle(self, uuid: str) -> str:
        self.asked.append(uuid)
        return uuid if uuid == self.uuid else self.refused()

    def refused(self, *of: object) -> str:
        raise self.NVMLError("Not Supported")


@pytest.mark.parametrize("kind", ["GPU", "MIG"])
def test_a_card_of_nvidias_is_asked_for_by_its_uuid(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, known = f"c0ffee-{kind}", {}
    nvml = Nvml(f"{kind}-{uuid}")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    module = SimpleNamespace(get_device_properties=lambda device: SimpleNamespace(uuid=uuid))
    sensors = sensors_of(torch.device("cuda", 1), module, known)
    assert sensors.read() == Reading(1.98e9, 700.0, 61.0, ("power_cap",))
    assert sensors.energy_j() is None  # which this card does not count
    assert nvml.asked[-1] == f"{kind}-{uuid}"
    assert nvml_identity(uuid, known) == {"driver": "580.1", "power_limit_w": 700.0}


def test_without_nvidias_library_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    module = SimpleNamespace(get_device_properties=lambda device: SimpleNamespace(uuid="absent"))
    assert not sensors_of(torch.device("cuda", 0), module, {}).tells
    assert nvml_identity("absent", {}) == {}
