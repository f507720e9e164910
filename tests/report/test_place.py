"""Where a call goes, as a run that compared devices leaves it."""

import json
from pathlib import Path

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.place import FILE, place, placements
from tests.support.report_rows import rows


def test_each_comparison_of_devices_has_a_line_that_is_read_back(tmp_path: Path) -> None:
    found = analyse(rows(), [], Report())
    text = placements(found)
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    known = json.loads(text)
    assert known["baseline"] == "cpu"
    assert len(known["calls"]) == sum(speedup.speedup is not None for speedup in found.speedups)
    assert len(text.splitlines()) == len(known["calls"]) + len(known["curves"]) + 4
    for call in known["calls"]:
        told = place(call["op"], call["shape"], call["dtype"], str(tmp_path / FILE))
        assert told == (call["device"], 0.95 if call["sure"] else 0.5)


def test_without_a_comparison_of_devices_nothing_is_left() -> None:
    one = [row for row in rows() if row.device == "cpu"]
    assert placements(analyse(one, [], Report())) == ""
