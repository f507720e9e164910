"""What a run leaves: the rows, whose fields are the CSV's columns, written whole or not at all, and read with care."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from runner.cells.cell import SCHEMA_VERSION, Cell
from runner.config.schema import HOW
from runner.errors import one_line
from runner.rows.older_schemas import schema_of

STATUSES = ("ok", "failed", "unavailable", "unsupported", "timeout", "out_of_memory", "crashed")


@dataclass(frozen=True)
class Row:
    """What every row begins with: which cell, and what came of it.

    Attributes:
        cell: the cell's identity.
        dtype, device: as asked; ``gpu`` is whatever accelerator there was.
        device_name: the device that ran it.
        threads: PyTorch's intra-op threads during the cell.
        node: the machine that ran it, by name and a short hash of what it is; times of different nodes do not compare.
        variant: a short hash of the op file and the timing, by which rows of the same names can be told apart.
        status: one of :data:`STATUSES`.
        reason: why the status is not ``ok``, in a line.
        seconds: what the cell took in all, from its start to its row.
    """

    cell: str
    job: str
    op: str
    size: str
    dtype: str
    device: str
    device_name: str | None = None
    threads: int | None = None
    direction: str = "forward"
    seed: int = 0
    node: str | None = None
    variant: str | None = None
    status: str = "ok"
    reason: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class BenchmarkRow(Row):
    """A row of ``results.csv``: a time and how sure it is, the work done in it, and whether its values are right.

    Attributes:
        min_s, q1_s, q3_s: the smallest, the lower and the upper quartile of the samples' seconds a call.
        median_s: seconds a call: the median over the samples.
        ci_low_s, ci_high_s: the median's 95 % interval; blank where there are too few samples for one.
        first_call_s: seconds of the first call on these inputs, before any warming up; the values' check has run before
            it, so that nothing of the operation is loaded or chosen for the first time here.
        samples: blocks that the median is taken over.
        preempted_samples: blocks that the scheduler interrupted; set aside unless nearly all of them were.
        calls_per_sample: calls in a block.
        timing_s: seconds spent on warming up and sampling.
        cache, layout, fill, compile, graph: how the operation was called, see ``conf/config.yaml``.
        compile_s: seconds that torch.compile took.
        cpu_s: CPU seconds of the calling thread for a call, where one thread does the work.
        launch_s, launch_low_s, launch_high_s: host seconds to launch a call, on a device that works asynchronously:
            the median and its 95 % interval.
        wall_s: host seconds from a call's launch to its completion there, one call at a time.
        processes: fresh processes that the samples come from.
        interruptions: how interrupted blocks are told: scheduler (time spent waiting for a core), switches, gaps (the
            device may have waited for the host), or none.
        fraction_of_roof: the call's rate, over the most that this machine was measured to reach (``+sweep=roof``).
        roof: which roof that is, compute or memory.
        clock_before_hz, clock_after_hz: the device's clock, where it tells.
        power_before_w, power_after_w: what it draws at work, where it tells.
        checked: what the error was taken of: full (the whole output) or smaller (size).
        stop: why sampling stopped: precision, time, samples, places (in memory: all were tried) or first_call.
        flop, bytes: of one call; bytes are those of inputs and outputs.
        inputs, input_bytes, outputs, output_bytes: tensors and their bytes, which have to be moved where they are not.
        finite_fraction: of the output's elements.
        max_relative_error: against a float64 reference, relative to the reference's largest element.
        allowed_relative_error: the most that the dtype and the operation explain.
        checked_size: the size at which the error was taken.
        gradient: pass, fail, unsupported or error, of a quick check in this dtype on this device; blank: not checked.
        beside: whether a cell of another sweep ran on the same device meanwhile; blank where that is not known.
        flags: what would mislead, separated by spaces.
    """

    cache: str | None = None
    layout: str | None = None
    fill: str | None = None
    compile: bool | None = None
    graph: bool | None = None
    median_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    min_s: float | None = None
    q1_s: float | None = None
    q3_s: float | None = None
    first_call_s: float | None = None
    compile_s: float | None = None
    cpu_s: float | None = None
    launch_s: float | None = None
    launch_low_s: float | None = None
    launch_high_s: float | None = None
    wall_s: float | None = None
    samples: int | None = None
    processes: int | None = None
    preempted_samples: int | None = None
    interruptions: str | None = None
    calls_per_sample: int | None = None
    timing_s: float | None = None
    stop: str | None = None
    flop: int | None = None
    bytes: int | None = None
    inputs: int | None = None
    input_bytes: int | None = None
    outputs: int | None = None
    output_bytes: int | None = None
    flop_per_s: float | None = None
    bytes_per_s: float | None = None
    fraction_of_roof: float | None = None
    roof: str | None = None
    peak_memory_bytes: int | None = None
    finite_fraction: float | None = None
    max_relative_error: float | None = None
    allowed_relative_error: float | None = None
    checked: str | None = None
    checked_size: str | None = None
    gradient: str | None = None
    clock_before_hz: float | None = None
    clock_after_hz: float | None = None
    power_before_w: float | None = None
    power_after_w: float | None = None
    beside: bool | None = None
    flags: str | None = None


@dataclass(frozen=True)
class AutogradRow(Row):
    """A row of ``autograd.csv``: one gradient under one probe, by one oracle.

    Attributes:
        case: the file of ``conf/case`` that it is of; blank for an operation.
        probe: what was tried: an input (example, fresh, zeros, ...), or a property (linearity, cotangent layouts, ...).
        oracle: what it was compared with: analytic, float64_reference, finite_differences (in float64, whatever the
            dtype), forward_mode, backward_plumbing (``backward()`` against ``torch.autograd.grad``: the same engine
            twice, and so no evidence), or itself, where a property needs no other.
        argument: the input that the gradient is of, by position or name; blank: the function's own value.
        shape: of that input.
        layout: of the inputs and the cotangent in memory, where that is what was tried.
        max_abs_error, max_relative_error: over the elements; relative to the largest of the expected gradient.
        ulp: the error at the worst element, in units in the last place of the dtype.
        worst_index: where that is in the gradient; blank for a derivative along a direction of several elements.
        got, expected: there.
        tolerance: the largest relative error that passes.
        tolerance_source: what the tolerance follows from: the differences' own estimate, the conditioning, or exact.
        verdict: pass, fail, inconclusive, kink, unsupported or error; blank where the check did not run, see status.
        checked_size: of a case: the size at which it was checked.
        got_values, expected_values: a case's whole gradients, as JSON.
        derivation: how the expected gradient was derived.
    """

    case: str | None = None
    probe: str | None = None
    oracle: str | None = None
    argument: str | None = None
    shape: str | None = None
    layout: str | None = None
    max_abs_error: float | None = None
    max_relative_error: float | None = None
    ulp: float | None = None
    worst_index: str | None = None
    got: float | None = None
    expected: float | None = None
    tolerance: float | None = None
    tolerance_source: str | None = None
    checked_size: str | None = None
    verdict: str | None = None
    got_values: str | None = None
    expected_values: str | None = None
    derivation: str | None = None


@dataclass(frozen=True)
class TensorRow(Row):
    """A row of ``tensors.csv``: one thing that is expected of a case's result.

    Attributes:
        case: the case's name.
        expression: the line of tensor code whose result is checked.
        check: what of it: call (that it can be called at all), values, shape, dtype, range, finite, reproducible,
            shares (whose memory it lies in), or unchanged (the tensors that it was given).
        expected, got: as text; nested lists are JSON.
        verdict: pass, fail, or error where it could not be called; the reason says what is wrong.
    """

    case: str | None = None
    expression: str | None = None
    check: str | None = None
    expected: str | None = None
    got: str | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class RoofRow(Row):
    """A row of ``roofs.csv``: the most that a device was measured to reach in a dtype.

    Attributes:
        flop_per_s: of the best matrix product, or of an elementwise one where that is faster.
        flop_by: its size, or what it is.
        bytes_per_s: read and written, of the best kernel on tensors that no cache holds.
        bytes_by: which kernel.
        kept: the file in which later runs find this; blank where it was not kept, being contended.
        flags: what would mislead.
    """

    flop_per_s: float | None = None
    flop_by: str | None = None
    bytes_per_s: float | None = None
    bytes_by: str | None = None
    kept: str | None = None
    flags: str | None = None


@dataclass(frozen=True)
class TransferRow(Row):
    """A row of ``transfers.csv``: one way between the host and a device, as ``time = latency + bytes / bandwidth``.

    The line is fitted to the median times of copies of several sizes by least squares of the relative distances; the
    95 % intervals are from the fit's covariance (:func:`runner.stats.line_fit.fit_line`).

    Attributes:
        to_device: from the host to the device; otherwise back.
        memory: the host's: pageable or pinned.
        latency_s: seconds of a copy of next to nothing, with its interval.
        bandwidth_bytes_per_s: bytes a second of a long one, with its interval; an end is blank where any would fit.
        off: the largest relative distance of a size's time from the line: how good a line it is.
        sizes: how many were timed, from ``smallest_bytes`` to ``largest_bytes``.
        points: what was measured, as JSON: for each size its bytes, the median seconds and its interval's ends.
    """

    to_device: bool | None = None
    memory: str | None = None
    latency_s: float | None = None
    latency_low_s: float | None = None
    latency_high_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    bandwidth_low_bytes_per_s: float | None = None
    bandwidth_high_bytes_per_s: float | None = None
    off: float | None = None
    sizes: int | None = None
    smallest_bytes: int | None = None
    largest_bytes: int | None = None
    points: str | None = None


@dataclass(frozen=True)
class Sample:
    """A row of ``samples.csv``: one block of calls as the clock saw it.

    Attributes:
        calls: in the block.
        wall_s: seconds of the whole block.
        cpu_s: CPU seconds of the calling thread in it; blank where the platform does not say.
        preemptions: involuntary context switches in it; blank where the platform does not say.
        waiting_s: seconds in it that threads were ready and had no core; blank where the platform does not say.
        place: number of the place in memory that the tensors had; blank where there was but one.
        process: number of the process, of those that measure the cell one after another.
        kept: whether the median is taken over it.
    """

    calls: int
    wall_s: float
    cpu_s: float | None
    preemptions: int | None
    waiting_s: float | None
    place: int | None
    kept: bool
    process: int = 1


AnyRow = TypeVar("AnyRow", bound=Row)
ROW_OF_JOB: dict[str, type[Row]] = {
    "benchmark": BenchmarkRow,
    "autograd": AutogradRow,
    "tensors": TensorRow,
    "transfer": TransferRow,
    "roof": RoofRow,
}
FILE_OF_JOB = {
    "benchmark": "results.csv",
    "autograd": "autograd.csv",
    "tensors": "tensors.csv",
    "transfer": "transfers.csv",
    "roof": "roofs.csv",
}


class DamagedFile(Exception):
    """A CSV is not as it was written: cut short, altered, or of another schema."""


def row_for(cell: Cell, status: str, reason: str, **known: Any) -> Row:
    """The row of a cell that did not end by itself."""
    row_type = ROW_OF_JOB[cell.job]
    return replace(identified(row_type, cell), status=status, reason=one_line(reason), **known)


def marked(row: AnyRow, beside: bool | None) -> AnyRow:
    """A row that says whether another sweep's cell ran beside it."""
    if not isinstance(row, BenchmarkRow):
        return row
    flags = dict.fromkeys([*(row.flags or "").split(), *(["contended"] * bool(beside))])
    return replace(row, beside=beside, flags=" ".join(flags) or None)


