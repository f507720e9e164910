"""Operations as their YAML declares them.

What is refused, how sizes show, constants, and importing the callable.
"""

import pytest
import torch

from runner.config.operation import Operation
from runner.config.size import parse_size
from runner.errors import ConfigError

MATMUL = {"name": "matmul", "call": "torch.matmul", "signature": "... m k, ... k n -> ... m n"}


def operation(**fields):
    """A matrix product but for these fields."""
    return Operation.from_mapping({**MATMUL, **fields}, "op file x")


def test_from_mapping_fills_in_the_defaults():
    assert operation(description=None) == Operation(**MATMUL)


def test_from_mapping_reads_each_field():
    given = {
        "flop": "2 * batch * m * k * n",
        "bytes": 0,
        "derived_dims": {"n": 8},
        "size": 64,
        "dtypes": ["floating", "complex"],
        "inputs": ["input", "other"],
        "index_inputs": {"other": "k"},
        "as_list": True,
        "args": [1, "a"],
        "kwargs": {"dim": -1},
        "tolerance": 8.5,
        "differentiable": False,
        "reference": "torch.mm",
        "description": "a matrix product",
    }
    read = operation(**given)
    texts = {"bytes": "0", "derived_dims": {"n": "8"}, "size": "64", "tolerance": "8.5"}
    tuples = {key: tuple(given[key]) for key in ("dtypes", "inputs", "args")}
    assert read == Operation(**{**MATMUL, **given, **texts, **tuples})


def test_a_single_dtype_needs_no_list():
    assert operation(dtypes="integer").dtypes == ("integer",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "missing field name; an operation needs name, call and signature"),
        ({"call": None}, "missing field call; an operation needs name, call and signature"),
        (
            {"call": "???", "signature": None},
            "missing field call, signature; an operation needs name, call and signature",
        ),
        (
            {"flopp": "1"},
            "unknown field 'flopp' (did you mean 'flop'?); the fields are name, call, signature, "
            "flop, bytes, "
            "derived_dims, size, dtypes, inputs, index_inputs, input_dtypes, input_layouts, "
            "input_strides, structure, inputs_from, prepare, restore, as_list, args, args_after, "
            "kwargs, passes, tolerance, differentiable, domain, nondifferentiable_inputs, "
            "gradient_of, columns, "
            "reference, implementations, compare, random, description",
        ),
        (
            {"zzz": "1"},
            "unknown field 'zzz'; the fields are name, call, signature, flop, bytes, "
            "derived_dims, size, dtypes, inputs, index_inputs, input_dtypes, input_layouts, "
            "input_strides, structure, inputs_from, prepare, restore, as_list, args, args_after, "
            "kwargs, passes, tolerance, differentiable, domain, nondifferentiable_inputs, "
            "gradient_of, columns, "
            "reference, implementations, compare, random, description",
        ),
        ({"flop": ["m"]}, "flop: ['m'] is not text"),
        ({"flop": True}, "flop: True is not text"),
        ({"size": True}, "size: True is not text"),
        (
            {"size": {"m": 4, "q": 5}},
            "size with dimensions m, q: unknown: q; missing: k; the dimensions are batch, k, m, n",
        ),
        ({"derived_dims": ["p"]}, "derived_dims: ['p'] is not a mapping"),
        ({"derived_dims": {"p": [1]}}, "derived_dims.p: [1] is not text"),
        ({"dtypes": {"floating": 1}}, "dtypes: {'floating': 1} is not a list"),
        ({"inputs": [True, "b"]}, "inputs: True is not text"),
        ({"index_inputs": "input"}, "index_inputs: 'input' is not a mapping"),
        ({"as_list": "yes"}, "as_list: 'yes' is neither true nor false"),
        ({"differentiable": 1}, "differentiable: 1 is neither true nor false"),
        ({"args": "ij"}, "args: 'ij' is not a list"),
        ({"kwargs": [1]}, "kwargs: [1] is not a mapping"),
        (
            {"flop": "2 * z"},
            "flop: 2 * z: unknown dimension z; known here: batch, complex, k, m, n",
        ),
        ({"bytes": "z"}, "bytes: z: unknown dimension z; known here: batch, k, m, n"),
        (
            {"tolerance": "sqrt(z)"},
            "tolerance: sqrt(z): unknown dimension z; known here: batch, k, m, n",
        ),
        ({"flop": "2 *"}, "formula '2 *' is not arithmetic: invalid syntax"),
        (
            {"kwargs": {"dim": "{z}"}},
            "constant {z}: z: unknown dimension z; known here: batch, k, m, n",
        ),
        (
            {"kwargs": {"a": [{"b": "{z}"}]}},
            "constant {z}: z: unknown dimension z; known here: batch, k, m, n",
        ),
        ({"args": [["{z}"]]}, "constant {z}: z: unknown dimension z; known here: batch, k, m, n"),
        (
            {"derived_dims": {"n": "z"}},
            "derived_dims: n: z: unknown dimension z; known here: batch, k, m, n",
        ),
        (
            {"signature": "n -> n", "flop": "batch * n"},
            "flop: batch * n: unknown dimension batch; known here: complex, n",
        ),
        (
            {"dtypes": ["floating", "int8", "float99"]},
            "dtypes: float99 is no kind of dtype; allowed: floating, float8, integer, complex, "
            "bool, or a dtype such as int8",
        ),
        ({"inputs": ["input"]}, "inputs: 1 names for the signature's 2 inputs"),
        (
            {"index_inputs": {"other": "k"}},
            "index_inputs: other: k: must be one of inputs (give inputs: first) and a dimension "
            "(k, m, n)",
        ),
        (
            {"inputs": ["input", "other"], "index_inputs": {"thing": "k"}},
            "index_inputs: thing: k: must be one of inputs (input, other) and a dimension (k, m, "
            "n)",
        ),
        (
            {"inputs": ["input", "other"], "index_inputs": {"other": "batch"}},
            "index_inputs: other: batch: must be one of inputs (input, other) and a dimension (k, "
            "m, n)",
        ),
        (
            {"signature": "m k"},
            "signature 'm k': write inputs -> outputs, such as \"... m k, ... k n -> ... m n\"",
        ),
        (
            {"size": "0x4"},
            "size=0x4 is not a size; allowed: 256 (256x256), 64x1024x1024, "
            "or named dimensions such as {m: 64, k: 128}, each of 1 or more, "
            "and 64 dimensions at most",
        ),
        (
            {"signature": "m k -> m", "size": "2x3x4"},
            "size 2x3x4 does not fit the signature, whose first input is m x k; give 2 "
            "dimensions, such as size=64x64",
        ),
    ],
)
def test_from_mapping_says_what_is_wrong_and_where(fields, message):
    with pytest.raises(ConfigError) as raised:
        operation(**fields)
    assert str(raised.value) == f"op file x: {message}"


