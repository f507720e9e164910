"""Arithmetic on named dimensions: what it computes, and what it says of everything else."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config.formula import evaluate, names_in
from runner.errors import ConfigError

SIZES = {"m": 3, "k": 5}
NOT_ARITHMETIC = (
    "is not arithmetic on dimensions; use names, numbers, + - * / // % **, parentheses, "
    "and ceil, floor, log2, max, min, sqrt"
)
FUNCTIONS = {
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}


def expressions():
    """Formulas over m, k and n, each operation in parentheses."""
    leaves = (
        st.sampled_from(["m", "k", "n"])
        | st.integers(0, 50).map(str)
        | st.sampled_from(["0.5", "1e3"])
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                "({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner
            ),
            st.builds("({} ** 2)".format, inner),
            st.builds("(-{})".format, inner),
            st.builds("{}({}, {})".format, st.sampled_from(["max", "min"]), inner, inner),
            st.builds("{}({})".format, st.sampled_from(["ceil", "floor"]), inner),
            st.builds("sqrt(max({}, 0))".format, inner),
        ),
        max_leaves=8,
    )


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2 * m * k", 30),
        ("m + k * 2", 13),
        ("(m + k) * 2", 16),
        ("k - m - 1", 1),
        ("m / 2", 1.5),
        ("k // 2", 2),
        ("k % m", 2),
        ("m ** 2 ** 2", 81),
        ("-m ** 2", -9),
        ("--m", 3),
        ("1.5", 1.5),
        ("  m\t", 3),
        ("max(m, k, 4)", 5),
        ("min(m, k)", 3),
        ("ceil(k / 2)", 3),
        ("floor(k / 2)", 2),
        ("log2(8)", 3.0),
        ("sqrt(m * 3)", 3.0),
    ],
)
def test_evaluate_computes_arithmetic_and_functions(formula, value):
    assert evaluate(formula, SIZES) == value


def test_evaluate_keeps_integers_exact_however_large():
    assert evaluate("m ** 64 + 1", SIZES) == 3**64 + 1


@given(expressions(), st.integers(1, 100), st.integers(1, 100), st.integers(1, 100))
def test_evaluate_agrees_with_python(formula, m, k, n):
    sizes = {"m": m, "k": k, "n": n}
    try:
        expected = eval(formula, {"__builtins__": {}, **FUNCTIONS}, sizes)
    except (ArithmeticError, ValueError):
        with pytest.raises(ConfigError, match="cannot be evaluated"):
            evaluate(formula, sizes)
        return
    got = evaluate(formula, sizes)
    assert type(got) is type(expected)
    assert got == expected or (math.isnan(got) and math.isnan(expected))


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("3", set()),
        ("2 * m * k", {"m", "k"}),
        ("m * m", {"m"}),
        ("8 * sqrt(k)", {"k"}),
        ("max(m, min(n, 4)) + batch", {"m", "n", "batch"}),
    ],
)
def test_names_in_finds_dimensions_but_not_functions(formula, names):
    assert names_in(formula) == names


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("2 * x", "formula '2 * x': unknown dimension x; known here: k, m"),
        ("y + x * m", "formula 'y + x * m': unknown dimension x, y; known here: k, m"),
        ("2 *", "formula '2 *' is not arithmetic: invalid syntax"),
        ("m k", "formula 'm k' is not arithmetic: invalid syntax"),
        ("", "formula '' is not arithmetic: invalid syntax"),
        ("import os", "formula 'import os' is not arithmetic: invalid syntax"),
        ("m; k", "formula 'm; k' is not arithmetic: invalid syntax"),
        (
            "__import__('os')",
            "formula \"__import__('os')\": the functions are ceil, floor, log2, max, min, sqrt",
        ),
        ("exp(m)", "formula 'exp(m)': the functions are ceil, floor, log2, max, min, sqrt"),
        ("m.bit_length()", f"formula 'm.bit_length()': 'm.bit_length()' {NOT_ARITHMETIC}"),
        ("max(m, 2)(k)", f"formula 'max(m, 2)(k)': 'max(m, 2)(k)' {NOT_ARITHMETIC}"),
        ("m / 0", "formula 'm / 0' cannot be evaluated for {'m': 3, 'k': 5}: division by zero"),
    ],
)
def test_evaluate_says_what_is_wrong(formula, message):
    with pytest.raises(ConfigError) as raised:
        evaluate(formula, SIZES)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        ("m.real", "m.real"),
        ("m.__class__", "m.__class__"),
        ("2 * m.real", "m.real"),
        ("'m'", "'m'"),
        ("m < k", "m < k"),
        ("m if k else 1", "m if k else 1"),
        ("[m]", "[m]"),
        ("m[0]", "m[0]"),
        ("m and k", "m and k"),
        ("m << 2", "m << 2"),
        ("~m", "~m"),
        ("lambda: m", "lambda: m"),
        ("max(*m)", "*m"),
        ("2j", "2j"),
    ],
)
def test_evaluate_refuses_all_other_python(formula, part):
    with pytest.raises(ConfigError) as raised:
        evaluate(formula, SIZES)
    assert str(raised.value) == f"formula {formula!r}: {part!r} {NOT_ARITHMETIC}"


@pytest.mark.parametrize(
    "formula",
    ["k % 0", "k // (m - 3)", "sqrt(m - k)", "log2(0)", "10.0 ** 400", "0 ** -1", "max()"],
)
def test_evaluate_names_formula_and_dimensions_where_arithmetic_fails(formula):
    with pytest.raises(ConfigError) as raised:
        evaluate(formula, SIZES)
    assert str(raised.value).startswith(
        f"formula {formula!r} cannot be evaluated for {{'m': 3, 'k': 5}}: "
    )


def test_evaluate_says_that_no_dimension_is_known():
    with pytest.raises(ConfigError) as raised:
        evaluate("m", {})
    assert str(raised.value) == "formula 'm': unknown dimension m; known here: none"


@pytest.mark.parametrize("formula", ["2 *", "m k", "exp(m)", "__import__('os')"])
def test_names_in_refuses_what_cannot_be_a_formula(formula):
    with pytest.raises(ConfigError, match=f"^formula {re.escape(repr(formula))}"):
        names_in(formula)


@pytest.mark.parametrize("formula", ["2 * sqrt", "sqrt"])
def test_a_functions_name_is_no_dimension(formula):
    assert "sqrt" in names_in(formula)
    with pytest.raises(ConfigError, match="unknown dimension sqrt"):
        evaluate(formula, SIZES)


@pytest.mark.parametrize(
    "formula", ["(0 - 8) ** 0.5", "1e308 * 10", "9 ** 9 ** 9", "1e400 - 1e400"]
)
def test_a_value_that_no_size_can_have_is_refused(formula):
    with pytest.raises(ConfigError, match="cannot be evaluated"):
        evaluate(formula, SIZES)
