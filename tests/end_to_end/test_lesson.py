"""The lesson's numbers, its mistakes, and cases of one's own, from one real run."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.rows.csv_store import read_rows
from runner.rows.rows import TensorRow
from tests.conftest import ROOT, make_runner

pytestmark = pytest.mark.slow

SWEEP = """\
# @package _global_
hydra:
  sweeper:
    params: {case: glob(lesson_1_*)}
    also:
      - {case: glob(lesson_2_*)}
      - {case: lesson_2_3_chain_rule, dtype: "float32,bfloat16"}
      - {case: glob(mistake_*)}
      - {case: "right,wrong,logaddexp"}
"""
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
LESSON = {
    ("lesson_2_1_polynomial", "x"): [92, 124, 160, 200],
    ("lesson_2_1_polynomial", "y"): [28, 52, 80, 112],
    ("lesson_2_1_polynomial", "z"): [28, 44, 64, 88],
    ("lesson_2_2_mean_squared_error", "w"): -4 / 3,
    ("lesson_2_2_mean_squared_error", "b"): -2 / 3,
    ("lesson_2_3_chain_rule", "x"): [-5.03442917445871, 17.8400973957632, 0],
}
VALUES = {"lesson_2_1_polynomial": 2210, "lesson_2_2_mean_squared_error": 1 / 6}
EXACT = {
    "lesson_1_1_zeros": torch.zeros(2, 3, 4).tolist(),
    "lesson_1_1_ones": torch.ones(5, 5).tolist(),
    "lesson_1_1_reshape": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]],
    "lesson_1_2_transpose": [[1, 2, 3]] * 4,
    "lesson_1_2_matmul": [[22, 26, 30], [44, 52, 60], [66, 78, 90]],
    "lesson_1_2_mul": [[1, 4, 7, 10], [4, 10, 16, 22], [9, 18, 27, 36]],
    "lesson_1_2_sum": 24,
    "lesson_1_3_first_row": [list(range(5 * i, 5 * i + 5)) for i in range(5)],
    "lesson_1_3_last_column": [[25 * i + 5 * j + 4 for j in range(5)] for i in range(5)],
    "lesson_1_3_centre": [[62, 63], [67, 68]],
    "lesson_1_3_even_last": [
        [[25 * i + 5 * j + k for k in (0, 2, 4)] for j in range(5)] for i in range(5)
    ],
    "lesson_1_3_even_all": [
        [[25 * i + 5 * j + k for k in (0, 2, 4)] for j in (0, 2, 4)] for i in (0, 2, 4)
    ],
    **{
        f"lesson_1_4_{'x'.join(map(str, shape))}": torch.arange(1, 25).reshape(shape).tolist()
        for shape in ((2, 12), (3, 8), (4, 6), (2, 3, 4), (2, 2, 2, 3))
    },
}
MISTAKES = {
    "mistake_reshape_call": "call: torch.reshape(4, 4): reshape(): argument 'input' (position 1) "
    "must be Tensor, "
    "not int; torch.reshape takes (input, shape) -> Tensor; the tensor itself is missing",
    "mistake_last_column": "values: 24 of 25 elements differ, the first at [0, 0]: 100, not 4; "
    "one index selects along the first dimension, so E[-1] is the last matrix; the last column is "
    "E[..., -1]",
    "mistake_in_place": "unchanged: B was changed: its shape was 4x3 and is 3x4; a trailing "
    "underscore means in place",
    "mistake_freed_graph": "call: torch.autograd.grad(answer, x): Trying to backward through the "
    "graph a second time",
    "mistake_view_as_copy": "aliases: it shares its memory with A; it is a view; transpose is a "
    "view",
    "mistake_half_overflow": "finite: 8192 of 8192 elements are infinite or NaN; each element is "
    "a sum of 64 products",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the run, and what it printed; the mistakes and a wrong case make it fail."""
    folder = tmp_path_factory.mktemp("lesson")
    for name in ("case", "sweep"):
        (folder / "mine" / name).mkdir(parents=True)
    (folder / "mine" / "sweep" / "everything.yaml").write_text(SWEEP)
    for name, factor in (("right", 1.0), ("wrong", 1.001)):
        (folder / "mine" / "case" / f"{name}.yaml").write_text(
            f"name: {name}\nfunction: {name}.sine\nvalues: {{x: [0.3, -2, 40]}}\n"
        )
        (folder / f"{name}.py").write_text(WRONG_BACKWARD.format(factor=factor))
    command = ["--config-dir", "mine", "+sweep=everything", "hydra.sweep.dir=out"]
    return folder / "out", make_runner(folder)(*command, code=1).stdout


@pytest.fixture(scope="module")
def lesson(said: tuple[Path, str]) -> Path:
    """The folder of the run."""
    return said[0]


