"""``job=trace``: which calls a model makes, each with how often, as a workload's file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.module_tracker import ModuleTracker

from runner.calls import Thunk
from runner.calls.bound_operation import is_differentiable, outputs_of
from runner.calls.whole_model import model_and_inputs, place_of
from runner.files import make_folder, write_atomically
from runner.measure.host_memory import free_memory_bytes
from runner.rows.rows import TraceRow
from runner.tasks.task import Task, TaskResult

ALWAYS_THERE = "aten"  # whose functions every process has
OF_NUMBERS = ("below", "domain")  # what is said of a tensor's numbers
NO_CALLS = ("prim", "profiler")  # what asks or notes something of a tensor, and computes nothing
DATA_DEPENDENT = "its result depends on the numbers, which are drawn again"
UNFILLED = "its result holds whatever the memory held"
RUNS = 5  # of the model, of which the median counts
MARK = "opsweep: the model"


def run(task: Task) -> TaskResult:
    """Record a model's calls, write them to a file, and say how much of its time they cover."""
    op, device = task.cell.operation, task.device
    task.report_step("building the model")
    place = place_of(op, task.cell.limit.memory_bytes or free_memory_bytes())
    model, inputs = model_and_inputs(op, task.cell.seed, place)
    if place != "meta":
        model = model.to(device.torch)
        inputs = tree_map_only(Tensor, lambda tensor: tensor.to(device.torch), inputs)
    args, kwargs = inputs
    call: Thunk = partial(model, *args, **kwargs)

    task.report_step("recording its calls")
    dtype = _dtype_of(model, inputs)
    recorder = Recorder(model, dtype)
    with recorder.tracker, recorder:
        result = call()
    whole: dict[str, Any] = {"function": op.call, "passes": op.passes, "name": "model"}
    whole |= _arguments(partial(described, dtype=dtype), args, kwargs)
    whole |= {"outputs": [list(t.shape) for t in outputs_of(result)]}

    model_s, covered = None, None
    if place != "meta":  # which does nothing that takes time
        task.report_step("timing the model")
        clock = device.clock(torch.get_num_threads())
        call()
        model_s = median(clock.time(call, 1).wall_s for _ in range(RUNS))
        covered = median(_covered(call, recorder.covered) for _ in range(RUNS))

    calls = recorder.entries
    path = Path(task.cell.into, "workload", f"{op.name}.yaml")
    make_folder(path.parent, parents=True)
    command = f"python -m runner --config-dir {task.cell.into} workload={op.name}"
    write_atomically(path, _file_text(command, op.name, dtype, [whole, *calls]))
    row = replace(
        task.blank(TraceRow),
        passes=op.passes,
        calls=sum(entry["count"] for entry in calls),
        distinct=len(calls),
        not_reproduced=sum(entry["count"] for entry in calls if "reason" in entry),
        parameters_bytes=sum(p.nbytes for p in model.parameters()),
        model_s=model_s,
        covered=covered,
        on_meta=place == "meta",
        file=str(path),
    )
    return TaskResult([row])


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its own base says nothing
    """Records what PyTorch's dispatcher is asked for: each distinct call, by what is asked."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = ModuleTracker()
        self._root, self._dtype = type(model).__name__, dtype
        self._entries: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self.order: list[str] = []  # the calls' names, as they were made

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> object:
        """Note the call, and make it."""
        # before it is made: it may change what it is given
        entry = self._entry(func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if func.namespace not in NO_CALLS:
            entry["outputs"] = [list(t.shape) for t in outputs_of(result)]
            if reason := entry.get("reason") or _reason(func, entry):
                entry["reason"] = reason
            self._count(func, entry)
        return result

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The calls as a workload has them, in the order in which they were made first."""
        return list(self._entries.values())

    @property
    def covered(self) -> set[str]:
        """The functions that can be called again, by the profiler's names."""
        names = {True: set[str](), False: set[str]()}
        for entry in self.entries:
            _, _, space, name, _ = entry["function"].split(".")
            names["reason" in entry].add(f"{space}::{name}")
        return names[False] - names[True]

    def _entry(self, func: OpOverload, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"function": f"torch.ops.{func}"}
        written = {a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write}
        order = [argument.name for argument in func._schema.arguments]
        try:
            describe = partial(described, dtype=self._dtype)
            entry |= _arguments(describe, args, kwargs)
            named = {**dict(zip(order, entry["args"], strict=False)), **entry.get("kwargs", {})}
            for tensor in _tensors([named[name] for name in written & named.keys()]):
                tensor["written"] = True
        except _CannotBeReproducedError as error:
            entry = {"function": entry["function"], "reason": str(error)}
        if torch.Tag.nondeterministic_seeded in func.tags:
            entry["random"] = True
        if written or self.tracker.is_bw:
            entry["differentiable"] = False
        return entry

    def _count(self, func: OpOverload, entry: dict[str, Any]) -> None:
        """Count it with those of the same function, shapes and constants."""
        loose = json.loads(json.dumps(entry), object_hook=_without_numbers)
        key = json.dumps(loose, sort_keys=True)
        known = self._entries.get(key)
        if known is None:
            base = func._opname.strip("_") or func._opname
            self._numbers[base] = self._numbers.get(base, 0) + 1
            known = {"name": f"{base}_{self._numbers[base]}", **entry, "count": 0, "modules": {}}
            self._entries[key] = known
        else:
            for one, other in zip(_tensors(known), _tensors(entry), strict=True):
                _widen(one, other)
        self.order.append(known["name"])
        known["count"] += 1
        deepest = max(self.tracker.parents - {"Global", self._root}, key=len, default="-")
        module = deepest.removeprefix(f"{self._root}.").removeprefix("model.")
        known["modules"][module] = known["modules"].get(module, 0) + 1


