"""Standard output and error that may be closed or full, which no folder's files depend on."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from threading import local
from typing import TextIO


class Stream:
    """A stream that goes nowhere once it cannot be written, as where ``| head`` has read enough.

    A line is handed on whole, with its end: ``print`` writes the two one after the other, and where
    output and errors share a file, something else could come in between.
    """

    def __init__(self, stream: TextIO | None) -> None:
        if stream is None:  # a shell's >&-
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (kept to the end)
            # or the worker's first file would take the place of its output
            os.set_inheritable(stream.fileno(), True)
        if isinstance(stream, TextIOWrapper):  # or a sign that it has not would end the report
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream
        self._begun = local()  # the line that a thread has begun
        self.error: OSError | None = None  # why it could not be written

    def write(self, text: str) -> int:
        """Write whole lines, or remember why that is no longer possible."""
        lines, end, begun = (getattr(self._begun, "text", "") + text).rpartition("\n")
        self._begun.text = begun
        try:
            if end:
                self._stream.write(lines + end)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or remember why that is no longer possible."""
        begun, self._begun.text = getattr(self._begun, "text", ""), ""
        try:
            if begun:
                self._stream.write(begun)
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        # also for what Python still holds and writes at its end
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def install() -> None:
    """Have the process write through streams of this kind."""
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)


def exit_code(code: int) -> int:
    """The exit code, given what became of standard output, which is said if nobody wanted it."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is None or isinstance(error, BrokenPipeError):
        return code
    advice = "what was measured is in its folder"
    print(f"cannot write standard output: {error.strerror}; {advice}", file=sys.stderr)
    return code or 1
