"""The supervised process in which cells run: it imports torch once and serves one cell after another.

The door keeps a :class:`Worker`; the process itself runs :func:`serve`. What a cell does to its process (a crash,
a hang, memory that runs out) ends the worker, never the sweep. While a cell runs the door only waits, so that it
takes no time from what is measured.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runner.cells.cell import Cell
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.errors import ConfigError, is_unsupported, one_line
from runner.rows.rows import Row, Sample, row_for

SPOILED = "the device did not recover, so the worker was replaced"
START_LIMIT_S = 300.0  # importing torch from a cold, slow disk has been seen to take a minute


@dataclass(frozen=True)
class Prepared:
    """What a worker says of a sweep before its first cell.

    Attributes:
        environment: the machine and torch, for ``environment.json``.
        devices: the device of this machine for each one asked for that is here: ``cuda:0`` for ``gpu``.
        unavailable: why, for each device asked for that is not here.
        problems: what is wrong with the operations, a line each.
    """

    environment: dict[str, Any]
    devices: dict[str, str]
    unavailable: dict[str, str]
    problems: list[str]


class WorkerDied(Exception):
    """The worker's process ended; the message says how."""


class Worker:
    """The door's side: one process at a time, replaced when it has died."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Connection | None = None

    def prepare(self, subjects: Sequence[Operation | Case], devices: list[str], backend_module: str | None) -> Prepared:
        """Look at the machine and import what the operations and cases call, before any cell runs.

        Raises:
            WorkerDied: importing torch or the operations ended the process.
        """
        self._send(("prepare", list(subjects), devices, backend_module))
        answer = self._receive(START_LIMIT_S)
        if answer is None:
            self.close()
            raise WorkerDied(f"importing torch and the operations took more than {START_LIMIT_S:g} s")
        return answer[1]  # type: ignore[no-any-return]  # serve() answers a prepare with ("prepared", Prepared)

    def run(self, cell: Cell, log: Path) -> tuple[list[Row], list[Sample]]:
        """Run a cell to its rows; whatever happens to the process becomes a row too.

        Args:
            cell: what to run.
            log: takes what the operation prints.
        """
        step = "starting"
        begun = time.monotonic()
        try:
            self._send(("run", cell, str(log)))
            self._awaited(START_LIMIT_S, "starting the worker")
            begun = time.monotonic()
            while True:
                answer = self._receive(begun + cell.limit.time_s - time.monotonic())
                if answer is None:
                    self.close()
                    reason = f"stopped after limit.time_s={cell.limit.time_s:g} s, while {step}"
                    return [row_for(cell, "timeout", reason, seconds=time.monotonic() - begun)], []
                if answer[0] == "step":
                    step = answer[1]
                    continue
                rows, samples, spoiled = answer[1:]
                if spoiled:  # the next cell gets a process of its own
                    self.close()
                return [replace(row, seconds=row.seconds or time.monotonic() - begun) for row in rows], samples
        except KeyboardInterrupt:
            self.close()
            raise
        except WorkerDied as death:
            return [row_for(cell, "crashed", f"{death}, while {step}", seconds=time.monotonic() - begun)], []

    def close(self) -> None:
        """End the process at once, wherever it is."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def _send(self, message: tuple[Any, ...]) -> None:
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._death() from error

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child,), name="opsweep-worker", daemon=True)
        self._process.start()
        child.close()

    def _awaited(self, limit_s: float, what: str) -> None:
        if self._receive(limit_s) is None:
            self.close()
            raise WorkerDied(f"{what} took more than {limit_s:g} s")

    def _receive(self, limit_s: float) -> tuple[Any, ...] | None:
        """The next message; None when ``limit_s`` is over."""
        assert self._connection is not None
        try:
            if not self._connection.poll(max(0.0, limit_s)):
                return None
            return self._connection.recv()  # type: ignore[no-any-return]  # messages are tuples, see serve()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> WorkerDied:
        process = self._process
        process.join(timeout=5)
        code = process.exitcode
        self.close()
        if code is not None and code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                guess = " (for want of memory, perhaps)" if name == "SIGKILL" else ""
                return WorkerDied(f"the process was ended by {name}{guess}")
        return WorkerDied(f"the process ended with exit code {code}")


