"""``cache=cold``: what is flushed, when, and what of it is timed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.measure.cold_clock import UNKNOWN_BYTES, ColdClock, last_level_cache_bytes
from runner.measure.device import Device
from runner.measure.host_clock import Block
from tests.support.factories import ran


class FakeClock:
    """Tells the time of calls from a list, and when they were timed."""

    def __init__(self, blocks: list[Block], log: list[str]) -> None:
        self.blocks, self.log = blocks, log

    def now(self) -> float:
        return 7.0

    def time(self, call: Any, calls: int, untimed: int = 0, before: Any = lambda: None) -> Block:
        before()
        self.log.append(f"time {calls}")
        call()
        return self.blocks.pop(0)


def test_a_cold_clock_flushes_before_each_call_and_adds_up_the_calls_alone() -> None:
    log: list[str] = []
    blocks = [Block(1.0, 0.5, 1, 0.1), Block(2.0, 1.5, 0, 0.2), Block(4.0, 4.0, 2, 0.4)]
    clock = ColdClock(FakeClock(blocks, log), lambda: log.append("flush"))
    assert clock.time(lambda: log.append("call"), 3) == Block(7.0, 6.0, 3, pytest.approx(0.7))
    assert log == ["flush", "time 1", "call"] * 3
    assert clock.now() == 7.0


def test_a_cold_clock_leaves_blank_what_its_clock_cannot_tell() -> None:
    clock = ColdClock(FakeClock([Block(1.0), Block(1.0, 0.5)], []), lambda: None)
    assert clock.time(lambda: None, 2) == Block(2.0)


def test_the_last_level_cache_is_read_once_for_those_who_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)

    def cache(core: int, index: int, level: int, size: str, shared: str) -> None:
        folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in {"level": level, "size": size, "shared_cpu_list": shared}.items():
            (folder / name).write_text(f"{text}\n")

    for core, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")):
        cache(core, 0, 1, "48K", str(core))
        cache(core, 2, 2, "2M", str(core))
        cache(core, 3, 3, "32768K", shared)
    assert last_level_cache_bytes(tmp_path) == 2 * 32 * 1024**2
    assert last_level_cache_bytes(tmp_path / "nothing") == UNKNOWN_BYTES


def test_flushing_writes_twice_what_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.measure.device.last_level_cache_bytes", lambda: 4096)
    device = Device(torch.device("cpu"))
    filled: list[tuple[int, int]] = []
    fill = torch.Tensor.fill_

    def noted(tensor: torch.Tensor, value: int) -> torch.Tensor:
        filled.append((tensor.nbytes, value))
        return fill(tensor, value)

    monkeypatch.setattr(torch.Tensor, "fill_", noted)
    device.flush_cache()
    device.flush_cache()
    assert filled == [(8192, 0)] * 2


def test_a_cold_cell_is_flushed_before_every_call_and_its_blocks_are_single_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushes: list[Device] = []

    def counted(device: Device) -> None:
        flushes.append(device)

    monkeypatch.setattr(Device, "flush_cache", counted)
    found = ran("sum", size=64, cache="cold")
    assert (found.status, found.cache, found.calls_per_sample) == ("ok", "cold", 1)
    assert found.samples is not None and len(flushes) > found.samples
    flushes.clear()
    assert ran("sum", size=64).status == "ok"
    assert not flushes
