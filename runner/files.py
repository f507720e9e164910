"""A run's own files: written whole or not at all, never through a link, and read within bounds."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

LONGEST_LINE = 2**20  # characters of a CSV's line; a case's largest values take a tenth of it
LARGEST_BYTES = 2**31  # of a CSV that is read: some three million rows
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.opsweep")
NOT_FOLLOWING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace a file's content in one step.

    It is written beside the file, under a name that nobody can guess; a link is replaced itself.

    Args:
        path: the file.
        content: its new content; text is written as UTF-8.
        durable: wait until the content is on the disk.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.opsweep")
    try:
        with open(create_file(temporary), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path | str) -> int:
    """Make a file that was not there, to be written; FileExistsError where anything was."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | NOT_FOLLOWING, 0o666)


def open_log(path: Path) -> int | None:
    """Open a log to be added to, made where it is not there; None where that cannot be had.

    A file with a second name may be somebody's own, and so is left alone as a link is.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NOT_FOLLOWING, 0o666)
    except OSError:
        return None  # a folder that cannot be written is reported with the row
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return file
    os.close(file)
    return None


def make_folder(path: Path, *, parents: bool = False) -> None:
    """Make a folder of a run where it is not there yet.

    Raises:
        OSError: it cannot be made, or is a link: what it leads to is not the run's.
    """
    path.mkdir(parents=parents, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, through which nothing is written", str(path))


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; ValueError before a line, or the file, takes more memory than it may."""
    if os.fstat(file.fileno()).st_size > LARGEST_BYTES:
        raise ValueError(f"it is larger than {LARGEST_BYTES:,} bytes")
    for line in iter(lambda: file.readline(LONGEST_LINE), ""):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line
