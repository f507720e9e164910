"""What the rows of a stage's run must say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from runner.rows.flags import has_failed_check
from runner.rows.rows import BAD, Row

LONG_S, SHORT_S = 50e-6, 5e-6  # of kernels: below the first the gap between two counts
WITHIN = 0.02  # relative: events and profiler, where both are right
LAUNCH_IS_NOTHING = 100  # times the launch: a kernel beside which a launch is nothing
USUAL_ALARMS = 0.05  # of pairs of equal sides, in which a difference may be claimed

Rows = Sequence[Any]  # of one job, of those of :data:`runner.rows.rows.ROW_OF_JOB`


@dataclass(frozen=True)
class Finding:
    """What was looked at, what came, and what has to come; a figure has nothing of that."""

    check: str
    got: str
    expected: str = ""
    passed: bool | None = None  # None: it is a figure


Check = Callable[[Rows], Iterator[Finding]]


def of_device(rows: Rows) -> Rows:
    """The rows that an accelerator's cells left."""
    return [row for row in rows if row.device != "cpu"]


def _of(rows: Rows, status: str = "ok") -> Rows:
    return [row for row in rows if row.status == status]


def _all(check: str, rows: Iterable[Row], is_right: Callable[[Any], object]) -> Finding:
    """Whether all rows are right, of which there must be one."""
    of_all = list(rows)
    wrong = [row for row in of_all if not is_right(row)]
    named = "".join(f"; not {row.op} {row.size} {row.dtype}: {_why(row)}" for row in wrong[:3])
    got = f"{len(of_all) - len(wrong)} of {len(of_all)}{named}"
    return Finding(check, got, "all", bool(of_all) and not wrong)


def _why(row: Any) -> str:
    return row.reason or ", ".join(getattr(row, "flags", ())) or row.status


def ran(rows: Rows) -> Iterator[Finding]:
    """Each cell has its time, or gradient, on the device, and is right."""
    rows = of_device(rows)
    yield _all("cells ran", rows, lambda row: row.status == "ok")
    yield _all(
        "values and gradients are right",
        rows,
        lambda row: not has_failed_check(getattr(row, "flags", ())),
    )


def ran_or_cannot(rows: Rows) -> Iterator[Finding]:
    """The same where a device may lack what is asked for, and says so."""
    rows = of_device(rows)
    lacking = [row for row in rows if row.status == "unsupported" and row.reason]
    for row in lacking:
        yield Finding(f"{row.op} {row.dtype}", f"unsupported: {row.reason}")
    yield from ran([row for row in rows if row not in lacking])


def path(rows: Rows) -> Iterator[Finding]:
    """Times by events, by the host's clock, memory and graphs agree with each other."""
    yield from ran(rows)
    rows = _of(of_device(rows))
    long = [r for r in rows if r.median_s > LAUNCH_IS_NOTHING * r.launch_s]
    yield _all(
        "a long kernel ends no earlier by the host's clock than by events",
        long,
        lambda row: row.wall_s >= (1 - WITHIN) * row.median_s,
    )
    yield _all("a launch is over before its call", rows, lambda row: 0 < row.launch_s <= row.wall_s)
    launches = [row.launch_s for row in rows if row.size == rows[0].size]
    yield Finding("launch, typically", f"{median(launches):.3g} s")
    alone = [row for row in rows if row.direction == "forward" and not row.graph]
    yield _all(
        "add and transpose_copy take the memory of their tensors",
        [row for row in alone if row.op in ("add", "transpose_copy")],
        lambda row: row.peak_memory_bytes in (None, row.input_bytes + row.output_bytes),
    )


def graphs(rows: Rows) -> Iterator[Finding]:
    """Graphs can be replayed, or the device has none."""
    yield from ran_or_cannot(rows)
    rows = _of(of_device(rows))
    eager = {row.direction: row.launch_s for row in rows if not row.graph}
    replayed = [row for row in rows if row.graph and row.direction == "both"]
    if replayed:
        yield _all(
            "a graph is launched faster than its kernels",
            replayed,
            lambda row: row.launch_s < eager[row.direction],
        )


