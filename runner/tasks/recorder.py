"""Which calls a model makes, recorded where PyTorch dispatches them, as a workload has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from runner.calls.bound_operation import is_differentiable, outputs_of

ALWAYS_THERE = "aten"  # whose functions every process has
OF_NUMBERS = ("below", "domain")  # what is said of a tensor's numbers
# PyTorch asks another function for it on each device; all are asked for by this one
ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
OF_ATTENTION = ("attn_mask", "dropout_p", "is_causal", "scale")  # by name, after three by position
NO_CALLS = ("prim", "profiler")  # what asks or notes something of a tensor, and computes nothing
DATA_DEPENDENT = "its result depends on the numbers, which are drawn again"
UNFILLED = "its result holds whatever the memory held"


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
            outputs = outputs_of(result)[: 1 if entry["function"] == ATTENTION else None]
            entry["outputs"] = [list(t.shape) for t in outputs]
            if reason := entry.get("reason") or _reason(func, entry):
                entry["reason"] = reason
            self._count(func, entry)
            self._made(func, (args, kwargs), result)
        return result

    def _made(self, func: OpOverload, given: object, result: object) -> None:
        """Is told of each call once it is recorded, for a kind that records more of it."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The calls as a workload has them, in the order in which they were made first."""
        return list(self._entries.values())

    @property
    def reproduced(self) -> set[str]:
        """The names of the calls that can be made again."""
        return {entry["name"] for entry in self.entries if "reason" not in entry}

    def _entry(self, func: OpOverload, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"function": f"torch.ops.{func}"}
        written = {a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write}
        order = [argument.name for argument in func._schema.arguments]
        try:
            describe = partial(described, dtype=self._dtype)
            entry |= arguments_of(describe, args, kwargs)
            named = {**dict(zip(order, entry["args"], strict=False)), **entry.get("kwargs", {})}
            for tensor in _tensors([named[name] for name in written & named.keys()]):
                tensor["written"] = True
            entry |= _attention(func, named)
        except CannotBeReproducedError as error:
            entry = {"function": entry["function"], "reason": str(error)}
        draws = entry.get("kwargs", {}).get("dropout_p", entry["function"] != ATTENTION)
        if torch.Tag.nondeterministic_seeded in func.tags and draws:
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


class CannotBeReproducedError(Exception):
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
    raise CannotBeReproducedError(f"an argument is a {type(value).__name__}")


def _described_tensor(tensor: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise CannotBeReproducedError("an argument is a tensor that is not strided")
    if not tensor.numel():
        raise CannotBeReproducedError("an argument is an empty tensor")
    said: dict[str, Any] = {"shape": list(tensor.shape)}
    if tensor.dtype != dtype:
        said["dtype"] = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_contiguous():
        said["stride"] = list(tensor.stride())
    is_whole = not is_differentiable(tensor.dtype) and tensor.dtype is not torch.bool
    if tensor.is_meta:  # which holds no numbers: positions that are in any table
        return said | ({"below": min(tensor.shape, default=1)} if is_whole else {})
    with suppress(NotImplementedError):  # PyTorch has no least of some dtypes, such as float8
        if is_whole and int(tensor.min()) >= 0:
            said["below"] = int(tensor.max()) + 1
        elif tensor.dtype.is_floating_point and float(tensor.min()) >= 0:
            said["domain"] = "positive" if float(tensor.min()) > 0 else "nonnegative"
    return said


def arguments_of(
    describe: Callable[[Any], Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call, by position and by name, each as ``describe`` says."""
    named = {key: describe(value) for key, value in kwargs.items()}
    return {"args": [describe(value) for value in args], **({"kwargs": named} if named else {})}


def _attention(func: OpOverload, named: Mapping[str, Any]) -> dict[str, Any]:
    """A device's own kernel of attention as what every device has; nothing where it is none."""
    name = func._opname
    is_one = name.startswith("_scaled_dot_product_") and not name.endswith("_backward")
    if not is_one or func._overloadname != "default":
        return {}
    mask = {"attn_mask": named["attn_bias"]} if "attn_bias" in named else {}
    given = {key: (mask | dict(named)).get(key) for key in OF_ATTENTION}
    kwargs = {key: value for key, value in given.items() if value is not None}
    inputs = [named[key] for key in ("query", "key", "value")]
    return {"function": ATTENTION, "args": inputs, "kwargs": kwargs}


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
