"""A cell is timed first; what its checks find, cannot do, or take too long for is in its row."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.config.schema import Limit
from runner.execute.cell_run import run_cell
from runner.execute.worker import Worker
from runner.rows.columns import problem_of
from runner.rows.csv_store import collect, write_rows
from runner.rows.rows import BenchmarkRow
from runner.tasks.task import TaskResult
from tests.support.factories import STATE, cell, flags, ran, row


def own(call: str, signature: str = "m n -> m n", **fields: Any) -> dict[str, Any]:
    """An operation of :mod:`tests.support.awkward`."""
    return {"name": call, "call": f"tests.support.awkward.{call}", "signature": signature, **fields}


SPARSE = {
    "name": "embedding",
    "call": "torch.nn.functional.embedding",
    "signature": "n, v d -> n d",
    "inputs": ["input", "weight"],
    "index_inputs": {"input": "v"},
    "kwargs": {"sparse": True},
    "derived_dims": {"v": "50", "d": "8"},
}


def test_what_cannot_run_in_float64_is_timed_and_checked_where_a_reference_is_named() -> None:
    alone = ran(own("half_only"), size=16, dtype="bfloat16")
    assert alone.median_s and alone.status == "ok"
    assert (alone.checked, alone.max_relative_error) == (None, None)
    assert alone.gradient not in ("pass", "fail", "error")
    assert "unchecked" in alone.flags and "wrong_gradient" not in alone.flags
    assert alone.reason is not None and "write reference:" in alone.reason

    with_one = ran(own("half_only", reference="torch.exp"), size=16, dtype="bfloat16")
    assert (with_one.checked, with_one.gradient, with_one.reason) == ("full", "pass", None)
    assert (with_one.reference, alone.reference) == ("torch.exp", None)
    wrong = ran(own("half_only", reference="torch.expm1"), size=16, dtype="bfloat16")
    assert "wrong_values" in wrong.flags


def test_a_gradient_does_not_pass_where_no_value_is_a_number() -> None:
    deviation = {"name": "deviation", "call": "torch.std", "signature": "m n -> m"}
    of_one, of_four = (ran(deviation | {"kwargs": {"dim": -1}}, size=f"4x{n}") for n in (1, 4))
    assert (of_one.finite_fraction, of_one.gradient) == (0.0, "inconclusive")
    assert of_one.reason == "no value is finite, and so no gradient is known here"
    assert (of_four.finite_fraction, of_four.gradient, of_four.reason) == (1.0, "pass", None)


def test_no_dependence_through_autograd_is_said_in_these_words() -> None:
    found = ran(own("without_gradient"), size=16)
    assert found.gradient == "unsupported" and "wrong_gradient" not in found.flags
    assert found.reason is not None
    assert found.reason.startswith("the result does not depend on its inputs through autograd")


def test_a_gradient_check_has_a_budget_and_its_verdict_is_remembered() -> None:
    op = own("slow_to_check")
    first = ran(op, size=64, limit=Limit(time_s=1))
    assert first.status == "ok" and first.median_s and first.gradient is None
    assert first.reason == "the gradient's check was left after 0.3 s"
    known = dict(STATE.gradient_verdicts)
    again = ran(op, size=32, limit=Limit(time_s=1))
    assert (again.gradient, again.reason) == (None, first.reason)
    assert known == STATE.gradient_verdicts


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_sparse_gradient_is_a_gradient(direction: str) -> None:
    found = ran(SPARSE, size=16, direction=direction)
    assert (found.status, found.gradient) == ("ok", "pass"), found.reason


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("to", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_result_has_a_gradient(to: str, direction: str) -> None:
    op = {"name": to, "call": f"torch.Tensor.{to}", "signature": "m n -> m n"}
    found = ran(op, size=4, direction=direction)
    assert (found.status, found.gradient) == ("ok", "pass"), found.reason


def test_a_gradient_that_torch_does_not_have_is_not_wrong() -> None:
    op = {"name": "r", "call": "torch.linalg.qr", "signature": "n n -> ?, n n"}
    found = ran({**op, "kwargs": {"mode": "r"}, "tolerance": "64 * n"}, size=8)
    assert found.gradient == "unsupported" and "wrong_gradient" not in found.flags
    assert found.reason is not None and "mode='r'" in found.reason
    # nor is there one along what is not read, where equal eigenvalues leave none to look at
    equal = {"name": "eigh", "call": "torch.linalg.eigh", "signature": "n n -> n, n n"}
    equal |= {"inputs_from": "tests.tasks.test_checks.ones_on_the_diagonal"}
    assert "wrong_gradient" not in flags({**equal, "tolerance": "64 * n"}, size=8)
    phases = {"name": "s", "call": "torch.linalg.svd", "signature": "n n -> n n, n, n n"}
    phases |= {"dtypes": ["complex"], "tolerance": "64 * n", "compare": "up_to_sign"}
    assert "wrong_gradient" not in flags(phases, size=24, dtype="complex64")


def ones_on_the_diagonal(
    lengths: dict[str, int], dtype: torch.dtype, device: object, generator: object
) -> torch.Tensor:
    """A matrix whose eigenvalues are all the same."""
    return torch.eye(lengths["n"], dtype=dtype)


def test_out_arguments_have_no_gradient_and_are_not_accused_of_it() -> None:
    op = {"name": "out", "call": "torch.exp", "signature": "n, n -> n", "inputs": ["input", "out"]}
    found = ran(op, size=16)
    assert found.gradient == "unsupported"
    assert found.flags[0] == "mutates_input" and "wrong_gradient" not in found.flags


def test_a_gradient_of_another_function_is_not_wrong_unless_it_is() -> None:
    assert "wrong_gradient" not in flags(own("own_constants"), size=16)
    assert "wrong_gradient" in flags(own("own_constants_wrong"), size=16)
    # nor where its values are others too, so that there is nothing to compare them with
    found = ran(own("far_constants"), size=16)
    assert (found.checked, found.gradient) == (None, "pass"), found.reason
    wrong = ran(own("far_constants_wrong"), size=16)
    assert (wrong.checked, wrong.gradient) == (None, "fail"), wrong.reason


def test_a_gradient_that_is_meant_to_be_another_functions_is_compared_with_that() -> None:
    undeclared = ran(own("straight_through"), size=16)
    assert "wrong_gradient" in undeclared.flags
    assert undeclared.reason is not None and "write gradient_of:" in undeclared.reason
    declared = {"gradient_of": "torch.clone"}
    assert ran(own("straight_through", **declared), size=16).gradient == "pass"
    assert "wrong_gradient" in flags(own("twice_through", **declared), size=16)


def test_a_cast_is_no_wrong_gradient() -> None:
    op = {"name": "cast", "call": "torch.Tensor.to", "signature": "m n -> m n"}
    assert ran(op | {"kwargs": {"dtype": "torch.bfloat16"}}, size=16).gradient == "pass"


def test_bytes_of_a_table_are_those_that_are_read() -> None:
    found = ran(SPARSE, size=16)
    assert found.bytes == 16 * 8 + 2 * 16 * 8 * 4  # positions, and the rows in and out
    loss = {**SPARSE, "name": "loss", "call": "torch.nn.functional.cross_entropy", "kwargs": {}}
    loss |= {"signature": "n c, n ->", "inputs": ["input", "target"], "derived_dims": {}}
    whole = ran(loss | {"index_inputs": {"target": "c"}}, size="4x100")
    assert whole.bytes == 4 * 100 * 4 + 4 * 8 + 4  # all of it, for the sum of exponentials


def test_the_first_call_is_the_first_of_its_shape_in_the_process() -> None:
    op = {"name": "once", "call": "torch.expm1", "signature": "n -> n"}
    first, second, other = (ran(op, size=size) for size in (77, 77, 78))
    assert first.first_call_s and other.first_call_s
    assert second.first_call_s is None


def test_what_a_forward_pass_keeps_is_counted() -> None:
    saved = [ran("exp", size=64, direction=way).saved_bytes for way in ("forward", "backward")]
    assert saved == [None, 64 * 64 * 4]  # its result


def test_recomputing_keeps_the_inputs_alone_and_makes_the_forward_pass_again() -> None:
    # three intermediate results are kept, or none and the forward pass is made once more
    op = {"name": "chain", "call": f"{__name__}.chain", "signature": "n n -> n n"}
    both, again = (ran(op, size=64, direction=way) for way in ("both", "recompute"))
    assert both.saved_bytes == 3 * 64 * 64 * 4
    assert again.saved_bytes == 64 * 64 * 4
    calls = [json.loads(row.aten_calls or "{}")["exp"] for row in (both, again)]
    assert calls == [3, 6]
    assert (again.status, again.gradient) == ("ok", "pass"), again.reason


def chain(x: torch.Tensor) -> torch.Tensor:
    return (-((-x.exp()).exp())).exp()


def test_a_cast_is_not_compared_with_one_that_does_nothing() -> None:
    op = {"name": "cast", "call": "torch.Tensor.float", "signature": "m n -> m n"}
    assert "cpu_fallback" not in flags(op | {"differentiable": False}, size=2048, dtype="bfloat16")


@pytest.mark.slow
def test_a_check_that_ends_the_process_leaves_the_times(tmp_path: Path) -> None:
    worker = Worker()
    try:
        (row,), samples = worker.run(cell(own("ends_the_check"), size=8), tmp_path / "log")
    finally:
        worker.close()
    assert isinstance(row, BenchmarkRow)
    assert row.status == "ok" and row.median_s and samples
    assert row.checked is None and "unchecked" in row.flags
    assert row.reason is not None and "exit code 3, while checking values" in row.reason


def test_what_a_check_found_is_kept_before_the_next_one() -> None:
    kept: list[TaskResult] = []
    op = {"name": "kept", "call": "torch.cosh", "signature": "n -> n"}
    run_cell(cell(op, size=8), STATE, keep=kept.append)
    rows = [row for result in kept for row in result.rows if isinstance(row, BenchmarkRow)]
    assert [(row.checked, row.gradient) for row in rows] == [(None, None), ("full", None)]
    assert "unchecked" in rows[0].flags and "unchecked" not in rows[1].flags


def test_a_check_or_a_column_that_exits_leaves_the_times() -> None:
    found = ran(own("exits_in_float64"), size=8)
    assert found.status == "ok" and found.median_s and "unchecked" in found.flags
    assert found.reason == "a check ended with SystemExit: no float64"
    columns = {"columns": {"left": "tests.support.awkward.exits"}}
    found = ran({"name": "e", "call": "torch.exp", "signature": "n -> n", **columns}, size=8)
    assert (found.status, found.checked, found.own) == ("ok", "full", '{"left": null}')


def endless(row: object, result: object) -> str:
    """What no column can hold."""
    return "x" * 100_000


def test_a_column_that_is_too_long_is_blank_and_the_times_stay() -> None:
    fields = {"name": "add", "call": "torch.neg", "signature": "n -> n"}
    found = ran({**fields, "columns": {"long": f"{__name__}.endless"}}, size=8)
    assert (found.status, json.loads(found.own or "{}")) == ("ok", {"long": None})
    assert problem_of(found, "benchmark") == ""


def test_a_model_of_hundreds_of_calls_has_a_row_that_is_read_back(tmp_path: Path) -> None:
    long = {"calls_s": "1" * 40_000, "flow": "2" * 40_000}
    made = row(own=json.dumps(long), seed=0)
    assert problem_of(made, "benchmark") == ""
    (tmp_path / "0").mkdir()
    write_rows(tmp_path / "0" / "results.csv", [made])
    (found,), damaged, _ = collect(tmp_path, "benchmark")
    assert damaged == []
    assert {name: getattr(found, name) for name in long} == long


def test_a_view_is_one_only_where_all_outputs_are() -> None:
    op = {"name": "sorted", "call": "torch.broadcast_tensors", "signature": "n, n -> n, n"}
    assert "view" in flags(op, size=8)
    unlike = {"name": "unlike", "call": "torch.sort", "signature": "n -> n, n"}
    assert "view" not in flags(unlike, size=8)


class Masked(torch.autograd.Function):
    """A product whose second factor is declared to have no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class SmallOnly(Masked):
    """As a kernel whose backward pass has tiles of one size."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        if gradient.numel() > 10_000:
            raise ValueError("more than one tile")
        return gradient * ctx.saved_tensors[0], None


def masked(input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:  # noqa: A002
    return Masked.apply(input, other)


def small_only(input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:  # noqa: A002
    return SmallOnly.apply(input, other)


def dropped(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(x, 0.5)


MASKED = {"name": "masked", "call": "torch.mul", "signature": "... n, ... n -> ... n"}
MASKED |= {"inputs": ["input", "other"], "nondifferentiable_inputs": ["other"], "size": "8x8"}
DROPPED = {"name": "dropped", "call": f"{__name__}.dropped", "signature": "... n -> ... n"}


@pytest.mark.parametrize(
    ("op", "own", "verdict"),
    [
        (MASKED, "masked", "pass"),
        (MASKED, "small_only", "error"),
        ({**DROPPED, "random": True, "size": "8x8"}, "dropped", "pass"),
    ],
)
def test_an_implementations_gradient_at_the_timed_size(
    op: dict[str, Any], own: str, verdict: str
) -> None:
    """It follows what the op file says, and a backward pass that fails there is no pass."""
    op = {**op, "implementations": {"own": f"{__name__}.{own}"}}
    row = ran(op, impl="own", size="64x1024")
    assert (row.status, row.gradient) == ("ok", verdict), row.reason
