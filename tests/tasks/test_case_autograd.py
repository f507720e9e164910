"""``job=autograd`` of a case: its formula's derivative accuses a wrong backward function."""

import json
import math
from collections import Counter
from typing import Any

import pytest
import torch

from tests.support.factories import case_rows
from tests.support.marks import slow

SINE = {"name": "sine", "expression": "sin(x**2 + 1)", "values": {"x": [3.0, 10.0, 0.0]}}


class Wrong(torch.autograd.Function):
    """A sine whose gradient is off by 1e-9."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return cotangent * x.cos() * (1 + 1e-9)


def unshifted_softmax(x):
    """Infinity over infinity, where an exponential is too large for the dtype."""
    return x.exp() / x.exp().sum(-1, keepdim=True)


@pytest.mark.slow
def test_a_wrong_backward_inside_a_formula_fails_its_derivative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def verdicts() -> dict[tuple[str, str | None], str | None]:
        found = [row for row in case_rows(SINE) if row.probe == "example"]
        exact = ("analytic", "autograd_grad")
        return {(row.oracle, row.argument): row.verdict for row in found if row.oracle in exact}

    assert set(verdicts().values()) == {"pass"}
    monkeypatch.setattr(torch, "sin", Wrong.apply)
    assert verdicts() == {
        ("analytic", None): "pass",
        ("analytic", "x"): "fail",
        ("autograd_grad", "x"): "pass",
    }


def asked(function: str, **fields: Any) -> dict[str, Any]:
    """A case of a function: one of tests.support.asked, or torch's."""
    dotted = function if "." in function else f"tests.support.asked.{function}"
    return {"name": "asked", "function": dotted, **fields}


def verdicts_of(case: dict[str, Any], **values: Any) -> Counter[str]:
    return Counter(str(row.verdict or row.status) for row in case_rows(case, **values))


X = {"x": [0.5, -1.0, 2.0]}
TINY = "(exp(1e-4*x)-1)/(1e-4*x)"
CLONE = {"gradient_of": "torch.clone"}
MASKED = {"x": [[-math.inf, 0.5, 1.0], [0.3, 0.1, -math.inf]]}
BIASED = {"x": [[0.5, -1.0, 2.0], [0.25, 1.0, -2.0]], "b": [0.5, -1.0, 2.0]}
PAIR = {"a": [0.5, -1.0, 2.0], "b": [0.5, -1.0, 2.0]}
JUMPS = {"x": [0.5, -1.0, 2.0], "y": [1.5, 2.5, 3.5]}  # and its quotient's floor nearby
TANH = "(exp(2*x)-1)/(exp(2*x)+1)"


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        slow(asked("flipped", values=X), "float64"),  # every output, with a cotangent of its own
        slow(asked("second_is_wrong", values=X), "float64"),  # later outputs too
        slow(asked("overwrites", values=X), "float64"),  # what torch calls unsupported is a mistake
        (asked("masked_doubled", values=MASKED), "float64"),
        slow(asked("torch.sinc", values={"x": [0.0, 0.3]}), "float64"),  # its second derivative
        (asked("bell", values=PAIR), "float64"),
        slow(asked("naive_softmax", values={"x": [0.5, -3.0, 20.0, 200.0]}), "float32"),
        (asked("scaled_product", values={"x": [0.03, 1.0, 1.0, 1.0]}), "float16"),
        slow(asked("summed_in_half", values=BIASED), "bfloat16"),
    ],
)
def test_what_a_sum_of_outputs_or_usual_numbers_would_hide_is_found(
    case: dict[str, Any], dtype: str
) -> None:
    found = verdicts_of(case, dtype=dtype)
    assert found["fail"], found


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        slow(asked("torch.softmax", values=X, kwargs={"dim": 0}), "float64"),
        (asked("torch.softmax", values=MASKED, kwargs={"dim": 1}), "float64"),
        (asked("torch.logsumexp", values=MASKED, kwargs={"dim": 1}), "float64"),
        (asked("torch.nn.functional.rrelu", values=X, kwargs={"training": True}), "float64"),
        slow(asked("half_gelu", values=X), "float64"),
        (asked("half_gelu", values=X), "float32"),
        (asked("torch.linalg.cholesky", values={"x": [[2, 0.5], [0.5, 3]]}), "float64"),
        (asked("torch.prod", values={"x": [2.0, 3.0, 0.0, 0.0]}), "float64"),
        slow({"name": "tail", "expression": "tanh(x)", "values": {"x": 4.0}}, "float64"),
        ({"name": "tail", "expression": "1-1/(1+exp(-x))", "values": {"x": 7.0}}, "float32"),
        ({"name": "rest", "expression": "(exp(x)-1)/x", "values": {"x": 1e-4}}, "float32"),
        slow({"name": "tiny", "expression": TINY, "values": {"x": [0.5, 1.0, 2.0]}}, "float32"),
        (asked("scaled_product", values={"x": [0.5, 1.0, 1.0, 1.0]}), "float32"),
        (asked("tests.support.awkward.straight_through", values=X, **CLONE), "float64"),
        (asked("torch.fmod", values=JUMPS), "float64"),
        slow(asked("torch.remainder", values=JUMPS), "float64"),
        ({"name": "tanh", "expression": TANH, "values": {"x": 0.8814}}, "float64"),
        slow(
            {"name": "log", "expression": "log(exp(x)/(1+exp(x)))", "values": {"x": 2}}, "float64"
        ),
        (asked("computed_again", values=X), "float64"),  # which only a plain backward() can take
    ],
)
def test_right_functions_are_not_accused_for_rounding_chance_or_masks(
    case: dict[str, Any], dtype: str
) -> None:
    found = verdicts_of(case, dtype=dtype)
    assert not found.keys() & {"fail", "error", "failed"}, found
    assert found["pass"] > 10


