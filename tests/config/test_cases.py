"""Cases: what their YAML may say, the exact gradients of formulas, and the lesson's numbers from a real run."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.calls.bound_case import bind_case, elements
from runner.config.cases import ExpressionCase, read_case
from runner.config.cases.expression import parse, symbols_in
from runner.errors import ConfigError
from runner.verify.derivative import derive
from runner.verify.exact import ExactGradient
from tests.conftest import ROOT, Runner

FILES = sorted((ROOT / "conf" / "case").glob("*.yaml"))
SINE = {"name": "sine", "expression": "sin(x**2 + 1)", "values": {"x": [3, 10, 0]}}
LESSON = {
    ("lesson_2_1_polynomial", "x"): [92, 124, 160, 200],
    ("lesson_2_1_polynomial", "y"): [28, 52, 80, 112],
    ("lesson_2_1_polynomial", "z"): [28, 44, 64, 88],
    ("lesson_2_2_mean_squared_error", "w"): -4 / 3,
    ("lesson_2_2_mean_squared_error", "b"): -2 / 3,
    ("lesson_2_3_chain_rule", "x"): [-5.03442917445871, 17.8400973957632, 0],
}
VALUES = {"lesson_2_1_polynomial": 2210, "lesson_2_2_mean_squared_error": 1 / 6}
WRONG = {
    "expression: sin(q)": r"expression 'sin\(q\)': unknown symbol q; values: gives x",
    "expression: sin(x": r"'\(' was never closed; use symbols, numbers, pi, \+ - \* / \*\*, parentheses, and abs",
    "expression: sine(x)": r"unknown function sine \(did you mean 'sin'\?\); there are abs, acos",
    "expression: x.__class__": r"'x.__class__' is not allowed; use symbols",
    "expression: __import__('os').getcwd()": r"is not allowed",
    "expression: '[y for y in x]'": r"is not allowed",
    "expression: sin(x, 2)": r"sin takes one argument, not 2",
    "expression: sin + x": r"sin is a function; write sin\(\.\.\.\)",
    "expression: x + 9**9**9": r"the exponent 9 \*\* 9 is beyond 64",
    "expression: x + 1/0": r"'1 / 0' cannot be evaluated: float division by zero",
    "expression: '1 + 2'": r"has no symbol, and so no gradient",
    "values: {x: [1, 2], y: 3}": r"values: y is not in the expression",
    "values: {x: [[1, 2], [3]]}": r"values.x: \[\[1, 2\], \[3\]\] is neither a number nor a nested list of numbers",
    "values: {x: [one]}": r"values.x: \['one'\] is neither a number nor a nested list",
    "values: 3": r"values: 3 is not a mapping",
    "{expression: x*y, values: {x: [1, 2], y: [1, 2, 3]}}": r"shapes do not go together: x 2, y 3; each dimension",
    "reduce: max": r"reduce=max is unknown; allowed: sum, mean",
    "gradients: [y]": r"gradients: y is no input; there are x",
    "valves: {x: 1}": r"unknown field 'valves' \(did you mean 'values'\?\); with expression the fields are name",
    "function: torch.sin": r"a case needs a name, and one of expression, function, result; it has name, expression",
}


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_case_gets_one_clear_line(change: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[change]) as caught:
        read_case({**SINE, **yaml.safe_load(change)})
    assert str(caught.value).startswith("case file sine: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["case=lesson_2_4"], r"case=lesson_2_4 is unknown; did you mean lesson_.*lists them\)"),
        (["case=lesson_2_3_chain_rule", "case.expression='sin(x'"], r"'\(' was never closed"),
        (
            ["case=lesson_1_3_centre", "case.result='{E[2, 2:4, 2:4]'"],
            r"result: '\{E\[2, .*: '\{' was never closed",
        ),
        (
            ["case=lesson_1_3_centre", "case.result='check_x[0]'"],
            r"unknown name check_x; known here: torch, E",
        ),
        (
            ["case=lesson_2_3_chain_rule", "dtype=int32"],
            r"has a gradient in floating dtypes alone, not in int32",
        ),
        (
            ["case=lesson_2_3_chain_rule", "job=tensors"],
            r"is checked by job=autograd; leave job= out",
        ),
        (
            ["case=lesson_1_1_ones", "size=4"],
            r"case lesson_1_1_ones has inputs of its own; leave size= out",
        ),
        (
            ["-m", "case=logaddexp,lesson_1_1_ones", "case.description=x"],
            r"the file of the case; to add it write",
        ),
        (["job=tensors"], r"job=tensors checks a case, not an operation; give one with case="),
    ],
)
def test_wrong_cases_are_refused_before_anything_runs(
    arguments: list[str], message: str, runner: Runner
) -> None:
    done = runner(*arguments, code=2, env={"PYTHONPROFILEIMPORTTIME": "1"})
    shown = "\n".join(
        line for line in done.stderr.splitlines() if not line.startswith("import time:")
    )
    assert re.search(message, shown), shown
    assert "Traceback" not in shown
    assert not re.search(r"\| +(torch|sympy)$", done.stderr, re.MULTILINE)


def test_what_only_torch_can_tell_of_cases_is_refused_before_anything_runs(runner: Runner) -> None:
    done = runner("case=logaddexp", "case.function=torch.logaddexpp", code=2)
    assert (
        "case logaddexp: function 'torch.logaddexpp': torch has no 'logaddexpp' (did you mean 'logaddexp'?)"
        in done.stderr
    )


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


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, str]:
    """The gradient rows and the report of the lesson's second part, in three dtypes, from a run."""
    from tests import conftest

    folder = tmp_path_factory.mktemp("lesson")
    runner = conftest.runner.__wrapped__(folder)
    runner("-m", "case=glob(lesson_2_*)", "dtype=null,float32,bfloat16", "hydra.sweep.dir=out")
    return pd.read_csv(folder / "out" / "autograd.csv"), (folder / "out" / "report.md").read_text()


