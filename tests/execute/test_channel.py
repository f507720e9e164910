"""What comes through the worker's pipe is data, and waited for no longer than it may take."""

import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.schema import LONGEST_S
from runner.execute.channel import Inbox, say
from runner.execute.worker import Worker, WorkerDied, rows_said
from runner.measure.gate import WAITING
from runner.measure.noise_sources import PAIR
from runner.rows.columns import packed, unpacked
from runner.rows.csv_store import collect, write_rows
from runner.rows.rows import FILE_OF_JOB, BenchmarkRow, PairVisit, Row, Sample, identified
from tests.rows.test_damage import odd_row
from tests.support.factories import cell, row

Ends = tuple[Connection, Inbox]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The worker's end, and the parent's, of a process that has not ended."""
    parent, child = Pipe()
    death, alive = Pipe(duplex=False)
    yield child, Inbox(parent, death.fileno())
    for end in (parent, child, death, alive):
        end.close()


def test_a_limit_of_years_can_be_waited_for(ends: Ends) -> None:
    child, inbox = ends
    say(child, (1, "begun"))
    assert inbox.receive(LONGEST_S) == [1, "begun"]


@pytest.mark.skipif(not hasattr(select, "poll"), reason="this platform has no poll")
def test_where_there_is_no_poll_messages_and_the_end_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(select, "poll")
    parent, child = Pipe()
    inbox = Inbox(parent)
    say(child, (1, "begun"))
    assert inbox.receive(10) == [1, "begun"]
    assert inbox.receive(0.01) is None
    child.close()
    with pytest.raises(EOFError):
        inbox.receive(10)
    parent.close()


def test_a_process_that_died_while_a_child_of_it_has_the_pipe_is_told_of_at_once() -> None:
    parent, child = Pipe()
    death, alive = Pipe(duplex=False)
    inbox = Inbox(parent, death.fileno())
    say(child, (1, "begun"))
    alive.close()
    assert inbox.receive(600) == [1, "begun"]
    with pytest.raises(EOFError):
        inbox.receive(600)
    for end in (parent, child, death):
        end.close()


def test_messages_arrive_as_they_were_sent(ends: Ends) -> None:
    child, inbox = ends
    rows = [row(flags=("view", "uneven"), flop=2**70), row(median_s=None, reason="µ\n\ud800")]
    samples = [Sample(3, 0.1, None, 0, 1e-9, None, used=True)]
    say(child, (1, "done", False, packed(rows), packed(samples)))
    say(child, (2, "step", "timing"))
    _, kind, _, of_rows, of_samples = inbox.receive(10)
    assert kind == "done"
    assert unpacked(BenchmarkRow, of_rows) == rows
    assert unpacked(Sample, of_samples) == samples
    assert inbox.receive(10) == [2, "step", "timing"]


def test_half_a_message_is_not_waited_for(ends: Ends) -> None:
    child, inbox = ends
    os.write(child.fileno(), b'[1, "do')
    begun = time.monotonic()
    assert inbox.receive(0.05) is None
    assert time.monotonic() - begun < 60
    os.write(child.fileno(), b'ne"]\n')
    assert inbox.receive(10) == [1, "done"]


@pytest.mark.parametrize("said", [b"\x80\x04\x95garbage\n", b"{\n", b"\n", b"[1,\n"])
def test_what_is_no_json_is_a_value_error(said: bytes, ends: Ends) -> None:
    child, inbox = ends
    os.write(child.fileno(), said)
    with pytest.raises(ValueError, match=r"."):
        inbox.receive(10)


def test_the_end_of_the_process_is_told(ends: Ends) -> None:
    child, inbox = ends
    say(child, (1, "begun"))
    child.close()
    assert inbox.receive(10) == [1, "begun"]
    with pytest.raises(EOFError):
        inbox.receive(10)


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns[:-1],
        lambda columns: [*columns, [1, 1]],
        lambda columns: [[7, 7], *columns[1:]],
        lambda columns: [[None, "c1"], *columns[1:]],
        lambda columns: [[{"a": 1}, "c1"], *columns[1:]],
        lambda columns: [["c1"], *columns[1:]],
        lambda columns: ["c1", *columns[1:]],
        lambda columns: "c1",
        lambda columns: 5,
    ],
)
def test_lists_that_are_no_records_make_none(change) -> None:  # type: ignore[no-untyped-def]
    visit = PairVisit("c1", "c2", 0, 0, 1, 0, 0, 1e-3, 2e-3)
    visits = [visit, replace(visit, visit=1)]
    assert unpacked(PairVisit, list(map(list, packed(visits)))) == visits
    with pytest.raises((ValueError, TypeError)):
        unpacked(PairVisit, change(list(map(list, packed(visits)))))


def said(job: str, of_worker: Row) -> Row:
    """A cell's row as it is taken from what the worker says."""
    of_job = cell(job=job)
    identified = replace(of_worker, cell=of_job.identity, job=job)
    (taken,) = rows_said(of_job, json.loads(json.dumps(packed([identified]))))
    return taken


