"""The exact gradients of formulas: against the textbook, and against autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.calls.bound_case import bind_case, elements
from runner.config.cases import ExpressionCase, read_case
from runner.verify.derivative import derive
from runner.verify.exact import ExactGradient


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 3))
def test_derivatives_are_those_of_the_textbook(x: float, y: float) -> None:
    exact = derive("sin(x**2 + 1)*log(y) + exp(-x)/y + sqrt(y)*abs(x) + erf(y) + pi*atan(x)")
    point = [[{"x": x, "y": y}[name] for name in exact.symbols]]
    by_x = (
        2 * x * math.cos(x * x + 1) * math.log(y)
        - math.exp(-x) / y
        + math.sqrt(y) * math.copysign(x != 0, x)
    )
    by_x += math.pi / (1 + x * x)
    by_y = math.sin(x * x + 1) / y - math.exp(-x) / y**2 + abs(x) / (2 * math.sqrt(y))
    by_y += 2 / math.sqrt(math.pi) * math.exp(-y * y)
    assert float(exact.at(exact.slopes["x"], point)[0]) == pytest.approx(by_x, rel=1e-12, abs=1e-12)
    assert float(exact.at(exact.slopes["y"], point)[0]) == pytest.approx(by_y, rel=1e-12, abs=1e-12)


def test_a_derivative_that_does_not_exist_is_nan() -> None:
    exact = derive("log(x) + sqrt(x)")
    assert [math.isnan(v) for v in exact.at(exact.slopes["x"], [[1.0], [0.0], [-1.0]])] == [
        False,
        True,
        True,
    ]


def case_of(expression: str, reduce: str = "sum", **values: object) -> ExpressionCase:
    """A case of one's own."""
    found = read_case({"name": "own", "expression": expression, "values": values, "reduce": reduce})
    assert isinstance(found, ExpressionCase)
    return found


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_broadcast_inputs_get_the_sum_of_their_elements_gradients(
    reduce: str, dtype: torch.dtype
) -> None:
    case = case_of("a*b**2 + sin(c)*a", reduce, a=[[1.5], [2.5]], b=[0.5, -1, 2], c=0.3)
    bound = bind_case(case, None, dtype, 0)
    exact = ExactGradient(case, bound)
    leaves = {
        name: t.to(torch.float64).requires_grad_() for name, t in bound.named(bound.draw()).items()
    }
    value = elements(case, leaves)
    (value.sum() if reduce == "sum" else value.mean()).backward()
    for name, leaf in leaves.items():
        gradient = exact.gradient(name)
        assert gradient.shape == leaf.shape
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-14, atol=1e-14)


def test_the_words_of_a_derivation_follow_the_reduction() -> None:
    def words(case: ExpressionCase, name: str) -> str:
        return ExactGradient(case, bind_case(case, None, torch.float64, 0)).derivation(name)

    assert (
        words(case_of("sin(x**2 + 1)", x=[3, 10, 0]), "x")
        == "d/dx sin(x**2 + 1) = 2*x*cos(x**2 + 1)"
    )
    assert words(case_of("w*x", x=[1, 2], w=3), "w") == "d/dw sum(w*x) = sum(x)"
    assert words(case_of("w*x", "mean", x=[1, 2], w=3), "w") == "d/dw mean(w*x) = mean(x)"
    assert words(case_of("w*x", "mean", x=[1, 2], w=3), "x") == "d/dx mean(w*x) = (w)/2"
