"""What a stage asks of its rows, where they are right and where they are not."""

from typing import Any

import pytest

from runner.config.formula import names_in
from runner.hardware.checks import findings_of
from runner.hardware.stages import stages, steps_of
from runner.rows.rows import ROW_OF_JOB, AutogradRow, BenchmarkRow, NoiseRow
from tests.support.factories import row

EACH = [(stage, step) for stage, said in stages().items() for step in said["steps"]]


def on_gpu(**fields: Any) -> BenchmarkRow:
    """A row of a device with a kernel of 100 us and a launch of 0.5 us."""
    known = {"launch_s": 5e-7, "wall_s": 1.1e-4, "kernel_s": 1e-4, "gap_s": 1e-6}
    tensors = {"input_bytes": 8, "output_bytes": 4, "peak_memory_bytes": 12}
    return row("gpu", **{"median_s": 1.01e-4, **known, **tensors, **fields})


def failed(stage: str, step: str, *rows: Any) -> list[str]:
    """The first word of each check that fails."""
    findings = findings_of(steps_of(stage, simulated=False)[step], rows)
    return [finding.check.split()[0] for finding in findings if finding.passed is False]


@pytest.mark.parametrize(("stage", "step"), EACH)
def test_a_stage_asks_of_columns_that_there_are(stage: str, step: str) -> None:
    for simulated in (False, True):
        asked = steps_of(stage, simulated=simulated)[step]
        columns = ROW_OF_JOB[asked.job].__dataclass_fields__
        for declared in [*asked.checks.values(), *asked.figures.values()]:
            formulas = [
                str(declared[k]) for k in ("when", "least", "value", "most") if k in declared
            ]
            assert {name for formula in formulas for name in names_in(formula)} <= set(columns)
            assert set(declared.get("each", ())) <= set(columns)


def test_a_row_that_did_not_run_or_is_wrong_fails_and_is_named() -> None:
    assert failed("path", "smoke", on_gpu()) == []
    broken = on_gpu(status="failed", reason="it broke")
    assert failed("path", "smoke", on_gpu(), broken) == ["cells"]
    (first, *_) = findings_of(steps_of("path", simulated=False)["smoke"], [on_gpu(), broken])
    assert first.got == "1 of 2; not add 8x8 float32: it broke"
    assert failed("path", "smoke", on_gpu(flags=("wrong_values",))) == ["values"]
    assert failed("path", "smoke", row("cpu")) == ["cells", "values"]  # nothing ran there


def test_what_a_device_lacks_is_a_figure_where_it_may_lack_it() -> None:
    lacking = on_gpu(status="unsupported", reason="it has none")
    assert (
        failed("narrow", "float8", lacking) == failed("narrow", "float8", lacking, on_gpu()) == []
    )
    assert failed("path", "smoke", lacking) == ["cells"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, False),
        ({"median_s": 1.03e-4}, True),
        ({"median_s": 0.97e-4}, True),
        ({"kernel_s": None, "gap_s": None}, True),  # a profiler that saw nothing shows nothing
    ],
)
def test_long_kernels_by_events_are_held_against_the_profiler(
    fields: dict[str, Any], wrong: bool
) -> None:
    assert bool(failed("kernels", "events", on_gpu(**fields))) is wrong


@pytest.mark.parametrize(("gap_s", "wrong"), [(1e-6, False), (1e-8, True)])
def test_short_kernels_may_have_the_gap_between_them(gap_s: float, wrong: bool) -> None:
    short = on_gpu(kernel_s=1e-5, median_s=1.1e-5, gap_s=gap_s)
    assert failed("kernels", "events", on_gpu(), short) == (["kernels"] if wrong else [])


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, []),
        ({"wall_s": 9e-5}, ["a"]),  # shorter by the host's clock than by events
        ({"launch_s": 2e-5, "wall_s": 1e-5}, ["a"]),  # over before it was launched
        ({"peak_memory_bytes": 999}, ["a"]),
    ],
)
def test_times_and_memory_have_to_agree(fields: dict[str, Any], wrong: list[str]) -> None:
    assert failed("path", "path", on_gpu(), on_gpu(**fields)) == wrong


def test_each_fault_has_its_status_and_the_next_cell_is_well() -> None:
    statuses = {"too_much": "out_of_memory", "beyond": "failed", "hang": "timeout", "add": "ok"}
    rows = [on_gpu(op=op, status=status) for op, status in statuses.items()]
    assert failed("limits", "faults", *rows) == []
    assert failed("limits", "faults", *rows, on_gpu(op="hang", status="failed")) == ["cells"]
    assert failed("limits", "faults", *rows, on_gpu(status="failed")) == ["cells"]


def test_equal_sides_may_seldom_differ() -> None:
    def pairs(alarms: int) -> NoiseRow:
        known = ("c", "noise", "add", "8x8", "float32", "gpu")
        return NoiseRow(*known, pairs=8, alarms=alarms, largest_difference=0.01)

    assert failed("pairs", "pairs", pairs(1)) == []
    assert failed("pairs", "pairs", pairs(2)) == ["pairs"]


def test_a_wrong_gradient_fails() -> None:
    def verdict(said: str) -> AutogradRow:
        return AutogradRow("c", "autograd", "add", "8x8", "float32", "gpu", verdict=said)

    assert failed("gradients", "gradients", verdict("inconclusive")) == []
    assert failed("gradients", "gradients", verdict("fail")) == ["values"]
