"""Linux counts what a thread does: pages that are known exactly, and instructions where it can."""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runner.measure.instructions import (
    FOLDER,
    PAGE_FAULTS,
    CallgrindCounter,
    Event,
    PerfCounter,
    instructions_of,
    without_allocator,
)
from tests.support.factories import cell, ran

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="perf_event_open is Linux's")


def touching(pages: int) -> Callable[[], None]:
    """A call that is the first to touch so many pages."""

    def call() -> None:
        with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
            for start in range(0, len(memory), mmap.PAGESIZE):
                memory[start] = 1

    return call


@ON_LINUX
@pytest.mark.parametrize("pages", [20, 22, 1_000])
def test_an_event_is_counted_exactly_a_call(pages: int) -> None:
    assert instructions_of(touching(pages), PerfCounter(PAGE_FAULTS)) == pages


@ON_LINUX
def test_what_is_done_outside_is_not_counted_and_each_count_begins_at_0() -> None:
    with PerfCounter(PAGE_FAULTS) as count:
        assert count(touching(500)) == 500
        touching(1_000)()
        assert count(touching(30)) == 30


@ON_LINUX
def test_an_event_that_is_not_to_be_had_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="perf_event_open"):
        PerfCounter(Event(0, 1_000))


def test_instructions_of_more_work_are_more() -> None:
    try:
        PerfCounter().__exit__()
    except OSError as error:
        pytest.skip(f"this machine counts no instructions: {error}")
    small, large = torch.ones(1_000_000), torch.ones(1_100_000)
    once, again, more = (instructions_of(x.sum, PerfCounter()) for x in (small, small, large))
    assert once == pytest.approx(again, rel=0.005)
    assert more / once == pytest.approx(1.1, rel=0.02)


def test_what_callgrind_counts_in_the_allocator_is_left_out_once() -> None:
    """Of a file of callgrind's; an entry of the allocator that calls another is inside it."""
    called = "cob=/lib/libc.so.6\ncfi=malloc.c\ncfn={}\ncalls=3 0 \n{}\n"
    counts = (
        "events: Ir\nsummary: 1000\n\n\nob=libtorch_cpu.so\nfl=add.cpp\nfn=add\n0 500\n"
        + called.format("posix_memalign", "* 120")
        + called.format("malloc_like", "+4 50")
        + called.format("free", "-7 30")
        + "\nfl=malloc.c\nfn=posix_memalign\n0 20\n"
        + called.format("malloc", "0 100")
        + "\nfn=malloc\n0 100\n\ntotals: 1000\n"
    )
    assert without_allocator(counts) == 1_000 - 120 - 30
    with pytest.raises(OSError, match="no total"):
        without_allocator(counts.replace("totals", "total"))


def test_a_call_that_fails_leaves_the_counter_off_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toggled = []

    def dump() -> None:
        toggled.append("off")
        (tmp_path / "counts.1").write_text("totals: 5\n")

    monkeypatch.setenv(FOLDER, str(tmp_path))
    counter = CallgrindCounter(lambda: toggled.append("on"), dump)
    with pytest.raises(ZeroDivisionError):
        counter._count(lambda: 1 // 0)
    assert (toggled, list(tmp_path.iterdir())) == (["on", "off"], [])
    assert counter._count(lambda: None) == 5


def test_a_cell_is_the_same_whether_or_not_it_is_counted() -> None:
    asked = cell("add", size=8, timing={"counts": "instructions"})
    plain = cell("add", size=8)
    assert (asked.identity, asked.variant) == (plain.identity, plain.variant)
    assert ran("add", size=8, threads=1).instructions is None
    row = ran("add", size=8, threads=2, timing={"counts": "instructions", "max_time_s": 0.05})
    assert (row.status, row.instructions, row.instructions_by) == ("ok", None, None)
