"""Which of oneDNN's primitives run: it says so on the standard output, in its verbose mode.

A line is ``onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,...``: the kind, and the
implementation that oneDNN chose for this processor, size and dtype
(https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html).
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import FileIO

from torch.backends import mkldnn

SWITCHES = ("ONEDNN_VERBOSE", "DNNL_VERBOSE")  # of who wants to read those lines
SAYS = (b"onednn_verbose,", b"dnnl_verbose,")
STDOUT = 1


@contextmanager
def primitives_counted() -> Iterator[Counter[str]]:
    """Count the primitives that run meanwhile; what else is printed is printed when it is over.

    None are seen where oneDNN is not there, its output cannot be held back, or somebody reads it.
    """
    counted: Counter[str] = Counter()
    is_wanted_elsewhere = any(name in os.environ for name in SWITCHES)
    if os.name != "posix" or is_wanted_elsewhere or not mkldnn.is_available():  # type: ignore[no-untyped-call]
        yield counted
        return
    said = _file()
    try:
        with _held_back(said), mkldnn.verbose(mkldnn.VERBOSE_ON):  # type: ignore[no-untyped-call]
            yield counted
    finally:
        said.seek(0)
        for line in said.readall().splitlines(keepends=True):
            if line.startswith(SAYS):
                counted.update(_primitive(line.decode(errors="replace")))
            else:
                os.write(STDOUT, line)
        said.seek(0)
        said.truncate()


@cache
def _file() -> FileIO:
    """One for all calls: each would cost a tenth of a millisecond."""
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
    sys.stdout.flush()
    _c_library().fflush(None)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _primitive(line: str) -> list[str]:
    """The primitive that ran, if the line says that one did."""
    _, ran, after = line.partition(",exec,")
    return [" ".join(["onednn", *after.split(",")[1:3]])] if ran else []