def test_bind_names_the_operation_in_its_refusal():
    with pytest.raises(ConfigError) as raised:
        operation(signature="n -> n", size="64").bind(parse_size("2x3"))
    assert str(raised.value) == (
        "op matmul, 'n -> n': size 2x3 does not fit the signature, whose first input is n; "
        "give 1 dimensions, such as size=64"
    )


@pytest.mark.parametrize(
    ("fields", "size", "text"),
    [
        ({}, "4x5", "4x5"),
        ({}, 4, "4x4"),
        ({}, "2x3x4x5", "2x3x4x5"),
        ({}, {"m": 4, "k": 5}, "4x5"),
        ({}, {"m": 4, "k": 5, "n": 5}, "4x5"),
        ({}, {"m": 4, "k": 5, "n": 7}, "4x5 n=7"),
        ({}, {"m": 4, "k": 5, "n": 7, "batch": [2, 3]}, "2x3x4x5 n=7"),
        ({"signature": "n -> n", "size": "64"}, 7, "7"),
        ({"signature": "i, o i -> o", "size": "64", "derived_dims": {"o": "2 * i"}}, {"i": 4}, "4"),
        (
            {"signature": "i, o i -> p", "size": "64", "derived_dims": {"o": "2 * i", "p": "o"}},
            {"i": 4, "o": 5},
            "4 o=5 p=5",
        ),
    ],
)
def test_size_text_shows_the_shape_and_what_it_does_not_imply(fields, size, text):
    op = operation(**fields)
    assert op.size_text(op.bind(parse_size(size))) == text
    assert op.bind(parse_size(text)) == op.bind(parse_size(size))  # a row's size can be typed


@pytest.mark.parametrize("size", ["4x5 k=5", "4x5 q=5", "4x5 n=2x3", "4x5 batch=2"])
def test_beside_a_shape_only_other_dimensions_have_a_length(size):
    with pytest.raises(
        ConfigError, match=r"beside the first input's shape there are n, one length each"
    ):
        operation(signature="m k, k n -> m n").bind(parse_size(size))


def test_work_and_roundoffs_follow_the_formulas():
    op = operation(flop="2 * batch * m * k * n", tolerance="8 * sqrt(k)")
    dimensions = op.bind(parse_size({"batch": [2, 3], "m": 4, "k": 9, "n": 5}))
    assert op.work(op.flop, dimensions) == 2 * 6 * 4 * 9 * 5
    assert op.work(op.bytes, dimensions) is None
    assert op.roundoffs(dimensions.variables) == 24


def test_constants_are_filled_in_at_every_depth():
    op = operation(
        args=["{m}", "mk->k", ["{m * k}", {"a": "{n}"}]],
        kwargs={
            "shape": ["{n}", ["{k}", 1]],
            "half": "{m / 8}",
            "text": "x{n}",
            "dim": -1,
            "flag": True,
            "none": None,
        },
    )
    args, _, kwargs = op.constants(op.bind(parse_size({"m": 4, "k": 5, "n": 7})))
    assert args == [4, "mk->k", [20, {"a": 7}]]
    assert kwargs == {
        "shape": [7, [5, 1]],
        "half": 0.5,
        "text": "x{n}",
        "dim": -1,
        "flag": True,
        "none": None,
    }


