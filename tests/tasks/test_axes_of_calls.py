"""How a call is made: the mode of gradients, autocast, deterministic algorithms, parameters."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from runner.config.axes import named_value
from runner.config.schema import Report
from runner.rows.csv_store import read_rows
from runner.rows.rows import BenchmarkRow
from tests.conftest import make_runner
from tests.support.commands import answers
from tests.support.factories import cell, ran

HERE = "tests.tasks.test_axes_of_calls"
seen: list[tuple[Any, ...]] = []


def spied(x: torch.Tensor) -> torch.Tensor:
    """What it runs in, for each of its calls."""
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    state = *modes, torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled()
    seen.append((x.dtype, *state))
    return x @ x


def tokens(row: BenchmarkRow, output: torch.Tensor) -> float:
    """Rows of the output a second."""
    assert row.median_s is not None
    return output.shape[0] / row.median_s


def fails(row: BenchmarkRow, output: torch.Tensor) -> float:
    """Nothing that could be had."""
    raise ValueError("no number")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (True, False, False, False)),
        ({"grad_mode": "no_grad"}, (False, False, False, False)),
        ({"grad_mode": "inference"}, (False, True, False, False)),
        ({"autocast": "bfloat16"}, (True, False, True, False)),
        ({"deterministic": True}, (True, False, False, True)),
    ],
)
def test_calls_run_in_what_the_cell_asks_for_and_the_reference_does_not(
    values: dict[str, Any], expected: tuple[bool, ...]
) -> None:
    seen.clear()
    fields = {"name": "spied", "call": f"{HERE}.spied", "signature": "n n -> n n"}
    row = ran({**fields, "tolerance": "8 * n"}, size=64, **values)
    assert (row.status, "wrong_values" in row.flags) == ("ok", False), row.reason
    assert (torch.float32, *expected) in seen
    of_reference = {state[1:4] for state in seen if state[0] is torch.float64}
    assert (True, False, False) in of_reference  # and without a graph, for differences
    modes = {state[:2] for state in of_reference}  # of autocast float64 takes no notice
    assert modes <= {(True, False), (False, False)}
    assert row.gradient == (None if "grad_mode" in values else "pass"), row.reason
    assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_product_under_autocast_may_be_as_far_off_as_its_dtype_is() -> None:
    row = ran("matmul", size=64, autocast="bfloat16")
    assert "wrong_values" not in row.flags
    assert row.max_relative_error is not None and row.max_relative_error > 1e-4


def test_a_gradient_that_is_wrong_under_autocast_alone_is_found_there() -> None:
    call = "tests.support.awkward.wrong_under_autocast"
    op = {"name": "square", "call": call, "signature": "n n -> n n", "tolerance": "8 * n"}
    plain, cast = (ran(op, size=16, autocast=autocast) for autocast in ("off", "bfloat16"))
    assert plain.gradient == "pass", plain.reason
    assert (cast.gradient, "wrong_values" in cast.flags) == ("fail", False), cast.reason


def test_what_goes_not_together_says_so() -> None:
    reasons = [
        cell(dynamic=True).infeasible_reason,
        cell(grad_mode="no_grad", direction="both").infeasible_reason,
    ]
    assert "give compile=default too" in reasons[0]
    assert "direction=both needs grad_mode=enabled" in reasons[1]


def test_true_and_false_are_still_words_for_compiling() -> None:
    words = ["true", True, "True", "false", False, "off", "max-autotune"]
    names = [named_value("compile", word) for word in words]
    assert names == ["default"] * 3 + ["off"] * 3 + ["max-autotune"]
    assert Report(baseline={"compile": False}).value == "off"
    assert cell(compile=True).compile == "default"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep along an operation's own parameter, with columns of its own."""
    folder = tmp_path_factory.mktemp("parameters")
    (folder / "mine" / "op").mkdir(parents=True)
    fields = "call: torch.softmax\nsignature: m n -> m n\nkwargs: {dim: 1}\n"
    columns = f"columns: {{rows_per_s: {HERE}.tokens, none_per_s: {HERE}.fails}}\n"
    (folder / "mine" / "op" / "along.yaml").write_text(f"name: along\n{fields}{columns}")
    words = ["op=along", "op.kwargs.dim=0,1", "size=8", "timing=minimal"]
    baseline = "report.baseline={op.kwargs.dim: 1}"
    make_runner(folder)("--config-dir", "mine", "-m", *words, baseline, "hydra.sweep.dir=out")
    return folder


@pytest.mark.slow
def test_an_operations_own_parameter_is_an_axis(swept: Path) -> None:
    rows = pd.read_csv(swept / "out" / "results.csv")
    assert list(rows["parameters"]) == ["dim=0", "dim=1"]
    (ratio,) = pd.read_csv(swept / "out" / "speedup.csv").to_dict("records")
    assert (ratio["axis"], ratio["baseline"], ratio["other"]) == ("parameters", "dim=1", "dim=0")
    page = (swept / "out" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"op=along size=8x8 [^<]*op.kwargs.dim=0(?!,)", page)
    assert "| parameters | time, ms |" in (swept / "out" / "report.md").read_text(encoding="utf-8")
    grid = ["--config-dir", "mine", "-m", "op=along", "op.kwargs.dim=0,1", "size=8", "dry_run=true"]
    dry, none = answers(swept, [grid, [*grid, "report.baseline={op.kwargs.dim: 2}"]])
    assert dry.stdout.splitlines() == [
        "along 8x8 float32 cpu dim=0    8x8",
        "along 8x8 float32 cpu dim=1    8x8",
        "2 cells",
    ]
    assert "it takes some" in dry.stderr
    assert (none.code, "no cell has parameters=dim=2" in none.stderr) == (2, True)


@pytest.mark.slow
def test_columns_of_ones_own_stand_in_the_row_and_cost_no_measurement(swept: Path) -> None:
    rows = pd.read_csv(swept / "out" / "results.csv")
    assert list(rows["rows_per_s"]) == pytest.approx(list(8 / rows["median_s"]))
    assert rows["none_per_s"].isna().all() and set(rows["status"]) == {"ok"}
    again = read_rows(swept / "out" / "results.csv", BenchmarkRow)
    assert [float(row.rows_per_s) for row in again] == list(rows["rows_per_s"])


def test_a_dry_run_says_what_a_size_by_name_leaves_out(tmp_path: Path) -> None:
    (said,) = answers(tmp_path, [["op=linear", "size={i: 768, o: 3072}", "dry_run=true"]])
    assert re.search(r"    768, 3072x768, 3072; left out: batch=1$", said.stdout, re.MULTILINE)
