"""What else of a process changes a time: how each is read, and put back."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

# of the environment: what torch and its compilers set when they are first used
OF_TORCH = (
    "TORCHINDUCTOR_",
    "_TORCHINDUCTOR_",
    "TRITON_",
    "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG",
    "KINETO_",
    "DISABLE_CUPTI_",
    "TEARDOWN_CUPTI",
    "TORCH_COMPILE_",
)
REAL_TIME_SIGNAL = 32  # the first of those that nothing but libraries use
LIMITS = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
UNREADABLE = "unreadable"  # of a switch that raises, as where the old and the new way of TF32 mix


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

    def set(self, value: object) -> None:
        """Set it, unless it cannot be set any more, which reading it tells."""
        with suppress(Exception):  # whatever a switch says of that
            self.put(value)


def of_process() -> dict[str, Switch]:
    """How the state of this process is read and put back, by the names that rows give it."""
    state: dict[str, Switch] = {
        "environment": Switch(_environment, _put_environment),
        "folder": Switch(os.getcwd, os.chdir),
        "signal_handlers": Switch(_handlers, _put_handlers),
        "umask": Switch(_umask, os.umask),
        "switch_interval": Switch(sys.getswitchinterval, sys.setswitchinterval),
        "tracing": Switch(lambda: (sys.gettrace(), sys.getprofile()), _put_tracing),
        "garbage_collection": Switch(lambda: (gc.isenabled(), gc.get_threshold()), _put_collector),
    }
    if hasattr(os, "sched_setaffinity"):
        state["cpu_affinity"] = Switch(partial(os.sched_getaffinity, 0), _put_affinity)
        state["scheduler"] = Switch(partial(os.sched_getscheduler, 0), _put_scheduler)
    if hasattr(os, "setpriority"):
        whose = (os.PRIO_PROCESS, 0)
        state["nice"] = Switch(partial(os.getpriority, *whose), partial(os.setpriority, *whose))
    if resource is not None:
        state["limits"] = Switch(_limits, _put_limits)
    return state


def _environment() -> dict[str, str]:
    return {k: value for k, value in os.environ.items() if not k.startswith(OF_TORCH)}


def _put_environment(before: Mapping[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _handlers() -> list[object]:
    # signal's own function looks each number up in an enumeration, which takes far longer
    get = import_module("_signal").getsignal
    return [get(number) for number in range(1, min(signal.NSIG, REAL_TIME_SIGNAL))]


def _put_handlers(before: list[object]) -> None:
    for number, (now, then) in enumerate(zip(_handlers(), before, strict=True), start=1):
        if now != then and then is not None:  # None: of a library, which Python cannot put back
            signal.signal(number, then)  # type: ignore[arg-type]  # what it gave


def _umask() -> int:
    before = os.umask(0o077)  # which is the only way to read it
    os.umask(before)
    return before


def _put_tracing(before: tuple[Any, Any]) -> None:
    sys.settrace(before[0])
    sys.setprofile(before[1])


def _put_collector(before: tuple[bool, tuple[int, int, int]]) -> None:
    is_on, threshold = before
    gc.set_threshold(*threshold)
    (gc.enable if is_on else gc.disable)()


def _put_affinity(before: set[int]) -> None:
    # threads that were started meanwhile have what the one that started them had
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):
            os.sched_setaffinity(thread, before)


def _put_scheduler(before: int) -> None:
    os.sched_setscheduler(0, before, os.sched_param(0))


def _limits() -> dict[int, tuple[int, int]]:
    return {kind: resource.getrlimit(kind) for kind in LIMITS}


def _put_limits(before: Mapping[int, tuple[int, int]]) -> None:
    for kind, limits in before.items():
        resource.setrlimit(kind, limits)
