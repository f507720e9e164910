"""``job=benchmark``: draw the inputs, time the call, then check its values and its gradient."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import torch

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation
from runner.calls.compiled import compiled
from runner.calls.direction import (
    in_direction,
    inputs_of,
    make_call,
    reallocate_for,
    restoring,
)
from runner.cells.cell import Cell
from runner.config.implementation import BUILDING
from runner.config.operation import Implemented
from runner.measure.call_trace import write_trace
from runner.measure.cold_clock import ColdClock
from runner.measure.detectors import TimedCall, flags_after
from runner.measure.device import DeviceReadings
from runner.measure.energy import energy_of
from runner.measure.engine import Measurement, Opening, measure
from runner.measure.fingerprint import fingerprint_of
from runner.measure.gate import Gate
from runner.measure.host_clock import Clock
from runner.measure.instructions import (
    PERF,
    CallgrindCounter,
    PerfCounter,
    instructions_of,
)
from runner.measure.peaks import above_peak, find_peaks
from runner.measure.precision import coarser
from runner.measure.profiler import Profile
from runner.rows.columns import LONGEST_NAME
from runner.rows.flags import merged
from runner.rows.rows import BenchmarkRow, with_values
from runner.tasks.calm import gate_for, slowdown_against
from runner.tasks.checks import Checked, check
from runner.tasks.conduct import Conduct
from runner.tasks.in_model import FEWEST_PASSES, times_in_model
from runner.tasks.memory_watch import MemoryWatch
from runner.tasks.output import (
    OutputSummary,
    bytes_read,
    counted_flop,
    counted_savings,
    stored_bytes,
)
from runner.tasks.task import Task, TaskResult

# interruption sources of a device's clock, whose waits are gaps
GAPS = {"scheduler": "gaps", "none": "none"}
# columns that the measurement, the device's readings and the output's summary have too
OF_TIMES = ("median_s", "min_s", "q1_s", "q3_s", "mean_s", "p90_s", "p99_s", "max_s", "cpu_s")
OF_SAMPLING = ("calls_per_sample", "machine_slowdown", "as_it_came_s", "timing_s", "stop")
SHARE_IN_MODEL = 0.5  # of timing.max_time_s, for the times of a model's calls within it
AFFORDABLE_IN_MODEL = 0.25  # of limit.time_s, likewise
OF_OUTPUT = ("inputs", "input_bytes", "outputs", "output_bytes")


@dataclass(frozen=True)
class Ready:
    """A cell's call, not timed yet."""

    task: Task
    bound: BoundOperation  # the operation as it is timed
    compile_s: float | None  # seconds that compiling took; None: it is not compiled
    first_s: float | None  # seconds of the call that built it; None: nothing was to be built
    tensors: list[torch.Tensor]  # its inputs on the device
    output: OutputSummary  # what there is to know of its result, once there was one
    flop: int | None  # of one forward call; None: not known
    call: Thunk
    clock: Clock
    on_first_result: Callable[[Any], None]
    readings: DeviceReadings
    memory: MemoryWatch
    saved_bytes: int | None  # for its backward pass; None: there is none
    is_first: bool  # whether it is the first of its callable at this shape and dtype in the process
    is_first_of_all: bool

    def build_s(self, call_s: float) -> float | None:
        """Seconds until it could be called as it is timed; None: nothing was to be built."""
        if self.first_s is None:
            return self.compile_s
        imported_s = self.task.state.switches.import_s.get(self.task.cell.definition.package, 0.0)
        return imported_s + (self.compile_s or 0.0) + max(0.0, self.first_s - call_s)

    def call_with(self, tensors: list[torch.Tensor]) -> Thunk:
        """The same call on other tensors."""
        cell, device = self.task.cell, self.task.device
        with device.aside() if cell.graph else nullcontext():
            call = make_call(cell.direction, self.bound, tensors)
        return device.captured(call) if cell.graph else call


def run(task: Task) -> TaskResult:
    """Measure one cell."""
    gate = gate_for([task])  # whose kernels have their memory before the cell's is counted
    ready = prepare(task)
    task.report_step("timing")
    return finish(ready, time_alone(ready, gate))


def time_alone(
    ready: Ready, gate: Gate | None = None, opening: Opening | None = None
) -> Measurement:
    """The times of a call that takes no turns with others, in moments that pass the gate.

    ``opening`` is what its first calls gave, where they have been made.
    """
    task, reallocate = ready.task, None
    if task.device.is_cpu:
        reallocate = reallocate_for(ready.bound, ready.tensors, task.cell.direction)
    return measure(
        ready.call,
        ready.clock,
        task.cell.timing,
        ready.on_first_result,
        reallocate,
        gate=gate or gate_for([task]),
        opening=opening,
    )


