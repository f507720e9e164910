"""Locks of devices, by which cells see each other."""

from pathlib import Path

import pytest

from runner.execute import device_lock
from runner.execute.device_lock import DeviceLock


@pytest.fixture(autouse=True)
def _locks_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(device_lock, "FOLDER", tmp_path / "locks")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("cuda:0", "3,GPU-a1"), ("cuda:3", ""), True),
        (("cuda:0", "3,GPU-a1"), ("cuda:0", ""), False),
        (("cuda:1", "3,GPU-a1"), ("cuda:0", "GPU-a1"), True),
        (("cuda:1", "3,GPU-a1"), ("cuda:1", ""), False),
        (("cpu", "3,GPU-a1"), ("cpu", ""), True),
    ],
)
def test_a_device_is_locked_by_the_name_that_the_machine_knows_it_by(
    one: tuple[str, str],
    other: tuple[str, str],
    same: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each side is a device as its process names it, and the devices that this process sees."""
    locks = []
    for device, visible in (one, other):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        locks.append(DeviceLock(device, exclusive=False, on_wait=lambda: None))
    assert [lock.release() for lock in reversed(locks)] == [same, same]


def test_a_cell_that_wants_the_device_alone_is_told_of_nobody_else() -> None:
    waited: list[str] = []
    alone = DeviceLock("cpu", exclusive=True, on_wait=lambda: waited.append("waited"))
    assert alone.release() is False
    assert waited == []
