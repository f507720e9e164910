"""The folder of a run: its name, and that it is nobody else's."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.errors import ConfigError

LONGEST_FOLDER_NAME = 120  # characters, of the 255 that a file system allows
WRITTEN = (
    *("multirun.yaml", "environment.json", "report.md", "report.html"),
    *("speedup.csv", "crossover.csv", "samples.csv", "pairs.csv"),
)
"""What a run leaves in its folder beside its rows: where one is there, it is somebody's."""


def refuse_results(folder: Path) -> None:
    """Never write over another run.

    Raises:
        ConfigError: the folder holds results.
    """
    from runner.rows.rows import FILE_OF_JOB

    if any(os.path.lexists(folder / name) for name in (*FILE_OF_JOB.values(), *WRITTEN)):
        advice = "choose another folder, or remove it first"
        raise ConfigError(f"{folder} already holds the results of a run; {advice}")


def folder_name(overrides: str) -> str:
    """A job's overrides as part of a folder's name: what a file system takes, and not too long."""
    safe = re.sub(r"[^\w.,=+\-]+", "-", overrides).strip("-")
    if len(safe) <= LONGEST_FOLDER_NAME:
        return safe
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    return f"{safe[: LONGEST_FOLDER_NAME - 9]}-{digest}"


@contextmanager
def claimed(root: Path, *, resuming: bool, begun: Callable[[], bool]) -> Iterator[None]:
    """Have a sweep's folder to ourselves, and give it back where nothing has ``begun`` in it.

    Where it is ``resuming``, it holds what was measured before.

    Raises:
        ConfigError: it holds another run's results, or another process is at work in it.
        OSError: it cannot be made or written.
    """
    from filelock import FileLock, Timeout

    if not resuming:
        refuse_results(root)
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        advice = "wait for its end, or choose another folder"
        raise ConfigError(f"{root} is in use by another sweep; {advice}") from error
    try:
        if not resuming:
            refuse_results(root)  # another may have come and gone since
        yield
    finally:
        lock.release()
        # A sweep that was refused leaves no trace, so that the next may have the same folder.
        if not resuming and not begun():
            for name in ("multirun.yaml", "environment.json", ".lock"):
                (root / name).unlink(missing_ok=True)
            with suppress(OSError):  # it was there before, with other things in it
                root.rmdir()
