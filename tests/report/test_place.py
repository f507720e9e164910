"""Where a call goes: the answer from what was compared, and none where that says two things."""

import json
from pathlib import Path

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.place import FILE, place, placements
from runner.rows.rows import BenchmarkRow
from tests.support.factories import row
from tests.support.report_rows import rows


def both(gpu_s: float, **fields: object) -> list[BenchmarkRow]:
    """A call that takes a second on the CPU, and so much on the GPU."""
    name = " ".join(map(str, fields.values()))
    return [row(d, s, cell=f"{d} {name}", **fields) for d, s in (("cpu", 1.0), ("gpu", gpu_s))]


def test_calls_alike_in_all_that_is_asked_may_not_contradict_each_other(tmp_path: Path) -> None:
    found = [
        *both(2.0, op="matmul", size="64x128 n=8"),
        *both(0.5, op="matmul", size="64x128 n=4096"),
        *both(0.5, op="exp", direction="forward"),
        *both(0.999, op="exp", direction="backward"),
    ]
    file = tmp_path / "place.json"
    file.write_text(placements(analyse(found, [], Report())))
    assert place("matmul", (64, 128), "float32", str(file)) == ("cpu", 0.0)
    assert place("exp", (8, 8), "float32", str(file)) == ("gpu", 0.5)  # as sure as the least sure


def test_the_number_of_a_call_of_a_workload_is_no_part_of_its_name(tmp_path: Path) -> None:
    of_call = '{"workload": "net", "count": 1}'
    found = [
        *both(0.5, op="net.addmm_1", own=of_call),
        *both(0.5, op="gemm_1"),
        *both(2.0, op="gemm_2"),
    ]
    file = tmp_path / "place.json"
    file.write_text(placements(analyse(found, [], Report())))
    asked = {"addmm": "gpu", "gemm_1": "gpu", "gemm_2": "cpu"}
    assert {op: place(op, (8, 8), "float32", str(file)) for op in asked} == {
        op: (device, 0.95) for op, device in asked.items()
    }
    assert place("gemm", (8, 8), "float32", str(file)) == ("cpu", 0.0)


def test_each_comparison_of_devices_has_a_line_that_is_read_back(tmp_path: Path) -> None:
    found = analyse(rows(), [], Report())
    text = placements(found)
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    known = json.loads(text)
    assert known["baseline"] == "cpu"
    assert len(known["calls"]) == sum(speedup.speedup is not None for speedup in found.speedups)
    assert len(text.splitlines()) == len(known["calls"]) + len(known["curves"]) + 5
    for call in known["calls"]:
        told = place(call["op"], call["shape"], call["dtype"], str(tmp_path / FILE))
        assert told == (call["device"], 0.95 if call["sure"] else 0.5)


def test_without_a_comparison_of_devices_nothing_is_left() -> None:
    one = [row for row in rows() if row.device == "cpu"]
    assert placements(analyse(one, [], Report())) == ""