def test_constants_that_are_whole_numbers_are_integers():
    args, _, _ = operation(args=["{m / 2}"]).constants(operation().bind(parse_size("4x4")))
    assert args == [2]
    assert type(args[0]) is int


@pytest.mark.parametrize(
    ("call", "function"),
    [
        ("torch.matmul", torch.matmul),
        ("torch.nn.functional.softmax", torch.nn.functional.softmax),
        ("torch.Tensor.add", torch.Tensor.add),
    ],
)
def test_load_finds_the_callable(call, function):
    assert operation(call=call).load() is function


def test_load_finds_a_function_in_a_module_on_the_path(tmp_path, monkeypatch):
    package = tmp_path / "opsweep_test_package"
    package.mkdir()
    (package / "mine.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert operation(call="opsweep_test_package.mine.double").load()(21) == 42


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("torch.matmull", "call 'torch.matmull': torch has no 'matmull' (did you mean 'matmul'?)"),
        (
            "torch.nn.functionl.relu",
            "call 'torch.nn.functionl.relu': torch.nn has no 'functionl' (did you mean "
            "'functional'?)",
        ),
        (
            "nopackage.f",
            "call 'nopackage.f' cannot be imported; give a dotted name such as torch.matmul or "
            "package.module.function, importable from this folder or an installed package",
        ),
        (
            "matmul",
            "call 'matmul' cannot be imported; give a dotted name such as torch.matmul or "
            "package.module.function, importable from this folder or an installed package",
        ),
        ("math.pi", "call 'math.pi' is a float, not a callable"),
        ("math.pi.x", "call 'math.pi.x': math.pi has no 'x'"),
    ],
)
def test_load_says_what_is_wrong(call, message):
    with pytest.raises(ConfigError) as raised:
        operation(call=call).load()
    assert str(raised.value) == f"op matmul: {message}"


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("opsweep_test_divides", "1 / 0", "ZeroDivisionError('division by zero')"),
        (
            "opsweep_test_lacks",
            "import opsweep_test_absent",
            "No module named 'opsweep_test_absent'",
        ),
    ],
)
def test_load_says_that_a_module_failed_to_import(tmp_path, monkeypatch, module, source, why):
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as raised:
        operation(call=f"{module}.f").load()
    assert str(raised.value) == f"op matmul: call '{module}.f': importing {module} failed: {why}"


def test_size_text_tells_cells_apart_whose_first_input_is_the_same():
    conv = Operation.from_mapping(
        {
            "name": "conv",
            "call": "torch.conv2d",
            "signature": "n c h w, o c r s -> n o p q",
            "derived_dims": {"o": "c", "r": "3", "s": "3", "p": "h - r + 1", "q": "w - s + 1"},
            "size": "1x1x8x8",
        },
        "test",
    )
    small = conv.bind(parse_size({"n": 1, "c": 1, "h": 2, "w": 2, "r": 1, "s": 1}))
    assert conv.size_text(small) == "1x1x2x2 o=1 p=2 q=2 r=1 s=1"
    later = Operation.from_mapping(
        {"name": "later", "call": "torch.matmul", "signature": "m k, ... k n -> ... m n"}, "test"
    )
    assert (
        later.size_text(later.bind(parse_size({"m": 4, "k": 3, "batch": "2x5"}))) == "4x3 batch=2x5"
    )


def test_a_reference_takes_what_the_call_takes():
    assert operation().load_reference() is None
    assert operation(reference="torch.linalg.multi_dot").load_reference() is torch.linalg.multi_dot
    exact = "tests.support.plain_functions.exact_scale"
    takes = {"signature": "n -> n", "kwargs": {"beta": 2.0}, "reference": exact}
    assert operation(**takes).load_reference() is not None
    assert operation(**takes, inputs="x").load_reference() is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"signature": "n, n -> n"},
        {"signature": "n -> n", "kwargs": {"gamma": 1}},
        {"signature": "n -> n", "inputs": ["z"]},
        {"signature": "n -> n", "args": [1]},
    ],
)
def test_a_reference_that_does_not_is_refused_in_one_line(wrong):
    exact = "tests.support.plain_functions.exact_scale"
    with pytest.raises(ConfigError) as refusal:
        operation(**{"kwargs": {"beta": 1.0}, "reference": exact, **wrong}).load_reference()
    message = str(refusal.value)
    assert message.startswith("op matmul: reference: tests.support.plain_functions.exact_scale(")
    assert "cannot be called as torch.matmul is" in message and "\n" not in message


def test_a_reference_that_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match=r"op matmul: reference 'torch.matmull'.*'matmul'"):
        operation(reference="torch.matmull").load_reference()
