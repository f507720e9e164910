"""Whether another of this machine's sweeps used a cell's device meanwhile: a lock file a device.

Every cell holds its device's lock, shared, and touches the file when it begins. A cell that could
not have had the lock exclusively at its beginning, or finds the file touched by another at its end,
ran concurrently. A cell that wants the device for itself waits its turn, and then until nobody
holds the lock. The kernel frees the locks of a process that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no shared locks on files: nothing is known there
    fcntl = None  # type: ignore[assignment]

FOLDER = Path(tempfile.gettempdir()) / "opsweep-devices"
# what lists the devices of a process in its own order
VISIBLE = {"cuda": ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), "xpu": ("ZE_AFFINITY_MASK",)}
RETRY_S = 0.2  # between two looks at a lock that another holds; nothing is measured here meanwhile


class DeviceLock:
    """One cell's hold of its device, as the worker knows it: ``cpu`` or ``cuda:0``.

    An ``exclusive`` one waits until no other cell runs there, and keeps others that want the same
    waiting; ``on_wait`` is called once where there is something to wait for.
    """

    def __init__(self, device: str, *, exclusive: bool, on_wait: Callable[[], None]) -> None:
        self._file: int | None = None
        self._turn: int | None = None
        self._touched_ns = 0
        self._concurrent = False
        if fcntl is None:
            return
        name = re.sub(r"[^A-Za-z0-9]+", "-", _machine_name(device))
        # a folder that cannot be written: nothing is known, and nothing is lost
        with contextlib.suppress(OSError):
            self._file = _opened(f"{name}.lock")
            if exclusive:
                self._turn = _opened(f"{name}.turn")
                _wait_for([self._turn, self._file], on_wait)
            else:
                self._concurrent = not _try_exclusive(self._file)
            # others have it exclusively for a moment only, to see if they can
            fcntl.flock(self._file, fcntl.LOCK_SH)
            os.utime(self._file)
            self._touched_ns = os.fstat(self._file).st_mtime_ns

    def release(self) -> bool | None:
        """Let go; whether another cell ran concurrently, or None where that is not known."""
        if self._file is None:
            return None
        concurrent = self._concurrent or os.fstat(self._file).st_mtime_ns != self._touched_ns
        for file in (self._file, self._turn):
            if file is not None:
                os.close(file)
        self._file = self._turn = None
        return concurrent


def _machine_name(device: str) -> str:
    """A device's name outside this process, which may have been given one of several as its 0."""
    kind, _, index_text = device.partition(":")
    index = int(index_text or 0)
    for variable in VISIBLE.get(kind, ()):
        visible = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
        if index < len(visible):
            return f"{kind}:{visible[index]}"
    return device


def _opened(name: str) -> int:
    """A lock's file, made for every user of the machine where it is not there yet."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(FOLDER / name, os.O_RDWR)
    FOLDER.mkdir(exist_ok=True)
    file = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.suppress(OSError):  # another user's, who has done so
        FOLDER.chmod(0o1777)
        os.fchmod(file, 0o666)
    return file


def _try_exclusive(file: int) -> bool:
    """Take the lock exclusively, unless somebody else holds it; whether it was taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(files: list[int], on_wait: Callable[[], None]) -> None:
    """Take each lock exclusively, however long others hold it."""
    waited = False
    for file in files:
        while not _try_exclusive(file):
            if not waited:
                on_wait()
                waited = True
            time.sleep(RETRY_S)