def identified(row_type: type[AnyRow], cell: Cell) -> AnyRow:
    """A row with nothing but the cell's identity."""
    particular: dict[str, Any] = {}
    if issubclass(row_type, BenchmarkRow):
        particular = {key: getattr(cell, key) for key in HOW}
    elif cell.case is not None and "case" in row_type.__dataclass_fields__:
        particular = {"case": cell.case.name}
    return row_type(
        cell=cell.identity,
        job=cell.job,
        op=cell.name,
        size=cell.size,
        dtype=cell.dtype,
        device=cell.device,
        threads=cell.threads,
        direction=cell.direction,
        seed=cell.seed,
        variant=cell.variant,
        **particular,
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with their header and a checksum each, so that a reader sees all of them or the file before.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    header = [*(f.name for f in fields(rows[0])), "schema", "checksum"]
    lines = []
    values_of = attrgetter(*header[:-2])
    for position, row in enumerate(rows, start=1):
        values = [_text(value) for value in values_of(row)] + [str(SCHEMA_VERSION)]
        lines.append([*values, _ended(_begun(values, position), len(rows))])
    write_atomically(path, csv_text([header, *lines]))


def write_table(path: Path, columns: Sequence[str], items: Iterable[Any]) -> None:
    """Write the named attributes of each item as a line of a CSV.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    write_atomically(path, csv_text([columns, *map(attrgetter(*columns), items)]))


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write the raw blocks of a cell."""
    header = [f.name for f in fields(Sample)]
    write_atomically(path, csv_text([header, *map(astuple, samples)]), durable=False)


def read_samples(path: Path) -> list[Sample]:
    """Read what :func:`write_samples` wrote.

    Raises:
        OSError: the file cannot be read.
        KeyError, ValueError: it is not what was written.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        parse = _parsers(Sample, header)
        return [Sample(**dict(zip(header, _values(parse, line), strict=True))) for line in lines]


def read_rows(path: Path, row_type: type[AnyRow]) -> list[AnyRow]:
    """Read what :func:`write_rows` wrote, now or in an older release; columns that this one did not have are blank.

    Raises:
        DamagedFile: the header is no schema's, or a row is not what was written.
        OSError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _read(path, csv.reader(file), row_type)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path}: {error}") from error


