"""``job=benchmark``: draw the inputs, check the values and the gradient, then time."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation, is_differentiable
from runner.calls.compiled import compiled, in_own_dtype
from runner.calls.direction import in_direction, reallocate_for
from runner.cells.cell import Cell
from runner.config.dtypes import ITEM_BYTES
from runner.config.signature import Dimensions
from runner.config.size import parse_size
from runner.measure.cold_clock import ColdClock
from runner.measure.detectors import TimedCall, flags_after
from runner.measure.device import Device, throttled
from runner.measure.engine import Measurement, measure
from runner.measure.host_clock import Clock
from runner.measure.host_memory import free_memory_bytes
from runner.measure.peaks import find_peaks
from runner.measure.precision import coarser
from runner.rows.rows import BAD, BenchmarkRow, Sample, identified
from runner.tasks.output import OutputSummary, counted_flop
from runner.verify.gradients.finding import overall
from runner.verify.gradients.verifier import check_gradients
from runner.verify.values import check_values, small, to_check

LONG_CHECK_S = 2.0  # a value check of more than this leaves the gradient unchecked
GAPS = {"scheduler": "gaps", "none": "none"}  # interruption sources of a device's clock, whose waits are gaps
Function = Callable[..., Any]
Tell = Callable[[str], None]


def run(cell: Cell, device: Device, function: Function, report_step: Tell) -> tuple[list[BenchmarkRow], list[Sample]]:
    """Measure one cell.

    Args:
        cell: what to measure; its dimensions are known.
        device: where.
        function: the operation's callable.
        report_step: is called with each step as it begins, for the reason of a cell that is ended in it.

    Raises:
        MemoryError: the inputs and outputs do not fit.
    """
    assert cell.dimensions is not None
    dtype = getattr(torch, cell.dtype)
    bound = eager = BoundOperation(cell.operation, function, cell.dimensions, dtype, cell.seed, cell.fill, cell.layout)
    report_step("checking the memory it needs")
    _check_memory(cell, cell.dimensions)
    compile_s = None

    def make_call(operation: BoundOperation, given: list[torch.Tensor]) -> Thunk:
        return in_direction(operation.call_with(given), given, cell.direction)[0]

    if cell.compile:
        report_step("compiling")
        bound, compile_s = compiled(eager, device.torch, lambda b: make_call(b, _inputs(b, cell, device))())
    report_step("checking values")
    begun = time.perf_counter()
    # what is compiled is compiled for this size: at another it would be another kernel
    subject = bound if cell.compile else to_check(bound, cell.requested_size)
    values = check_values(subject, device.torch)
    gradient = None
    differentiated = in_own_dtype(bound) if cell.direction != "forward" else eager
    # the gradient's check calls it some twenty times
    if cell.compile or time.perf_counter() - begun < LONG_CHECK_S or _verdict_key(differentiated, device) in _verdicts:
        report_step("checking the gradient")
        gradient = _gradient_verdict(differentiated, device)
    report_step("drawing inputs")
    tensors = _inputs(bound, cell, device)
    call = bound.call_with(tensors)
    forward = cell.direction == "forward"
    flop = (
        cell.operation.work(cell.operation.flop, cell.dimensions)
        if cell.operation.flop
        else counted_flop(eager, tensors)
    )
    bytes_moved = cell.operation.work(cell.operation.bytes, cell.dimensions)
    output = OutputSummary(bound, tensors, device)
    if not forward:
        report_step("running the forward pass")
        output.summarize(call())
    timed, cotangents = in_direction(call, tensors, cell.direction)
    if cell.graph:
        report_step("capturing the graph")
        timed = device.captured(timed)
    report_step("timing")
    reallocate = reallocate_for(bound, tensors, cell.direction) if device.is_cpu else None
    on_first_result = output.summarize if forward else partial(output.summarize_gradients, cotangents)
    measured, clock, device_readings = _timed(cell, device, timed, on_first_result, reallocate)
    report_step("looking for what would mislead")
    found_flags = flags_after(
        TimedCall(bound, tensors, make_call, clock, measured, cell, output.output_bytes), timed, device
    )
    if "reduced_precision" in found_flags:
        values = replace(values, allowed=values.allowed * coarser(device.torch))
    if bytes_moved is None:
        bytes_moved = output.bytes
    peaks = find_peaks(cell, device) if forward else None
    fraction, bounded_by = (peaks.fraction(flop, bytes_moved, measured.median_s) if peaks else None) or (None, None)
    flags = [
        *["view"] * output.view,
        *["nonfinite"] * (output.finite_fraction is not None and output.finite_fraction < 1),
        *["denormal"] * output.denormal,
        *["wrong_values"] * values.wrong,
        *["mutates_input"] * values.mutated,
        *["wrong_gradient"] * (gradient in BAD),
        *measured.flags,
        *found_flags,
        *["throttled"] * throttled(device_readings["clock_before_hz"], device_readings["clock_after_hz"]),
    ]
    row = replace(
        identified(BenchmarkRow, cell),
        device_name=device.name,
        threads=torch.get_num_threads(),
        **_times(measured),
        **device_readings,
        compile_s=compile_s,
        samples=sum(sample.used for sample in measured.samples),
        processes=1,
        preempted_samples=measured.interrupted,
        flop=flop if forward else None,  # a backward pass does other work, which no formula here counts
        bytes=bytes_moved if forward else None,
        **(output.counts if forward else {}),
        flop_per_s=flop / measured.median_s if flop and forward and measured.median_s else None,
        bytes_per_s=bytes_moved / measured.median_s if bytes_moved and forward and measured.median_s else None,
        fraction_of_peak=fraction,
        bound=bounded_by,
        finite_fraction=output.finite_fraction,
        max_relative_error=values.relative_error,
        allowed_relative_error=values.allowed,
        checked="full" if subject.dimensions == bound.dimensions else "smaller",
        checked_size=values.size,
        gradient=gradient,
        flags=tuple(flags),
    )
    return [row], list(measured.samples)


def _timed(
    cell: Cell,
    device: Device,
    call: Thunk,
    on_first_result: Callable[[Any], None],
    reallocate: Callable[[], Thunk] | None,
) -> tuple[Measurement, Clock, dict[str, Any]]:
    """Time a call; with the clock, and the readings of the device by column."""
    clock, timing = device.clock(torch.get_num_threads()), cell.timing
    if cell.cache == "cold":
        clock = ColdClock(clock, device.flush_cache)
    clock_before_hz, power_before_w = device.clock_and_power()
    device.reset_peak_memory()
    peak: list[int | None] = []

    def first(result: Any) -> None:
        peak.append(device.peak_memory_bytes())
        on_first_result(result)

    measured = measure(call, clock, timing, first, reallocate)
    launched = device.launch_and_wall(call)
    clock_after_hz, power_after_w = device.clock_and_power()
    device_readings = {
        **launched,
        "peak_memory_bytes": peak[0],
        "clock_before_hz": clock_before_hz,
        "clock_after_hz": clock_after_hz,
        "power_before_w": power_before_w,
        "power_after_w": power_after_w,
        "interruption_source": measured.interruption_source if device.is_cpu else GAPS[measured.interruption_source],
    }
    return measured, clock, device_readings


def _times(measured: Measurement) -> dict[str, Any]:
    low, high = measured.interval or (None, None)
    return {
        "median_s": measured.median_s,
        "ci_low_s": low,
        "ci_high_s": high,
        "min_s": measured.min_s,
        "q1_s": measured.q1_s,
        "q3_s": measured.q3_s,
        "first_call_s": measured.first_call_s,
        "cpu_s": measured.cpu_s,
        "calls_per_sample": measured.calls_per_sample,
        "timing_s": measured.timing_s,
        "stop": measured.stop,
    }


def _inputs(bound: BoundOperation, cell: Cell, device: Device) -> list[torch.Tensor]:
    """The inputs on the device, with a gradient where the direction asks for one."""
    tensors = [t.to(device.torch) for t in bound.draw()]
    if cell.direction == "forward":
        return tensors
    return [t.requires_grad_() if is_differentiable(t.dtype) else t for t in tensors]


def _gradient_verdict(bound: BoundOperation, device: Device) -> str | None:
    """The gradient's verdict at the operation's own size: the same for every size, so it is looked at once."""
    if not bound.op.differentiable or not is_differentiable(bound.dtype):
        return None
    key = _verdict_key(bound, device)
    if key not in _verdicts:
        plain = replace(bound, seed=0, fill="normal", layout="contiguous")
        try:
            checks = check_gradients(small(plain, parse_size(bound.op.size)), device.torch, quick=True)
        except NotImplementedError:
            _verdicts[key] = "unsupported"
        except Exception:  # a gradient that cannot be had is no reason not to time the call
            traceback.print_exc()
            _verdicts[key] = "error"
        else:
            _verdicts[key] = overall(checks)
    return _verdicts[key]


VerdictKey = tuple[str, torch.dtype, torch.device, bool]
_verdicts: dict[VerdictKey, str | None] = {}  # lives as long as the worker


def _verdict_key(bound: BoundOperation, device: Device) -> VerdictKey:
    return repr(bound.op), bound.dtype, device.torch, bound.reference is not None


def _check_memory(cell: Cell, dimensions: Dimensions) -> None:
    signature = cell.operation.parsed
    elements = 0
    for axes in signature.inputs + signature.outputs:
        count = 1
        for length in dimensions.shape(axes):
            count *= length
        elements += count
    needed = elements * ITEM_BYTES[cell.dtype]
    limit = cell.limit.memory_bytes or free_memory_bytes()
    if limit is not None and needed > limit:
        what = "limit.memory_bytes" if cell.limit.memory_bytes else "this machine's free memory"
        raise MemoryError(f"inputs and outputs take {needed:,} bytes; {what} is {limit:,}")
