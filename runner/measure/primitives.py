"""Which of oneDNN's primitives run: it says so on the standard output, in its verbose mode.

A line is ``onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,...``: the kind, and the
implementation that oneDNN chose for this processor, size and dtype
(https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from io import FileIO

from torch.backends import mkldnn

SWITCHES = ("ONEDNN_VERBOSE", "DNNL_VERBOSE")  # of who wants to read those lines
SAID = re.compile(rb"(?:onednn|dnnl)_verbose,[^\n]*\n?")
STDOUT = 1
CANNOT = (OSError, ValueError, AttributeError, AssertionError, RuntimeError)  # hold it back


@contextmanager
def primitives_counted() -> Iterator[Counter[str]]:
    """Count the primitives that run meanwhile; what else is printed is printed when it is over.

    None are seen where oneDNN is not there, its output cannot be held back, or somebody reads it.
    """
    counted: Counter[str] = Counter()
    held = ExitStack()
    file = _listen(held)
    try:
        yield counted
    finally:
        held.close()
        text = _taken_from(file) if file else b""
        for line in SAID.findall(text):
            counted.update(_primitive(line.decode(errors="replace")))
        if others := SAID.sub(b"", text):
            with suppress(OSError):
                os.write(STDOUT, others)


def _taken_from(file: FileIO) -> bytes:
    """What a file holds, and no longer does."""
    file.seek(0)
    text = file.readall()
    file.seek(0)
    file.truncate()
    return text


def _listen(held: ExitStack) -> FileIO | None:
    """The file that has what oneDNN says until ``held`` ends; None where nothing can be heard."""
    is_there = os.name == "posix" and mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not is_there or any(name in os.environ for name in SWITCHES):
        return None
    try:
        with ExitStack() as trying:
            file = _file(os.getpid())
            trying.enter_context(_held_back(file))
            verbose = mkldnn.verbose(mkldnn.VERBOSE_ON)  # type: ignore[no-untyped-call]
            trying.enter_context(verbose)
            held.enter_context(trying.pop_all())
    except CANNOT:
        return None
    return file


@cache
def _file(process: int) -> FileIO:
    """One for all calls of a process: each would cost a tenth of a millisecond."""
    return tempfile.TemporaryFile(buffering=0)


@contextmanager
def _held_back(file: FileIO) -> Iterator[None]:
    """Whatever the process writes to its standard output goes to a file."""
    _flush()
    stdout = os.dup(STDOUT)
    try:
        os.dup2(file.fileno(), STDOUT)
        yield
    finally:
        _flush()
        os.dup2(stdout, STDOUT)
        os.close(stdout)


def _flush() -> None:
    """What Python and the C library (by which oneDNN prints) keep back is written."""
    with suppress(OSError, ValueError, AttributeError):  # a function may have closed it
        sys.stdout.flush()
    ctypes.pythonapi.fflush(None)


def _primitive(line: str) -> list[str]:
    """The primitive that ran, if the line says that one did."""
    _, ran, after = line.partition(",exec,")
    return [" ".join(["onednn", *after.split(",")[1:3]])] if ran else []
