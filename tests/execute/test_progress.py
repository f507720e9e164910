"""What a sweep shows on its way, where nobody's terminal is."""

import re

import pytest

from runner.execute.progress import Progress
from tests.support.factories import cell, row


def test_no_number_is_missing_and_quietly_trouble_alone_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    late = row("cpu", None, status="timeout", reason="too long")
    rows = [row(), row(), row(), late, row(), row()]
    shown = []
    for quiet in (False, True):
        with Progress(len(rows), quiet=quiet) as progress:
            for one in rows:
                progress.begin(cell())
                progress.end(cell(), [one])
            progress.again([cell()], 1, 2.0)
        shown.append(capsys.readouterr().err.splitlines())
    loud, quiet_lines = shown
    numbers = [re.match(r"\[(.*?)/6\] add ", line) for line in loud[:-1]]
    assert [found and found[1] for found in numbers] == ["1", "2-4", "5-6"]
    assert loud[1].endswith("timeout, too long")
    assert loud[-1].startswith("visiting again add ")
    assert [re.sub(r"\[.*\]", "", line) for line in quiet_lines] == [loud[1].partition("]")[2]]
