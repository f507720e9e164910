"""The calls of a workload: what an entry may say, and the operation that makes it."""

from typing import Any

import pytest

from runner.config.operation import Operation
from runner.config.size import parse_size
from runner.config.workload.arguments import operation_fields
from runner.config.workload.call import Call
from runner.errors import ConfigError

ADDMM: dict[str, Any] = {
    "function": "torch.ops.aten.addmm.default",
    "args": [{"shape": [16]}, {"shape": [4, 8]}, {"shape": [8, 16], "stride": [1, 8]}],
    "outputs": [[4, 16]],
    "name": "addmm_1",
    "workload": "mlp",
    "count": 3,
}


def operation(**fields: Any) -> Operation:
    """The operation of a call."""
    call = Call.of({**ADDMM, **fields})
    return Operation.from_mapping(operation_fields(call), "a test")


def test_a_call_is_an_operation_with_its_tensors_in_their_places() -> None:
    op = operation()
    dimensions = op.bind(parse_size(op.size))
    shapes = [dimensions.shape(axes) for axes in op.parsed.inputs]
    assert dict(zip(op.inputs, shapes, strict=True)) == {"t0": (16,), "t1": (4, 8), "t2": (8, 16)}
    assert [dimensions.shape(axes) for axes in op.parsed.outputs] == [(4, 16)]
    assert op.constants(dimensions)[0] == ["{t0}", "{t1}", "{t2}"]
    assert op.input_strides == {"t2": (1, 8)}
    assert op.roundoffs(dimensions.variables) == pytest.approx(16 * 8**0.5)
    assert op.name == "mlp.addmm_1"


def test_a_call_survives_being_written_as_text() -> None:
    call = Call.of({**ADDMM, "modules": {"layers.0": 3}})
    assert Call.parse(call.text) == Call.of(
        {**ADDMM, "modules": {"layers.0": 3}, "args": call.args}
    )
    assert Call.parse(Call.of({"function": "f", "args": [], "outputs": []}).text).outputs == ()


def test_tensors_stand_within_lists_and_beside_constants() -> None:
    op = operation(
        function="torch.ops.aten.cat.default",
        args=[[{"shape": [2, 3]}, {"shape": [1, 3]}], 0],
        kwargs={"out_dtype": "{dtype}"},
        outputs=[[3, 3]],
    )
    before, _, named = op.constants(op.bind(parse_size(op.size)))
    assert (before, named) == ([["{t0}", "{t1}"], 0], {"out_dtype": "{dtype}"})


def test_positions_are_of_the_table_that_they_point_into() -> None:
    op = operation(
        function="torch.ops.aten.embedding.default",
        args=[{"shape": [100, 8]}, {"shape": [4, 7], "dtype": "int64", "below": 100}],
        outputs=[[4, 7, 8]],
    )
    assert op.index_inputs == {"t1": "n100"}
    assert op.input_dtypes == {"t1": "int64"}


def test_a_call_without_tensors_has_the_size_of_its_result() -> None:
    op = operation(function="torch.ops.aten.arange.default", args=[10], outputs=[[10]])
    assert op.size_text(op.bind(parse_size(op.size))) == "10"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"outputs": None}, "missing field outputs"),
        ({"argz": 1}, "unknown field 'argz' (did you mean 'args'?)"),
        ({"count": -1}, "count: -1 is no count"),
        ({"count": 0}, "count: 0 is no count; give a whole number of 1 or more"),
        ({"count": True}, "count: True is no count"),
        ({"passes": "sideways"}, "passes: sideways is none; allowed: forward, backward, step"),
        ({"dtype": "int64"}, "dtype: int64 is none of a model"),
        ({"name": "a b"}, "name: a b is no name"),
        ({"args": [{"shape": [2, -1]}]}, "shape: [2, -1] is no list of lengths"),
        ({"args": [{"shape": [2], "dtype": "int9"}]}, "dtype: int9 is unknown"),
        ({"args": [{"shape": [2], "stride": [1, 2]}]}, "stride: (1, 2) is not of the shape (2,)"),
        ({"args": [{"shape": [2], "below": 0}]}, "below: 0 is no whole number of 1 or more"),
        ({"args": [{"shape": [2, 0]}]}, "is empty; leave the call out"),
        ({"args": [{"shape": []}]}, "no tensor has a dimension"),
    ],
)
def test_a_wrong_entry_is_refused(fields: dict[str, Any], said: str) -> None:
    values = {key: value for key, value in {**ADDMM, **fields}.items() if value is not None}
    with pytest.raises(ConfigError) as refused:
        operation_fields(Call.of(values))
    assert said in str(refused.value)


def test_text_that_is_no_call_is_refused() -> None:
    for text in ("{", "[1]", '{"function": 3, "colour": "red"}'):
        with pytest.raises(ConfigError, match="call"):
            Call.parse(text)
