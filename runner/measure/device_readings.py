"""What a device says of itself round the timing of a cell."""

from __future__ import annotations

from runner.calls import Thunk
from runner.measure.device import Device
from runner.measure.event_clock import LaunchTimes


class DeviceReadings:
    """Clock, power, memory and launch times; None where the device does not tell.

    The device is asked shortly before and after, since asking takes time itself.

    Attributes:
        launch: host seconds of a call.
        peak_memory_bytes: the most that the first call needed, what other cells hold not counted.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._held_bytes = device.held_bytes()
        self.clock_before_hz: float | None = None
        self.power_before_w: float | None = None
        self.clock_after_hz: float | None = None
        self.power_after_w: float | None = None
        self.peak_memory_bytes: int | None = None
        self.launch = LaunchTimes()

    def timing_begins(self) -> None:
        """Before the first timed call."""
        self.clock_before_hz, self.power_before_w = self._device.clock_and_power()
        self._device.reset_peak_memory()

    def first_call_ended(self) -> None:
        """After the first one."""
        peak = self._device.peak_memory_bytes()
        self.peak_memory_bytes = None if peak is None else peak - self._held_bytes

    def timing_ended(self, call: Thunk) -> None:
        """After the last one."""
        self.launch = self._device.launch_and_wall(call)
        self.clock_after_hz, self.power_after_w = self._device.clock_and_power()
