"""``job=benchmark``: draw the inputs, check the values and the gradient, then time."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.calls.compiled import compiled, in_own_dtype
from runner.calls.direction import in_direction, inputs_of, make_call, reallocate_for
from runner.cells.cell import Cell
from runner.config.size import parse_size
from runner.measure.cold_clock import ColdClock
from runner.measure.detectors import TimedCall, flags_after
from runner.measure.device import Device, throttled
from runner.measure.device_readings import DeviceReadings
from runner.measure.engine import Measurement, measure
from runner.measure.host_clock import Clock
from runner.measure.host_memory import free_memory_bytes
from runner.measure.peaks import find_peaks
from runner.measure.precision import coarser
from runner.rows.rows import BAD, BenchmarkRow, identified
from runner.tasks.output import OutputSummary, counted_flop
from runner.tasks.task import Function, ReportStep, TaskResult
from runner.tasks.worker_state import VerdictKey, WorkerState
from runner.verify.gradients.finding import overall
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import ValueCheck, check_values, small, to_check

LONG_CHECK_S = 2.0  # a value check of more than this leaves the gradient unchecked
GAPS = {
    "scheduler": "gaps",
    "none": "none",
}  # interruption sources of a device's clock, whose waits are gaps


@dataclass(frozen=True)
class Prepared:
    """A cell's operation.

    Attributes:
        eager: as it is called without torch.compile.
        bound: as it is timed.
        compile_s: seconds that compiling took; None: it is not compiled.
    """

    eager: BoundOperation
    bound: BoundOperation
    compile_s: float | None


@dataclass(frozen=True)
class Checked:
    """How right it is.

    Attributes:
        values: how far they are from a reference.
        extent: full or smaller: the size at which they were checked.
        gradient: its verdict; None: not checked.
    """

    values: ValueCheck
    extent: str
    gradient: str | None


@dataclass(frozen=True)
class Ready:
    """A cell's call, checked and not timed yet.

    Attributes:
        bound: the operation as it is timed.
        tensors: its inputs on the device.
        output: what there is to know of its result, once there was one.
        flop: of one forward call; None: not known.
        call: what is timed, with its clock.
        on_first_result: is given the first call's result.
        readings: the device's.
    """

    cell: Cell
    device: Device
    prepared: Prepared
    checked: Checked | None
    tensors: list[torch.Tensor]
    output: OutputSummary
    flop: int | None
    call: Thunk
    clock: Clock
    on_first_result: Callable[[Any], None]
    readings: DeviceReadings

    @property
    def bound(self) -> BoundOperation:
        """The operation as it is timed."""
        return self.prepared.bound

    def call_with(self, tensors: list[torch.Tensor]) -> Thunk:
        """The same call on other tensors."""
        call = make_call(self.cell.direction, self.bound, tensors)
        return self.device.captured(call) if self.cell.graph else call


@dataclass(frozen=True)
class Work:
    """What a forward call does, by column; no formula here counts a backward pass."""

    flop: int | None = None
    bytes: int | None = None
    inputs: int | None = None
    input_bytes: int | None = None
    outputs: int | None = None
    output_bytes: int | None = None
    fraction_of_peak: float | None = None
    bound: str | None = None


def run(
    cell: Cell,
    device: Device,
    function: Function | None,
    state: WorkerState,
    report_step: ReportStep,
) -> TaskResult:
    """Measure one cell.

    Raises:
        MemoryError: the inputs and outputs do not fit.
    """
    ready = prepare(cell, device, function, state, report_step)
    report_step("timing")
    reallocate = None
    if device.is_cpu:
        reallocate = reallocate_for(ready.bound, ready.tensors, cell.direction)
    measured = measure(ready.call, ready.clock, cell.timing, ready.on_first_result, reallocate)
    return finish(ready, measured, state, report_step)


def prepare(
    cell: Cell,
    device: Device,
    function: Function | None,
    state: WorkerState,
    report_step: ReportStep,
    *,
    check: bool = True,
) -> Ready:
    """Do all that comes before the first timed call.

    Without ``check`` values and gradient are not looked at, and there can be no row.

    Raises:
        MemoryError: the inputs and outputs do not fit.
    """
    assert function is not None
    readings = DeviceReadings(device)
    prepared = _prepare(cell, device, function, state, report_step)
    checked = _check(cell, device, prepared, state, report_step) if check else None

    report_step("drawing inputs")
    bound = prepared.bound
    tensors = inputs_of(bound, cell.direction, device.torch)
    forward = bound.call_with(tensors)
    flop = _flop(cell, prepared.eager, tensors)
    output = OutputSummary(bound, tensors, device)

    # a backward pass returns gradients alone, so that the output is looked at before it
    on_result = output.summarize
    if cell.direction != "forward":
        report_step("running the forward pass")
        output.summarize(forward())
    call, cotangents = in_direction(forward, tensors, cell.direction)
    if cell.direction != "forward":
        on_result = partial(output.summarize_gradients, cotangents)
    if cell.graph:
        report_step("capturing the graph")
        call = device.captured(call)

    def look_at_first(result: Any) -> None:
        # the first call's peak is the operation's: later ones find what the engine holds
        readings.first_call_ended()
        on_result(result)

    clock = device.clock(torch.get_num_threads())
    if cell.cache == "cold":
        clock = ColdClock(clock, device.flush_cache)
    readings.timing_begins()
    return Ready(
        cell, device, prepared, checked, tensors, output, flop, call, clock, look_at_first, readings
    )


def finish(
    ready: Ready, measured: Measurement, state: WorkerState, report_step: ReportStep
) -> TaskResult:
    """Look for what would mislead about the times, and make the row."""
    assert ready.checked is not None
    cell, device, checked = ready.cell, ready.device, ready.checked
    ready.readings.timing_ended(ready.call)
    report_step("looking for what would mislead")
    make = partial(make_call, cell.direction)
    bytes_out = ready.output.output_bytes
    timed = TimedCall(
        ready.call, ready.bound, ready.tensors, make, ready.clock, measured, cell, bytes_out
    )
    flags = flags_after(timed, device, state.float32_times)
    if "reduced_precision" in flags:
        allowed = checked.values.allowed * coarser(device.torch)
        checked = replace(checked, values=replace(checked.values, allowed=allowed))
    row = _row(ready, checked, measured, flags)
    return TaskResult([row], list(measured.samples))


def _prepare(
    cell: Cell, device: Device, function: Function, state: WorkerState, report_step: ReportStep
) -> Prepared:
    assert cell.dimensions is not None
    dtype = getattr(torch, cell.dtype)
    eager = BoundOperation(
        cell.operation, function, cell.dimensions, dtype, cell.seed, cell.fill, cell.layout
    )
    report_step("checking the memory it needs")
    _check_memory(cell)
    if not cell.compile:
        return Prepared(eager, eager, None)
    report_step("compiling")

    def run_once(bound: BoundOperation) -> Any:
        return make_call(cell.direction, bound, inputs_of(bound, cell.direction, device.torch))()

    return Prepared(eager, *compiled(eager, device.torch, run_once, state.compilers))


def _check(
    cell: Cell, device: Device, prepared: Prepared, state: WorkerState, report_step: ReportStep
) -> Checked:
    report_step("checking values")
    begun = time.perf_counter()
    # what is compiled is compiled for this size: at another it would be another kernel
    to_be_checked = (
        prepared.bound if cell.compile else to_check(prepared.bound, cell.requested_size)
    )
    values = check_values(to_be_checked, device.torch)
    values_s = time.perf_counter() - begun

    # the gradient's check calls the operation some twenty times, unless an earlier cell has
    # its verdict
    gradient = None
    differentiated = prepared.eager if cell.direction == "forward" else in_own_dtype(prepared.bound)
    verdicts = state.gradient_verdicts
    if cell.compile or values_s < LONG_CHECK_S or _verdict_key(differentiated, device) in verdicts:
        report_step("checking the gradient")
        gradient = _gradient_verdict(differentiated, device, verdicts)
    is_full = to_be_checked.dimensions == prepared.bound.dimensions
    return Checked(values, "full" if is_full else "smaller", gradient)


def _row(
    ready: Ready, checked: Checked, measured: Measurement, detected: list[str]
) -> BenchmarkRow:
    cell, device, readings = ready.cell, ready.device, ready.readings
    launch = readings.launch
    median_s, (low_s, high_s) = measured.median_s, measured.interval or (None, None)
    work = _work(ready, median_s) if cell.direction == "forward" else Work()

    source = measured.interruption_source

    # in the order of the columns
    return replace(
        identified(BenchmarkRow, cell),
        device_name=device.name,
        threads=torch.get_num_threads(),
        median_s=median_s,
        ci_low_s=low_s,
        ci_high_s=high_s,
        min_s=measured.min_s,
        q1_s=measured.q1_s,
        q3_s=measured.q3_s,
        first_call_s=measured.first_call_s,
        compile_s=ready.prepared.compile_s,
        cpu_s=measured.cpu_s,
        launch_s=launch.launch_s,
        launch_low_s=launch.launch_low_s,
        launch_high_s=launch.launch_high_s,
        wall_s=launch.wall_s,
        samples=sum(sample.used for sample in measured.samples),
        processes=1,
        preempted_samples=measured.interrupted,
        interruption_source=source if device.is_cpu else GAPS[source],
        calls_per_sample=measured.calls_per_sample,
        timing_s=measured.timing_s,
        stop=measured.stop,
        flop=work.flop,
        bytes=work.bytes,
        inputs=work.inputs,
        input_bytes=work.input_bytes,
        outputs=work.outputs,
        output_bytes=work.output_bytes,
        flop_per_s=work.flop / median_s if work.flop and median_s else None,
        bytes_per_s=work.bytes / median_s if work.bytes and median_s else None,
        fraction_of_peak=work.fraction_of_peak,
        bound=work.bound,
        peak_memory_bytes=readings.peak_memory_bytes,
        finite_fraction=ready.output.finite_fraction,
        max_relative_error=checked.values.relative_error,
        allowed_relative_error=checked.values.allowed,
        checked=checked.extent,
        checked_size=checked.values.size,
        gradient=checked.gradient,
        clock_before_hz=readings.clock_before_hz,
        clock_after_hz=readings.clock_after_hz,
        power_before_w=readings.power_before_w,
        power_after_w=readings.power_after_w,
        flags=_flags(ready, checked, measured, detected),
    )


def _flags(
    ready: Ready, checked: Checked, measured: Measurement, detected: list[str]
) -> tuple[str, ...]:
    output, readings = ready.output, ready.readings
    of_values = {
        "view": output.view,
        "nonfinite": output.finite_fraction is not None and output.finite_fraction < 1,
        "denormal": output.denormal,
        "wrong_values": checked.values.wrong,
        "mutates_input": checked.values.mutated,
        "wrong_gradient": checked.gradient in BAD,
    }
    flags = [*compress(of_values, of_values.values()), *measured.flags, *detected]
    if throttled(readings.clock_before_hz, readings.clock_after_hz):
        flags.append("throttled")
    return tuple(flags)


def _work(ready: Ready, median_s: float) -> Work:
    cell, output, flop = ready.cell, ready.output, ready.flop
    assert cell.dimensions is not None
    moved = cell.operation.work(cell.operation.bytes, cell.dimensions)
    # without a formula, what a call moves at least
    if moved is None:
        moved = output.input_bytes + output.output_bytes
    peaks = find_peaks(cell, ready.device)
    fraction = peaks.fraction(flop, moved, median_s) if peaks is not None else None
    return Work(
        flop,
        moved,
        output.inputs,
        output.input_bytes,
        output.outputs,
        output.output_bytes,
        *(fraction or (None, None)),
    )


def _flop(cell: Cell, eager: BoundOperation, tensors: list[torch.Tensor]) -> int | None:
    assert cell.dimensions is not None
    if cell.operation.flop:
        return cell.operation.work(cell.operation.flop, cell.dimensions)
    return counted_flop(eager, tensors)


def _gradient_verdict(
    bound: BoundOperation, device: Device, verdicts: dict[VerdictKey, str | None]
) -> str | None:
    """The gradient's verdict at the operation's own size: the same for every size, so it is looked at once."""
    if not bound.op.differentiable or not is_differentiable(bound.dtype):
        return None
    key = _verdict_key(bound, device)
    if key not in verdicts:
        plain = replace(bound, seed=0, fill="normal", layout="contiguous")
        try:
            checks = check_gradients(
                small(plain, parse_size(bound.op.size)), device.torch, quick=True
            )
        except NotImplementedError:
            verdicts[key] = "unsupported"
        except Exception:  # a gradient that cannot be had is no reason not to time the call
            traceback.print_exc()
            verdicts[key] = "error"
        else:
            verdicts[key] = overall(checks)
    return verdicts[key]


def _verdict_key(bound: BoundOperation, device: Device) -> VerdictKey:
    return repr(bound.op), bound.dtype, device.torch, bound.reference is not None


def _check_memory(cell: Cell) -> None:
    needed = cell.tensor_bytes
    limit = cell.limit.memory_bytes or free_memory_bytes()
    if limit is not None and needed > limit:
        what = "limit.memory_bytes" if cell.limit.memory_bytes else "this machine's free memory"
        raise MemoryError(f"inputs and outputs take {needed:,} bytes; {what} is {limit:,}")
