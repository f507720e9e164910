"""Whether another of the user's sweeps used a cell's device meanwhile: a lock file a device.

Every cell holds its device's lock, shared, and touches the file when it begins. A cell that could
not have had the lock exclusively at its beginning, or finds the file touched by another at its end,
ran concurrently. A cell that wants the device for itself waits its turn, and then until nobody
holds the lock. The kernel frees the locks of a process that is gone. The locks are in a folder of
the user's own: nobody else can hold them, or put a link there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no shared locks on files: nothing is known there
    fcntl = None  # type: ignore[assignment]

USER = os.getuid() if hasattr(os, "getuid") else "user"  # Windows has a folder for each user
FOLDER = Path(tempfile.gettempdir()) / f"opsweep-devices-{USER}"
# what lists the devices of a process in its own order
VISIBLE = {"cuda": ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), "xpu": ("ZE_AFFINITY_MASK",)}
RETRY_S = 0.2  # between two looks at a lock that another holds; nothing is measured here meanwhile
LONGEST_WAIT_S = {
    True: 3_600.0,
    False: 60.0,
}  # of a cell that wants the device alone, and of others


class DeviceLock:
    """One cell's hold of its device, as the worker knows it: ``cpu`` or ``cuda:0``.

    An ``exclusive`` one waits until no other cell runs there, and keeps others that want the same
    waiting; ``on_wait`` is called once where there is something to wait for, with the most seconds.
    """

    def __init__(self, device: str, *, exclusive: bool, on_wait: Callable[[float], None]) -> None:
        self._file: int | None = None
        self._turn: int | None = None
        self._touched_ns = 0
        self._concurrent = False
        self._longest_s, self._begun_s = LONGEST_WAIT_S[exclusive], 0.0
        self._on_wait = on_wait
        if fcntl is None:
            return
        name = re.sub(r"[^A-Za-z0-9]+", "-", _machine_name(device))
        try:
            self._file = _opened(f"{name}.lock")
            if exclusive:
                self._turn = _opened(f"{name}.turn")
                self._take(self._turn, fcntl.LOCK_EX)
                self._take(self._file, fcntl.LOCK_EX)
            else:
                self._concurrent = not _try(self._file, fcntl.LOCK_EX)
            # others have it exclusively for a moment only, to see if they can
            self._take(self._file, fcntl.LOCK_SH)
            os.utime(self._file)
            self._touched_ns = os.fstat(self._file).st_mtime_ns
        except OSError:  # it cannot be had: nothing is known, and nothing is lost
            self._let_go()

    def _take(self, file: int, how: int) -> None:
        """Take a lock; TimeoutError where others hold it for too long."""
        while not _try(file, how):
            if not self._begun_s:
                self._begun_s = time.monotonic()
                self._on_wait(self._longest_s)
            if time.monotonic() - self._begun_s > self._longest_s:
                raise TimeoutError
            time.sleep(RETRY_S)

    def release(self) -> bool | None:
        """Let go; whether another cell ran concurrently, or None where that is not known."""
        if self._file is None:
            return None
        concurrent = self._concurrent or os.fstat(self._file).st_mtime_ns != self._touched_ns
        self._let_go()
        return concurrent

    def _let_go(self) -> None:
        for file in (self._file, self._turn):
            if file is not None:
                os.close(file)
        self._file = self._turn = None


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
    """A lock's file, made where it is not there yet; OSError where it is not the user's alone."""
    with contextlib.suppress(FileExistsError):
        FOLDER.mkdir(0o700)
    folder = FOLDER.lstat()
    if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != USER or folder.st_mode & 0o022:
        raise PermissionError(f"{FOLDER} is not the user's alone")
    file = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise PermissionError(f"{name} is no file")
    return file


def _try(file: int, how: int) -> bool:
    """Take a lock, unless somebody else holds it; whether it was taken."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
