"""The records of a run, whose fields are the CSVs' columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from runner.cells.cell import Cell
from runner.config.axes import AXES, CellKey, not_of
from runner.errors import one_line
from runner.rows.flags import merged

BAD = ("fail", "error")  # verdicts
STATUSES = ("ok", "failed", "unavailable", "unsupported", "timeout", "out_of_memory", "crashed")
NON_FAILURES = ("ok", "unavailable", "unsupported", "timeout", "out_of_memory")
"""The statuses that are no error of the program, and would be the same if nothing changed."""
FUNCTIONS = "functions"  # the name among changed switches of what everything calls
LEARNED_AGAIN = "this run, again", "latest runs"
"""What slowdowns are against where the machine never came near the best of earlier runs: in this
run, or in those before it."""


@dataclass(frozen=True)
class _Cell:
    cell: str  # the cell's identity
    job: str  # what was done with it: benchmark, autograd, tensors, transfer, roof, noise or trace


@dataclass(frozen=True)
class Row(CellKey, _Cell):
    """What every row begins with: which cell, with its value on each axis, and what came of it."""

    device_name: str | None = None  # the device that ran it
    # the machine that ran it, by name and a short hash of what it is; times of different nodes do
    # not compare
    node: str | None = None
    # a short hash of the op file and the timing: rows of different files differ in it
    variant: str | None = None
    status: str = "ok"  # ok, failed, unavailable, unsupported, timeout, out_of_memory or crashed
    # why the status is not ``ok``, or what a check found or could not do, in a line
    reason: str | None = None
    seconds: float | None = None  # what the cell took in all, from its start to its row
    limit_time_s: float | None = None  # seconds after which the cell would have been ended
    # bytes that it might allocate; blank: what the machine had free
    limit_memory_bytes: int | None = None
    # the ``id`` of that entry of ``environment.json`` that it was measured with
    environment: str | None = None


@dataclass(frozen=True)
class BenchmarkRow(Row):
    """A row of ``results.csv``: a time, how sure it is, its work, and if its values are right."""

    # seconds a call: the median over the samples; of several places in memory, over their medians
    median_s: float | None = None
    ci_low_s: float | None = None  # lower end of its 95 % interval; blank: too few samples
    ci_high_s: float | None = None  # upper end of the median's 95 % interval
    min_s: float | None = None  # seconds a call: the fastest sample
    q1_s: float | None = None  # seconds a call: the lower quartile of the samples
    q3_s: float | None = None  # seconds a call: the upper quartile of the samples
    mean_s: float | None = None  # seconds a call: the mean of the samples
    p90_s: float | None = None  # seconds a call: the 90th percentile of the samples
    p99_s: float | None = None  # seconds a call: the 99th percentile of the samples
    max_s: float | None = None  # seconds a call: the slowest sample
    # seconds of the first call of this callable at this shape and dtype in its process, before any
    # check; blank where an earlier cell made it
    first_call_s: float | None = None
    first_in_process: bool | None = None  # whether nothing at all had been called before it there
    compile_s: float | None = None  # seconds that torch.compile took
    # seconds until it could be called as it is timed, outside the clock: torch.compile, and of an
    # implementation of one's own the import of its package and its first call
    build_s: float | None = None
    # CPU seconds of the calling thread for a call, where one thread does the work
    cpu_s: float | None = None
    # median host seconds to launch a call, on a device that works asynchronously
    launch_s: float | None = None
    launch_low_s: float | None = None  # lower end of its 95 % interval
    launch_high_s: float | None = None  # upper end of its 95 % interval
    # host seconds from the launch of a call until the device has completed it, one call at a time
    wall_s: float | None = None
    samples: int | None = None  # blocks that the median is taken over
    processes: int | None = None  # fresh processes that the samples come from
    # blocks that the scheduler interrupted; set aside unless nearly all were
    preempted_samples: int | None = None
    # how interrupted blocks are recognized: scheduler (threads waited for a core), switches (of
    # context, involuntary), gaps (the device may have waited for the host), none (not at all)
    interruption_source: str | None = None
    calls_per_sample: int | None = None  # calls in a block
    # how many times slower than at its best the machine was around the samples, by small fixed
    # kernels; blank: not measured
    machine_slowdown: float | None = None
    # how many times longer than at its best, of this run and earlier ones, additions of 12 MB took
    # before or after the samples, at most; blank: it moves less than 6 MB, or is not on the CPU
    memory_slowdown: float | None = None
    # which best ``machine_slowdown`` refers to: earlier runs, this run where there were none, this
    # run, again, where nothing came near theirs, or latest runs, where these had come near none
    slowdown_against: str | None = None
    # the median over the samples of slow moments too; blank where all are used
    as_it_came_s: float | None = None
    timing_s: float | None = None  # seconds spent on warming up and sampling
    # why sampling stopped: precision, time, samples, allocations (all tried), first_call
    stop: str | None = None
    flop: int | None = None  # floating-point operations of one call
    # bytes of its inputs and outputs; of a table that is looked up by positions, only the rows read
    bytes: int | None = None
    saved_bytes: int | None = None  # bytes that a forward pass keeps for its backward pass
    inputs: int | None = None  # number of input tensors
    input_bytes: int | None = None  # bytes of the inputs, as a transfer would move them
    outputs: int | None = None  # number of output tensors
    output_bytes: int | None = None  # bytes of the outputs
    flop_per_s: float | None = None  # ``flop`` over the time that a call costs
    bytes_per_s: float | None = None  # ``bytes`` over the time that a call costs
    # the shortest time that the measured peaks (``+sweep=roof``) allow, over the median
    fraction_of_peak: float | None = None
    bound: str | None = None  # the peak that limits the call: compute or memory
    peak_memory_bytes: int | None = None  # the most that the device held at once during the cell
    finite_fraction: float | None = None  # share of the output's elements that are finite
    # largest difference from the float64 reference, over the largest element of that; more than
    # ``allowed_relative_error`` is flagged wrong_values
    max_relative_error: float | None = None
    allowed_relative_error: float | None = None  # largest error that rounding in the dtype explains
    error_roundoffs: float | None = None  # the error in unit roundoffs of the dtype
    # what was compared: full (the whole output), blocks (of it, at random positions), smaller (the
    # output at a smaller size), moments (of random results); blank: nothing
    checked: str | None = None
    checked_size: str | None = None  # the size at which the values were compared
    # the callable whose values in float64 were taken for right, where the op file names one; of an
    # implementation the operation's own; blank: the call itself
    reference: str | None = None
    # booleans and integers that differ from the reference, but would also differ by rounding the
    # inputs; blank: the output has none
    undecided_elements: int | None = None
    # pass, fail, unsupported or error, of a quick check here; blank: not checked
    gradient: str | None = None
    clock_before_hz: float | None = None  # the device's clock before sampling, where it can be read
    clock_after_hz: float | None = None  # the device's clock after sampling
    clock_low_hz: float | None = None  # the device's lowest clock while sampling
    power_before_w: float | None = None  # the device's power at work, before sampling
    power_after_w: float | None = None  # the device's power at work, after sampling
    temperature_c: float | None = None  # the device's highest temperature while sampling
    # why the device's clock was not higher, where it can be read: power_cap, hardware_thermal, more
    throttle_reasons: tuple[str, ...] = ()
    # joules that the whole device uses while a call runs; with timing.energy_s
    energy_j: float | None = None
    energy_low_j: float | None = None  # lower end of its 95 % interval
    energy_high_j: float | None = None  # upper end of its 95 % interval
    # seconds of a call in which kernels ran, by the profiler; with timing.check=profiler
    kernel_s: float | None = None
    gap_s: float | None = None  # seconds of a call between its kernels, by the profiler
    # the kernels of a call, as JSON: name, number and seconds in a call
    kernels: str | None = None
    # what an eager call asks ATen for, and what oneDNN then runs on the CPU, as JSON: each kernel
    # with its number; blank: not looked at
    aten_calls: str | None = None
    # memory pages of the host that a call is the first to touch, mostly those of its result
    page_faults: int | None = None
    # machine instructions of a call in its thread, outside the kernel, those of Python and of the
    # dispatcher too; with timing.counts=instructions, on the CPU with one thread
    instructions: int | None = None
    # what counted them, whose counts alone are compared: perf (the processor) or callgrind
    # (Valgrind, on a processor that it imitates, without AVX-512)
    instructions_by: str | None = None
    # whether another sweep measured on the same device meanwhile; then ``flags`` has contended too;
    # blank: not known
    concurrent_sweep: bool | None = None
    flags: tuple[str, ...] = ()  # names of what would mislead a reader of the row
    # switches of the machine or process that the operation's module changed when it was imported or
    # called; they were put back
    changed_switches: tuple[str, ...] = ()
    # the columns that the op file declares, as JSON; the file has each as a column at its end too
    own: str | None = None


@dataclass(frozen=True)
class CaseRow(Row):
    """A row of a job that a case can be of."""

    case: str | None = None  # the file of ``conf/case``; blank for an operation
    description: str | None = None  # the case's own line for people


@dataclass(frozen=True)
class GradientCheck:
    """One gradient under one probe, by one oracle."""

    # what was tried: an input (example, fresh, zeros, ...), or a property (linearity, cotangent
    # layouts, ...)
    probe: str | None = None
    # what it was compared with: analytic, float64_reference, finite_differences (in float64,
    # whatever the dtype), forward_mode, autograd_grad (``backward()`` against
    # ``torch.autograd.grad``: the same engine twice, and so no evidence), or invariant, where a
    # property needs no other; opcheck (``torch.library``'s) of a registered operator
    oracle: str | None = None
    # the input that the gradient is of, by position or name; blank: the function's own value
    argument: str | None = None
    shape: str | None = None  # the shape of that input
    # memory layout of the inputs and the cotangent, where a layout is what was tried
    memory_layout: str | None = None
    max_abs_error: float | None = None  # an element's largest difference from what is expected
    # ``max_abs_error`` over the largest element of the expected gradient
    max_relative_error: float | None = None
    # the error at the worst element, in units in the last place of the dtype
    ulp: float | None = None
    # index of the worst element; blank for a derivative along a direction of several elements
    worst_index: str | None = None
    got: float | None = None  # the gradient's value at the worst element
    expected: float | None = None  # the expected value at the worst element
    tolerance: float | None = None  # the largest relative error that passes
    # what the tolerance follows from: the differences' own estimate, the conditioning, or exact
    tolerance_source: str | None = None
    checked_size: str | None = None  # the size at which a case was checked
    # pass, fail, inconclusive, kink, unsupported or error; blank where the check did not run, see
    # the row's status
    verdict: str | None = None
    reason: str | None = None  # why it is no pass, in a line
    seconds: float | None = None  # what the check took
    # a file of plain torch that shows the smallest failure of a cell, in one of its rows
    script: str | None = None


@dataclass(frozen=True)
class AutogradRow(GradientCheck, CaseRow):
    """A row of ``autograd.csv``: a check of a cell."""

    got_values: str | None = None  # a case's whole gradient, as JSON
    expected_values: str | None = None  # a case's whole expected gradient, as JSON
    derivation: str | None = None  # how the expected gradient was derived


@dataclass(frozen=True)
class TensorRow(CaseRow):
    """A row of ``tensors.csv``: one thing that is expected of a case's result."""

    expression: str | None = None  # the line of tensor code whose result is checked
    # what was checked: call (that it can be called at all), values, shape, dtype, range, finite,
    # reproducible, aliases (whose memory it lies in), or unchanged (the tensors that it was given)
    check: str | None = None
    expected: str | None = None  # the expected result, as text; nested lists are JSON
    got: str | None = None  # the result, as text; nested lists are JSON
    # pass, fail, or error where it could not be called; the reason says what is wrong
    verdict: str | None = None


