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
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runner.execute.channel import say
from runner.files import open_log
from runner.measure.process_tree import adopt_orphans, ask_linux

LARGEST_FILE = 2**33  # bytes
Message = tuple[Any, ...]


@dataclass(frozen=True)
class Preflight:
    """What a worker says of a sweep before its first cell."""

    environment: dict[str, Any]  # the machine and torch, for ``environment.json``
    devices: dict[str, str]  # this machine's, by those asked for that are here: gpu: cuda:0
    unavailable: dict[str, str]  # why, by those asked for that are not here
    problems: list[str]  # what is wrong with the operations, a line each
    is_spoiled: bool = False  # whether an import left the process so that cells need another one

    @classmethod
    def of(cls, *said: Any) -> Preflight:
        """What the worker said; ValueError where it is something else."""
        environment, devices, unavailable, problems, is_spoiled = said
        texts = [*devices.items(), *unavailable.items(), problems]
        if not all(isinstance(text, str) for text in chain.from_iterable(texts)):
            raise ValueError("no texts")
        sizes = [device.get("total_memory") for device in environment.get("devices", ())]
        if not all(isinstance(size, int | None) for size in sizes):
            raise ValueError("no sizes")
        int(environment["torch"]["threads"])
        return cls(environment, devices, unavailable, problems, bool(is_spoiled))


def serve(connection: Connection, *, shares_best: bool = True) -> None:
    """The child's main loop: serve requests until the parent process is gone.

    Unless it ``shares_best``, it neither takes nor leaves what sentinels take here at best: on a
    side of ``job=ab`` they may take another time.
    """
    # all of this comes before torch is imported, which takes seconds in which the parent may die;
    # signals reach the whole group, and the parent decides what they mean
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    adopt_orphans()  # so that nothing that a cell starts gets out of sight
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(_part_from, connection))
    with suppress(ImportError, ValueError, OSError):  # a flood of output is not to fill the disk
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, hard))
    with suppress(OSError):  # where memory runs out, Linux is to end this process, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000")

    # the end of the pipe is the parent's end
    silence = os.open(os.devnull, os.O_WRONLY)
    service = None
    while True:
        try:
            number, kind, *request = connection.recv()
        except (EOFError, OSError):
            return
        send = partial(_send, connection, number)
        if kind != "prepare":  # whatever the cell prints, importing torch included, is for its log
            _redirect(_open_log(request[1][0] if kind == "run in turn" else request[1]))
        from runner.execute.service import Service  # before the cell's time begins

        own = {"shares_best": shares_best}
        service = service or Service(lambda log: _redirect(_open_log(log)), **own)
        if kind == "prepare":
            send(service.prepare(*request))
            continue
        send(("begun",))
        in_turn = partial(service.run_in_turn, hear=connection.recv)
        single = service.count if kind == "count" else service.run
        answer = (in_turn if kind == "run in turn" else single)(send, *request)
        _redirect(os.dup(silence))
        send(answer)


def _send(connection: Connection, number: int, message: Message) -> None:
    """Send a message to the parent, as one about its request of that number."""
    say(connection, (number, *message))


def _part_from(connection: Connection) -> None:
    """Leave the parent's pipe to the worker, in a child that a cell has forked."""
    connection.close()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _open_log(log: str) -> int:
    """The log's file; a folder that cannot be written is reported by the parent, with the row."""
    with suppress(OSError):
        return open_log(log)
    return os.open(os.devnull, os.O_WRONLY)


def _redirect(descriptor: int) -> None:
    """Have what is printed from now on go there, whatever a cell has done to the streams."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        with suppress(Exception):
            getattr(sys, name).flush()
        os.dup2(descriptor, number)
        if getattr(getattr(sys, name), "closed", True):
            stream = open(number, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115  (kept)
            setattr(sys, name, stream)
    os.close(descriptor)


def _die_with_parent() -> None:
    """Let no worker outlive its parent, however that dies and whatever the worker is doing."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    ask_linux(set_parent_death_signal, signal.SIGKILL)

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
