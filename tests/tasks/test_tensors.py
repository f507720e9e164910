"""``job=tensors``: the lesson's tensors from a real run, the mistakes and what is said of them, and snippets."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from runner.cells.cell import cell_of
from runner.config.cases import read_case
from runner.config.cases.snippet import CallError, check_functions, parse, run
from runner.errors import ConfigError
from runner.execute.cell_run import run_cell
from runner.rows.csv_store import read_rows
from runner.rows.rows import TensorRow
from tests.conftest import ROOT, Runner
from tests.support.factories import STATE

CASES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "conf" / "case").glob("*.yaml"))
}
E = torch.arange(125).reshape(5, 5, 5)
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
    "mistake_reshape_call": "call: torch.reshape(4, 4): reshape(): argument 'input' (position 1) must be Tensor, "
    "not int; torch.reshape takes (input, shape) -> Tensor; the tensor itself is missing",
    "mistake_last_column": "values: 24 of 25 elements differ, the first at [0, 0]: 100, not 4; "
    "one index selects along the first dimension, so E[-1] is the last matrix; the last column is E[..., -1]",
    "mistake_in_place": "unchanged: B was changed: its shape was 4x3 and is 3x4; a trailing underscore means in place",
    "mistake_freed_graph": "call: torch.autograd.grad(answer, x): Trying to backward through the graph a second time",
    "mistake_view_as_copy": "aliases: it shares its memory with A; it is a view; transpose is a view",
    "mistake_half_overflow": "finite: 8192 of 8192 elements are infinite or NaN; each element is a sum of 64 products",
}


def checked(**case: object) -> list[TensorRow]:
    """The rows of a case of one's own, run in this process."""
    from omegaconf import OmegaConf

    config = OmegaConf.structured(__import__("runner.config.schema", fromlist=["Config"]).Config)
    config.op = yaml.safe_load((ROOT / "conf" / "op" / "add.yaml").read_text())
    config.case = {"name": "own", **case}
    rows, _ = run_cell(cell_of(config), STATE)
    assert all(isinstance(row, TensorRow) for row in rows)
    return rows  # type: ignore[return-value]


def verdicts(**case: object) -> dict[str | None, str | None]:
    """What came of each check."""
    return {row.check: row.verdict for row in checked(**case)}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the lesson's first part."""
    from tests import conftest

    folder = tmp_path_factory.mktemp("lesson")
    conftest.runner.__wrapped__(folder)("-m", "case=glob(lesson_1_*)", "hydra.sweep.dir=out")
    return folder / "out"


def test_the_lessons_tensors_are_exact_in_the_csv(lesson: Path) -> None:
    rows = pd.read_csv(lesson / "tensors.csv")
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


def test_the_report_shows_the_code_and_what_was_checked(lesson: Path) -> None:
    report = (lesson / "report.md").read_text()
    assert (
        "| lesson_1_3_last_column | cpu | E[..., -1] | values shape dtype aliases unchanged | 5 pass |"
        in report
    )


def test_each_mistake_fails_and_says_what_is_wrong(runner: Runner, tmp_path: Path) -> None:
    done = runner("+sweep=mistakes", "hydra.sweep.dir=out", code=1)
    rows = read_rows(tmp_path / "out" / "tensors.csv", TensorRow)
    failed = {row.case: row for row in rows if row.status == "failed"}
    assert set(failed) == set(MISTAKES) == {name for name in CASES if name.startswith("mistake_")}
    for case, message in MISTAKES.items():
        assert (failed[case].reason or "").startswith(message), failed[case].reason
        assert failed[case].verdict in ("fail", "error")
        assert message in done.stdout
    assert [
        row.verdict for row in rows if row.case == "mistake_in_place" and row.check == "values"
    ] == ["pass"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("mistake_")])
def test_what_a_mistake_should_have_been_passes(name: str) -> None:
    mended = {
        "mistake_reshape_call": {"result": "torch.reshape(torch.arange(16), (4, 4))"},
        "mistake_last_column": {"result": "E[..., -1]"},
        "mistake_in_place": {"result": "A * B.transpose(0, 1)"},
        "mistake_freed_graph": {"steps": ["answer.backward(retain_graph=True)"]},
        "mistake_view_as_copy": {"result": "torch.transpose(A, 0, 1).contiguous()"},
        "mistake_half_overflow": {"result": "A.float() @ B.float()", "expect": {"finite": True}},
    }[name]
    assert set(verdicts(**{**CASES[name], **mended}).values()) == {"pass"}


def test_every_expectation_can_fail() -> None:
    ones = "torch.ones(2, 2)"
    assert verdicts(result=ones, expect={"values": [[1, 1], [1, 2]]})["values"] == "fail"
    assert verdicts(result=ones, expect={"values": [1, 1, 1, 1]}) == {
        "values": "fail",
        "shape": "fail",
    }
    assert verdicts(result=ones, expect={"shape": [4]}) == {"shape": "fail"}
    assert verdicts(result=ones, expect={"dtype": "int64"}) == {"dtype": "fail"}
    assert verdicts(result=ones, expect={"range": [0, 1]}) == {"range": "fail"}
    assert verdicts(result="torch.rand(3)", expect={"range": [0, 1]}) == {"range": "pass"}
    assert verdicts(result=ones, expect={"reproducible": True}) == {"reproducible": "fail"}
    assert verdicts(result="torch.rand(3)", expect={"reproducible": True}) == {
        "reproducible": "pass"
    }
    assert (
        verdicts(inputs={"a": ones}, result="a + 1", expect={"aliases": "a"})["aliases"] == "fail"
    )
    assert (
        verdicts(inputs={"a": ones}, result="a[0]", expect={"aliases": "nothing"})["aliases"]
        == "fail"
    )
    assert (
        verdicts(inputs={"a": ones}, steps=["a.mul_(2)"], result="a", expect={"finite": True})[
            "unchanged"
        ]
        == "fail"
    )
    assert verdicts(result="torch.log(torch.zeros(2))", expect={"finite": True}) == {
        "finite": "fail"
    }