def test_a_random_function_is_compared_with_the_same_random_numbers() -> None:
    rows = case_rows(asked("torch.nn.functional.dropout", values=X))
    assert {row.verdict for row in rows if row.oracle == "autograd_grad"} == {"pass"}


@pytest.mark.slow
def test_a_power_of_zero_has_the_derivatives_that_exist() -> None:
    values = {"x": [0.0, 0.0, 2.0], "y": [1.0, 2.0, 3.0]}
    rows = case_rows({"name": "power", "expression": "x**y", "values": values})
    exact = {r.argument: r for r in rows if r.oracle == "analytic" and r.probe == "example"}
    assert json.loads(exact["x"].expected_values) == [1.0, 0.0, 12.0]
    assert json.loads(exact["y"].expected_values) == pytest.approx([0.0, 0.0, 8 * math.log(2)])
    # at 0**1 a roundoff of the exponent would make it infinite, and yet it is the very number
    assert exact["x"].verdict == "pass"


def test_the_element_that_is_not_a_number_is_named() -> None:
    case = {"name": "root", "expression": "sqrt(x**4)", "values": {"x": [1.0, 0.0, 2.0]}}
    rows = [r for r in case_rows(case) if r.oracle == "finite_differences" and r.probe == "example"]
    assert [row.reason for row in rows] == ["the gradient of input x at [1] is nan, not 0"]


def test_a_value_that_the_dtype_could_hold_and_that_is_no_number_fails() -> None:
    values = {"x": [0.5, -3.0, 20.0, 200.0]}
    case = {"name": "wide", "function": f"{__name__}.unshifted_softmax", "values": values}
    failed = [row for row in case_rows(case, dtype="float32") if row.verdict == "fail"]
    assert [row.reason for row in failed] == [
        "the function's value at [3] is nan in float32, and 1 in float64"
    ]


def test_of_several_derivatives_that_are_no_numbers_one_that_is_not_zero_is_named() -> None:
    rows = case_rows(asked("torch.sinc", values={"x": [0.0, 0.3]}))
    (twice,) = (r for r in rows if r.argument == "x" and r.probe == "second order at example")
    assert str(twice.reason).startswith("the gradient of input x at [0] is nan, not ")
    assert abs(twice.expected or 0.0) > 1.0  # -3.29 times a cotangent


def test_whole_numbers_and_truth_values_stay_what_they_are() -> None:
    logits = [[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]]
    values = {"x": logits, "target": [2, 0]}
    target = asked("torch.nn.functional.cross_entropy", values=values, gradients=["x"])
    where = asked("torch.where", values={"c": [True, False], "a": [0.5, 1.0], "b": [2.0, 3.0]})
    for case in (target, where):
        found = verdicts_of(case)
        assert found["pass"] > 10 and not found.keys() & {"fail", "error", "failed"}, found


def test_what_a_case_is_advised_its_author_can_do() -> None:
    detached = case_rows(asked("detached", values=X))[-1]
    assert (detached.verdict, detached.status) == ("unsupported", "ok")
    assert "without .detach(), .item(), .numpy()" in detached.reason
    single = case_rows(asked("single_alone", values=X), dtype="float32")[-1]
    assert single.verdict == "inconclusive" and "cannot be computed in float64" in single.reason
    assert "op file" not in detached.reason and "reference:" not in single.reason


@pytest.mark.parametrize(
    ("values", "advised"),
    [({"c": [1, 0]}, True), ({"c": [1, 2]}, False), ({"c": [True, False]}, False)],
)
def test_numbers_where_truth_values_belong_are_said_to_be_that(
    values: dict[str, Any], advised: bool
) -> None:
    given = values | {"a": [0.5, 1.0], "b": [2.0, 3.0]}
    rows = case_rows(asked("torch.where", values=given, gradients=["a", "b"]))
    advice = "where c holds truth values, write true and false for 1 and 0"
    assert any(row.reason and row.reason.endswith(advice) for row in rows) == advised


@pytest.mark.slow
def test_a_sparse_gradient_has_second_derivatives() -> None:
    table = {"w": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
    rows = case_rows(asked("sparse_rows", values=table))
    assert not [row.reason for row in rows if row.reason and "SparseCPU" in row.reason]
    second = [row for row in rows if str(row.probe).startswith("second order")]
    assert {row.argument for row in second} == {"w", "cotangent 0"}
    assert {row.verdict for row in second} == {"pass"}
    wrong = case_rows(asked("sparse_rows_wrong", values=table))
    second = [row for row in wrong if str(row.probe).startswith("second order")]
    assert "fail" in {row.verdict for row in second}
