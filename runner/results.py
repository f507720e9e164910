"""What a run leaves: the rows, whose fields are the CSV's columns, written whole or not at all, and read with care."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from runner.cell import SCHEMA_VERSION, Cell
from runner.config import HOW
from runner.errors import one_line

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
        first_call_s: seconds of the first call at this size, which pays for allocating and for what is not yet loaded.
        samples: blocks that the median is taken over.
        preempted_samples: blocks that the scheduler interrupted; set aside unless nearly all of them were.
        calls_per_sample: calls in a block.
        timing_s: seconds spent on warming up and sampling.
        cache, layout, fill, compile, graph: how the operation was called, see ``conf/config.yaml``.
        compile_s: seconds that torch.compile took.
        cpu_s: CPU seconds of the calling thread for a call, where one thread does the work.
        launch_s: host seconds to launch a call, on a device that works asynchronously.
        wall_s: host seconds from a call's launch to its completion there, one call at a time.
        processes: fresh processes that the samples come from.
        interruptions: how interrupted blocks are told: scheduler (time spent waiting for a core), switches, gaps (the
            device may have waited for the host), or none.
        fraction_of_roof: the call's rate, over the most that this machine was measured to reach (``+sweep=roof``).
        roof: which roof that is, compute or memory.
        clock_before_hz, clock_after_hz: the device's clock, where it tells.
        checked: what the error was taken of: full (the whole output), sampled (of its elements) or smaller (size).
        stop: why sampling stopped: precision, time, samples, places (in memory: all were tried) or first_call.
        flop, bytes: of one call; bytes are those of inputs and outputs.
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
    beside: bool | None = None
    flags: str | None = None


@dataclass(frozen=True)
class AutogradRow(Row):
    """A row of ``autograd.csv``: one gradient, by one oracle.

    Attributes:
        case: the case of ``conf/case`` that it is of; blank for an operation.
        probe: the inputs: example (as they are declared) or fresh (drawn near them).
        oracle: float64_reference, finite_differences, analytic (SymPy's derivative) or backward_plumbing
            (``backward()`` against ``torch.autograd.grad``: the same engine twice, and so no evidence).
        argument: the input that the gradient is of, by position or name; blank: the function's own value.
        max_abs_error, max_relative_error: over the elements; relative to the largest of the expected gradient.
        got, expected: at the worst element, or along the direction.
        tolerance: the largest relative error that passes.
        verdict: pass, fail or inconclusive; blank where the check did not run, see status.
        worst_index: where the error is largest.
        tolerance_source: what the tolerance is made of.
        checked_size: the size at which it was checked.
        got_values, expected_values: a case's whole gradients, as JSON.
        derivation: how the expected gradient was derived.
    """

    case: str | None = None
    probe: str | None = None
    oracle: str | None = None
    argument: str | None = None
    shape: str | None = None
    max_abs_error: float | None = None
    max_relative_error: float | None = None
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
    95 % intervals are from the fit's covariance (:func:`runner.line.fit_line`).

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
    for position, row in enumerate(rows, start=1):
        values = [_text(value) for value in astuple(row)] + [str(SCHEMA_VERSION)]
        lines.append([*values, _checksum(values, position, len(rows))])
    write_atomically(path, csv_text([header, *lines]))


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
        return [Sample(**_parsed(Sample, line)) for line in csv.DictReader(file)]


def read_rows(path: Path, row_type: type[AnyRow]) -> list[AnyRow]:
    """Read what :func:`write_rows` wrote.

    Raises:
        DamagedFile: the header is another schema's, or a row is not what was written.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            table = list(csv.reader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DamagedFile(f"{path}: {error}") from error
    columns = [f.name for f in fields(row_type)]
    if not table or table[0] != [*columns, "schema", "checksum"]:
        raise DamagedFile(f"{path}: the header is not that of schema {SCHEMA_VERSION}")
    if len(table) == 1:
        raise DamagedFile(f"{path}: no row is left")
    rows = []
    for position, line in enumerate(table[1:], start=1):
        if len(line) != len(columns) + 2 or _checksum(line[:-1], position, len(table) - 1) != line[-1]:
            raise DamagedFile(f"{path}: line {position + 1} was altered, or lines after it are missing")
        if line[-2] != str(SCHEMA_VERSION):
            raise DamagedFile(f"{path}: line {position + 1} is of schema {line[-2]}, not {SCHEMA_VERSION}")
        rows.append(row_type(**_parsed(row_type, dict(zip(columns, line, strict=False)))))
    return rows


def collect(root: Path, job: str) -> tuple[list[Row], list[str]]:
    """Every row of a job below a run's folder, and what could not be read.

    Where a cell stands in several folders, as after a sweep was taken up again in another order, the last to be
    written counts.

    Returns:
        the rows in the order of the jobs' numbers, and a line for each damaged file.
    """
    of_cell: dict[str, tuple[int, list[Row]]] = {}
    damaged: list[str] = []
    folders = [path for path in root.iterdir() if path.is_dir() and (path / FILE_OF_JOB[job]).is_file()]
    for folder in sorted(folders, key=_job_number) or [root]:
        path = folder / FILE_OF_JOB[job]
        try:
            rows = read_rows(path, ROW_OF_JOB[job]) if path.is_file() else []
            written_ns = path.stat().st_mtime_ns if rows else 0
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
    csv.writer(buffer, lineterminator="\n").writerows([_text(value) for value in line] for line in table)
    return buffer.getvalue()


def _checksum(values: Sequence[str], position: int, total: int) -> str:
    """Covers a row's values and its place among all, so that a missing row is noticed too."""
    return "x" + hashlib.sha256("\x1f".join([*values, f"{position}/{total}"]).encode()).hexdigest()[:12]


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _job_number(folder: Path) -> tuple[int, str]:
    number = folder.name.partition("_")[0]
    return (int(number) if number.isdigit() else 0, folder.name)


def _parsed(record: type[Row] | type[Sample], texts: dict[str, str]) -> dict[str, Any]:
    types = {f.name: str(f.type).partition(" ")[0] for f in fields(record)}
    return {name: _PARSE[types[name]](text) for name, text in texts.items()}


_PARSE: dict[str, Any] = {
    "str": lambda text: text or None,
    "int": lambda text: int(text) if text else None,
    "float": lambda text: float(text) if text else None,
    "bool": lambda text: text == "True" if text else None,
}