def prepare(task: Task) -> Ready:
    """Do all that comes before the first timed call.

    Raises:
        MemoryError: the inputs and outputs do not fit.
    """
    cell, device = task.cell, task.device
    memory = MemoryWatch.of(task)  # whose kernel has its memory before the cell's is counted
    readings, called = DeviceReadings(device), task.state.called
    kind = (cell.operation.call, cell.impl, cell.size, cell.dtype, cell.device, cell.compile)
    first = kind not in called, not called
    called.add(kind)
    eager, bound, compile_s = _bound(task)

    task.report_step("drawing inputs")
    tensors = inputs_of(bound, cell.direction, device.torch)
    forward = bound.call_with(tensors)
    own = isinstance(cell.operation, Implemented)
    flop = cell.operation.work(cell.operation.flop, eager.dimensions, eager.dtype.is_complex)
    if not cell.operation.flop:
        flop = counted_flop(eager if not own else eager.as_declared, tensors)
    output = OutputSummary(bound, tensors, device)

    # what builds or tunes itself in its first call does so before any clock of the cell's
    if own:
        task.report_step(BUILDING)

    # a backward pass returns gradients alone, so that the output is looked at before it
    on_result, saved_bytes = output.summarize, None
    if cell.direction != "forward":
        if not own:
            task.report_step("running the forward pass")
        saved_bytes = _saved_bytes(cell, forward, tensors, output)
    with device.aside() if cell.graph else nullcontext():
        call, cotangents = in_direction(forward, tensors, cell.direction)
    call = restoring(call, bound, tensors)
    if cell.direction != "forward":
        on_result = partial(output.summarize_gradients, cotangents)
    if cell.graph:
        task.report_step("capturing the graph")
        call = device.captured(call)

    def look_at_first(result: object) -> None:
        # the first call's peak is the operation's: later ones find what the engine holds
        readings.first_call_ended()
        on_result(result)

    clock = device.clock(torch.get_num_threads())
    if cell.cache == "cold" or cell.operation.restore:
        flush = device.flush_cache if cell.cache == "cold" else lambda: None
        clock = ColdClock(clock, flush)
    first_s = clock.time(call, 1).wall_s if own and first[0] else None
    memory.look()
    readings.timing_begins()
    made = task, bound, compile_s, first_s, tensors, output, flop
    of_call = call, clock, look_at_first, readings, memory
    return Ready(*made, *of_call, saved_bytes, *first)


def _saved_bytes(
    cell: Cell, forward: Thunk, tensors: Sequence[torch.Tensor], output: OutputSummary
) -> int | None:
    """Bytes that a forward pass keeps for its backward pass; its result is looked at, too."""
    if cell.is_compiled:  # which would be compiled once more beside what counts
        output.summarize(forward())
        return None
    with counted_savings() as saved:
        output.summarize(forward())
    return stored_bytes(tensors) if cell.direction == "recompute" else sum(saved.values())


def finish(ready: Ready, measured: Measurement) -> TaskResult:
    """Look for what would mislead about the times, check what was timed, and make the row."""
    task = ready.task
    ready.readings.timing_ended(ready.call)
    ready.memory.look()
    energy, profile = _energy(ready, measured), _profile(ready, measured)
    _write_trace(ready, measured)
    task.report_step("looking for what would mislead")
    make, bytes_out = partial(make_call, task.cell.direction), ready.output.output_bytes
    timed = TimedCall(
        ready.call, ready.bound, ready.tensors, make, ready.clock, measured, task.cell, bytes_out
    )
    conduct = Conduct(timed, task.device.synchronize)
    questions = conduct.questions()
    detected = flags_after(timed, task.device, task.state.float32_times, questions)

    # what ends the process in a check must not take the times with it
    if profile.differs(measured.median_s):
        detected = [*detected, "profiler_differs"]
    row, samples = _row(ready, measured, detected), list(measured.samples)
    ran = _fingerprint(ready, timed)
    row = with_values(row, **energy, **vars(profile), **ran)

    def keep(known: Checked) -> None:
        task.keep(TaskResult([known.put_into(row)], samples))

    keep(Checked())
    row = with_values(row, **_counted(ready))
    rougher = coarser(task.device.torch) if "reduced_precision" in detected else 1.0
    if conduct.is_asked and "mutates_input" not in detected:
        checked = check(task, conduct.unseen, keep, conduct.in_a_row, coarser=rougher)
    else:
        checked = check(task, ready.bound, keep, coarser=rougher)
    return TaskResult([_with_own_columns(ready, checked.put_into(row))], samples)


