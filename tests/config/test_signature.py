"""Signatures with named dimensions: parsing, binding to a size, and every refusal."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.config.signature import Dimensions, Signature
from runner.config.size import parse_size
from runner.errors import ConfigError

MATMUL = "... m k, ... k n -> ... m n"
BATCHES = st.lists(st.integers(1, 3), max_size=3)
LENGTHS = st.integers(1, 4)


def shapes(text, size, **formulas):
    """The shapes of the inputs and of the outputs at a size."""
    signature = Signature.parse(text, formulas)
    dimensions = signature.bind(parse_size(size))
    return [dimensions.shape(axes) for axes in signature.inputs], [
        dimensions.shape(axes) for axes in signature.outputs
    ]


def test_parse_splits_tensors_and_axes():
    signature = Signature.parse(" ... m k,... k  n->... m n , p", {"p": "2 * m"})
    assert signature.inputs == (("...", "m", "k"), ("...", "k", "n"))
    assert signature.outputs == (("...", "m", "n"), ("p",))
    assert signature.formulas == {"p": "2 * m"}
    assert signature.takes == "... x m x k"


@pytest.mark.parametrize(
    ("text", "size", "formulas", "inputs", "outputs"),
    [
        pytest.param(
            "m k, k n -> m n",
            "2x3",
            {},
            [(2, 3), (3, 3)],
            [(2, 3)],
            id="free dimension is as long as the last",
        ),
        pytest.param(MATMUL, "2x3", {}, [(2, 3), (3, 3)], [(2, 3)], id="ellipsis of nothing"),
        pytest.param(
            MATMUL,
            "5x6x2x3",
            {},
            [(5, 6, 2, 3), (5, 6, 3, 3)],
            [(5, 6, 2, 3)],
            id="ellipsis of two",
        ),
        pytest.param(
            "b i ... j -> ... b",
            "2x3x4x5x6",
            {},
            [(2, 3, 4, 5, 6)],
            [(4, 5, 2)],
            id="ellipsis inside",
        ),
        pytest.param("m ... -> ...", "2x3x4", {}, [(2, 3, 4)], [(3, 4)], id="ellipsis last"),
        pytest.param(
            "..., n -> ...",
            "2x3",
            {},
            [(2, 3), (3,)],
            [(2, 3)],
            id="free dimension after an ellipsis",
        ),
        pytest.param(
            "b i j, b j k -> b i k",
            "4x2x3",
            {},
            [(4, 2, 3), (4, 3, 3)],
            [(4, 2, 3)],
            id="leading batch",
        ),
        pytest.param("... -> ...", 4, {}, [(4, 4)], [(4, 4)], id="square of an ellipsis"),
        pytest.param("... n -> ... n", 4, {}, [(4, 4)], [(4, 4)], id="square of a row"),
        pytest.param("m k, k n -> m n", 4, {}, [(4, 4), (4, 4)], [(4, 4)], id="square"),
        pytest.param("n -> n", 4, {}, [(4,)], [(4,)], id="square of a vector"),
        pytest.param("n, n -> ", 4, {}, [(4,), (4,)], [()], id="scalar output"),
        pytest.param("n -> , n", 4, {}, [(4,)], [(), (4,)], id="scalar and vector outputs"),
        pytest.param("n, -> n", 4, {}, [(4,), ()], [(4,)], id="scalar second input"),
        pytest.param("n n -> n", "3x3", {}, [(3, 3)], [(3,)], id="repeated dimension"),
        pytest.param(
            "m n -> p n", "2x3", {"p": "2 * m"}, [(2, 3)], [(4, 3)], id="formula of an output"
        ),
        pytest.param(
            "m n, p n -> p",
            "2x3",
            {"p": "m + 5"},
            [(2, 3), (7, 3)],
            [(7,)],
            id="formula of an input",
        ),
        pytest.param(
            "n -> p q", 4, {"p": "q + 1", "q": "2 * n"}, [(4,)], [(9, 8)], id="formula of a formula"
        ),
        pytest.param(
            "... n -> p", "2x3x4", {"p": "batch * n"}, [(2, 3, 4)], [(24,)], id="formula with batch"
        ),
        pytest.param("n -> p", 4, {"p": "n / 2"}, [(4,)], [(2,)], id="division without a rest"),
        pytest.param(
            "n c, o c r -> n o",
            "2x3",
            {"r": "3", "o": "c"},
            [(2, 3), (3, 3, 3)],
            [(2, 3)],
            id="constant",
        ),
        pytest.param(
            "m n -> n", "2x3", {"n": "9"}, [(2, 3)], [(3,)], id="the size goes before a formula"
        ),
    ],
)
def test_bind_gives_the_shapes(text, size, formulas, inputs, outputs):
    assert shapes(text, size, **formulas) == (inputs, outputs)


@pytest.mark.parametrize(
    ("text", "size", "formulas", "inputs", "outputs"),
    [
        pytest.param(MATMUL, {"m": 2, "k": 3, "n": 4}, {}, [(2, 3), (3, 4)], [(2, 4)], id="all"),
        pytest.param(
            MATMUL, {"m": 2, "k": 3}, {}, [(2, 3), (3, 3)], [(2, 3)], id="free dimension left out"
        ),
        pytest.param(
            MATMUL,
            {"batch": [5, 6], "m": 2, "k": 3},
            {},
            [(5, 6, 2, 3), (5, 6, 3, 3)],
            [(5, 6, 2, 3)],
            id="batch",
        ),
        pytest.param(
            MATMUL,
            {"batch": 5, "m": 2, "k": 3},
            {},
            [(5, 2, 3), (5, 3, 3)],
            [(5, 2, 3)],
            id="batch of one",
        ),
        pytest.param(
            "... -> ...", {"batch": [2, 3]}, {}, [(2, 3)], [(2, 3)], id="nothing but batch"
        ),
        pytest.param(
            "i, o i -> o",
            {"i": 4, "o": 7},
            {"o": "i"},
            [(4,), (7, 4)],
            [(7,)],
            id="name before formula",
        ),
        pytest.param(
            "i, o i -> o",
            {"i": 4},
            {"o": "2 * i"},
            [(4,), (8, 4)],
            [(8,)],
            id="formula where no name",
        ),
        pytest.param("n n -> n", {"n": 3}, {}, [(3, 3)], [(3,)], id="repeated dimension"),
    ],
)
def test_bind_takes_named_dimensions(text, size, formulas, inputs, outputs):
    assert shapes(text, size, **formulas) == (inputs, outputs)


@given(BATCHES, LENGTHS, LENGTHS, LENGTHS)
def test_bound_shapes_are_those_of_matmul_for_named_sizes(batch, m, k, n):
    size = {"m": m, "k": k, "n": n, **({"batch": batch} if batch else {})}
    (left, right), (out,) = shapes(MATMUL, size)
    assert left == (*batch, m, k)
    assert torch.matmul(torch.empty(left), torch.empty(right)).shape == out


@given(BATCHES, LENGTHS, LENGTHS)
def test_bound_shapes_are_those_of_matmul_for_positional_sizes(batch, m, k):
    (left, right), (out,) = shapes(MATMUL, [*batch, m, k])
    assert left == (*batch, m, k)
    assert torch.matmul(torch.empty(left), torch.empty(right)).shape == out


def test_variables_are_the_dimensions_and_the_product_of_the_batch():
    dimensions = Signature.parse(MATMUL, {}).bind(parse_size("5x6x2x3"))
    assert dimensions == Dimensions((5, 6), {"m": 2, "k": 3, "n": 3})
    assert dimensions.variables == {"m": 2, "k": 3, "n": 3, "batch": 30}


def test_batch_is_1_where_there_is_none():
    assert Signature.parse("n -> n", {}).bind(parse_size(4)).variables == {"n": 4, "batch": 1}


@pytest.mark.parametrize(
    ("text", "formulas", "message"),
    [
        (
            "m k",
            {},
            "signature 'm k': write inputs -> outputs, such as \"... m k, ... k n -> ... m n\"",
        ),
        (
            " -> ",
            {},
            "signature ' -> ': write inputs -> outputs, such as \"... m k, ... k n -> ... m n\"",
        ),
        (
            "M -> n",
            {},
            "signature 'M -> n': 'M' is no dimension; use lower-case names (not 'batch') or '...'",
        ),
        (
            "n -> 2",
            {},
            "signature 'n -> 2': '2' is no dimension; use lower-case names (not 'batch') or '...'",
        ),
        (
            "n -> n -> n",
            {},
            "signature 'n -> n -> n': '->' is no dimension; use lower-case names (not 'batch') or "
            "'...'",
        ),
        (
            "batch n -> n",
            {},
            "signature 'batch n -> n': 'batch' is no dimension; use lower-case names (not "
            "'batch') or '...'",
        ),
        ("... m ... -> m", {}, "signature '... m ... -> m': '...' may stand once in a tensor"),
        (
            "n -> p q n",
            {},
            "signature 'n -> p q n': only an output has dimension p, q; give it a formula under "
            "derived_dims:",
        ),
        (
            "n -> p",
            {"p": "2 * x"},
            "derived_dims: p: 2 * x: unknown dimension x; known here: batch, n, p",
        ),
        ("n -> p", {"p": "2 *"}, "formula '2 *' is not arithmetic: invalid syntax"),
    ],
)
def test_parse_says_what_is_wrong(text, formulas, message):
    with pytest.raises(ConfigError) as raised:
        Signature.parse(text, formulas)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "size", "formulas", "message"),
    [
        (
            "m k, k n -> m n",
            "2x3x4",
            {},
            "size 2x3x4 does not fit the signature, whose first input is m x k; give 2 "
            "dimensions, such as size=64x64",
        ),
        (
            "... m k -> m",
            [5],
            {},
            "size 5 does not fit the signature, whose first input is ... x m x k; "
            "give 2 or more dimensions, such as size=64x64",
        ),
        (
            "b i j -> b",
            8,
            {},
            "size 8x8 does not fit the signature, whose first input is b x i x j; "
            "give 3 dimensions, such as size=8x64x64",
        ),
        (
            "n -> n",
            "2x3",
            {},
            "size 2x3 does not fit the signature, whose first input is n; give 1 dimensions, such "
            "as size=64",
        ),
        (
            "n n -> n",
            "4x5",
            {},
            "size 4x5 does not fit the signature, whose first input is n x n: n would be both 4 "
            "and 5",
        ),
        (
            "m k, k n -> m n",
            {"m": 4, "z": 3, "batch": 2},
            {},
            "size with dimensions batch, m, z: unknown: batch, z; missing: k; the dimensions are "
            "k, m, n",
        ),
        (
            "... m k -> m",
            {"m": [4, 5], "k": 3, "batch": [2, 3]},
            {},
            "size with dimensions batch, k, m: one length each: m; the dimensions are batch, k, m",
        ),
        ("n -> p", 3, {"p": "n - 3"}, "dimension p = n - 3 would be 0; choose a larger size"),
        ("n -> p", 3, {"p": "n / 2"}, "dimension p = n / 2 would be 1.5; choose a larger size"),
        ("n -> p q", 3, {"p": "q", "q": "p + n"}, "derived_dims: p, q depend on each other"),
        (
            "n -> p",
            3,
            {"p": "n / 0"},
            "formula 'n / 0' cannot be evaluated for {'n': 3, 'batch': 1}: division by zero",
        ),
    ],
)
def test_bind_says_what_is_wrong(text, size, formulas, message):
    signature = Signature.parse(text, formulas)
    with pytest.raises(ConfigError) as raised:
        signature.bind(parse_size(size))
    assert str(raised.value) == message


def test_a_formula_may_give_the_first_inputs_last_dimension():
    bound = Signature.parse("m n, n p -> m p", {"n": "2 * m"}).bind(parse_size({"m": 4}))
    assert bound.lengths == {"m": 4, "n": 8, "p": 8}


@pytest.mark.parametrize(
    ("text", "formulas", "message"),
    [
        ("in -> in", {}, "'in' is no dimension"),
        ("m k, k n -> ... m n", {}, "'...' stands in an output but in no input"),
        (", n -> n", {}, "the first input needs a dimension"),
        ("n -> n", {"batch": "3"}, "derived_dims: 'batch' is no dimension"),
        ("n -> n", {"P": "3"}, "derived_dims: 'P' is no dimension"),
    ],
)
def test_names_that_cannot_work_are_refused(text, formulas, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Signature.parse(text, formulas)


def test_an_output_may_have_a_length_that_the_numbers_decide_or_be_none():
    signature = Signature.parse("m n -> ? n, ?", {})
    dimensions = signature.bind(parse_size("4x6"))
    assert dimensions.shape(signature.outputs[0]) == (1, 6)
    assert dimensions.admits(signature.outputs[0], (17, 6))
    assert not dimensions.admits(signature.outputs[0], (17, 5))
    assert not dimensions.admits(signature.outputs[1], ())
    assert Signature.parse("n -> none", {}).outputs == ()


@pytest.mark.parametrize("text", ["? -> n", "n -> none n", "none -> n"])
def test_these_stand_nowhere_else(text):
    with pytest.raises(ConfigError, match="is no dimension"):
        Signature.parse(text, {})
