"""What a sweep shows on its way, where nobody's terminal is."""

import io
import re
from threading import Event

import pytest

from runner.execute import progress
from runner.execute.progress import Progress
from tests.support.factories import cell, row


def test_no_number_is_missing_and_quietly_trouble_alone_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 900)
    late = row("cpu", None, status="timeout", reason="too long")
    rows = [row(), row(), row(), late, row(), row()]
    shown = []
    for quiet in (False, True):
        with Progress(len(rows), quiet=quiet) as shown_by:
            for one in rows:
                shown_by.begin(cell())
                shown_by.end(cell(), [one])
            shown_by.again([cell()], 1, 2.0)
        shown.append(capsys.readouterr().err.splitlines())
    loud, quiet_lines = shown
    numbers = [re.match(r"\[(.*?)/6\] add ", line) for line in loud[:-1]]
    assert [found and found[1] for found in numbers] == ["1", "2-4", "5-6"]
    assert loud[1].endswith("timeout, too long")
    assert loud[-1].startswith("visiting again add ")
    assert [re.sub(r"\[.*\]", "", line) for line in quiet_lines] == [loud[1].partition("]")[2]]


def test_a_cell_whose_label_others_have_has_its_own_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = [cell(size=4, timing={"max_time_s": seconds}) for seconds in (1, 2)]
    with Progress(2, names={cells[1].identity: "add timing=other"}) as progress:
        for one in cells:
            progress.end(one, [row(status="timeout", reason="long")])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "[1/2] add 4x4 float32 cpu: timeout, long",
        "[2/2] add timing=other: timeout, long",
    ]


class Told(io.StringIO):
    """A stream that says when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = Event()

    def write(self, text: str) -> int:
        """As any stream does."""
        count = super().write(text)
        self.written.set()
        return count


def test_what_takes_long_is_announced_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Told()
    monkeypatch.setattr("sys.stderr", stderr)
    with progress.announced("composing the cells"):
        pass
    monkeypatch.setattr(progress, "LONGEST_SILENCE_S", 0.0)
    with progress.announced("reading what has run"):
        assert stderr.written.wait(60)
    assert stderr.getvalue().startswith("reading what has run ...")


def test_an_announcement_does_not_come_amid_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", stderr := Told())
    monkeypatch.setattr(progress, "LONGEST_SILENCE_S", 0.2)
    with progress.announced("putting the report together") as stop:
        stop()
        assert not stderr.written.wait(1.0)


def test_a_long_name_cuts_no_time_on_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = Told()
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stderr)
    for name, value in {"COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    long = cell(op="scaled_dot_product_attention")
    with Progress(2) as shown:
        for _ in range(2):
            shown.begin(long, in_turn=True)
            shown.end(long, [row()])
    bars = [line for line in re.split(r"[\r\n]", stderr.getvalue()) if " left " in line]
    assert bars
    for bar in bars:
        text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", bar)
        assert len(text) <= 80
        assert re.search(r"\d:\d\d:\d\d left (\d:\d\d:\d\d|-:--:--)", text)
