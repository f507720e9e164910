"""An accelerator whose true times are known.

    python -m runner device=sim backend_module=tests.support.simulated_device

It is added to PyTorch from outside, as any device can be that is not part of it. It works as
accelerators do: a launch returns at once, kernels run in order, events mark moments of the device's
own time, and only synchronizing waits.

**Time.** The device's time is computed, not waited for: a kernel starts when the one before has
ended and its launch is over, and lasts ``max(flop / peak_flop_s, bytes / bandwidth_bytes_s)``;
events record these moments to the last digit. ``synchronize`` makes the host wait, in real time,
until the device's end has come, and a launch keeps the host for ``launch_s``, so that wall clocks
and events tell the same story. FLOP are those of products (2 m n k), bytes those of every distinct
element read or written. A view launches nothing.

**Values** are real, from PyTorch's CPU kernels, with autograd (on ``sim:0``: PyTorch's engine knows
but one device written in Python). They are computed when somebody looks at them; a result that is
dropped unseen costs its time on the device and none here.

**Memory** is counted when a tensor is made, and an allocation beyond ``memory_bytes`` is refused. A
copy between host and device takes ``copy_latency_s + bytes / copy_bytes_s``, from pinned host
memory ``pinned_latency_s + bytes / pinned_bytes_s``. ``depth`` launches fit into a device's queues
before a launch has to wait.

**Streams** are queues of a device. What is launched in one and not waited for in another is not
there yet for the other's kernels and copies, if these begin before it has ended: they find what was
there before.

Environment variables, read when the module is imported:

``SIM_MODEL``
    the model of each device, ``small`` or ``large``: ``SIM_MODEL=small,large`` makes ``sim:0`` and
    ``sim:1``.
``SIM_PEAK_FLOP_S``, ``SIM_BANDWIDTH_BYTES_S``, ``SIM_LAUNCH_S``, ``SIM_MEMORY_BYTES``, ...
    any field of :class:`Model`, for all devices or, separated by commas, for each.
``SIM_NOISE``, ``SIM_SEED``
    ``normal:0.05``: each kernel's time is multiplied by a number that is normal about 1 with this
    standard deviation (``uniform:0.1``: uniform within 1 +- 0.1); the generator's seed.
``SIM_FAULT``
    what happens at the first kernel that writes so many elements: ``fail@6400`` (the launch fails,
    and everything after it), ``lost@6400`` (the device is gone), ``hang@6400`` (it never ends),
    ``throttle@6400`` (the clock falls to a half); ``throttle@6400@30``: at the thirtieth. Several
    are separated by commas.
``SIM_PHASES``
    ``8:2:0.5``: every 8 s the clock falls to a half for 2 s, on ``sim:1`` 4 s later than on
    ``sim:0``; ``8:2:0.5:0x40``: the device says why meanwhile, in NVML's bits.
``SIM_ABSENT``
    ``1``: the driver is there, and no device.
``SIM_CLOCK``
    ``scripted``: the host's clock, ``time.perf_counter`` of the whole process, moves on by what is
    said above of launches and waits, by ``tick_s`` whenever it is read, and by nothing else: nobody
    waits, and every time is the same on any machine, however busy. Otherwise it is the real one.
"""

from __future__ import annotations

import ctypes
import os
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from math import inf, prod
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from runner.measure import profiler

aten = torch.ops.aten
LOST = "the device is lost"


@dataclass(frozen=True)
class Model:
    """What a device can do. A kernel lasts ``max(flop / peak_flop_s, bytes / bandwidth_bytes_s)``.

    Attributes:
        launch_s: host seconds that a launch takes. depth: launches that may wait in the queue.
        clock_hz, power_w: what the device says of its clock and its power while it is not
        throttled; it uses this power while a kernel runs. gap_s: between one kernel and the next.
        trace_factor: how many times longer than it is the profiler says that everything lasts.
    """

    peak_flop_s: float = 2e12
    bandwidth_bytes_s: float = 2e10
    launch_s: float = 100e-6
    memory_bytes: float = 4e9
    copy_latency_s: float = 1e-3
    copy_bytes_s: float = 5e8
    pinned_latency_s: float = 5e-4
    pinned_bytes_s: float = 1e9
    depth: float = 1_000
    clock_hz: float = 1.5e9
    power_w: float = 200.0
    gap_s: float = 0.0
    trace_factor: float = 1.0