def _read(path: Path, lines: Iterator[list[str]], row_type: type[AnyRow]) -> list[AnyRow]:
    """Rows one after another, so that only they are kept; their checksums hold how many there are and come last."""
    header = next(lines, [])
    columns = header[:-2]
    schema = schema_of(header, [f.name for f in fields(row_type)], row_type.__name__, SCHEMA_VERSION)
    if schema is None:
        raise DamagedFile(f"{path}: the header is not that of schema {SCHEMA_VERSION}, nor of an older one")
    parse = _parsers(row_type, columns)
    make: Callable[..., AnyRow] = row_type
    rows: list[AnyRow] = []
    sums = []
    for position, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise DamagedFile(_altered(path, position))
        sums.append((_begun(line[:-1], position), line[-1], line[-2]))
        try:
            values = _values(parse, line)
        except ValueError as error:
            raise DamagedFile(_altered(path, position)) from error
        rows.append(make(*values) if schema == SCHEMA_VERSION else make(**dict(zip(columns, values, strict=True))))
    if not rows:
        raise DamagedFile(f"{path}: no row is left")
    for position, (begun, written, of_schema) in enumerate(sums, start=1):
        if _ended(begun, len(rows)) != written:
            raise DamagedFile(_altered(path, position))
        if of_schema != str(schema):
            raise DamagedFile(f"{path}: line {position + 1} is of schema {of_schema}, not {schema}")
    return rows