def test_the_lessons_tensors_are_exact_in_the_csv(lesson: Path) -> None:
    rows = pd.read_csv(lesson / "tensors.csv")
    rows = rows[rows["case"].str.startswith("lesson_1_")]
    assert set(rows["case"]) == {*EXACT, "lesson_1_1_random"}
    assert (rows["verdict"] == "pass").all()
    assert (rows["status"] == "ok").all()
    values = rows[rows["check"] == "values"].set_index("case")
    for case, exact in EXACT.items():
        assert json.loads(values.loc[case, "got"]) == exact, case
        assert json.loads(values.loc[case, "expected"]) == exact, case
        assert (rows[(rows["case"] == case) & (rows["check"] == "dtype")]["got"]).iloc[0] in (
            "int64",
            "float32",
        )
    random = rows[rows["case"] == "lesson_1_1_random"].set_index("check")
    assert list(random.index) == ["shape", "dtype", "range", "reproducible"]
    assert random.loc["shape", "got"] == "3x4"
    assert (
        len({number for row in json.loads(random.loc["reproducible", "got"]) for number in row})
        == 12
    )
    views = rows[(rows["check"] == "aliases") & rows["case"].str.startswith("lesson_1_4")]
    assert list(views["got"]) == ["x"] * 5
    assert rows[rows["check"] == "unchanged"]["case"].nunique() == 14


def test_every_case_runs_by_its_name(lesson: Path) -> None:
    rows = [pd.read_csv(lesson / name) for name in ("tensors.csv", "autograd.csv")]
    files = {path.stem for path in (ROOT / "conf" / "case").glob("*.yaml")}
    assert set(pd.concat(rows)["case"]) == files | {"right", "wrong"}


def test_the_report_shows_the_code_and_what_was_checked(lesson: Path) -> None:
    report = (lesson / "report.md").read_text()
    task = "1.3, the last column of each of the five matrices"
    line = f"| lesson_1_3_last_column | {task} | E\\[..., -1] "
    assert f"{line}| values shape dtype aliases unchanged | 5 pass |" in report


def test_each_mistake_fails_and_says_what_is_wrong(said: tuple[Path, str]) -> None:
    rows = read_rows(said[0] / "tensors.csv", TensorRow)
    failed = {row.case: row for row in rows if row.status == "failed"}
    files = {path.stem for path in (ROOT / "conf" / "case").glob("mistake_*.yaml")}
    assert set(failed) == set(MISTAKES) == files
    for case, message in MISTAKES.items():
        assert (failed[case].reason or "").startswith(message), failed[case].reason
        assert failed[case].verdict in ("fail", "error")
        assert message in said[1]
    values = [row for row in rows if row.case == "mistake_in_place" and row.check == "values"]
    assert [row.verdict for row in values] == ["pass"]


def test_the_lessons_gradients_are_exact_in_the_csv(lesson: Path) -> None:
    rows = pd.read_csv(lesson / "autograd.csv")
    rows = rows[rows["case"].str.startswith("lesson_2_")]
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


def test_the_report_prints_the_derivations(lesson: Path) -> None:
    rows, report = pd.read_csv(lesson / "autograd.csv"), (lesson / "report.md").read_text()
    for words in (
        "d/dx sin(x**2 + 1) = 2*x*cos(x**2 + 1)",
        "d/dx x**2 + y**2 + z**2 + 2*x*y*z = 2*x + 2*y*z",
        "d/dw mean((w*x + b - t)**2) = mean(2*x*(b - t + w*x))",
    ):
        assert words.replace("*", r"\*") in report
        assert rows["derivation"].eq(words).any()


def test_other_inputs_and_low_precision_pass_too(lesson: Path) -> None:
    rows = pd.read_csv(lesson / "autograd.csv")
    rows = rows[rows["case"].str.startswith("lesson_2_")]
    assert set(rows["dtype"]) == {"float64", "float32", "bfloat16"}
    assert set(rows["probe"]) >= {"example", "fresh"}
    assert not {"fail", "error"} & set(rows["verdict"])
    loose = rows[(rows["verdict"] == "inconclusive") & (rows["oracle"] == "analytic")]
    assert set(loose["dtype"]) == {"bfloat16"}
    assert set(rows.loc[rows["oracle"] == "analytic", "verdict"]) == {"pass", "inconclusive"}
    assert loose["reason"].str.contains("the comparison says nothing").all()
    assert set(rows["status"]) == {"ok"}


def test_a_function_of_ones_own_with_a_wrong_backward_fails(lesson: Path) -> None:
    rows = pd.read_csv(lesson / "autograd.csv")
    rows = rows[rows["case"].isin(["right", "wrong"])]
    of_grad = rows.loc[rows["oracle"] == "autograd_grad", "verdict"]
    assert set(of_grad) == {"pass"}  # so it is no evidence
    by_differences = rows[rows["oracle"] == "finite_differences"]
    found = by_differences.groupby("case")["verdict"].agg(set)
    assert "fail" in found["wrong"]
    assert found["right"] == {"pass"}