MODELS = {
    "small": Model(),
    "large": Model(peak_flop_s=1e13, bandwidth_bytes_s=5e10, launch_s=150e-6),
}


def models() -> list[Model]:
    """The devices' models, as the environment says."""
    names = os.environ.get("SIM_MODEL", "small").split(",")
    found = []
    for index, name in enumerate(names):
        given = {}
        for field in fields(Model):
            values = os.environ.get(f"SIM_{field.name.upper()}", "").split(",")
            if values != [""]:
                given[field.name] = float(values[index if len(values) > 1 else 0])
        found.append(replace(MODELS[name], **given))
    return found


class ScriptedClock:
    """A host's clock that stands still but for what it is told."""

    tick_s = 1e-8  # so that whoever reads it in a loop comes to an end

    def __init__(self) -> None:
        self.seconds = 1.0

    def __call__(self) -> float:
        """What ``time.perf_counter`` gives."""
        self.seconds += self.tick_s
        return self.seconds

    def wait_until(self, moment: float) -> None:
        """Have a moment come, unless it is over."""
        if moment == inf:  # nobody can wait so long; the process is ended
            time.sleep(1e6)
        self.seconds = max(self.seconds, moment)


_scripted = ScriptedClock() if os.environ.get("SIM_CLOCK") == "scripted" else None
if _scripted is not None:
    time.perf_counter = _scripted


class Device:
    """One device: its queue's end, its memory, and the fault that it has had, if any."""

    def __init__(self, index: int, model: Model) -> None:
        self.index, self.model = index, model
        self.torch = torch.device("sim", index)
        self.streams = [Stream(self)]
        self.stream, self.start = self.streams[0], 0.0  # the current one; of the latest kernel
        self.waiting: deque[float] = deque()  # the ends of the kernels in the queue
        self.allocated = self.peak = 0
        self.error: str | None = None
        self.graph: CUDAGraph | None = None  # that launches go into, instead of the queue
        self.throttled = 1.0  # what a fault has left of the clock's speed
        every, length, factor, *reasons = os.environ.get("SIM_PHASES", "1:0:1").split(":")
        self.phase_every_s, self.phase_s = float(every), float(length)
        self.phase_speed, self.phase_reasons = float(factor), int((*reasons, "0")[0], base=0)
        self.busy_s = 0.0  # that kernels have run
        self.trace: list[tuple[str, float, float]] | None = None  # where kernels are written down
        self.faults: dict[
            int, list[Any]
        ] = {}  # by elements: what happens, and after how many more such kernels
        for word in filter(None, os.environ.get("SIM_FAULT", "").split(",")):
            what, elements, *number = word.split("@")
            self.faults[int(elements)] = [what, int(*number or (1,))]
        self.random = random.Random(int(os.environ.get("SIM_SEED", "0")) + index)
        kind, _, width = os.environ.get("SIM_NOISE", "none").partition(":")
        self.noise: Callable[[], float] = {
            "none": lambda: 1.0,
            "normal": lambda: max(0.0, self.random.gauss(1.0, float(width))),
            "uniform": lambda: self.random.uniform(1.0 - float(width), 1.0 + float(width)),
        }[kind]

    @property
    def end(self) -> float:
        """The end of what is in the current stream, on the host's clock."""
        return self.stream.end

    @end.setter
    def end(self, moment: float) -> None:
        self.stream.end = moment

    def launch(
        self, began: float, work: tuple[float, float], elements: int, name: str = "kernel"
    ) -> float:
        """Put a kernel into the queue; returns the moment until which the launch keeps the host."""
        self.check()
        fault = self._fault(elements) if self.faults else None
        if fault in ("fail", "lost"):
            self.error = LOST if fault == "lost" else "unspecified launch failure"
        elif fault == "hang":
            self.end = inf
        elif fault == "throttle":
            self.throttled = 0.5
        flop, moved = work
        seconds = max(flop / self.model.peak_flop_s, moved / self.model.bandwidth_bytes_s)
        if self.graph is not None:
            self.graph.launches.append((name, seconds))
            return began
        return self.queue(began, [(name, seconds)])

    def queue(self, began: float, kernels: list[tuple[str, float]]) -> float:
        """Put kernels, by their names and seconds, into the queue with one launch."""
        launched = began + self.model.launch_s
        self._make_room(launched)
        self.end = max(self.end, launched)
        for name, seconds in kernels:
            start = self.end + self.model.gap_s
            lasts = seconds * self.noise() / self.speed(start)
            self.start, self.end, self.busy_s = start, start + lasts, self.busy_s + lasts
            if self.trace is not None:
                factor = self.model.trace_factor
                self.trace.append((name, factor * start, factor * self.end))
        self.waiting.append(self.end)
        return launched - _dispatch_s

    def is_in_phase(self, moment: float) -> bool:
        """Whether the clock is low in that moment on the host's clock, and not by a fault."""
        shift_s = self.index * self.phase_every_s / 2
        return (moment + shift_s) % self.phase_every_s < self.phase_s

    def speed(self, moment: float) -> float:
        """Of the clock, relative to the model's."""
        return self.throttled * (self.phase_speed if self.is_in_phase(moment) else 1.0)

    def _fault(self, elements: int) -> str | None:
        pending = self.faults.get(elements, [None, 0])
        pending[1] -= 1
        return pending[0] if pending[1] == 0 else None

    def _make_room(self, now: float) -> None:
        while self.waiting and self.waiting[0] <= now:
            self.waiting.popleft()
        if len(self.waiting) >= self.model.depth:
            wait_until(self.waiting.popleft())

    def copy(self, began: float, size: int, *, pinned: bool, wait: bool) -> None:
        """Move bytes between host and device."""
        self.check()
        model = self.model
        latency, rate = model.copy_latency_s, model.copy_bytes_s
        if pinned:
            latency, rate = model.pinned_latency_s, model.pinned_bytes_s
        self.end = max(self.end, began) + latency + size / rate
        if wait or not pinned:
            wait_until(self.end - _dispatch_s)

    def synchronize(self) -> None:
        """Have the host wait until the queues are empty."""
        self.check()
        wait_until(max(stream.end for stream in self.streams))

    def check(self) -> None:
        """Raise the fault that the device has had, from then on."""
        if self.error is not None:
            raise torch.AcceleratorError(f"sim error: {self.error}")

    def allocate(self, size: int) -> None:
        """Count memory.

        Raises:
            torch.OutOfMemoryError: there is not so much left.
        """
        if self.allocated + size > self.model.memory_bytes:
            free = int(self.model.memory_bytes - self.allocated)
            raise torch.OutOfMemoryError(
                f"sim out of memory. Tried to allocate {size} bytes; {free} are free"
            )
        self.allocated += size
        self.peak = max(self.peak, self.allocated)