def count(task: Task) -> int:
    """The instructions of a cell's call, in a process that callgrind runs."""
    ready = prepare(task)
    task.report_step("counting instructions")
    toggles = torch._C._valgrind_toggle, torch._C._valgrind_toggle_and_dump_stats
    return instructions_of(ready.call, CallgrindCounter(*toggles))


def _energy(ready: Ready, measured: Measurement) -> dict[str, Any]:
    """What a call uses, where that is asked for and counted."""
    task, timing = ready.task, ready.task.cell.timing
    if not timing.energy_s or task.cell.cache == "cold":  # a row of calls finds its caches warm
        return {}
    task.report_step("counting energy")
    device, call_s = task.device, measured.median_s
    counted_j = device.sensors.energy_j
    return energy_of(ready.call, call_s, timing.energy_s, counted_j, device.synchronize)


def _profile(ready: Ready, measured: Measurement) -> Profile:
    """The kernels of a call, where they are asked for; a profiler that fails leaves them blank."""
    device, cell = ready.task.device, ready.task.cell
    if cell.timing.check is None or device.is_cpu or cell.cache == "cold":
        return Profile()
    ready.task.report_step("profiling")
    try:
        return device.profile(ready.call, measured.median_s)
    except (NotImplementedError, RuntimeError) as error:
        print(f"the profiler says nothing: {error}")
        return Profile()


def _write_trace(ready: Ready, measured: Measurement) -> None:
    """Leave a trace of some calls, where one is asked for; a profiler that fails leaves none."""
    task = ready.task
    if not task.cell.timing.profile or task.folder is None:
        return
    task.report_step("writing a trace")
    of_device = task.device.torch.type, task.folder, task.device.synchronize
    try:
        write_trace(ready.call, measured.median_s, *of_device)
    except (RuntimeError, OSError) as error:
        print(f"the profiler leaves no trace: {error}")


def _counted(ready: Ready) -> dict[str, Any]:
    """The instructions of a call, where they are asked for and this machine counts them itself."""
    is_alone = ready.task.device.is_cpu and torch.get_num_threads() == 1
    if ready.task.cell.timing.counts is None or not is_alone:
        return {}
    ready.task.report_step("counting instructions")
    try:
        counted = instructions_of(ready.call, PerfCounter())
        return {"instructions": counted, "instructions_by": PERF}
    except (OSError, RuntimeError, MemoryError) as error:
        print(f"the processor counts no instructions: {error}")
        return {}


def _fingerprint(ready: Ready, timed: TimedCall) -> dict[str, Any]:
    """What ran for a call, where a further one is affordable and can be watched."""
    cell = ready.task.cell
    if timed.takes_long or cell.is_compiled or cell.graph:
        return {}
    return fingerprint_of(ready.call, on_host=ready.task.device.is_cpu)


def _with_own_columns(ready: Ready, row: BenchmarkRow) -> BenchmarkRow:
    """The row with what the op file's own functions say of it and of a call's result."""
    op, own = ready.bound.op, {**json.loads(row.own or "{}"), **_of_model(ready, row)}
    for name in op.columns:
        ready.task.report_step(f"asking for the column {name}")
        try:
            value = op.column(name)(row, ready.call())
            own[name] = value.item() if isinstance(value, torch.Tensor) else value
            if len(str(own[name])) > LONGEST_NAME:
                raise ValueError(f"{name} has more than {LONGEST_NAME:,} characters")
        except (Exception, SystemExit):  # the times are right, whatever is made of them
            own[name] = None
            traceback.print_exc()
    return with_values(row, own=json.dumps(own, default=str)) if own else row


def _of_model(ready: Ready, row: BenchmarkRow) -> dict[str, object]:
    """For a model itself, as columns, what its calls take within it, where the host can tell."""
    cell, module = ready.task.cell, ready.bound.module
    is_watched = not (cell.is_compiled or cell.graph or cell.cache != "warm")
    if module is None or not (cell.operation.passes and is_watched and ready.task.device.is_cpu):
        return {}
    pass_s = row.median_s or 0.0
    if FEWEST_PASSES * pass_s > AFFORDABLE_IN_MODEL * cell.limit.time_s:
        needed_s = math.ceil(FEWEST_PASSES * pass_s / AFFORDABLE_IN_MODEL)
        print(f"its calls within it are not timed: that would need limit.time_s={needed_s}")
        return {}
    ready.task.report_step("timing its calls within it")
    allowed_s = cell.timing.max_time_s * SHARE_IN_MODEL
    try:
        inputs = ready.tensors[: len(ready.bound.op.names)]
        found = times_in_model(ready.call, ready.bound.dtype, allowed_s, inputs)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # what cannot be watched
        print(f"the times of its calls within it are not known: {error}")
        return {}
    return found.columns(pass_s) if found is not None else {}