def _altered(path: Path, position: int) -> str:
    return f"{path}: line {position + 1} was altered, or lines after it are missing"


def collect(root: Path, job: str) -> tuple[list[Row], list[str]]:
    """Every row of a job below a run's folder, and what could not be read.

    Where a cell stands in several folders, as after a sweep was taken up again in another order, the last to be
    written counts.

    Returns:
        the rows in the order of the jobs' numbers, and a line for each damaged file.
    """
    of_cell: dict[str, tuple[int, list[Row]]] = {}
    damaged: list[str] = []
    for path in files_of_jobs(root, job) or [path for path in [root / FILE_OF_JOB[job]] if path.is_file()]:
        try:
            rows = read_rows(path, ROW_OF_JOB[job])
            written_ns = path.stat().st_mtime_ns
        except (DamagedFile, OSError) as error:
            damaged.append(str(error))
            continue
        by_cell: dict[str, list[Row]] = {}
        for row in rows:
            by_cell.setdefault(row.cell, []).append(row)
        for cell, found in by_cell.items():
            if cell not in of_cell or of_cell[cell][0] < written_ns:
                of_cell[cell] = (written_ns, found)
    return [row for _, found in of_cell.values() for row in found], damaged


def files_of_jobs(root: Path, job: str) -> list[Path]:
    """What the cells of a sweep left, in the order of their numbers; nothing for a run of one cell."""
    with os.scandir(root) as entries:
        folders = sorted((_job_number(entry.name), entry.path) for entry in entries if entry.is_dir())
    paths = (os.path.join(folder, FILE_OF_JOB[job]) for _, folder in folders)  # thousands; Path takes its time
    return [Path(path) for path in paths if os.path.isfile(path)]


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file's content in one step.

    Args:
        path: the file.
        text: its new content.
        durable: wait until the content is on the disk.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def csv_text(table: Iterable[Iterable[Any]]) -> str:
    """A table as CSV: blank for None, every digit of a float."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)  # which writes None and floats as _text does
    return buffer.getvalue()


def _begun(values: Sequence[str], position: int) -> Any:
    """The beginning of a row's checksum, which covers its values and its place among all."""
    return hashlib.sha256("\x1f".join([*values, f"{position}/"]).encode())


def _ended(begun: Any, total: int) -> str:
    """The checksum, with the number of all rows, so that a missing one is noticed too."""
    begun.update(str(total).encode())
    return f"x{begun.hexdigest()[:12]}"


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _job_number(name: str) -> tuple[int, str]:
    number = name.partition("_")[0]
    return (int(number) if number.isdigit() else 0, name)


def _parsers(record: type[Row] | type[Sample], columns: Sequence[str]) -> list[Callable[[str], Any]]:
    types = {f.name: str(f.type).partition(" ")[0] for f in fields(record)}
    return [_PARSE[types[name]] for name in columns]


def _values(parse: Sequence[Callable[[str], Any]], line: Sequence[str]) -> list[Any]:
    return [read(text) if text else None for read, text in zip(parse, line, strict=False)]


_PARSE: dict[str, Callable[[str], Any]] = {"str": sys.intern, "int": int, "float": float, "bool": "True".__eq__}
"""How a column's text is read where it is not blank; most texts recur, and need to be kept only once."""
