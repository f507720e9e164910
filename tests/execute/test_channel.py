"""What comes through the worker's pipe is data, and waited for no longer than it may take."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from runner.execute.channel import Inbox, say
from runner.rows.columns import packed, unpacked
from runner.rows.rows import BenchmarkRow, PairVisit, Sample
from tests.support.factories import row

Ends = tuple[Connection, Inbox]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The worker's end, and the parent's, of a process that has not ended."""
    parent, child = Pipe()
    death, alive = Pipe(duplex=False)
    yield child, Inbox(parent, death.fileno())
    for end in (parent, child, death, alive):
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