class Memory:
    """A tensor's memory on its device, given back when the last tensor that has it is gone."""

    def __init__(self, device: Device, size: int) -> None:
        device.allocate(size)
        self.device, self.size = device, size

    def __del__(self) -> None:
        if hasattr(self, "size"):
            self.device.allocated -= self.size


class Content:
    """What a storage holds.

    A CPU storage, and the kernels that have yet to write to it, in their order.
    """

    def __init__(self) -> None:
        self.storage: torch.UntypedStorage | None = None
        self.writers: list[Kernel] = []
        self.readers: weakref.WeakSet[Kernel] = weakref.WeakSet()

    def release(self) -> None:
        """Run what has yet to be read, before something else is written."""
        for reader in list(self.readers):
            for content in [*(region.content for region in reader.fresh or ()), *reader.written]:
                if not reader.done:
                    content.settle()

    def settle(self, stream: Stream | None = None, moment: float = inf) -> None:
        """Run what has yet to be written, but for what another stream is at in that moment."""
        for writer in list(self.writers):
            if writer in self.writers and not writer.is_late(stream, moment):
                self.writers.remove(writer)
                writer.run(stream, moment)


class Kernel:
    """A call of an operator that has not been computed yet."""

    def __init__(
        self, func: Any, args: Any, kwargs: Any, fresh: list[Region], written: list[Content]
    ) -> None:
        self.stream: Stream | None = None  # that it is in
        self.end = 0.0
        self.func, self.args, self.kwargs = func, args, kwargs
        self.fresh, self.written, self.done = fresh, written, False
        for region in regions_in((args, kwargs)):
            if region.content not in written:
                region.content.readers.add(self)

    def is_late(self, stream: Stream | None, moment: float) -> bool:
        """Whether a stream that goes on in that moment does so without it."""
        return self.stream is not stream and self.end > moment

    def run(self, stream: Stream | None = None, moment: float = inf) -> None:
        """Compute it with PyTorch's CPU kernels, from what a stream finds in that moment."""
        if self.done:
            return
        self.done = True
        for region in regions_in((self.args, self.kwargs)):
            if region.content not in self.written:
                region.content.settle(stream, moment)
        result = self.func(*changed(self.args, Region.real), **changed(self.kwargs, Region.real))
        for region, value in zip(self.fresh, tensors_in(result) if self.fresh else (), strict=True):
            region.keep(value)
        self.args = self.kwargs = self.fresh = None