def _bound(task: Task) -> tuple[BoundOperation, BoundOperation, float | None]:
    """The operation as it is called without torch.compile, as it is timed, and its compile_s."""
    cell, device = task.cell, task.device
    eager = task.bound(fill=cell.fill, layout=cell.layout)
    task.report_step("checking the memory it needs")
    _check_memory(cell, task.memory_bytes)
    if not cell.is_compiled:
        return eager, eager, None
    task.report_step(BUILDING)

    def run_once(bound: BoundOperation) -> object:
        return make_call(cell.direction, bound, inputs_of(bound, cell.direction, device.torch))()

    return eager, *compiled(eager, device.torch, run_once, task.state.compilers, **cell.compiling)


def _row(ready: Ready, measured: Measurement, detected: list[str]) -> BenchmarkRow:
    """The row without what checks find."""
    task, readings, output = ready.task, ready.readings, ready.output
    low_s, high_s = measured.interval or (None, None)
    source = measured.interruption_source
    work = _work(ready, measured.median_s) if task.cell.direction == "forward" else {}
    return with_values(
        task.blank(BenchmarkRow),
        **_columns(measured, OF_TIMES + OF_SAMPLING),
        ci_low_s=low_s,
        ci_high_s=high_s,
        first_call_s=(ready.first_s or measured.first_call_s) if ready.is_first else None,
        first_in_process=ready.is_first_of_all,
        saved_bytes=ready.saved_bytes,
        memory_slowdown=ready.memory.slowdown,
        slowdown_against=None if measured.machine_slowdown is None else slowdown_against(task),
        compile_s=ready.compile_s,
        build_s=ready.build_s(measured.median_s),
        **readings.launch,
        samples=sum(sample.used for sample in measured.samples),
        processes=1,
        preempted_samples=measured.interrupted,
        interruption_source=source if task.device.is_cpu else GAPS[source],
        **work,
        peak_memory_bytes=readings.peak_memory_bytes,
        finite_fraction=output.finite_fraction,
        **readings.columns(),
        flags=_flags(ready, measured, work, detected),
    )


def _columns(record: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _flags(
    ready: Ready, measured: Measurement, work: Mapping[str, Any], detected: list[str]
) -> tuple[str, ...]:
    output, readings = ready.output, ready.readings
    own_doing = any(gate.is_own_doing for gate in ready.task.state.gates)
    flags = {
        "view": output.view and not ready.bound.op.restore,
        "nonfinite": output.finite_fraction is not None and output.finite_fraction < 1,
        "denormal": output.denormal,
        "above_peak": above_peak(work.get("fraction_of_peak"), work.get("bound")),
        "throttled": own_doing or readings.throttled,
        "slow_memory": ready.memory.slows(measured.median_s),
    }
    return merged(compress(flags, flags.values()), measured.flags, detected)


def _work(ready: Ready, median_s: float) -> dict[str, Any]:
    """What a forward call does, by column; no formula here counts a backward pass."""
    cell, output, flop = ready.task.cell, ready.output, ready.flop
    moved = cell.operation.work(cell.operation.bytes, ready.bound.dimensions)
    # without a formula, what a call moves at least
    if moved is None:
        moved = bytes_read(ready.bound, ready.tensors) + output.output_bytes
    peaks = find_peaks(cell, ready.task.device)
    of_peak = peaks.fraction(flop, moved, median_s) if peaks is not None else None
    fraction, bound = of_peak or (None, None)
    return {
        **_columns(output, OF_OUTPUT),
        "flop": flop,
        "bytes": moved,
        "flop_per_s": flop / median_s if flop and median_s else None,
        "bytes_per_s": moved / median_s if moved and median_s else None,
        "fraction_of_peak": fraction,
        "bound": bound,
    }


def _check_memory(cell: Cell, limit: int | None) -> None:
    needed = cell.tensor_bytes
    if limit is not None and needed > limit:
        what = "limit.memory_bytes" if cell.limit.memory_bytes else "this machine's free memory"
        raise MemoryError(f"inputs and outputs take {needed:,} bytes; {what} is {limit:,}")
