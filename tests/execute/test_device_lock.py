"""Locks of devices, by which cells see each other."""

import os
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
        locks.append(DeviceLock(device, exclusive=False, on_wait=lambda longest_s: None))
    assert [lock.release() for lock in reversed(locks)] == [same, same]


def test_a_cell_that_wants_the_device_alone_is_told_of_nobody_else() -> None:
    waited: list[str] = []
    alone = DeviceLock("cpu", exclusive=True, on_wait=lambda longest_s: waited.append("waited"))
    assert alone.release() is False
    assert waited == []


def test_a_lock_that_is_held_for_ever_is_not_waited_for_and_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is waited for is said once, and both kinds of hold end the wait."""
    monkeypatch.setattr(device_lock, "LONGEST_WAIT_S", {True: 0.3, False: 0.3})
    holder = DeviceLock("cpu", exclusive=True, on_wait=lambda longest_s: None)
    assert holder._file is not None
    device_lock.fcntl.flock(holder._file, device_lock.fcntl.LOCK_EX)
    for exclusive in (True, False):
        waited: list[float] = []
        late = DeviceLock("cpu", exclusive=exclusive, on_wait=waited.append)
        assert late.release() is None
        assert waited == [0.3]
    holder.release()


@pytest.mark.parametrize("trap", ["link", "fifo", "foreign folder", "linked folder", "file"])
def test_a_lock_is_a_file_of_ones_own_folder_or_none(trap: str, tmp_path: Path) -> None:
    """Nothing is followed, made or changed that this call has not made."""
    folder = tmp_path / "locks"
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    if trap in ("link", "fifo"):
        folder.mkdir(mode=0o700)
    if trap == "link":
        (folder / "cpu.lock").symlink_to(victim / "made")
    if trap == "fifo":
        os.mkfifo(folder / "cpu.lock")
    if trap == "foreign folder":
        folder.mkdir()
        folder.chmod(0o777)
    if trap == "linked folder":
        folder.symlink_to(victim)
    if trap == "file":
        folder.touch()
    lock = DeviceLock("cpu", exclusive=False, on_wait=lambda longest_s: None)
    assert lock.release() is None
    assert not list(victim.iterdir())
    assert victim.stat().st_mode & 0o777 == 0o700