@dataclass(frozen=True)
class PeaksRow(Row):
    """A row of ``roofs.csv``: the most that a device was measured to reach in a dtype."""

    # rate of the best matrix product, or of an elementwise one where that is faster
    flop_per_s: float | None = None
    flop_by: str | None = None  # the size of that matrix product, or the name of the kernel
    # bytes read and written in a second by the best kernel, on tensors that no cache holds
    bytes_per_s: float | None = None
    bytes_by: str | None = None  # which kernel reached it
    # the file in which later runs find the peaks; blank: not saved, since it was contended
    saved_to: str | None = None
    flags: tuple[str, ...] = ()  # names of what would mislead


@dataclass(frozen=True)
class NoiseRow(Row):
    """A row of ``noise.csv``: what pairs of equal sides show of the machine."""

    # pairs of an operation and its equal twin that found calm moments; the other columns are about
    # these pairs
    pairs: int | None = None
    visits: int | None = None  # typical number of visits of a pair
    # the relative difference that a typical pair would have shown
    smallest_difference: float | None = None
    # the largest relative difference that a pair of equal sides showed
    largest_difference: float | None = None
    # pairs in which a difference was claimed although the sides are equal
    alarms: int | None = None
    alarm_rate_high: float | None = None  # upper end (95 % confidence) of the share of such pairs
    calm_share: float | None = None  # share of all visits that were in calm moments


