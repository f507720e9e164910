"""A function with the tensors that it was given, as what operations are timed and checked as."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.calls import Thunk
from runner.calls.bound_case import BoundCase, results_of
from runner.calls.bound_operation import BoundOperation, is_differentiable, outputs_of
from runner.calls.direction import inputs_of
from runner.calls.layouts import copy_of
from runner.calls.module import ModuleFunction
from runner.cells.cell import Cell
from runner.config.axes import AXES
from runner.config.cases.gradient import FunctionCase
from runner.config.operation import Operation
from runner.config.schema import Limit, Timing
from runner.config.signature import Dimensions
from runner.config.size import Size, shape_text
from runner.measure.device import Device, DeviceReadings, find_device
from runner.measure.switches import Switches
from runner.tasks.benchmark import Ready
from runner.tasks.memory_watch import MemoryWatch
from runner.tasks.output import OutputSummary
from runner.tasks.task import Task, WorkerState

Function = Callable[..., Any]
UNSIZED = Dimensions((), {})


@dataclass(frozen=True)
class Given(BoundOperation):
    """A call on copies of these tensors, whatever the seed: nobody declares what others hold."""

    tensors: tuple[Tensor, ...] = ()
    moves: ClassVar[bool] = False  # a function may be what moves them

    def draw(self) -> list[Tensor]:
        """Copies of the tensors, with their strides."""
        return list(map(copy_of, self.tensors))

    def call_with(self, tensors: list[Tensor]) -> Thunk:
        """The function with these tensors."""
        return partial(self.function, *tensors)


@dataclass(frozen=True)
class FunctionOfTensors:
    """A function and tensors for it; TypeError where they are none."""

    function: Function
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if not callable(self.function):
            kind = type(self.function).__name__
            raise TypeError(f"a {kind} cannot be called; give a function, and then its tensors")
        for position, tensor in enumerate(self.tensors, start=1):
            kind = type(tensor).__name__
            if isinstance(tensor, Tensor):
                if tensor.layout is torch.strided and not tensor.is_nested:
                    continue
                kind = "sparse or nested tensor"
            advice = "have the function hold it: lambda: f(x, ...)"
            raise TypeError(f"argument {position} is a {kind}, not a strided tensor; {advice}")

    @property
    def name(self) -> str:
        """What the function calls itself."""
        name = getattr(self.function, "__name__", None) or type(self.function).__name__
        return str(name)

    @property
    def dtype(self) -> torch.dtype:
        """That of the first floating tensor, or of the first one; float32 without any."""
        floating = [t.dtype for t in self.tensors if is_differentiable(t.dtype)]
        return [*floating, *(t.dtype for t in self.tensors), torch.float32][0]

    def results(self) -> list[Tensor]:
        """The tensors of a call's result, on copies."""
        return outputs_of(self.function(*map(copy_of, self.tensors)))

    def ready(self, device: Device, timing: Timing) -> Ready:
        """The call, made ready to be timed in this process as it is."""
        op = Operation(self.name, self.name, "... -> ...")
        of_axes: dict[str, Any] = {name: axis.default for name, axis in AXES.items()}
        of_axes |= {"op": op.name, "dtype": str(self.dtype).removeprefix("torch.")}
        of_axes |= {"size": ", ".join(shape_text(tuple(t.shape)) for t in self.tensors)}
        of_axes |= {"device": str(device.torch)}
        cell = Cell(
            **of_axes,
            job="benchmark",
            operation=op,
            requested_size=Size(),
            dimensions=UNSIZED,
            infeasible_reason="",
            timing=timing,
            limit=Limit(),
            backend_module=None,
            on_contention="flag",
        )
        task = Task(cell, device, self.function, state_of_process(), lambda step: None)
        bound = Given(op, self.function, UNSIZED, self.dtype, 0, tensors=self.tensors)
        bound = replace(bound, device=device.torch)
        tensors = inputs_of(bound, "forward", device.torch)
        output, clock = OutputSummary(bound, tensors, device), device.clock(task.threads)
        made = task, bound, None, None, tensors, output, None, bound.call_with(tensors), clock
        readings, memory = DeviceReadings(device), MemoryWatch(0, None)
        return Ready(*made, lambda result: None, readings, memory, None, True, False)

    def with_gradient(self) -> BoundCase:
        """The function as one of those inputs whose gradients are checked.

        They are those that need a gradient, or else all floating ones, and a module's parameters.
        """
        function, tensors = self.function, list(self.tensors)
        names = [f"x{position}" for position in range(len(tensors))]
        floating = [n for n, t in zip(names, tensors, strict=True) if is_differentiable(t.dtype)]
        asked = [n for n, t in zip(names, tensors, strict=True) if t.requires_grad] or floating
        if isinstance(function, torch.nn.Module):
            function = ModuleFunction(function)
            names, asked = [*names, *function.names], [*asked, *function.names]
            tensors += function.parameters(self.dtype)
        cpu = {n: t.detach().cpu().clone() for n, t in zip(names, tensors, strict=True)}
        op = Operation(self.name, self.name, "... -> ...", inputs=tuple(names))
        return BoundCase(
            op,
            partial(results_of, function, FunctionCase(self.name, function=self._dotted)),
            UNSIZED,
            self.dtype,
            0,
            inputs={name: cpu[name] for name in names if name in asked},
            constants={name: cpu[name] for name in names if name not in asked},
        )

    @property
    def _dotted(self) -> str:
        """By which others can import it; blank where they cannot."""
        module = getattr(self.function, "__module__", None) or "torch"
        is_there = getattr(sys.modules.get(module), self.name, None) is self.function
        return f"{module}.{self.name}" if is_there and module != "__main__" else ""


def device_of(*tensors: Tensor) -> Device:
    """Where a call with such tensors and results works: not on the CPU where one is elsewhere.

    DeviceUnavailable where that is no device of this machine.
    """
    elsewhere = [tensor.device for tensor in tensors if tensor.device.type != "cpu"]
    name = str(elsewhere[0]) if elsewhere else "cpu"
    return find_device(name, known=_kept_state().devices)


@cache
def _kept_state() -> WorkerState:
    return WorkerState()


def state_of_process() -> WorkerState:
    """What is known of this machine since the first call, with torch's switches as they are now."""
    state = _kept_state()
    state.switches = Switches()
    return state
