"""What a stage asks of its rows, where they are right and where they are not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.hardware import checks
from runner.hardware.checks import Finding
from runner.rows.rows import AutogradRow, BenchmarkRow, NoiseRow
from tests.support.factories import row

Rows = list[Any]


def on_gpu(**fields: Any) -> BenchmarkRow:
    """A row of a device with a kernel of 100 us and a launch of 0.5 us."""
    known = {"launch_s": 5e-7, "wall_s": 1.1e-4, "kernel_s": 1e-4, "gap_s": 1e-6}
    return row("gpu", **{"median_s": 1.01e-4, **known, **fields})


def verdicts(check: Callable[[Rows], Iterator[Finding]], rows: Rows) -> dict[str, bool]:
    """Each finding that is no figure, by its first words."""
    findings = [f for f in check(rows) if f.passed is not None]
    return {finding.check.split(":")[0]: bool(finding.passed) for finding in findings}


def test_a_row_that_did_not_run_or_is_wrong_fails_and_is_named() -> None:
    rows = [on_gpu(), on_gpu(status="failed", reason="it broke"), row("cpu", status="failed")]
    ran, right = checks.ran(rows)
    assert (ran.got, ran.passed) == ("1 of 2; not add 8x8 float32: it broke", False)
    assert right.passed
    (_, right) = checks.ran([on_gpu(flags=("wrong_values",))])
    assert not right.passed
    assert not any(finding.passed for finding in checks.ran([row("cpu")]))  # nothing ran there


def test_what_a_device_lacks_is_a_figure() -> None:
    lacking, ran, _ = checks.ran_or_cannot([on_gpu(), on_gpu(status="unsupported", reason="no")])
    assert (lacking.passed, lacking.got, ran.passed) == (None, "unsupported: no", True)


def test_events_are_held_against_the_profiler() -> None:
    long, short = (f"kernels {words}" for words in ("of 50 us and more", "from 5 us on"))
    assert verdicts(checks.kernels, [on_gpu()])[long]
    assert not verdicts(checks.kernels, [on_gpu(median_s=1.03e-4)])[long]
    with_gap = on_gpu(kernel_s=1e-5, median_s=1.1e-5)
    assert verdicts(checks.kernels, [on_gpu(), with_gap])[short]
    without = on_gpu(kernel_s=1e-5, median_s=1.1e-5, gap_s=1e-8)
    assert not verdicts(checks.kernels, [on_gpu(), without])[short]
    unseen = [on_gpu(kernel_s=None, gap_s=None)]
    assert not verdicts(checks.kernels, unseen)[long]  # a profiler that saw nothing shows nothing


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, None),
        ({"wall_s": 9e-5}, "a long kernel ends no earlier by the host's clock than by events"),
        ({"launch_s": 1e-6, "wall_s": 5e-7}, "a launch is over before its call"),
        ({"peak_memory_bytes": 999}, "add and transpose_copy take the memory of their tensors"),
    ],
)
def test_times_and_memory_have_to_agree(fields: dict[str, Any], wrong: str | None) -> None:
    usual = {"input_bytes": 8, "output_bytes": 4, "peak_memory_bytes": 12}
    said = verdicts(checks.path, [on_gpu(**usual), on_gpu(**{**usual, **fields})])
    assert [name for name, passed in said.items() if not passed] == ([wrong] if wrong else [])


def test_each_fault_has_its_status_and_the_next_cell_is_well() -> None:
    fault = {"too_much": "out_of_memory", "beyond": "failed", "hang": "timeout"}
    rows = [on_gpu(op=op, status=status) for op, status in fault.items()]
    assert all(verdicts(checks.faults, [*rows, on_gpu()]).values())
    assert not verdicts(checks.faults, [on_gpu(op="hang", status="failed"), on_gpu()])["hang"]
    said = verdicts(checks.faults, [*rows, on_gpu(status="failed")])
    assert not said["the cells between are well"]


def test_equal_sides_may_seldom_differ() -> None:
    def pairs(alarms: int) -> Rows:
        known = NoiseRow("c", "noise", "add", "8x8", "float32", "gpu")
        given = {"pairs": 40, "alarms": alarms, "largest_difference": 0.01}
        return [known.__class__(**{**vars(known), **given})]

    name = "differences claimed"
    assert verdicts(checks.equal_sides, pairs(2))[name]
    assert not verdicts(checks.equal_sides, pairs(3))[name]


def test_a_wrong_gradient_fails() -> None:
    def verdict(said: str) -> Rows:
        return [AutogradRow("c", "autograd", "add", "8x8", "float32", "gpu", verdict=said)]

    assert verdicts(checks.gradients, verdict("inconclusive")) == {"gradients are right": True}
    assert verdicts(checks.gradients, verdict("fail")) == {"gradients are right": False}