@dataclass(frozen=True)
class Pending:
    """What a kernel will do, each time that it is launched.

    Attributes:
        overwritten: whether nothing is left of what was there before.
    """

    call: tuple[Any, Any, Any]
    fresh: list[Region]
    written: list[Content]
    overwritten: bool

    def begin(self, device: Device) -> None:
        """Have it run before anybody looks at what it writes; now, where others are late for it."""
        read = [region.content for region in regions_in(self.call[1:])]
        late = [w for content in read for w in content.writers]
        contents = [*(region.content for region in self.fresh), *self.written]
        for content in contents:
            content.release()
        kernel = Kernel(*self.call, self.fresh, self.written)
        kernel.stream, kernel.end = device.stream, device.end
        for content in contents:
            if self.overwritten:
                content.writers.clear()  # nobody has looked at what they would have written
            content.writers.append(kernel)
        if any(writer.is_late(device.stream, device.start) for writer in late):
            for content in contents:
                content.settle(device.stream, device.start)


@dataclass(frozen=True)
class Region:
    """Where a tensor's elements lie in a content."""

    content: Content
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def real(self) -> torch.Tensor:
        """The elements, as a CPU tensor that shares their storage."""
        content, count = self.content, torch.empty(0, dtype=self.dtype)
        if content.storage is None:
            content.storage = torch.UntypedStorage(_extent(self) * count.element_size())
        return count.set_(content.storage, self.offset, self.shape, self.stride)

    def keep(self, value: torch.Tensor) -> None:
        """Take a result as the content, in the layout that was promised for it."""
        value = value.resolve_conj().resolve_neg()
        if (
            value.stride() == self.stride
            and value.storage_offset() == self.offset
            and value.dtype == self.dtype
        ):
            self.content.storage = value.untyped_storage()
        else:
            self.real().copy_(value)


class SimTensor(torch.Tensor):
    """A tensor on the device."""

    region: Region
    memory: Memory

    @staticmethod
    def __new__(cls, like: torch.Tensor, memory: Memory, content: Content) -> SimTensor:  # noqa: D102
        shape, stride, offset = tuple(like.shape), like.stride(), like.storage_offset()
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            shape,
            strides=stride,
            storage_offset=offset,
            dtype=like.dtype,
            device=memory.device.torch,
        )
        self.memory, self.region = memory, Region(content, like.dtype, shape, stride, offset)
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"sim{read(self)}"


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the device does for an operator of PyTorch."""
    began = time.perf_counter()
    if (
        func is aten._to_copy.default
        and "device" in kwargs
        and torch.device(kwargs["device"]).type == "cpu"
    ):
        return _to_host(began, args[0], kwargs)
    if func is aten.copy_.default and {type(args[0]), type(args[1])} != {SimTensor}:
        return _copy(
            began, args[0], args[1], bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        )
    if func is aten._local_scalar_dense.default:
        args[0].memory.device.synchronize()
        return read(args[0]).item()
    tensors = list(_sim_tensors((args, kwargs)))
    device = tensors[0].memory.device
    if any(t.memory.device is not device for t in tensors):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found several of sim"
        )
    plan = _plan(func, args, kwargs)
    if plan is None:
        return _at_once(began, device, func, args, kwargs)
    if plan.view:
        outs = [SimTensor(out, tensors[0].memory, tensors[0].region.content) for out in plan.outs]
        for out in outs:
            torch._functionalize_unsafe_set(
                out, tensors[0]
            )  # so that it counts as sharing the storage
        return outs[0] if plan.single else outs
    launched = device.launch(began, plan.work, plan.elements, func.overloadpacket.__name__)
    try:
        return _queued(plan, device, func, args, kwargs)
    finally:
        wait_until(launched)


def _queued(plan: Plan, device: Device, func: Any, args: Any, kwargs: Any) -> Any:
    """The results of a kernel that is in the queue, to be computed when somebody looks at them."""
    targets = [_argument(func, args, kwargs, name) for name in plan.written]
    outs = (
        []
        if targets
        else [SimTensor(out, Memory(device, _bytes(out)), Content()) for out in plan.outs]
    )
    whole = (
        func in OVERWRITES
        and targets[0].numel() * targets[0].element_size() == targets[0].memory.size
    )
    pending = Pending(
        (func, changed_sim(args), changed_sim(kwargs)),
        [out.region for out in outs],
        [target.region.content for target in targets],
        overwritten=whole or not targets,
    )
    pending.begin(device)
    if device.graph is not None:
        device.graph.kernels.append(pending)
    if targets:
        return targets[0] if plan.single else targets
    return outs[0] if plan.single else tuple(outs) if plan.outs else None


def read(tensor: SimTensor, moment: float = inf) -> torch.Tensor:
    """A tensor's elements as its current stream finds them in a moment, computed now if need be."""
    tensor.region.content.settle(tensor.memory.device.stream, moment)
    return tensor.region.real()