def test_the_lessons_gradients_are_exact_in_the_csv(lesson: tuple[pd.DataFrame, str]) -> None:
    rows = lesson[0]
    rows = rows[(rows["dtype"] == "float64") & (rows["probe"] == "example")]
    assert (rows["verdict"] == "pass").all()
    assert (rows["op"] == rows["case"]).all()
    for (case, argument), numbers in LESSON.items():
        found = rows[(rows["case"] == case) & (rows["argument"] == argument)].set_index("oracle")
        assert set(found.index) >= {"analytic", "autograd_grad", "finite_differences"}
        for row in (found.loc["analytic"], found.loc["autograd_grad"]):
            for column in ("got_values", "expected_values"):
                assert json.loads(row[column]) == pytest.approx(numbers, rel=1e-14, abs=1e-15)
        assert "no evidence" in found.loc["autograd_grad", "tolerance_source"]
    for case, value in VALUES.items():
        of_value = rows[(rows["case"] == case) & rows["argument"].isna()]
        assert list(of_value["got"]) == pytest.approx([value], rel=1e-15)
        assert list(of_value["expected"]) == [value]


def test_the_report_prints_the_derivations(lesson: tuple[pd.DataFrame, str]) -> None:
    for words in (
        "d/dx sin(x**2 + 1) = 2*x*cos(x**2 + 1)",
        "d/dx x**2 + y**2 + z**2 + 2*x*y*z = 2*x + 2*y*z",
        "d/dw mean((w*x + b - t)**2) = mean(2*x*(b - t + w*x))",
    ):
        assert words in lesson[1]
        assert lesson[0]["derivation"].eq(words).any()


