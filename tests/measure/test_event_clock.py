"""What keeps a device busy while calls are launched, on devices that cannot be kept so."""

import time
from typing import Any

import pytest
import torch

from runner.measure import event_clock
from runner.measure.cold_clock import ColdClock
from runner.measure.event_clock import EventClock, Queue

HOST = torch.device("cpu")


@pytest.fixture(autouse=True)
def _calibrated_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_clock, "CALIBRATING_S", 0.1)


class HostEvent:
    """A moment of the host's clock, as a device has it that computes within its launches."""

    def __init__(self, enable_timing: bool) -> None:
        self.moment = 0.0

    def record(self) -> None:
        self.moment = time.perf_counter()

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 1_000 * (end.moment - self.moment)


class HostModule:
    """A backend whose products the host computes."""

    Event = HostEvent

    @staticmethod
    def synchronize() -> None:
        """There is nothing to wait for."""


def test_a_device_whose_products_the_host_computes_is_kept_busy_by_none() -> None:
    queue = Queue(HostModule, HOST, {})
    begun = time.perf_counter()
    queue.keep_busy(0.001)
    assert time.perf_counter() - begun < 60  # sides up to 8192 would take minutes
    assert queue.own_bytes == 0
    clock, calls = EventClock(queue), []
    clock.time(lambda: calls.append(1), 1)
    block = clock.time(lambda: calls.append(1), 4)
    assert block.wall_s > 0


def test_the_search_for_work_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []
    queue = Queue(HostModule, HOST, {})

    def slow(matrix: torch.Tensor, start: Any, end: Any) -> tuple[float, float]:
        sides.append(len(matrix))
        time.sleep(0.02)
        return 0.02, 0.005  # a product never becomes long beside its launch

    monkeypatch.setattr(queue, "_time_products", slow)
    queue.keep_busy(0.0)
    assert sides and max(sides) < event_clock.LONGEST_SIDE
    assert queue.own_bytes == 4 * max(sides) ** 2  # the largest that was timed


def test_work_is_as_it_was_measured_whatever_the_cell_is_cast_to() -> None:
    queue = Queue(HostModule, HOST, {"cpu": event_clock.BusyWork(1.0, torch.ones(4, 4))})
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "mm", lambda a, b: seen.append(torch.is_autocast_enabled("cpu")))
        with torch.autocast("cpu", torch.bfloat16):
            queue.keep_busy(0.0)
    assert seen == [False]


def test_what_comes_before_a_call_comes_again_where_the_device_was_early() -> None:
    clock, log = EventClock(Queue(HostModule, HOST, {})), []
    clock.time(lambda: None, 1)
    ColdClock(clock, lambda: log.append("flush")).time(lambda: log.append("call"), 1)
    assert len(log) > 2 and log == ["flush", "call"] * (len(log) // 2)
