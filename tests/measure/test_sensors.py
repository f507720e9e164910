"""What a device tells of itself, by files and modules of the tests' own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runner.measure.energy import WINDOWS, energy_of
from runner.measure.sensors import Reading, Sensors, rapl, sensors_of


def test_sensors_give_si_units_and_the_names_of_what_slows_the_device() -> None:
    module = SimpleNamespace(
        clock_rate=lambda device: 1_500,
        power_draw=lambda device: 200_000,
        temperature=lambda device: 40,
        clocks_event_reasons=lambda device: 0x1 | 0x4 | 0x40,
    )
    sensors = sensors_of(torch.device("privateuseone"), module)
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
    assert energy.energy_j == energy.energy_low_j == energy.energy_high_j == pytest.approx(0.5)
    assert used[0] >= 0.5 * WINDOWS
    assert energy_of(call, 1e-3, 0.8, lambda: None, lambda: None).energy_j is None