def test_other_inputs_and_low_precision_pass_too(lesson: tuple[pd.DataFrame, str]) -> None:
    rows = lesson[0]
    assert set(rows["dtype"]) == {"float64", "float32", "bfloat16"}
    assert set(rows["probe"]) >= {"example", "fresh"}
    assert not {"fail", "error"} & set(rows["verdict"])
    loose = rows[(rows["verdict"] == "inconclusive") & (rows["oracle"] == "analytic")]
    assert set(loose["dtype"]) == {"bfloat16"}
    assert set(rows.loc[rows["oracle"] == "analytic", "verdict"]) == {"pass", "inconclusive"}
    assert loose["reason"].str.contains("the comparison says nothing").all()
    assert set(rows["status"]) == {"ok"}


WRONG_BACKWARD = """
import torch
class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)
    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return cotangent * torch.cos(x) * {factor}
def sine(x):
    return Wrong.apply(x)
"""


def test_a_function_of_ones_own_with_a_wrong_backward_fails(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "mine" / "case").mkdir(parents=True)
    for name, factor in (("right", 1.0), ("wrong", 1.001)):
        (tmp_path / "mine" / "case" / f"{name}.yaml").write_text(
            f"name: {name}\nfunction: {name}.sine\nvalues: {{x: [0.3, -2, 40]}}\n"
        )
        (tmp_path / f"{name}.py").write_text(WRONG_BACKWARD.format(factor=factor))
    runner("--config-dir", "mine", "-m", "case=right,wrong", "hydra.sweep.dir=out", code=1)
    rows = pd.read_csv(tmp_path / "out" / "autograd.csv")
    assert set(rows.loc[rows["oracle"] == "autograd_grad", "verdict"]) == {
        "pass"
    }  # so it is no evidence
    by_differences = (
        rows[rows["oracle"] == "finite_differences"].groupby("case")["verdict"].agg(set)
    )
    assert "fail" in by_differences["wrong"]
    assert by_differences["right"] == {"pass"}


def test_a_wrong_backward_inside_a_formula_fails_its_derivative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from runner.calls import bound_case as bound
    from runner.rows.rows import AutogradRow
    from runner.tasks import case_autograd as case_gradients

    space: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    exec(WRONG_BACKWARD.format(factor=1 + 1e-9), space)
    case = read_case(SINE)
    assert isinstance(case, ExpressionCase)
    known = AutogradRow("c", "autograd", "sine", "3", "float64", "cpu")

    def verdicts() -> dict[tuple[str, str | None], str | None]:
        found = case_gradients._rows_at(
            case, bind_case(case, None, torch.float64, 0), torch.device("cpu"), known
        )
        return {(row.oracle or "", row.argument): row.verdict for row in found}

    assert set(verdicts().values()) == {"pass"}
    monkeypatch.setitem(bound._NAMES_IN_TORCH, "sin", space["sine"])
    assert verdicts() == {
        ("analytic", None): "pass",
        ("analytic", "x"): "fail",
        ("autograd_grad", "x"): "pass",
    }


def test_cases_are_an_axis_and_their_files_belong_to_their_identity(
    runner: Runner, tmp_path: Path
) -> None:
    def listed(*words: str) -> list[str]:
        return runner("-m", *words, "dry_run=true").stdout.splitlines()

    assert listed("case=lesson_2_3_chain_rule,lesson_1_1_ones") == [
        "autograd lesson_2_3_chain_rule 3 float64 cpu",
        "tensors lesson_1_1_ones 5x5 float32 cpu",
        "2 cells",
    ]
    assert len(listed("case=lesson_2_3_chain_rule", "case.values.x=[1],[2]", "op=add,mul")) == 2 + 1


def test_the_readmes_cases_are_right() -> None:
    section = (
        (ROOT / "README.md")
        .read_text()
        .partition("## The lesson and your own functions")[2]
        .partition("\n## ")[0]
    )
    blocks = re.findall(r"\n    name: (?:.|\n    )+", section)
    kinds = [
        type(read_case(yaml.safe_load(block.replace("\n    ", "\n")))).__name__ for block in blocks
    ]
    assert kinds == ["ExpressionCase", "FunctionCase", "TensorCase"]
