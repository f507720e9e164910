"""A run's own files: written whole or not at all, never through a link, and read within bounds."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "conf", PACKAGE.parent / "conf")  # a wheel's, and a checkout's
CONF = next(filter(Path.is_dir, FOLDERS))
IN_TURN = "ab.csv"  # the table of sides that were timed in turn, in one run
COMPARED = ("compare.csv", IN_TURN)  # the tables of a comparison's cells
LONGEST_LINE = 2**20  # characters of a CSV's line; a case's largest values take a tenth of it
LARGEST_BYTES = 2**31  # of a CSV that is read: some three million rows
MOST_BYTES = 2**26  # of a file that is read as a whole
MOST_LOGGED = 2**20  # bytes of a log
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.opsweep")
NOT_FOLLOWING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither


def beside(table: str, what: str) -> str:
    """The name of a further table that stands beside that of a comparison's cells."""
    return table.replace(".csv", f"_{what}.csv")


def write_atomically(
    path: Path, content: str | bytes | Iterable[str], *, durable: bool = True
) -> None:
    """Replace a file's content in one step; OSError, and what was there is as it was, where not.

    It is written beside the file, under a name that nobody can guess, text as UTF-8, one part after
    another; a link is replaced itself. A ``durable`` one is waited for until it is on the disk.
    """
    parts = [content] if isinstance(content, str | bytes) else content
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.opsweep")
    try:
        with open(create_file(temporary), "wb") as file:
            for part in parts:
                file.write(part if isinstance(part, bytes) else part.encode("utf-8", "replace"))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path) -> int:
    """Make a file that was not there, to be written; FileExistsError where anything was."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | NOT_FOLLOWING, 0o666)


def open_log(path: str) -> int:
    """Open a log to be added to, made where it is not there; OSError where that cannot be had.

    A file with a second name may be somebody's own, and so is left alone as a link is.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NOT_FOLLOWING, 0o666)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise FileExistsError(errno.EEXIST, "it is not the run's own", path)
    return file


def trim_log(path: Path) -> None:
    """Leave out the middle of a log that is too long."""
    with suppress(OSError):
        if path.lstat().st_size > MOST_LOGGED and not path.is_symlink():
            with path.open("rb") as file:
                first = file.read(MOST_LOGGED // 2)
                left_out = file.seek(-MOST_LOGGED // 4, os.SEEK_END) - len(first)
                middle = f"\n[{left_out:,} bytes were left out here]\n".encode()
                write_atomically(path, first + middle + file.read(), durable=False)


def make_folder(path: Path, *, parents: bool = False) -> None:
    """Make a folder of a run where it is not there yet.

    OSError where it is a link, too: what it leads to is not the run's.
    """
    path.mkdir(parents=parents, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, through which nothing is written", str(path))


def is_own(path: Path) -> bool:
    """Whether a file is there that this user alone has written, as far as the system tells."""
    if not path.is_file():
        return False
    status = path.stat()
    is_users = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return is_users and not status.st_mode & stat.S_IWOTH


def refuse_larger(file: Path | int, most: int = LARGEST_BYTES) -> None:
    """ValueError where a file is too large to read."""
    if os.stat(file).st_size > most:
        raise ValueError(f"it is larger than {most:,} bytes")


def bounded_text(path: Path, errors: str = "strict") -> str:
    """A file's text; ValueError where it is too large to read, or of another encoding."""
    refuse_larger(path, MOST_BYTES)
    return path.read_text(encoding="utf-8", errors=errors)


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; ValueError before a line, or the file, takes more memory than it may."""
    refuse_larger(file.fileno())
    for line in iter(lambda: file.readline(LONGEST_LINE), ""):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line