@dataclass(frozen=True)
class Plan:
    """What an operator does at certain shapes: found once, on tensors that have shapes and no data.

    Attributes:
        outs: the results, without data.
        view: whether they lie in the first tensor's memory.
        written: the arguments that are changed, by name.
        work: FLOP and bytes.
        elements: of the largest result.
    """

    outs: list[torch.Tensor]
    single: bool
    view: bool
    written: tuple[str, ...]
    work: tuple[float, float]
    elements: int


VIEWS = {
    aten._unsafe_view.default,
    aten._reshape_alias.default,
    aten.detach.default,
    aten.lift_fresh.default,
}
OVERWRITES = {
    aten.zero_.default,
    aten.fill_.Scalar,
    aten.copy_.default,
    aten.normal_.default,
    aten.uniform_.default,
}
_plans: dict[Any, Plan | None] = {}


def _plan(func: Any, args: Any, kwargs: Any) -> Plan | None:
    """The plan of a call; None where it cannot be known without the data."""
    key: Any = (func, _key(args), _key(kwargs))
    try:
        if key in _plans:
            return _plans[key]
    except TypeError:  # an argument that cannot be hashed
        key = None
    plan = _planned(func, args, kwargs)
    if key is not None:
        _plans[key] = plan
    return plan


def _planned(func: Any, args: Any, kwargs: Any) -> Plan | None:
    aliases = [value.alias_info for value in func._schema.returns]
    written = _written(func)
    try:
        result = func(*changed(args, _meta), **changed(kwargs, _meta))
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error).lower():
            return None
        raise
    outs = list(tensors_in(result))
    view = not written and (func in VIEWS or any(alias is not None for alias in aliases))
    if view and any(out.is_conj() or out.is_neg() for out in outs):
        view = False  # a copy instead: a tensor made here cannot carry the mark
    outs = (
        outs
        if view
        else [torch.empty_strided(o.shape, o.stride(), dtype=o.dtype, device="meta") for o in outs]
    )
    operands = list(_sim_tensors((args, kwargs)))
    moved = sum(_distinct(t) for t in operands) + (0 if written else sum(map(_bytes, outs)))
    if func in OVERWRITES and func is not aten.copy_.default:
        moved = sum(map(_bytes, outs))
    elements = max((out.numel() for out in outs), default=0)
    single = isinstance(result, torch.Tensor)
    return Plan(outs, single, view, written, (_flop(func, operands, outs), moved), elements)


def _written(func: Any) -> tuple[str, ...]:
    """The arguments that an operator changes, by name."""
    return tuple(
        a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write
    )


def _flop(func: Any, operands: list[SimTensor], outs: list[torch.Tensor]) -> float:
    """Of products, of which there are few kinds; all else is bound by its bytes."""
    name = func.overloadpacket.__name__
    if name in ("mm", "bmm", "mv", "dot"):
        return 2.0 * outs[0].numel() * operands[0].shape[-1]
    if name in ("addmm", "baddbmm", "addmv"):
        return 2.0 * outs[0].numel() * operands[1].shape[-1]
    if name == "convolution":
        return 2.0 * outs[0].numel() * prod(operands[1].shape[1:])
    return 0.0