def test_values_are_compared_exactly_in_the_results_dtype() -> None:
    tenth = {"result": "torch.full((1,), 0.1)", "expect": {"values": [0.1]}}
    assert verdicts(**tenth)["values"] == "pass"  # the nearest float32
    assert (
        verdicts(result="torch.full((1,), 0.1) * 1.0000002", expect={"values": [0.1]})["values"]
        == "fail"
    )
    assert verdicts(result="torch.tensor([2])", expect={"values": [2.5]})["values"] == "fail"
    large = 2**53
    assert (
        verdicts(result=f"torch.tensor([{large + 1}])", expect={"values": [large]})["values"]
        == "fail"
    )
    assert verdicts(result="torch.tensor([1.5])", expect={"values": [1.5]})["values"] == "pass"


def test_what_torch_does_not_have_for_a_dtype_is_unsupported_and_no_failure() -> None:
    (row,) = checked(
        result="torch.linalg.inv(torch.eye(2).to(torch.float16))", expect={"shape": [2, 2]}
    )
    assert (row.status, row.verdict) == ("unsupported", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": "torch.zeros(2"}, r"result: 'torch.zeros\(2': '\(' was never closed"),
        (
            {"result": "os.getcwd()"},
            r"result: 'os.getcwd\(\)': unknown name os; known here: torch, a",
        ),
        ({"result": "a._version"}, r"'a._version' is not allowed"),
        (
            {"result": "a.__class__()"},
            r"__class__ is not allowed; names with a leading underscore are private",
        ),
        ({"result": "torch._C.nothing(a)"}, r"'torch._C.nothing' is not allowed"),
        ({"result": "(lambda: a)()"}, r"is not allowed"),
        (
            {"inputs": {"a": "b + 1", "b": "torch.ones(1)"}},
            r"inputs.a: 'b \+ 1': unknown name b; known here: torch",
        ),
        (
            {"inputs": {"a": [1, 2]}},
            r"inputs: each tensor is a line of tensor code, such as torch.arange\(16\)",
        ),
        ({"expect": {}}, r"expect: nothing is expected; give some of values, shape"),
        ({"expect": {"valeus": 1}}, r"expect: unknown 'valeus' \(did you mean 'values'\?\)"),
        (
            {"expect": {"values": [[1], 2]}},
            r"expect.values: \[\[1\], 2\] is neither a number nor a nested list",
        ),
        ({"expect": {"values": [1, 2], "shape": [3]}}, r"expect: values are 2 and shape is 3"),
        ({"expect": {"dtype": "int46"}}, r"expect: dtype=int46 is unknown \(did you mean 'int"),
        ({"expect": {"aliases": "b"}}, r"expect: aliases=b: give one of inputs \(a\), or nothing"),
        ({"expect": {"shape": "2x2"}}, r"expect: shape=2x2 is no list of lengths"),
        ({"expect": {"range": [0]}}, r"expect: range=\[0\] is no \[low, high\]"),
        ({"expect": {"finite": False}}, r"finite and reproducible are true, or left out"),
        ({"steps": [1]}, r"steps: \[1\] is not a list of texts"),
    ],
)
def test_a_wrong_tensor_case_gets_one_clear_line(change: dict[str, object], message: str) -> None:
    right = {
        "name": "own",
        "inputs": {"a": "torch.ones(2)"},
        "result": "a + a",
        "expect": {"values": [2, 2]},
    }
    read_case(right)
    with pytest.raises(ConfigError, match=message):
        read_case({**right, **change})


@pytest.mark.parametrize(
    "name", ["load", "save", "from_file", "hub.load", "jit.load", "nn.functional.torch.load", "os"]
)
def test_a_snippet_reaches_no_files_and_no_modules(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is no function on tensors"):
        check_functions(parse(f"torch.{name}('somewhere')", []))


def test_a_wrong_call_names_the_function_and_what_it_takes() -> None:
    def message(text: str) -> str:
        with pytest.raises(CallError) as caught:
            run(parse(text, ["E"]), {"E": E})
        return str(caught.value)

    assert message("E.transpose(0)").endswith("Tensor.transpose takes (dim0, dim1) -> Tensor")
    assert (
        message("E.transposed(0, 1)")
        == "E.transposed(0, 1): a tensor has no method transposed (did you mean 'transpose'?)"
    )
    assert message("E @ torch.ones(3)").startswith("E @ torch.ones(3): ")
    assert message("E[9]") == "E[9]: index 9 is out of bounds for dimension 0 with size 5"
    assert message("E.shape.index(5)") == "E.shape.index(5): E.shape is a Size, not a tensor"
    assert "beyond 64" in message("2 ** 100000000")


def test_the_same_seed_gives_the_same_numbers_and_leaves_torchs_own_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, second = (
        checked(result="torch.rand(4)", expect={"reproducible": True})[0].got for _ in range(2)
    )
    assert first == second
    assert torch.equal(torch.rand(2), expected)
