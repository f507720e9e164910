"""What the worker says and prints, as its parent reads it.

A function that runs in the worker can write into both pipes too, and so nothing in them is trusted:
no line is waited for beyond its time, none makes an object that is not of a few plain types, and
what is printed fills no disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runner.files import open_log

CHUNK = 2**16  # bytes that a pipe holds
LONGEST = 2**27  # bytes of a message: the blocks of a hundred sides
MOST_LOGGED, MOST_LAST = 2**20, 2**16  # bytes of a cell's log: from its beginning, and of its end


def say(connection: Connection, message: Sequence[Any]) -> None:
    """Send a message from the worker, as a line of JSON."""
    text = json.dumps(message, default=_plain, separators=(",", ":"))
    data = memoryview(text.encode() + b"\n")
    if os.name == "nt":
        connection.send_bytes(data)
        return
    while data:
        data = data[os.write(connection.fileno(), data) :]


def _plain(value: Any) -> object:
    """A number of NumPy's as Python's; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


class Log:
    """What a cell printed, in its folder: the beginning, and the end where there was too much."""

    def __init__(self, path: Path | None) -> None:
        """Without a path it goes nowhere."""
        self._path, self._file = path, -1
        self._written, self._left_out, self._last = 0, 0, b""

    def write(self, data: bytes) -> None:
        """Add what was printed; a folder that cannot be written is reported with the row."""
        if self._file < 0 and self._path is not None:
            opened, self._path = open_log(self._path), None
            self._file = -1 if opened is None else opened
        first, rest = data[: MOST_LOGGED - self._written], data[MOST_LOGGED - self._written :]
        self._written += len(first)
        self._put(first)
        if rest:
            last = self._last + rest
            self._left_out += max(0, len(last) - MOST_LAST)
            self._last = last[-MOST_LAST:]

    def close(self) -> None:
        """Add the end of what was printed, and what was left out before it."""
        if self._left_out:
            self._put(f"\n[{self._left_out:,} bytes are left out here]\n".encode())
        self._put(self._last)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._last, self._left_out = -1, b"", 0

    def _put(self, data: bytes) -> None:
        try:
            while self._file >= 0 and data:
                data = data[os.write(self._file, data) :]
        except OSError:  # a full disk, which the rows will meet too
            os.close(self._file)
            self._file = -1


class Inbox:
    """The parent's end of the worker's two pipes: its messages, and what is printed there."""

    def __init__(self, messages: Connection, output: Connection, death: int) -> None:
        """``death`` is waited for as a connection is, and comes where the process ends."""
        self._messages, self._death = messages, death
        self._output: Connection | None = output
        self._line = bytearray()

    def receive(self, limit_s: float, log: Log) -> Any:
        """The next message, or None when ``limit_s`` is over; what is printed goes to the log.

        Raises:
            EOFError: the process has ended.
            ValueError: what came is no message.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._line:
            if len(self._line) > LONGEST:
                raise ValueError("a message has no end")
            left_s = deadline - time.monotonic()
            watched: list[Connection | int] = [self._messages, self._death]
            watched += [self._output] if self._output else []
            ready = wait(watched, max(0.0, left_s))
            if self._messages in ready:
                self._line += _read(self._messages)
            elif self._death in ready:
                raise EOFError
            elif not ready or left_s <= 0:
                return None
            else:
                self._print(log)
        line, _, self._line = self._line.partition(b"\n")
        return json.loads(line)

    def drain(self, log: Log) -> None:
        """Have what was printed until now in the log."""
        for _ in range(2**20 // CHUNK):
            if self._output is None or not wait([self._output], 0):
                return
            self._print(log)

    def close(self) -> None:
        """Let go of both pipes."""
        self._messages.close()
        if self._output is not None:
            self._output.close()

    def _print(self, log: Log) -> None:
        assert self._output is not None
        try:
            data = _read(self._output)
        except EOFError:
            self._output.close()
            self._output = None  # the function has closed it
            return
        log.write(data)


def _read(connection: Connection) -> bytes:
    """What has come, and at least something."""
    if os.name == "nt":
        return connection.recv_bytes()
    data = os.read(connection.fileno(), CHUNK)
    if not data:
        raise EOFError
    return data
