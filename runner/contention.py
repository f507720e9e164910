"""Whether another of this machine's sweeps ran beside a cell on the same device: one lock file a device.

Every cell holds its device's lock, shared, and touches the file when it begins. A cell that cannot have the lock alone
at its beginning, or finds the file touched by another at its end, was not alone. A cell that is to be alone waits for
the lock and holds it alone. The kernel frees the locks of a process that is gone.
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
RETRY_S = 0.2  # between two looks at a lock that another holds; nothing is measured here meanwhile


class DeviceLock:
    """One cell's hold of its device.

    Args:
        device: as the worker knows it, ``cpu`` or ``cuda:0``.
        alone: wait until no other cell runs there, and keep others that want to be alone waiting.
        waiting: is called once where there is something to wait for.
    """

    def __init__(self, device: str, *, alone: bool, waiting: Callable[[], None] = lambda: None) -> None:
        self._file: int | None = None
        self._touched_ns = 0
        self._beside = False
        if fcntl is None:
            return
        with contextlib.suppress(OSError):  # a folder of another user's: nothing is known, and nothing is lost
            FOLDER.mkdir(mode=0o777, exist_ok=True)
            name = re.sub(r"[^a-z0-9]+", "-", device)
            self._file = os.open(FOLDER / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            self._take(alone, waiting)
            os.utime(self._file)
            self._touched_ns = os.fstat(self._file).st_mtime_ns

    def release(self) -> bool | None:
        """Let go; returns whether another cell ran beside this one, or None where that is not known."""
        if self._file is None:
            return None
        beside = self._beside or os.fstat(self._file).st_mtime_ns != self._touched_ns
        os.close(self._file)
        self._file = None
        return beside

    def _take(self, alone: bool, waiting: Callable[[], None]) -> None:
        told = False
        while not self._try(fcntl.LOCK_EX):
            if not alone:
                self._beside = True
                self._try(fcntl.LOCK_SH)
                return
            if not told:
                waiting()
                told = True
            time.sleep(RETRY_S)
        if not alone:
            self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        assert self._file is not None
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
