"""Cases: what their YAML may say, and what is refused before anything runs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from runner.config.cases import read_case
from runner.config.cases.expression import parse, symbols_in
from runner.errors import ConfigError
from tests.conftest import ROOT
from tests.support.commands import answers

FILES = sorted((ROOT / "conf" / "case").glob("*.yaml"))
SINE = {"name": "sine", "expression": "sin(x**2 + 1)", "values": {"x": [3, 10, 0]}}
WRONG = {
    "expression: sin(q)": r"expression 'sin\(q\)': unknown symbol q; values: gives x",
    "expression: sin(x": r"'\(' was never closed; use symbols, numbers, pi, \+ - \* / \*\*, "
    r"parentheses, and abs",
    "expression: sine(x)": r"unknown function sine \(did you mean 'sin'\?\); allowed: abs, acos",
    "expression: x.__class__": r"'x.__class__' is not allowed; use symbols",
    "expression: __import__('os').getcwd()": r"is not allowed",
    "expression: '[y for y in x]'": r"is not allowed",
    "expression: sin(x, 2)": r"sin takes one argument, not 2",
    "expression: sin + x": r"sin is a function; write sin\(\.\.\.\)",
    "expression: x + 9**9**9": r"the exponent 9 \*\* 9 is beyond 64",
    "expression: x + 1/0": r"'1 / 0' cannot be evaluated: float division by zero",
    "expression: '1 + 2'": r"has no symbol, and so no gradient",
    "values: {x: [1, 2], y: 3}": r"values: y is not in the expression",
    "values: {x: [[1, 2], [3]]}": r"values.x: \[\[1, 2\], \[3\]\] is neither a number nor a "
    r"nested list of numbers",
    "values: {x: [true, false]}": r"values: truth values alone have no gradient; give a number",
    "values: {x: [one]}": r"values.x: \['one'\] is neither a number nor a nested list",
    "values: 3": r"values: 3 is not a mapping",
    "{expression: x*y, values: {x: [1, 2], y: [1, 2, 3]}}": r"shapes do not go together: x 2, y "
    r"3; each dimension",
    "reduce: max": r"reduce=max is unknown; allowed: sum, mean",
    "gradients: [y]": r"gradients: y is no input; there are x",
    "valves: {x: 1}": r"unknown field 'valves' \(did you mean 'values'\?\); with expression the "
    r"fields are name",
    "function: torch.sin": r"a case needs a name, and one of expression, function, result; it has "
    r"name, expression",
}


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_case_gets_one_clear_line(change: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[change]) as caught:
        read_case({**SINE, **yaml.safe_load(change)})
    assert str(caught.value).startswith("case file sine: ")
    assert "\n" not in str(caught.value)


REFUSED = {
    "case=lesson_2_4": r"case=lesson_2_4 is unknown; did you mean lesson_.*lists them\)",
    "case=lesson_2_3_chain_rule \"case.expression='sin(x'\"": r"'\(' was never closed",
    "case=lesson_1_3_centre \"case.result='{E[2, 2:4, 2:4]'\"": r"result: '\{E\[2, .*: "
    r"'\{' was never closed",
    "case=lesson_1_3_centre \"case.result='check_x[0]'\"": r"unknown name check_x; "
    r"known here: torch, E",
    "case=lesson_2_3_chain_rule dtype=int32": r"has a gradient in floating dtypes alone, "
    r"not in int32",
    "case=lesson_2_3_chain_rule job=tensors": r"is checked by job=autograd; leave job= out",
    "case=lesson_1_1_ones size=4": r"case lesson_1_1_ones has inputs of its own; leave size= out",
    "-m case=logaddexp,lesson_1_1_ones case.description=x": r"the file of the case; "
    r"to add it write",
    "job=tensors": r"job=tensors checks a case, not an operation; give one with case=",
}


def test_wrong_cases_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """And before torch or SymPy is imported."""
    said = answers(tmp_path, [shlex.split(command) for command in REFUSED])
    for (command, message), answer in zip(REFUSED.items(), said, strict=True):
        assert answer.code == 2, command
        assert re.search(message, answer.stderr), answer.stderr
        assert "Traceback" not in answer.stderr


def test_cases_are_an_axis_and_their_files_belong_to_their_identity(tmp_path: Path) -> None:
    commands = [
        "-m case=lesson_2_3_chain_rule,lesson_1_1_ones dry_run=true",
        "-m case=lesson_2_3_chain_rule case.values.x=[1],[2] op=add,mul dry_run=true",
    ]
    two, changed = answers(tmp_path, [command.split() for command in commands])
    assert two.stdout.splitlines() == [
        "autograd lesson_2_3_chain_rule 3 float64 cpu",
        "tensors lesson_1_1_ones 5x5 float32 cpu",
        "2 cells",
    ]
    assert changed.stdout.count("\n") == 2 + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_file_is_right(path: Path) -> None:
    case = read_case(yaml.safe_load(path.read_text()))
    assert case.name == path.stem
    assert case.description
    case.load()


def test_symbols_stand_in_the_order_of_the_text() -> None:
    assert symbols_in("(w*x + b - t)**2 * sin(w)") == ("w", "x", "b", "t")


def test_a_formula_is_read_and_never_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for text in (
        f"open('{target}', 'w')",
        f"().__class__.__base__ or x, open('{target}', 'w')",
        "exec('1')",
        "f'{x}'",
    ):
        with pytest.raises(ConfigError):
            parse(text)
    assert not target.exists()
    with pytest.raises(ConfigError, match=r"nested too deeply|never|too many"):
        parse("-" * 499 + "x")
    with pytest.raises(ConfigError, match="at most 500"):
        parse("x+" * 300 + "x")


def test_the_documented_cases_are_right() -> None:
    section = (ROOT / "docs" / "functions.md").read_text()
    blocks = re.findall(r"\n    name: (?:.|\n    )+", section)
    kinds = [
        type(read_case(yaml.safe_load(block.replace("\n    ", "\n")))).__name__ for block in blocks
    ]
    assert kinds == ["ExpressionCase", "FunctionCase", "TensorCase"]
