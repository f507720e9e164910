"""Machine instructions of a call, which hardly differ between moments, as its times do.

The processor counts them by Linux's ``perf_event_open``. Where that is not to be had, as in most
virtual machines, Valgrind's callgrind does, in a process of its own that it runs from the start, on
a processor that it imitates: it has no AVX-512, so that other kernels may run there.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import platform
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product, repeat
from pathlib import Path
from typing import NamedTuple

from runner.calls import Thunk
from runner.garbage import uncollected

PERF, CALLGRIND = "perf", "callgrind"  # what counts
FOLDER = "OPSWEEP_CALLGRIND"  # the variable of a process under callgrind that names its folder
WARMING, CALLS, BLOCKS = 10, 10, 3  # calls before, and in each of so many blocks
LONG_S = 0.1  # seconds of the processor's; a longer call is made once before, and is the only block
SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}  # the number of perf_event_open
ENABLE, DISABLE, RESET = 0x2400, 0x2401, 0x2403  # requests of linux/perf_event.h
DISABLED, PINNED, WITHOUT_KERNEL, WITHOUT_HYPERVISOR = 1 << 0, 1 << 2, 1 << 5, 1 << 6
CLOSE_ON_EXEC = 1 << 3
OF_PYTHON = product(
    ("_PyObject_", "PyMem_Raw", "_PyMem_Raw"), ("Malloc", "Calloc", "Realloc", "Free")
)
ALLOCATING = (
    *("malloc", "calloc", "realloc", "free", "posix_memalign"),
    *map("".join, OF_PYTHON),
)
ALLOCATION = re.compile(rf"^cfn=(?:{'|'.join(ALLOCATING)})\ncalls=.*\n\S+ (\d+)$", re.MULTILINE)

Counter = Callable[[Thunk], int]
"""Runs something, and counts meanwhile."""


class Event(NamedTuple):
    """What Linux can count, by its numbers in ``linux/perf_event.h``."""

    type: int
    config: int


INSTRUCTIONS = Event(0, 1)
PAGE_FAULTS = Event(1, 2)  # which is counted where a machine has no counters, too


class PerfCounter:
    """Linux's counter of an event in the code of this thread; OSError where it cannot be had."""

    def __init__(self, event: Event = INSTRUCTIONS) -> None:
        number = SYSTEM_CALLS.get(platform.machine()) if sys.platform == "linux" else None
        if number is None:
            raise OSError(errno.ENOSYS, "perf_event_open is Linux's")
        flags = DISABLED | PINNED | WITHOUT_KERNEL | WITHOUT_HYPERVISOR
        wanted = struct.pack("=IIQQQQQIIQ", event.type, 64, event.config, 0, 0, 0, flags, 0, 0, 0)
        self._system = ctypes.CDLL(None, use_errno=True)
        whose = map(ctypes.c_long, (0, -1, -1, CLOSE_ON_EXEC))  # this thread, wherever it runs
        self._file = self._system.syscall(ctypes.c_long(number), ctypes.c_char_p(wanted), *whose)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")

    def __enter__(self) -> Counter:
        return self._count

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def _count(self, run: Thunk) -> int:
        self._ask(RESET)
        self._ask(ENABLE)
        try:
            run()
        finally:
            self._ask(DISABLE)
        counted = os.read(self._file, 8)
        if not counted:
            raise OSError(errno.EBUSY, "something else has the counter")
        return int.from_bytes(counted, sys.byteorder)

    def _ask(self, request: int) -> None:
        self._system.ioctl(self._file, ctypes.c_ulong(request), ctypes.c_ulong(0))


def under_callgrind(folder: str) -> list[str]:
    """What comes before a command whose process is to count, and leaves its files in a folder."""
    off, own = ("--instr-atstart=no", "--collect-atstart=no"), _prefix(folder)
    files = f"--callgrind-out-file={folder}/counts", f"--log-file={folder}/log"
    return ["valgrind", "--tool=callgrind", "--compress-strings=no", *off, *files, own]


class CallgrindCounter:
    """Callgrind's counter, in a process that began by :func:`under_callgrind`."""

    def __init__(self, toggle: Thunk, toggle_and_dump: Thunk) -> None:
        self._toggle, self._toggle_and_dump = toggle, toggle_and_dump  # torch has them
        self._folder = os.environ[FOLDER]

    def __enter__(self) -> Counter:
        self._instrument("on")  # without it the process is not as slow
        return self._count

    def __exit__(self, *error: object) -> None:
        self._instrument("off")

    def _instrument(self, state: str) -> None:
        # Valgrind looks for what it is told while the process computes, which needs no ptrace
        own = _prefix(self._folder), "--max-invoke-ms=0", f"--pid={os.getpid()}"
        command, silent = ["vgdb", *own, "instrumentation", state], subprocess.DEVNULL
        told = subprocess.Popen(command, stdout=silent, stderr=silent)
        while told.poll() is None:
            pass
        if told.returncode:
            raise OSError(errno.EIO, f"vgdb ended with {told.returncode}")

    def _count(self, run: Thunk) -> int:
        self._toggle()
        try:
            run()
        finally:  # whatever it raises: what comes next is not to be collected with it
            self._toggle_and_dump()
            (path,) = Path(self._folder).glob("counts.*")
            counts = path.read_text()
            path.unlink()
        return without_allocator(counts)


def without_allocator(counts: str) -> int:
    """Instructions by a file of callgrind's, without those of the allocators of C and Python.

    How long they look for free memory depends on all that was allocated before, in other cells too:
    for a short call that is up to 3 % more or less.
    """
    total = re.search(r"^totals: (\d+)", counts, re.MULTILINE)
    if total is None:
        raise OSError(errno.EIO, "callgrind wrote no total")
    taken = 0
    for function in counts.split("\nfn="):
        if function.partition("\n")[0] not in ALLOCATING:  # they call each other
            taken += sum(map(int, ALLOCATION.findall(function)))
    return int(total[1]) - taken


def _prefix(folder: str) -> str:
    return f"--vgdb-prefix={folder}/vgdb"


def _nothing() -> None:
    """What a block without any call makes, whose instructions are no call's."""


def instructions_of(call: Thunk, counting: PerfCounter | CallgrindCounter) -> int:
    """Instructions of one call, of the block of calls in which it had the fewest.

    All that this thread does for a call outside the kernel is among them: the operation's kernels,
    the dispatcher and Python's part; by ``perf`` the search for free memory too. What only first
    calls do is not.
    """
    call()  # which loads libraries, and by Valgrind is translated
    begun = time.process_time()  # which goes on as fast beside other processes
    call()
    is_long = time.process_time() - begun > LONG_S
    calls, blocks = (1, 1) if is_long else (CALLS, BLOCKS)
    for _ in range(0 if is_long else WARMING):  # Python's own code gets faster in its first calls
        call()

    def block(of: Thunk) -> None:
        for _ in repeat(None, calls):
            of()

    gc.collect()
    with uncollected(), counting as count:
        empty = min(count(partial(block, _nothing)) for _ in range(BLOCKS))
        fewest = min(count(partial(block, call)) for _ in range(blocks))
        return round((fewest - empty) / calls)
