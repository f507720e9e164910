"""The machine's switches as a sweep found them: what a user's code changes of them is put back.

They are read before any of the user's modules is imported. A time would otherwise depend on which
other operations the sweep has, and on what was called before.
"""

from __future__ import annotations

import builtins
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial, reduce
from typing import Any

import torch

from runner.cells.cell import CUBLAS, Cell
from runner.measure.bystanders import Bystanders
from runner.measure.host_clock import HostClock
from runner.measure.host_memory import limit_memory
from runner.measure.precision import flushes_denormals
from runner.measure.process_state import Switch, of_process
from runner.rows.rows import FUNCTIONS

OF_TORCH = {
    "threads": "num_threads",
    "interop_threads": "num_interop_threads",
    "default_dtype": "default_dtype",
    "deterministic_algorithms": "deterministic_debug_mode",
    "float32_matmul_precision": "float32_matmul_precision",
}
"""The names that rows give them, and what stands after ``torch.get_`` and ``torch.set_``."""
OF_BACKENDS = (
    *("mkldnn.enabled", "mkldnn.deterministic", "cudnn.enabled", "cudnn.benchmark"),
    *("cudnn.deterministic", "quantized.engine", "fp32_precision"),
    *("cuda.matmul.allow_fp16_reduced_precision_reduction", "cuda.matmul.fp32_precision"),
    *("cuda.matmul.allow_bf16_reduced_precision_reduction", "mkldnn.matmul.fp32_precision"),
    *("mkldnn.conv.fp32_precision", "mkldnn.rnn.fp32_precision"),
    *("cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision"),
    *("opt_einsum.enabled", "opt_einsum.strategy"),
)
"""Of ``torch.backends``; those that this release does not have are left out."""
HOMES = (torch, torch.Tensor, torch.cuda, torch.nn.functional, torch.linalg, torch.fft)
HOMES += (torch.special, time, builtins, HostClock)  # type: ignore[assignment]  # modules and classes
"""Where functions stand that everything calls."""


class Switches:
    """What a cell finds, and what was changed meanwhile.

    ``of_worker`` says that the process is the sweep's own, so that all of its state is looked
    after, and not torch's alone; ``is_spoiled`` that the next cell needs another one.
    """

    def __init__(self, *, of_worker: bool = False) -> None:
        torch.ones(100_000).sum()  # starts the threads that torch keeps
        if of_worker:
            limit_memory(None)  # as it is after each cell
        self._of_torch = _of_torch()
        self._of_process = of_process() if of_worker else {}
        self._all = {**self._of_torch, **self._of_process}
        self._own = self._read()
        self._bystanders = Bystanders() if of_worker else None
        self._entered, self._expected = ExitStack(), dict(self._own)
        self._at_import: dict[str, dict[str, None]] = {}  # what the import of a package changed
        self._functions = list(map(_functions_of, HOMES if of_worker else ()))
        self.import_s: dict[str, float] = {}
        self.is_spoiled = self._may_replace = self._has_device = False

    def threads_of(self, cell: Cell) -> int:
        """The threads that a cell has: its own number, or the sweep's."""
        return cell.threads or int(str(self._own["threads"]))

    def enter(self, cell: Cell, device: torch.device) -> None:
        """Set what a cell asks for, and otherwise torch's switches as they were found."""
        self._entered.close()
        self._expected = {**self._own, "threads": self.threads_of(cell)}
        self._may_replace = cell.is_compiled
        if cell.deterministic:
            self._expected["deterministic_algorithms"] = 2  # an error where there is none
            if CUBLAS[0] not in os.environ:
                self._entered.callback(os.environ.pop, CUBLAS[0], None)
                os.environ.update([CUBLAS])
        for name, switch in self._of_torch.items():
            if switch.read() != self._expected[name]:
                switch.set(self._expected[name])
        self._entered.enter_context(made_current(device))
        if cell.grad_mode != "enabled":
            mode = torch.no_grad if cell.grad_mode == "no_grad" else torch.inference_mode
            self._entered.enter_context(mode())
        if cell.autocast != "off":
            dtype = getattr(torch, cell.autocast)
            within = torch.autocast(device.type, dtype, cache_enabled=False)  # each call casts
            self._entered.enter_context(within)

    def leave(self) -> list[str]:
        """Make all as it was found; the names of what a call has changed since :meth:`enter`."""
        self._entered.close()
        changed = self._put_back()
        self.is_spoiled = self.is_spoiled or not self._of_process.keys().isdisjoint(changed)
        return changed

    @contextmanager
    def importing(self, package: str, *, of_device: bool = False) -> Iterator[None]:
        """Put back what an import changes, and remember it for :meth:`changed_by_import`.

        ``import_s`` has the seconds that importing each package took; the module of a device may
        replace functions, and what starting one of PyTorch's own changes is not the user's doing.
        """
        before, begun = len(sys.modules), time.perf_counter()
        try:
            yield
        finally:
            if len(sys.modules) != before:
                self._may_replace = of_device
                changed = self._put_back()
                self._at_import.setdefault(package, {}).update(dict.fromkeys(changed))
                before_s = self.import_s.get(package, 0.0)
                self.import_s[package] = before_s + time.perf_counter() - begun
            # whether this process uses PyTorch's accelerator by now, where it can tell
            asks = of_device and not (package or self._has_device)
            if asks and getattr(torch.get_device_module(), "is_initialized", bool)():
                self._has_device = True
                self._own |= {name: switch.read() for name, switch in self._of_process.items()}

    def changed_by_import(self, package: str) -> list[str]:
        """The names of what a package's import has changed in this process."""
        return list(self._at_import.get(package, ()))

    def _put_back(self) -> list[str]:
        """Make all as it was found; the names of what was not as expected."""
        replaced = self._put_back_functions()  # first, as what follows calls them
        expected, self._expected = self._expected, dict(self._own)
        found = now = self._read()
        for _ in range(2):  # one may set another, as all products' precision that of each library
            for name in [name for name, value in now.items() if value != self._own[name]]:
                self._all[name].set(self._own[name])
                now = self._read()
        others = self._bystanders.end_busy() if self._bystanders else []
        others += [FUNCTIONS] if replaced else []
        self.is_spoiled = self.is_spoiled or bool(others) or now != self._own
        return [*(name for name, value in found.items() if value != expected[name]), *others]

    def _put_back_functions(self) -> bool:
        """Whether what everything calls had been replaced by who may not do so."""
        if self._may_replace:
            homes = [home for home, _ in self._functions]
            self._functions, self._may_replace = list(map(_functions_of, homes)), False
        replaced = False
        for home, functions in self._functions:
            now = vars(home)
            for name in [n for n, function in functions.items() if now.get(n) is not function]:
                setattr(home, name, functions[name])
                replaced = True
        return replaced

    def _read(self) -> dict[str, object]:
        return {name: switch.read() for name, switch in self._all.items()}


