"""What the worker says: lines of JSON, which its parent takes for data and for nothing else.

A function that runs in the worker can write into the pipe too. So no line is waited for beyond its
time, and none makes an object that is not of a few plain types.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

CHUNK = 2**16  # bytes that a pipe holds
LONGEST = 2**27  # bytes of a message: the blocks of a hundred sides
LONGEST_S = 10**6  # that one poll may wait for


def say(connection: Connection, message: Sequence[Any]) -> None:
    """Send a message, from the worker."""
    text = json.dumps(message, default=_plain, separators=(",", ":"))
    data = memoryview(text.encode() + b"\n")
    if os.name == "nt":
        connection.send_bytes(data)
        return
    while data:
        data = data[os.write(connection.fileno(), data) :]


def _plain(value: object) -> object:
    """A number of NumPy's as Python's; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


class Inbox:
    """The parent's end; ``death`` is waited for as a connection is, and may come with the end."""

    def __init__(self, connection: Connection, *death: int) -> None:
        self._connection, self._death = connection, death
        self._line = bytearray()
        # what multiprocessing waits with is made for each message; Windows has no poll
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            for file in (connection.fileno(), *death):
                self._poll.register(file, select.POLLIN)

    def receive(self, limit_s: float) -> Any:
        """The next message, or None when ``limit_s`` is over; ValueError where it is none.

        EOFError where the process has ended.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._line:
            if len(self._line) > LONGEST:
                raise ValueError("a message has no end")
            left_s = max(0.0, deadline - time.monotonic())
            if not (ready := self._ready(left_s)):
                if left_s <= LONGEST_S:
                    return None
                continue
            if self._connection not in ready and self._connection.fileno() not in ready:
                raise EOFError
            self._line += self._read()
        line, _, self._line = self._line.partition(b"\n")
        return json.loads(line)

    def _ready(self, limit_s: float) -> list[Any]:
        """Which ends have something to say, or are no more, by their numbers or themselves."""
        if self._poll is None:
            return wait([self._connection, *self._death], limit_s)
        return [file for file, _ in self._poll.poll(math.ceil(min(limit_s, LONGEST_S) * 1e3))]

    def _read(self) -> bytes:
        """What has come, and at least something."""
        if os.name == "nt":
            return self._connection.recv_bytes()
        data = os.read(self._connection.fileno(), CHUNK)
        if not data:
            raise EOFError
        return data