def _at_once(began: float, device: Device, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator whose result's shape depends on the data: wait, compute, and wait again."""
    device.synchronize()
    written = [_argument(func, args, kwargs, name) for name in _written(func)]
    for target in written:
        target.region.content.release()
    for tensor in _sim_tensors((args, kwargs)):
        read(tensor)
    result = func(
        *changed(changed_sim(args), Region.real), **changed(changed_sim(kwargs), Region.real)
    )
    outs = list(tensors_in(result))
    moved = sum(_distinct(t) for t in _sim_tensors((args, kwargs))) + sum(map(_bytes, outs))
    device.launch(began, (0.0, moved), max((out.numel() for out in outs), default=0))
    device.synchronize()
    if written:
        return written[0] if isinstance(result, torch.Tensor) else written
    made = iter([on_device(device, out) for out in outs])
    return changed(result, lambda value: next(made), kind=torch.Tensor)


def on_device(device: Device, value: torch.Tensor) -> SimTensor:
    """A CPU tensor's elements on the device, without the time that a copy takes."""
    out = SimTensor(value, Memory(device, _bytes(value)), Content())
    out.region.content.storage = value.untyped_storage()
    return out


def _to_host(began: float, tensor: SimTensor, kwargs: dict[str, Any]) -> torch.Tensor:
    device = tensor.memory.device
    moment = max(device.end, began)
    device.copy(began, _bytes(tensor), pinned=False, wait=True)
    rest = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking")}
    return aten._to_copy.default(read(tensor, moment), **rest)


def _copy(began: float, to: torch.Tensor, source: torch.Tensor, non_blocking: bool) -> torch.Tensor:
    device = next(_sim_tensors((to, source))).memory.device
    if isinstance(to, SimTensor):
        to.region.content.release()
    real = read(to) if isinstance(to, SimTensor) else to
    values = source
    if isinstance(source, SimTensor):
        values = read(source, max(source.memory.device.end, began))
    if (
        real.dtype == values.dtype
        and real.is_contiguous()
        and values.is_contiguous()
        and real.shape == values.shape
    ):
        ctypes.memmove(
            real.data_ptr(), values.data_ptr(), _bytes(values)
        )  # PyTorch's threads may wait for a core
    else:
        real.copy_(values)
    host = source if isinstance(to, SimTensor) else to
    device.copy(
        began,
        _bytes(host),
        pinned=host.untyped_storage().data_ptr() in _pinned,
        wait=not non_blocking,
    )
    return to


def changed(value: Any, change: Callable[[Any], Any], kind: type = Region) -> Any:
    """Nested arguments with each of a kind, and each device, changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([changed(item, change, kind) for item in value])
    if isinstance(value, dict):
        return {key: changed(item, change, kind) for key, item in value.items()}
    if isinstance(value, SimTensor):
        return _meta(value)
    if isinstance(value, torch.device) and change is not _region:
        return torch.device("meta" if change is _meta else "cpu")
    return value


def changed_sim(value: Any) -> Any:
    """Nested arguments with each tensor of the device replaced by its region."""
    return changed(value, _region, SimTensor)


def _region(tensor: SimTensor) -> Region:
    return tensor.region


def _meta(tensor: SimTensor) -> torch.Tensor:
    region = tensor.region
    base = torch.empty(_extent(region), dtype=region.dtype, device="meta")
    return base.as_strided(region.shape, region.stride, region.offset)


def regions_in(value: Any) -> Iterator[Region]:
    """The regions in nested arguments."""
    yield from _all(value, Region)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a result."""
    yield from _all(value, torch.Tensor)


def _sim_tensors(value: Any) -> Iterator[SimTensor]:
    yield from _all(value, SimTensor)


def _all(value: Any, kind: Any) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _all(item, kind)
    elif isinstance(value, dict):
        yield from _all(list(value.values()), kind)


def _key(value: Any) -> Any:
    """What of an argument a plan depends on."""
    if isinstance(value, SimTensor):
        region = value.region
        return (region.dtype, region.shape, region.stride, region.offset)
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple((key, _key(item)) for key, item in value.items())
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.stride())
    return (type(value), value)


