"""The file that a failing gradient leaves: plain torch, which shows it where it is smallest."""

import contextlib
import io
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from runner.calls.bound_arguments import BoundArguments
from runner.calls.bound_case import bind_case
from runner.calls.bound_operation import BoundOperation
from runner.config.cases import read_case
from runner.config.operation import Operation
from runner.config.size import parse_size
from runner.verify.gradients.verifier import check_gradients
from tests.calls import test_bound_arguments
from tests.support import asked, factories
from tests.support.marks import slow

CPU = torch.device("cpu")


def ran(script: str) -> str:
    """What a script prints; it needs nothing but torch and what it imports."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(script, "wrong_gradient.py", "exec"), {})
    return said.getvalue()


def numbers_after(words: str, said: str) -> list[float]:
    """The numbers of the tensor that is printed after a line that begins with these words."""
    tensor = said.split(words)[1].split("tensor(")[1].partition(")")[0]
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", tensor.partition("dtype")[0])]


def test_the_smallest_failure_is_shown_beside_differences() -> None:
    bound = factories.bound(asked.flipped, torch.float64, "4x6")
    bound = replace(bound, op=replace(bound.op, call="tests.support.asked.flipped"))
    checks = check_gradients(bound, CPU)
    (script,) = filter(None, (check.script for check in checks))
    said = ran(script)
    got, expected = (numbers_after(words, said) for words in ("autograd in", "differences of"))
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) > 0.01
    assert "import tests.support.asked" in script
    failing = [c for c in checks if c.verdict == "fail" and c.oracle == "finite_differences"]
    shapes = [list(map(int, c.shape.split("x"))) for c in failing if c.shape]
    assert len(got) == min(map(math.prod, shapes))


def test_a_cases_file_has_its_values_and_constants() -> None:
    fields = {"name": "asked", "function": "tests.support.asked.second_is_wrong"}
    case = read_case({**fields, "values": {"x": [0.5, -1.0, 2.0]}})
    bound = bind_case(case, case.load(), torch.float64, 0)  # type: ignore[arg-type]
    (script,) = filter(None, (check.script for check in check_gradients(bound, CPU)))
    said = ran(script)
    assert "tests.support.asked.second_is_wrong(x)" in script
    got, expected = (numbers_after(words, said) for words in ("autograd in", "differences of"))
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) > 0.01


def test_nested_arguments_stand_in_the_call() -> None:
    op = Operation.from_mapping(test_bound_arguments.own("combined_wrong"), "test")
    plain = BoundOperation(op, op.load(), op.bind(parse_size(3)), torch.float64, 0)
    checks = check_gradients(BoundArguments.of(plain), CPU)
    (script,) = filter(None, (check.script for check in checks))
    assert "combined_wrong([x0, x1], 2.5, x2, wanted={'dtype': torch.float64})" in script
    said = ran(script)
    got, expected = (numbers_after(words, said) for words in ("autograd in", "differences of"))
    assert [2 * number for number in got] == pytest.approx(expected, rel=1e-3)


def script_of_case(**fields: Any) -> str:
    case = read_case({"name": "asked", **fields})
    bound = bind_case(case, case.load(), torch.float64, 0)  # type: ignore[arg-type]
    (script,) = filter(None, (check.script for check in check_gradients(bound, CPU)))
    return script


X = {"x": [0.5, -1.0, 2.0]}


@pytest.mark.parametrize(
    ("function", "values", "line"),
    [
        ("overwrites", X, "the cotangents changed: True"),
        slow("overwrites_input", X, "the inputs changed: True"),
        ("last_call", X, r"after a call with other inputs: off by (0\.[0-9]*[1-9]|[1-9])"),
        slow(
            "other_is_needed", {"a": [1.0], "b": [3.0]}, "of input 0 alone: off by (0\\.0*)?[1-9]"
        ),
        ("memory_order", {"x": [[1.0, 2.0], [3.0, 4.0]]}, "that are transposed: off by (0.)?[1-9]"),
        slow("overwrites_saved", X, "input 0 was changed"),
    ],
)
def test_a_property_that_fails_is_shown_by_what_breaks_it(
    function: str, values: dict[str, Any], line: str
) -> None:
    said = ran(script_of_case(function=f"tests.support.asked.{function}", values=values))
    assert re.search(line, said), said


@pytest.mark.slow
def test_a_formulas_file_has_its_functions_alone() -> None:
    script = script_of_case(expression="sqrt(x**4)", values={"x": [1.0, 0.0]})
    assert "from torch import sqrt\n" in script
    said = ran(script)
    assert "nan" in said.split("autograd in")[1].split("differences of")[0]
    assert numbers_after("differences of", said)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        slow("in_a_mapping", {"x": [0.5, 1.0]}),  # what it returns is nested
        ("nearly", {"x": [0.5, 1.0]}),  # off by 1e-7: not among the four digits of a print
    ],
)
def test_the_difference_is_among_what_is_printed(function: str, values: dict[str, Any]) -> None:
    said = ran(script_of_case(function=f"tests.support.asked.{function}", values=values))
    got, expected = (numbers_after(words, said) for words in ("autograd in", "differences of"))
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) > 2e-8


@pytest.mark.slow
def test_slopes_of_complex_inputs_are_those_of_both_parts() -> None:
    bound = factories.bound(asked.squared_wrong, torch.complex128, "2x3", dtypes=["complex"])
    bound = replace(bound, op=replace(bound.op, call="tests.support.asked.squared_wrong"))
    (script,) = filter(None, (check.script for check in check_gradients(bound, CPU)))
    said = ran(script.replace("squared_wrong", "squared"))  # of the right twin
    got, expected = (numbers_after(words, said) for words in ("autograd in", "differences of"))
    assert got == pytest.approx(expected, rel=1e-6)


def test_a_right_gradient_leaves_no_file() -> None:
    assert not any(check.script for check in check_gradients(factories.bound(torch.sin), CPU))