@settings(max_examples=50)
@given(job=st.sampled_from(["benchmark", "autograd"]), seed=st.integers(0, 2**32))
def test_whatever_a_row_holds_it_is_read_back_or_says_what_it_cannot_hold(
    job: str, seed: int
) -> None:
    taken = said(job, odd_row(job, Random(seed)))
    with TemporaryDirectory() as folder:
        write_rows(Path(folder, FILE_OF_JOB[job]), [taken])
        rows, damaged, _ = collect(Path(folder), job, own_table=True)
    assert (len(rows), damaged) == (1, [])


def test_an_error_that_is_no_number_is_kept_and_a_time_that_is_none_is_a_failure() -> None:
    nothing = float("nan")
    wrong = row(max_relative_error=nothing, error_roundoffs=nothing, flags=("wrong_values",))
    kept = said("benchmark", wrong)
    assert (kept.status, kept.flags) == ("ok", ("wrong_values",))
    for name, value in (("median_s", nothing), ("seconds", float("inf")), ("node", "x" * 20_000)):
        failed = said("benchmark", row(**{name: value}))
        assert (failed.status, getattr(failed, name)) == ("failed", None)
        assert str(failed.reason).startswith(f"{name} ")
        assert str(failed.reason).endswith("is a fault of opsweep: please report it")


class Dying(Worker):
    """A worker whose process says what it is given, and dies."""

    says: ClassVar[list[tuple[Any, ...]]] = []

    def talk(self, *request: Any) -> Iterator[tuple[Any, ...]]:
        yield from self.says
        raise WorkerDied("the process ended")


@pytest.mark.parametrize(
    ("patience_s", "while_"), [(0.0, "timing"), (60.0, f"{WAITING} it is slow")]
)
def test_what_hangs_after_a_wait_does_not_hang_while_waiting(
    patience_s: float, while_: str, tmp_path: Path
) -> None:
    Dying.says = [("begun",), ("step", f"{WAITING} it is slow")]
    waiting = cell(timing={"patience_s": patience_s})
    (told,), _ = Dying().run(waiting, tmp_path / "run.log")
    assert str(told.reason).endswith(f", while {while_}")


def test_what_takes_long_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = f"{WAITING} it is slow", "checking values", f"{PAIR} 1 of 8"
    Dying.says = [("begun",), *(("step", step) for step in steps)]
    Dying().run(cell(), tmp_path / "run.log")
    assert capsys.readouterr().err.splitlines() == [steps[0], steps[2]]


def test_what_a_process_has_kept_is_read_once_it_died_and_garbage_is_not(tmp_path: Path) -> None:
    add, blocks = cell(), [Sample(3, 0.1, None, 0, 1e-9, None, used=True)]
    known = [identified(BenchmarkRow, add)]
    kept = json.loads(json.dumps([packed(known), packed(blocks)]))
    for said, row_count, status in (
        ([("kept", *kept)], 1, "ok"),
        ([], 0, "crashed"),
        ([("kept", *kept), ("kept", "rows", 5)], 0, "crashed"),
        ([("kept", 1)], 0, "crashed"),
    ):
        Dying.says = [("begun",), ("step", "checking values"), *said]
        (told,), samples = Dying().run(add, tmp_path / "run.log")
        assert (told.status, len(samples)) == (status, row_count)
        assert "the process ended, while checking values" in str(told.reason)