def _argument(func: Any, args: Any, kwargs: Any, name: str) -> Any:
    for position, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return kwargs[name] if name in kwargs else args[position]
    raise TypeError(f"{func} has no argument {name}")


def _extent(region: Region) -> int:
    """Elements from the storage's start to the last one of the region."""
    if 0 in region.shape:
        return region.offset
    return (
        region.offset
        + 1
        + sum((n - 1) * step for n, step in zip(region.shape, region.stride, strict=True))
    )


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _distinct(tensor: torch.Tensor) -> int:
    """Bytes of the elements, one that is expanded counted once."""
    kept = [n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step]
    return prod(kept) * tensor.element_size() if tensor.numel() else 0


def wait_until(moment: float) -> None:
    """Sleep until shortly before, then watch the clock; a scripted one advances without sleep."""
    if _scripted is not None:
        _scripted.wait_until(moment)
        return
    while (left := moment - time.perf_counter()) > 0:
        if left > 1e-3:
            time.sleep(min(left - 5e-4, 1.0))


class Event:
    """A moment of the device's time."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._moment: float | None = None

    def record(self, stream: Any = None) -> None:
        """Mark the end of what is in the queue now."""
        stream = stream if stream is not None else _devices[0].stream
        stream.device.check()
        self._moment = max(stream.end, time.perf_counter())

    def query(self) -> bool:
        """Whether that moment has come."""
        return self._moment is None or self._moment <= time.perf_counter()

    def synchronize(self) -> None:
        """Wait for it."""
        if self._moment is not None:
            wait_until(self._moment)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this moment to another."""
        assert self._moment is not None and end._moment is not None
        return (end._moment - self._moment) * 1_000


class CUDAGraph:
    """Kernels that are launched all at once, under the name that PyTorch has for them."""

    def __init__(self) -> None:
        self.device = _devices[0]  # that it was captured on
        self.kernels: list[Pending] = []
        self.launches: list[tuple[str, float]] = []

    def replay(self) -> None:
        """Launch them."""
        began = time.perf_counter()
        launched = self.device.queue(began, self.launches)
        for pending in self.kernels:
            pending.begin(self.device)
        wait_until(launched)


class Stream:
    """A queue of a device."""

    def __init__(self, device: Device) -> None:
        self.device, self.end = device, 0.0  # of what is in it, on the host's clock

    def wait_stream(self, other: Stream) -> None:
        """Have what is launched from now on begin after what the other one has."""
        self.end = max(self.end, other.end)


