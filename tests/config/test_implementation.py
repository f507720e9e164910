"""Implementations as an op file declares them, and the operation by one of them."""

from typing import Any

import pytest

from runner.calls.compiled import as_declared
from runner.config.implementation import Implementation
from runner.config.operation import Implemented, Operation
from runner.config.parameters import parameters_in
from runner.errors import ConfigError
from runner.execute.user_code import packages_of
from tests.support.factories import cell

GELU: dict[str, Any] = {
    "name": "gelu",
    "call": "torch.nn.functional.gelu",
    "signature": "... -> ...",
    "size": "8x8",
    "kwargs": {"approximate": "none"},
}


def operation(**implementations: Any) -> Operation:
    """A function of elements with these implementations."""
    return Operation.from_mapping({**GELU, "implementations": implementations}, "op file x")


def test_a_dotted_name_and_a_mapping_are_read_alike() -> None:
    found = operation(plain="a.b", tanh={"call": "a.c", "compile": True, "kwargs": {"k": 1}})
    assert found.implementations == {
        "plain": Implementation("a.b"),
        "tanh": Implementation("a.c", kwargs={"k": 1}, compile="default"),
    }


def test_an_operation_by_an_implementation_is_called_by_it_and_compared_with_the_default() -> None:
    op = operation(tanh={"call": "mine.fast", "kwargs": {"approximate": "tanh"}})
    tanh = op.implemented("tanh")
    assert isinstance(tanh, Implemented)
    assert (tanh.call, tanh.kwargs) == ("mine.fast", {"approximate": "tanh"})
    assert tanh.reference == op.call
    assert tanh.declared.kwargs == {"approximate": "none"}
    default = op.implemented("default")
    assert (default.call, default.reference, default.implementations) == (op.call, "", {})
    assert packages_of(tanh, None) == {"mine"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("default", "a.b", "implementations.default: default is the operation's own call"),
        ("all", "a.b", "implementations.all: all stands for every implementation"),
        ("a,b", "a.b", "implementations.a,b: a,b is no name"),
        ("fast", {"kwargs": {}}, "implementations.fast: call is missing"),
        ("fast", {"call": "a.b", "compil": True}, "unknown field 'compil' (did you mean 'compile'"),
        ("fast", {"call": "a.b", "compile": "fast"}, "compile: fast is no mode of torch.compile"),
        ("fast", ["a.b"], "implementations.fast: ['a.b'] is not text"),
    ],
)
def test_what_is_wrong_with_one_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        operation(**{name: value})
    assert message in str(error.value)


def test_implementations_differ_in_identity_and_not_in_variant() -> None:
    fields = {**GELU, "implementations": {"fast": "mine.fast", "other": "mine.other"}}
    default, fast, other = (cell(fields, impl=name) for name in ("default", "fast", "other"))
    assert len({default.identity, fast.identity, other.identity}) == 3
    assert default.variant == fast.variant == other.variant

    # one more in the file changes no cell of the others
    grown = {**fields, "implementations": {**fields["implementations"], "third": "mine.third"}}
    assert cell(grown, impl="fast").identity == fast.identity
    assert cell(grown).identity == default.identity
    elsewhere = {**fields, "implementations": {"fast": "mine.faster"}}
    assert cell(elsewhere, impl="fast").identity != fast.identity


def test_its_own_way_of_compiling_is_not_the_axis() -> None:
    fields = {**GELU, "implementations": {"c": {"call": GELU["call"], "compile": "max-autotune"}}}
    own = cell(fields, impl="c")
    assert (own.compile, own.is_compiled) == ("off", True)
    assert own.compiling == {"mode": "max-autotune", "dynamic": False}
    assert not cell(fields).is_compiled


def test_what_an_operation_lacks_is_said_with_what_it_has() -> None:
    lacking = cell({**GELU, "implementations": {"fast": "mine.fast"}}, impl="fsat")
    assert not lacking.has_implementation
    assert lacking.infeasible_reason.startswith(
        "impl=fsat: op gelu has no such implementation (did you mean 'fast'?); it has default, fast"
    )


def test_the_command_line_adds_one_without_a_parameter() -> None:
    assert parameters_in(["+op.implementations.mine=a.b", "op.kwargs.dim=0"]) == "dim=0"


def test_the_reference_gets_the_operations_constants_and_not_the_implementations() -> None:
    op = operation(own={"call": "mine.f", "kwargs": {"approximate": "tanh", "block": 64}})
    given = {"input": 1, "approximate": "tanh", "block": 64}
    assert as_declared(op.implemented("own"), given) == {"input": 1, "approximate": "none"}
    assert as_declared(op.implemented("default"), {"approximate": "none"}) == op.kwargs