@dataclass(frozen=True)
class TraceRow(Row):
    """A row of ``trace.csv``: what was recorded of a model."""

    passes: str | None = None  # what was done with the model: forward, backward or step
    calls: int | None = None  # calls that the model makes in all
    distinct: int | None = None  # how many different calls there are
    not_reproduced: int | None = None  # how many calls cannot be made again; their entries say why
    parameters_bytes: int | None = None  # bytes of the model's parameters
    # seconds that the model takes; blank where it ran without numbers, on device meta
    model_s: float | None = None
    # share of the model's time on the host in the calls that can be made again
    covered: float | None = None
    # whether the model was too large for the memory, and so ran without numbers
    on_meta: bool | None = None
    file: str | None = None  # the workload that was written


@dataclass(frozen=True)
class TransferRow(Row):
    """A row of ``transfers.csv``: one way between host and device: ``latency + bytes / bandwidth``.

    The line is fitted to the median times of copies of several sizes; its 95 % intervals are from
    the fit's covariance (:func:`runner.stats.line_fit.fit_line`).
    """

    to_device: bool | None = None  # from the host to the device; otherwise back
    memory: str | None = None  # kind of the host's memory: pageable or pinned
    latency_s: float | None = None  # seconds of a copy of next to nothing
    latency_low_s: float | None = None  # lower end of its 95 % interval
    latency_high_s: float | None = None  # upper end of its 95 % interval
    bandwidth_bytes_per_s: float | None = None  # rate of a long copy
    # lower end of its 95 % interval; blank where any value fits
    bandwidth_low_bytes_per_s: float | None = None
    # upper end of its 95 % interval; blank where any value fits
    bandwidth_high_bytes_per_s: float | None = None
    # the largest relative distance of a size's time from the line
    max_relative_residual: float | None = None
    sizes: int | None = None  # number of sizes that were timed
    smallest_bytes: int | None = None  # the smallest of these sizes
    largest_bytes: int | None = None  # the largest of these sizes
    # as JSON, for each size its bytes, the median seconds and its interval's ends
    points: str | None = None


