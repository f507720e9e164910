"""The child process in which cells run: it imports torch once and serves one cell after another.

The parent imports this module too, and the child protects itself before torch is imported, so that
nothing at the top of this module may import torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Preflight:
    """What a worker says of a sweep before its first cell."""

    environment: dict[str, Any]  # the machine and torch, for ``environment.json``
    devices: dict[str, str]  # this machine's, by those asked for that are here: gpu: cuda:0
    unavailable: dict[str, str]  # why, by those asked for that are not here
    problems: list[str]  # what is wrong with the operations, a line each
    is_spoiled: bool = False  # whether an import left the process so that cells need another one


def serve(connection: Connection) -> None:
    """The child's main loop: serve requests until the parent process is gone."""
    # all of this comes before torch is imported, which takes seconds in which the parent may die;
    # signals reach the whole group, and the parent decides what they mean
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    with suppress(OSError):  # where memory runs out, Linux is to end this process, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000")

    # the end of the pipe is the parent's end
    silence = os.open(os.devnull, os.O_WRONLY)
    service = None
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if message[0] == "prepare":
            from runner.execute.preflight import preflight

            connection.send(("prepared", preflight(*message[1:])))
            continue

        # whatever the cell prints, importing torch included, is for its log
        kind, *request = message
        _redirect(_open_log(request[1] if kind == "run" else request[1][0]))
        from runner.execute.service import Service  # before the cell's time begins

        service = service or Service(connection.send, lambda log: _redirect(_open_log(log)))
        connection.send(("begun",))
        answer = service.run(*request) if kind == "run" else service.run_in_turn(*request)
        _redirect(os.dup(silence))
        connection.send(answer)


def _open_log(log: str) -> int:
    """The log's file; a folder that cannot be written is reported by the parent, with the row."""
    with suppress(OSError):
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    return os.open(os.devnull, os.O_WRONLY)


def _redirect(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _die_with_parent() -> None:
    """Let no worker outlive its parent, however that dies and whatever the worker is doing."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    # the signal is Linux's alone, and does not come where the parent died before it was asked for
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if os.name == "posix" and os.getppid() != parent.pid:
        os._exit(1)

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