def _functions_of(home: object) -> tuple[object, dict[str, Any]]:
    """Where something stands that everything calls, and the functions there by their names."""
    # torch itself replaces manual_seed once its compiler is imported
    named = {n: f for n, f in vars(home).items() if callable(f) and n != "manual_seed"}
    return home, named


def made_current(device: torch.device) -> AbstractContextManager[Any]:
    """Makes a device the current one, which some kernels are launched on wherever tensors lie."""
    guard = getattr(torch.get_device_module(device), "device", None)
    return nullcontext() if device.type == "cpu" or guard is None else guard(device)


@contextmanager
def neutral(device: torch.device) -> Iterator[None]:
    """As torch is by default, whatever the cell asks for that was entered: for work of our own."""
    with ExitStack() as modes:
        modes.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        torch.set_deterministic_debug_mode(0)
        modes.enter_context(torch.inference_mode(mode=False))
        modes.enter_context(torch.no_grad())
        if torch.amp.is_autocast_available(device.type):
            modes.enter_context(torch.autocast(device.type, enabled=False))
        yield


def _of_torch() -> dict[str, Switch]:
    """torch's, by the names that rows give them."""

    def set_device(before: object) -> None:
        torch.set_default_device(None)  # even the CPU, set by name, slows down every call

    switches = {
        name: Switch(getattr(torch, f"get_{of_torch}"), getattr(torch, f"set_{of_torch}"))
        for name, of_torch in OF_TORCH.items()
    }
    autocast = torch.is_autocast_enabled, torch.set_autocast_enabled
    autocast_dtype = torch.get_autocast_dtype, torch.set_autocast_dtype
    hooks = partial(torch._C._autograd._top_saved_tensors_default_hooks, True)
    switches |= {
        "default_device": Switch(torch._C._len_torch_function_stack, set_device),
        "inference_mode": Switch(torch.is_inference_mode_enabled, None),  # cannot be put back
        "dispatch_modes": Switch(torch._C._len_torch_dispatch_stack, None),
        "saved_tensors_hooks": Switch(hooks, None),
        "grad_mode": Switch(torch.is_grad_enabled, torch._C._set_grad_enabled),
        "autocast": Switch(*(partial(function, "cpu") for function in autocast)),
        "autocast_dtype": Switch(*(partial(function, "cpu") for function in autocast_dtype)),
        "anomaly_detection": Switch(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        "flush_denormal": Switch(flushes_denormals, torch.set_flush_denormal),
    }
    for path in OF_BACKENDS:
        *parts, name = path.split(".")
        with suppress(AttributeError):
            holder = reduce(getattr, parts, torch.backends)
            getattr(holder, name)
            switches[path] = Switch(partial(getattr, holder, name), partial(setattr, holder, name))
    cuda = torch.backends.cuda  # which decides for the CPU too
    for kind in ("flash", "mem_efficient", "math", "cudnn"):
        names = f"{kind}_sdp_enabled", f"enable_{kind}_sdp"
        switches[f"{kind}_sdp"] = Switch(*(getattr(cuda, name) for name in names))
    return switches