@dataclass(frozen=True)
class Sample:
    """A row of ``samples.csv``: one block of calls as the clock saw it."""

    calls: int  # number of calls in the block
    wall_s: float  # seconds of the whole block
    # CPU seconds of the calling thread in it; blank where the platform does not say
    cpu_s: float | None
    # involuntary context switches in it; blank where the platform does not say
    preemptions: int | None
    # seconds in it that threads were ready and had no core; blank where the platform does not say
    waiting_s: float | None
    # number of the place in memory that the tensors had; blank where there was but one
    allocation: int | None
    used: bool  # whether the median is taken over it
    process: int = 1  # number of the process, of those that measure the cell one after another
    # how many times slower than at its best the machine was around the block; blank: not measured
    machine_slowdown: float | None = None
    calm: bool = True  # whether the machine was about as fast as at its best


@dataclass(frozen=True)
class PairVisit:
    """A row of ``pairs.csv``: one visit to a cell and to the baseline that it is compared with."""

    baseline_cell: str  # identity of the baseline's cell
    other_cell: str  # identity of the other cell
    visit: int  # number of the visit in its process, from 0
    baseline_turn: int  # the baseline's place in the order of the visit, from 0
    other_turn: int  # the other side's place in the order of the visit, from 0
    baseline_allocation: int  # the set of memory that the baseline's tensors lay in
    other_allocation: int  # the set of memory that the other side's tensors lay in
    baseline_s: float  # seconds of a call of the baseline
    other_s: float  # seconds of a call of the other side
    process: int = 1  # the number of the process
    # how many times slower than at its best the machine was around the visit; blank: not measured
    machine_slowdown: float | None = None
    calm: bool = True  # whether the machine was about as fast as at its best
    undisturbed: bool = True  # whether both sides had blocks that nothing interrupted


@dataclass(frozen=True)
class Share:
    """A row of ``profile.csv``: what ran for a call, where, and what part of all there it took."""

    where: str  # host, or device: the host's time of launching a kernel is no time of the device
    name: str  # an operator of PyTorch's, or a kernel
    calls: float  # of it, in a call of the cell's
    # seconds in a call, without what it calls itself; the profiler's own cost is among them
    self_s: float
    share: float  # of all such seconds there, from 0 to 1