class Backend:
    """What ``torch.get_device_module("sim")`` gives."""

    Event, CUDAGraph = Event, CUDAGraph
    _current = 0

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        """What torch.autocast asks, which checkpoint() enters on whatever accelerator there is."""
        return [torch.bfloat16, torch.float16]

    def is_available(self) -> bool:
        """Whether there is a device."""
        return os.environ.get("SIM_ABSENT") != "1" and any(
            device.error != LOST for device in _devices
        )

    def device_count(self) -> int:
        """How many there are."""
        return len(_devices) if self.is_available() else 0

    def is_initialized(self) -> bool:
        """There is nothing to wait for."""
        return True

    def current_device(self) -> int:
        """The first, but within :meth:`device`; tensors say themselves where they are."""
        return self._current

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        """Another one is the current one."""
        before, self._current = self._current, _device(device).index
        try:
            yield
        finally:
            self._current = before

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are the CPU's."""

    def current_stream(self, device: Any = None) -> Stream:
        """A device's queue that launches go into."""
        return _device(device).stream

    def Stream(self, device: Any = None) -> Stream:  # noqa: N802  (PyTorch's name)
        """Another queue of a device."""
        found = _device(device)
        found.streams.append(Stream(found))
        return found.streams[-1]

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Launches go into this queue."""
        device, usual = stream.device, stream.device.stream
        device.stream = stream
        try:
            yield
        finally:
            device.stream = usual

    @contextmanager
    def graph(self, graph: CUDAGraph, stream: Stream | None = None) -> Iterator[None]:
        """Launches on the stream's device go into the graph."""
        graph.device = stream.device if stream is not None else _devices[0]
        graph.device.graph = graph
        try:
            yield
        finally:
            graph.device.graph = None

    def synchronize(self, device: Any = None) -> None:
        """Have the host wait until the queue is empty."""
        _device(device).synchronize()

    def memory_allocated(self, device: Any = None) -> int:
        """Bytes in use."""
        return _device(device).allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most bytes in use since the reset."""
        return _device(device).peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Forget the peak."""
        _device(device).peak = _device(device).allocated

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def get_device_name(self, device: Any = None) -> str:
        """For results."""
        return "simulated accelerator"

    def get_device_properties(self, device: Any = None) -> Any:
        """The model, under the names that PyTorch's own devices use where they have one."""
        model = _device(device).model
        return SimpleNamespace(
            total_memory=int(model.memory_bytes), name="simulated accelerator", model=model
        )

    def clock_rate(self, device: Any = None) -> int:
        """The clock, in MHz as ``torch.cuda`` gives it."""
        found = _device(device)
        return round(found.model.clock_hz * found.speed(time.perf_counter()) / 1e6)

    def temperature(self, device: Any = None) -> int:
        """The temperature in degrees Celsius."""
        return 40

    def clocks_event_reasons(self, device: Any = None) -> int:
        """Why the clock is not higher, in the bits that NVML has for it."""
        found = _device(device)
        of_phase = found.phase_reasons if found.is_in_phase(time.perf_counter()) else 0
        return of_phase | (0x40 if found.throttled < 1 else 0)

    def total_energy(self, device: Any = None) -> float:
        """What kernels have used so far, in mJ as NVML counts."""
        found = _device(device)
        return found.busy_s * found.model.power_w * 1e3

    def trace_kernels(self, run: Callable[[], None]) -> list[profiler.Kernel]:
        """What kernels ran on the first device meanwhile, as a profiler would tell it."""
        _devices[0].trace = seen = []
        try:
            run()
        finally:
            _devices[0].trace = None
        return [profiler.Kernel(*kernel) for kernel in seen]

    def _sleep(self, cycles: int) -> None:
        """Keep the first device busy, as CUDA can be."""
        _devices[0].end = max(_devices[0].end, time.perf_counter())
        _devices[0].end += cycles / _devices[0].model.clock_hz

    def power_draw(self, device: Any = None) -> int:
        """The power, in mW as ``torch.cuda`` gives it, which follows the clock."""
        found = _device(device)
        return round(found.model.power_w * found.speed(time.perf_counter()) * 1e3)


def _device(device: Any = None) -> Device:
    index = (
        device
        if isinstance(device, int)
        else None
        if device is None
        else torch.device(device).index
    )
    return _devices[index or 0]


@cache
def _register() -> None:
    """Add the device to PyTorch, once in a process."""
    _setup_privateuseone_for_python_backend("sim", backend_module=Backend())
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_pin_memory", _pin_memory, "CPU")
    library.impl(
        "is_pinned",
        lambda tensor, device=None: tensor.untyped_storage().data_ptr() in _pinned,
        "CPU",
    )
    _keep.append(library)


def _empty(
    size: Any, *, dtype: Any = None, device: Any = None, memory_format: Any = None, **_: Any
) -> SimTensor:
    like = torch.empty(
        size, dtype=dtype, device="meta", memory_format=memory_format or torch.contiguous_format
    )
    return SimTensor(like, Memory(_device(device), _bytes(like)), Content())


def _empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, device: Any = None, **_: Any
) -> SimTensor:
    like = torch.empty_strided(size, stride, dtype=dtype, device="meta")
    return SimTensor(like, Memory(_device(device), _bytes(like)), Content())


def _pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    pinned = tensor.clone()
    address = pinned.untyped_storage().data_ptr()
    _pinned.add(address)
    weakref.finalize(pinned, _pinned.discard, address)
    return pinned


def _dispatch_cost() -> float:
    """Seconds that PyTorch takes to get here and back, which are part of a launch too."""
    device = Device(0, Model())
    device.faults.clear()
    tensor = on_device(device, torch.zeros(1))
    times = []
    for _ in range(100):
        start = time.perf_counter()
        tensor.neg()
        times.append(time.perf_counter() - start)
    return median(times) - device.model.launch_s


_dispatch_s = 0.0
_pinned: set[int] = set()  # the addresses of pinned host memory
_keep: list[Any] = []
_devices: list[Device] = []
_register()
_dispatch_s = _dispatch_cost()
_devices += [Device(index, model) for index, model in enumerate(models())]
