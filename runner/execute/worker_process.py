"""The child process in which cells run: it imports torch once and serves one cell after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
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


@dataclass(frozen=True)
class Preflight:
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
        function = cell.definition.load()
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


def _prepare(subjects: list[Operation | Case], devices: list[str], backend_module: str | None) -> Preflight:
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
    return Preflight(describe_machine(list(found.values())), names, unavailable, problems)


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
