"""The machine's switches as a sweep found them: what a user's code changes of them is put back.

They are read before any of the user's modules is imported. A time would otherwise depend on which
other operations the sweep has, and on what was called before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import torch

from runner.cells.cell import Cell
from runner.measure.bystanders import Bystanders
from runner.measure.host_memory import limit_memory
from runner.measure.precision import flushes_denormals
from runner.measure.process_state import of_process

UNREADABLE = "unreadable"  # of a switch that raises, as where the old and the new way of TF32 mix
ATTRIBUTES = (
    *("mkldnn.enabled", "mkldnn.deterministic", "cudnn.enabled", "cudnn.benchmark"),
    *("cudnn.deterministic", "quantized.engine"),
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    *("mkldnn.matmul.fp32_precision", "mkldnn.conv.fp32_precision", "mkldnn.rnn.fp32_precision"),
    *("cuda.matmul.fp32_precision", "cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision"),
)
"""Of ``torch.backends``; those that this release does not have are left out."""


class Switch(NamedTuple):
    """How a switch is read, and set to what was read."""

    get: Any
    put: Any

    def read(self) -> object:
        """Its value; a switch that cannot be read has a value of its own."""
        try:
            return self.get()
        except (RuntimeError, OSError):
            return UNREADABLE


class Switches:
    """What a cell finds, and what was changed meanwhile.

    Args:
        of_worker: whether this process is the sweep's own, so that all of its state is looked
            after, and not torch's alone.

    Attributes:
        is_spoiled: whether the process is not as new, so that the next cell needs another one.
    """

    def __init__(self, *, of_worker: bool = False) -> None:
        torch.ones(100_000).sum()  # starts the threads that torch keeps
        if of_worker:
            limit_memory(None)  # as it is after each cell
        self._of_torch = _of_torch()
        self._of_process = {k: Switch(*v) for k, v in of_process().items()} if of_worker else {}
        self._all = {**self._of_torch, **self._of_process}
        self._own = self._read()
        self._bystanders = Bystanders() if of_worker else None
        self._entered, self._expected = ExitStack(), dict(self._own)
        self._at_import: dict[str, dict[str, None]] = {}  # what the import of a package changed
        self.is_spoiled = False

    def threads_of(self, cell: Cell) -> int:
        """The threads that a cell has: its own number, or the sweep's."""
        return cell.threads or int(str(self._own["threads"]))

    def enter(self, cell: Cell) -> None:
        """Set what a cell asks for, and otherwise torch's switches as they were found."""
        self._entered.close()
        self._expected = {**self._own, "threads": self.threads_of(cell)}
        for name, switch in self._of_torch.items():
            if switch.read() != self._expected[name]:
                switch.put(self._expected[name])

    def leave(self) -> list[str]:
        """Make all as it was found; the names of what a call has changed since :meth:`enter`."""
        self._entered.close()
        changed = self._put_back()
        self.is_spoiled = self.is_spoiled or not self._of_process.keys().isdisjoint(changed)
        return changed

    @contextmanager
    def importing(self, package: str) -> Iterator[None]:
        """Put back what an import changes, and remember it for :meth:`changed_by_import`."""
        before = len(sys.modules)
        try:
            yield
        finally:
            if len(sys.modules) != before:
                changed = self._put_back()
                self._at_import.setdefault(package, {}).update(dict.fromkeys(changed))

    def changed_by_import(self, package: str) -> list[str]:
        """The names of what a package's import has changed in this process."""
        return list(self._at_import.get(package, ()))

    def _put_back(self) -> list[str]:
        """Make all as it was found; the names of what was not as expected."""
        expected, self._expected = self._expected, dict(self._own)
        found = self._read()
        now = found
        for _ in range(2):  # one may set another, as all products' precision that of each library
            for name in [name for name, value in now.items() if value != self._own[name]]:
                with suppress(Exception):  # whatever a switch says that cannot be put back
                    self._all[name].put(self._own[name])
                now = self._read()
        busy = self._bystanders.end_busy() if self._bystanders else []
        self.is_spoiled = self.is_spoiled or bool(busy) or now != self._own
        return [*(name for name, value in found.items() if value != expected[name]), *busy]

    def _read(self) -> dict[str, object]:
        return {name: switch.read() for name, switch in self._all.items()}


@cache
def of_this_worker() -> Switches:
    """Those of the worker's process; the first call comes before any user's module is imported."""
    return Switches(of_worker=True)


def _of_torch() -> dict[str, Switch]:
    """torch's, by the names that rows give them."""
    set_device = torch.set_default_device
    named = {
        "threads": Switch(torch.get_num_threads, torch.set_num_threads),
        "interop_threads": Switch(torch.get_num_interop_threads, torch.set_num_interop_threads),
        "default_dtype": Switch(torch.get_default_dtype, torch.set_default_dtype),
        # None is what nobody has set; the CPU, set by name, would slow down every call
        "default_device": Switch(torch.get_default_device, lambda _: set_device(None)),
        "grad_mode": Switch(torch.is_grad_enabled, torch._C._set_grad_enabled),
        "autocast": Switch(
            partial(torch.is_autocast_enabled, "cpu"), partial(torch.set_autocast_enabled, "cpu")
        ),
        "anomaly_detection": Switch(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        "deterministic_algorithms": Switch(
            torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
        ),
        "flush_denormal": Switch(flushes_denormals, torch.set_flush_denormal),
        "float32_matmul_precision": Switch(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        ),
    }
    return {**named, **_of_backends()}


def _of_backends() -> dict[str, Switch]:
    switches = {}
    for path in ATTRIBUTES:
        *parts, name = path.split(".")
        with suppress(AttributeError):
            holder = reduce(getattr, parts, torch.backends)
            getattr(holder, name)
            switches[path] = Switch(partial(getattr, holder, name), partial(setattr, holder, name))
    for kind in ("flash", "mem_efficient", "math", "cudnn"):
        with suppress(AttributeError):
            names = f"{kind}_sdp_enabled", f"enable_{kind}_sdp"
            switches[f"{kind}_sdp"] = Switch(*(getattr(torch.backends.cuda, n) for n in names))
    return switches