def _widen(known: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Have a tensor's numbers be those of two calls: the larger range, or any where they differ."""
    limits = known.pop("below", None), other.get("below")
    if all(limits):
        known["below"] = max(limits)
    if known.get("domain") != other.get("domain"):
        known.pop("domain", None)


class _CannotBeReproducedError(Exception):
    """A call has an argument that no file can hold."""


def described(value: object, dtype: torch.dtype) -> object:
    """An argument as a workload's file has it."""
    match value:
        case Tensor():
            return _described_tensor(value, dtype)
        case None | bool() | int() | float() | str():
            return value
        case torch.dtype():
            return "{dtype}" if value == dtype else str(value)
        case torch.device():
            return "{device}"
        case torch.layout() | torch.memory_format():
            return str(value)
        case Mapping():
            return {str(key): described(item, dtype) for key, item in value.items()}
        case list() | tuple():
            return [described(item, dtype) for item in value]
    raise _CannotBeReproducedError(f"an argument is a {type(value).__name__}")


def _described_tensor(tensor: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise _CannotBeReproducedError("an argument is a tensor that is not strided")
    if not tensor.numel():
        raise _CannotBeReproducedError("an argument is an empty tensor")
    said: dict[str, Any] = {"shape": list(tensor.shape)}
    if tensor.dtype != dtype:
        said["dtype"] = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_contiguous():
        said["stride"] = list(tensor.stride())
    is_whole = not is_differentiable(tensor.dtype) and tensor.dtype is not torch.bool
    if tensor.is_meta:  # which holds no numbers: positions that are in any table
        return said | ({"below": min(tensor.shape, default=1)} if is_whole else {})
    if is_whole and int(tensor.min()) >= 0:
        said["below"] = int(tensor.max()) + 1
    elif tensor.dtype.is_floating_point and float(tensor.min()) >= 0:
        said["domain"] = "positive" if float(tensor.min()) > 0 else "nonnegative"
    return said


def _arguments(
    describe: Callable[[Any], Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    named = {key: describe(value) for key, value in kwargs.items()}
    return {"args": [describe(value) for value in args], **({"kwargs": named} if named else {})}


def _reason(func: OpOverload, entry: Mapping[str, Any]) -> str:
    """Why a call cannot be made again; blank where it can."""
    if func.namespace != ALWAYS_THERE:
        return f"{func} is registered by a package that another process may not have"
    if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        return DATA_DEPENDENT
    given = [tensor["shape"] for tensor in _tensors(entry)]
    if not any(given or entry["outputs"][:1]):
        return "none of its tensors has a dimension"
    return UNFILLED if func._opname.removeprefix("new_").startswith("empty") else ""


def _tensors(value: object) -> list[dict[str, Any]]:
    """The tensors in nested arguments as they were described, in their order."""
    if isinstance(value, dict) and "shape" in value:
        return [value]
    items = list(value.values()) if isinstance(value, dict) else value
    found: list[dict[str, Any]] = []
    for item in items if isinstance(items, list) else ():
        found += _tensors(item)
    return found


def _without_numbers(described: dict[str, Any]) -> dict[str, Any]:
    """What tells two calls apart, which the numbers that a tensor holds do not."""
    return {key: item for key, item in described.items() if key not in OF_NUMBERS}


def _dtype_of(model: nn.Module, inputs: Sequence[Any]) -> torch.dtype:
    """The first floating dtype of the parameters, or else of the inputs."""
    tensors = [*model.parameters(), *outputs_of(list(inputs))]
    floating = (t.dtype for t in tensors if is_differentiable(t.dtype))
    return next(floating, torch.float32)


def _covered(call: Thunk, names: set[str]) -> float:
    """The share of a call's time on the host that functions of these names take."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(MARK):
        call()
    events = profiler.events() or []
    (whole,) = [event for event in events if event.name == MARK]
    covered_us = 0.0
    for event in events:
        above = event.cpu_parent
        while above is not None and above.name not in names:
            above = above.cpu_parent
        if event.name in names and above is None:
            covered_us += event.time_range.elapsed_us()
    share: float = covered_us / whole.time_range.elapsed_us()
    return min(1.0, share)


def _file_text(command: str, name: str, dtype: torch.dtype, calls: list[dict[str, Any]]) -> str:
    lines = [f"# {command}", f"# The calls of a model, with PyTorch {torch.__version__}."]
    lines += [f"{name}:", f"  dtype: {str(dtype).removeprefix('torch.')}", "  calls:"]
    for call in calls:  # a line each
        text = yaml.safe_dump(call, default_flow_style=True, sort_keys=False, width=math.inf)
        lines.append(f"  - {text.strip()}")
    return "\n".join(lines) + "\n"