def serve(connection: Connection) -> None:
    """The worker's side: answer the door until it is gone."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they reach the whole group, or job; the door decides what they mean
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    _die_first()
    silence = os.open(os.devnull, os.O_WRONLY)
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if message[0] == "prepare":
            connection.send(("prepared", _prepare(*message[1:])))
            continue
        _, cell, log = message
        _redirect(_opened(log))
        import torch  # noqa: F401  (before the cell's time begins)

        connection.send(("begun",))
        rows, samples = run_cell(cell, lambda step: connection.send(("step", step)))
        spoiled = _spoiled(cell, rows)
        if spoiled:
            rows = [replace(row, reason=f"{row.reason}; {SPOILED}") for row in rows]
        for row in rows:
            print(f"{cell.label}: {row.status}{f': {row.reason}' if row.reason else ''}")
        _redirect(os.dup(silence))
        connection.send(("done", rows, samples, spoiled))


def _spoiled(cell: Cell, rows: list[Row]) -> bool:
    """Whether the cell's error took the device's context, so that nothing works on it any more in this process."""
    from runner.measure.device import DeviceUnavailable, find_device

    if {row.status for row in rows} <= {"ok", "unavailable"}:
        return False
    try:
        return not find_device(cell.device, cell.backend_module).is_well()
    except DeviceUnavailable:
        return True


def run_cell(cell: Cell, tell: Any = lambda step: None) -> tuple[list[Row], list[Sample]]:
    """Run a cell in this process; what an operation raises becomes its status and reason.

    Args:
        cell: what to run.
        tell: is told each step as it begins.
    """
    import torch

    from runner.measure.device import DeviceUnavailable, find_device
    from runner.measure.host_memory import free_memory_bytes, limit_memory
    from runner.tasks import autograd, benchmark, roof, tensors, transfer
    from runner.tasks import case_autograd as case_gradients

    begun = time.perf_counter()
    default_threads = torch.get_num_threads()
    device = None
    try:
        device = find_device(cell.device, cell.backend_module)
        function = cell.subject.load()
        torch.set_num_threads(cell.threads or default_threads)
        if device.is_cpu:
            limit_memory(cell.limit.memory_bytes or free_memory_bytes())
        job: Any = {
            "benchmark": benchmark,
            "autograd": case_gradients if cell.case else autograd,
            "tensors": tensors,
            "transfer": transfer,
            "roof": roof,
        }[cell.job]
        rows, samples = job.run(cell, device, function, tell)
        return [row if row.seconds else replace(row, seconds=time.perf_counter() - begun) for row in rows], samples
    except DeviceUnavailable as error:
        status, reason = "unavailable", str(error)
    except Exception as error:
        import traceback

        traceback.print_exc()
        status, reason = _status_of(error), f"{type(error).__name__}: {one_line(error)}"
    finally:
        limit_memory(None)
        torch.set_num_threads(default_threads)
        if device is not None and not device.is_cpu:
            with suppress(RuntimeError):  # of a device that has been lost
                device.release()
    name = None if device is None else device.name
    return [row_for(cell, status, reason, device_name=name, seconds=time.perf_counter() - begun)], []


def _status_of(error: Exception) -> str:
    import torch

    text = str(error)
    no_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in text
    if no_memory or "can't allocate memory" in text or "out of memory" in text:
        return "out_of_memory"
    return "unsupported" if is_unsupported(error) else "failed"


def _prepare(subjects: list[Operation | Case], devices: list[str], backend_module: str | None) -> Prepared:
    from runner.execute.environment import describe_machine
    from runner.measure.device import Device, DeviceUnavailable, find_device

    problems: list[str] = []
    unavailable: dict[str, str] = {}
    found: dict[str, Device] = {}
    for subject in subjects:
        try:
            subject.load()
        except ConfigError as error:
            problems.append(str(error))
    for name in devices:
        try:
            found[name] = find_device(name, backend_module)
        except DeviceUnavailable as error:
            unavailable[name] = str(error)
        except ConfigError as error:
            problems.append(str(error))
            break
    names = {name: str(device.torch) for name, device in found.items()}
    return Prepared(describe_machine(list(found.values())), names, unavailable, problems)


def _opened(log: str) -> int:
    """The log's file; a folder that cannot be written is the door's to report, when it writes the row."""
    with suppress(OSError):
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    return os.open(os.devnull, os.O_WRONLY)


def _redirect(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _die_first() -> None:
    """Where memory runs out, have Linux end this process and not the door."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _die_with_parent() -> None:
    """Make sure that no worker outlives its door, however the door dies and whatever the worker is doing."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if os.name == "posix" and os.getppid() != parent.pid:  # it died before the line above
        os._exit(1)
    import threading

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch-door", daemon=True).start()