AnyRow = TypeVar("AnyRow", bound=Row)
ROW_OF_JOB: dict[str, type[Row]] = {
    "benchmark": BenchmarkRow,
    "autograd": AutogradRow,
    "tensors": TensorRow,
    "transfer": TransferRow,
    "roof": PeaksRow,
    "noise": NoiseRow,
    "trace": TraceRow,
}
SCRIPT_FILE = "wrong_gradient.py"
SAMPLES_FILE, PAIRS_FILE, ROUNDS_FILE = "samples.csv", "pairs.csv", "rounds.csv"
SHARES_FILE = "profile.csv"
FILE_OF_JOB = {
    "benchmark": "results.csv",
    "autograd": "autograd.csv",
    "tensors": "tensors.csv",
    "transfer": "transfers.csv",
    "roof": "roofs.csv",
    "noise": "noise.csv",
    "trace": "trace.csv",
}


Item = TypeVar("Item")
Key = TypeVar("Key")


def grouped(items: Iterable[Item], key_of: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Rows, or what is made of them, by what some have in common; both in the order of coming."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key_of(item), []).append(item)
    return groups


def varying(items: Sequence[object], names: Iterable[str]) -> list[str]:
    """The attributes of which items have several values."""
    return [name for name in names if len(set(map(attrgetter(name), items))) > 1]


def with_values(row: AnyRow, **changes: object) -> AnyRow:
    """The row with other values: ``replace``, but that it does not go through a hundred fields.

    TypeError where it has no such field.
    """
    if unknown := changes.keys() - vars(type(row))["__dataclass_fields__"].keys():
        raise TypeError(f"{type(row).__name__} has no {', '.join(sorted(unknown))}")
    made = object.__new__(type(row))
    made.__dict__.update(vars(row), **changes)
    return made


def row_for(
    cell: Cell,
    status: str,
    reason: str,
    *,
    device_name: str | None = None,
    seconds: float | None = None,
) -> Row:
    """The row of a cell that was ended from outside."""
    row = identified(ROW_OF_JOB[cell.job], cell)
    known = {"device_name": device_name, "seconds": seconds}
    return with_values(row, status=status, reason=one_line(reason), **known)


def with_kept(kept: Sequence[Row], ended: Row, reason: str) -> list[Row]:
    """The rows of a cell that was ended after some were known.

    Checks have a row each: those that had ended keep theirs, and one more says how the cell ended.
    A job with one row keeps that, with the ``reason`` after its own.
    """
    if isinstance(ended, CaseRow):
        return [*kept, ended]
    why = ("; ".join(filter(None, (row.reason, reason))) for row in kept)
    rows = zip(kept, why, strict=True)
    return [with_values(row, reason=text, seconds=ended.seconds) for row, text in rows] or [ended]


def marked(row: AnyRow, concurrent_sweep: bool | None) -> AnyRow:
    """A row that says whether another sweep's cell ran on its device meanwhile."""
    if not isinstance(row, BenchmarkRow):
        return row
    misleads = concurrent_sweep and row.median_s is not None
    flags = merged(row.flags, ("contended",)) if misleads else row.flags
    return with_values(row, concurrent_sweep=concurrent_sweep, flags=flags)


def with_changed_switches(row: Row, imported: Iterable[str], called: Iterable[str]) -> Row:
    """A row that says which of the machine's switches its operation's import and calls changed."""
    names = merged(imported, called)
    if not names or not isinstance(row, BenchmarkRow):
        return row
    flags = ["changed_switches", *(["switched"] if merged(called) else [])]
    flags += ["replaced_functions"] if FUNCTIONS in names else []
    return with_values(row, changed_switches=names, flags=merged(row.flags, flags))


def row_of_check(blank: AutogradRow, check: GradientCheck) -> AutogradRow:
    """The row of a check of a cell's gradient."""
    status = "failed" if check.verdict in BAD else "ok"
    return with_values(blank, **vars(check), status=status)


def identified(row_type: type[AnyRow], cell: Cell) -> AnyRow:
    """A row with nothing but the cell's identity."""
    blank = not_of(cell.job, of_case=cell.case is not None)
    known: dict[str, Any] = {name: getattr(cell, name) for name in AXES if name not in blank}
    if cell.case is not None and issubclass(row_type, CaseRow):
        known |= {"case": cell.case.name, "description": cell.case.description or None}
    if cell.call is not None and issubclass(row_type, BenchmarkRow):
        known["own"] = cell.call.columns
    known |= {"limit_time_s": cell.limit.time_s, "limit_memory_bytes": cell.limit.memory_bytes}
    return row_type(cell=cell.identity, job=cell.job, variant=cell.variant, **known)