def kernels(rows: Rows) -> Iterator[Finding]:
    """Events tell the time that the profiler tells."""
    yield from ran(rows)
    known = [row for row in _of(of_device(rows)) if row.kernel_s and row.gap_s is not None]
    long = [row for row in known if row.kernel_s >= LONG_S]
    short = [row for row in known if SHORT_S <= row.kernel_s < LONG_S]
    yield _all(
        f"kernels of {LONG_S * 1e6:g} us and more: events within {WITHIN:.0%} of the profiler",
        long,
        lambda row: abs(row.median_s / row.kernel_s - 1) <= WITHIN,
    )
    if short:
        yield _all(
            f"kernels from {SHORT_S * 1e6:g} us on: the same, and the gap between kernels",
            short,
            lambda row: (
                (1 - WITHIN) * row.kernel_s
                <= row.median_s
                <= (1 + WITHIN) * row.kernel_s + row.gap_s
            ),
        )
    for name, some in (("long", long), ("short", short)):
        if some:
            ratio = median(row.median_s / row.kernel_s for row in some)
            yield Finding(f"{name} kernels: events over profiler, typically", f"{ratio:.4f}")
    if known:
        yield Finding("gap a call, typically", f"{median(row.gap_s for row in known):.3g} s")


def cold(rows: Rows) -> Iterator[Finding]:
    """Cold caches: slower, or the same."""
    yield from ran(rows)
    times = {(row.op, row.size, row.cache): row.median_s for row in _of(of_device(rows))}
    for (op, size, cache), seconds in times.items():
        if cache == "cold" and (op, size, "warm") in times:
            ratio = seconds / times[op, size, "warm"]
            yield Finding(f"{op} {size}: cold over warm", f"{ratio:.3g}")


def transfers(rows: Rows) -> Iterator[Finding]:
    """Copies each way."""
    yield _all("cells ran", of_device(rows), lambda row: row.status == "ok")
    for row in _of(of_device(rows)):
        way = f"to the {'device' if row.to_device else 'host'}, {row.memory}"
        bandwidth, latency = row.bandwidth_bytes_per_s or 0.0, row.latency_s or 0.0
        yield Finding(way, f"{bandwidth:.3g} bytes/s after {latency:.3g} s")


def roofs(rows: Rows) -> Iterator[Finding]:
    """Peaks."""
    yield from ran_or_cannot(rows)
    for row in _of(of_device(rows)):
        rates = f"{row.flop_per_s:.3g} FLOP/s by {row.flop_by}"
        yield Finding(
            f"peak in {row.dtype}", f"{rates}; {row.bytes_per_s:.3g} bytes/s by {row.bytes_by}"
        )


def faults(rows: Rows) -> Iterator[Finding]:
    """Each fault is what it is called, and the next cell is well."""
    expected = {
        "too_much": ("out_of_memory",),
        "beyond": ("failed",),
        "illegal": ("failed", "unsupported"),
        "hang": ("timeout",),
    }
    for row in rows:
        if row.op in expected:
            statuses = expected[row.op]
            got = f"{row.status}: {row.reason}"
            yield Finding(row.op, got, " or ".join(statuses), row.status in statuses)
    yield _all("the cells between are well", [r for r in rows if r.op == "add"], _is_well)


def _is_well(row: Any) -> bool:
    return row.status == "ok" and not has_failed_check(row.flags)


def equal_sides(rows: Rows) -> Iterator[Finding]:
    """An operation against itself: seldom a difference."""
    yield _all("cells ran", of_device(rows), lambda row: row.status == "ok")
    known = [row for row in _of(of_device(rows)) if row.pairs]
    pairs, alarms = sum(row.pairs for row in known), sum(row.alarms for row in known)
    got = f"{alarms} of {pairs} pairs"
    allowed = max(1.0, USUAL_ALARMS * pairs)
    yield Finding("differences claimed", got, f"{allowed:.0f} at most", alarms <= allowed)
    for row in known:
        if row.largest_difference is not None:
            yield Finding(
                f"{row.op} {row.size}: equal sides differ by", f"{row.largest_difference:.2%}"
            )


def gradients(rows: Rows) -> Iterator[Finding]:
    """Every gradient of the device."""
    rows = of_device(rows)
    yield _all("gradients are right", rows, lambda row: row.verdict not in BAD)
    passed = sum(row.verdict == "pass" for row in rows)
    yield Finding("checks that pass", f"{passed} of {len(rows)}")


def rates(rows: Rows) -> Iterator[Finding]:
    """Products of narrow numbers, where the device has them."""
    yield from ran_or_cannot(rows)
    for row in _of(of_device(rows)):
        if row.flop_per_s:
            yield Finding(f"{row.op} {row.size} {row.dtype}", f"{row.flop_per_s:.3g} FLOP/s")


def energies(rows: Rows) -> Iterator[Finding]:
    """What calls use, where it is counted."""
    yield from ran(rows)
    for row in _of(of_device(rows)):
        if row.energy_j is not None:
            watts = row.energy_j / row.median_s
            got = f"{row.energy_j:.3g} J a call ({watts:.3g} W), {row.clock_low_hz or 0:.3g} Hz"
            yield Finding(f"{row.op} {row.size}", got)
