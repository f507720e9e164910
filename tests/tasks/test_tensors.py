"""``job=tensors``: what is expected of a tensor can fail, and snippets reach nothing else."""

import math

import pytest
import torch
import yaml

from runner.config.cases import read_case
from runner.config.cases.snippet import CallError, check_functions, parse, run
from runner.errors import ConfigError
from runner.rows.rows import TensorRow
from tests.conftest import ROOT
from tests.support.factories import case_rows

CASES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "conf" / "case").glob("*.yaml"))
}
E = torch.arange(125).reshape(5, 5, 5)


def checked(**case: object) -> list[TensorRow]:
    """The rows of a case of one's own, run in this process."""
    rows = case_rows({"name": "own", **case})
    assert all(isinstance(row, TensorRow) for row in rows)
    return rows  # type: ignore[return-value]


def verdicts(**case: object) -> dict[str | None, str | None]:
    """What came of each check."""
    return {row.check: row.verdict for row in checked(**case)}


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


def test_nan_infinity_and_truth_values_can_be_expected() -> None:
    nan = {
        "result": "torch.zeros(2) / torch.tensor([0.0, 1.0])",
        "expect": {"values": [math.nan, 0]},
    }
    assert verdicts(**nan)["values"] == "pass"
    assert verdicts(**{**nan, "result": "torch.zeros(2)"})["values"] == "fail"
    infinite = {"result": "torch.tensor([-torch.inf])", "expect": {"values": [-math.inf]}}
    assert verdicts(**infinite)["values"] == "pass"
    truth = {"result": "torch.tensor([0, 2]) > 1", "expect": {"values": [False, True]}}
    assert verdicts(**truth)["values"] == "pass"
    leaf = "torch.zeros(2, requires_grad=True)"
    flags = "torch.tensor([y.requires_grad, y.is_leaf])"
    graph = {"inputs": {"x": leaf, "y": "x * 2"}, "result": flags}
    assert verdicts(**graph, expect={"values": [True, False]})["values"] == "pass"


def test_complex_numbers_are_shown_and_compared_with_their_imaginary_part() -> None:
    of_z = {"inputs": {"z": "torch.ones(2, dtype=torch.complex64)"}, "expect": {"values": [1, 1]}}
    assert verdicts(**of_z, result="z.real") == {
        "values": "pass",
        "shape": "pass",
        "unchanged": "pass",
    }
    same, *_ = checked(**of_z, result="z")
    assert (same.verdict, same.got) == ("pass", '["(1+0j)", "(1+0j)"]')
    turned = "z * torch.complex(torch.ones(2), torch.ones(2))"
    wrong, *_ = checked(**of_z, result=turned)
    assert wrong.verdict == "fail" and "(1+1j), not (1+0j)" in wrong.reason


def test_the_same_numbers_may_have_nan_among_them() -> None:
    found = {
        result: verdicts(result=result, expect={"reproducible": True})["reproducible"]
        for result in ("(torch.rand(4) - 0.5).sqrt()", "torch.rand(4) < 2", "torch.zeros(2) / 0")
    }
    assert list(found.values()) == ["pass", "fail", "fail"]


def test_ends_of_a_range_are_not_rounded_where_the_result_is_of_integers() -> None:
    exact = {"result": "torch.tensor([16777216])", "expect": {"range": [0.0, 16777217.0]}}
    assert verdicts(**exact)["range"] == "pass"


def test_a_wrong_write_to_shared_memory_is_no_lack_of_it() -> None:
    (row,) = checked(
        inputs={"x": "torch.ones(1, 3)"},
        result="x.expand(3, 3).add_(1)",
        expect={"shape": [3, 3]},
        hint="clone it first",
    )
    assert (row.check, row.verdict) == ("call", "error")
    assert "single memory location" in row.reason
    assert row.reason.endswith("clone it first")


def test_a_gradient_that_only_leaves_have_is_told_in_torchs_words() -> None:
    inputs = {"w": "torch.ones(2, requires_grad=True)", "x": "w * 2"}
    (row,) = checked(
        inputs=inputs, steps=["x.sum().backward()"], result="x.grad", expect={"shape": [2]}
    )
    assert "x.grad is a NoneType, not a tensor; torch warns: " in row.reason
    assert "retain_grad" in row.reason


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
        ({"result": "a * float('-inf')"}, r"is not allowed; .*numbers \(torch.inf, torch.nan\)"),
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
        ({"steps": 5}, r"steps: 5 is not a list"),
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


def test_what_is_refused_is_not_proposed() -> None:
    with pytest.raises(ConfigError) as caught:
        check_functions(parse("torch.from_file('somewhere')", []))
    assert "from_file'?" not in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "torch.sparse_coo_tensor([[10**9]], [1.0], [2])",
        "torch.sparse_csr_tensor([0, 10**6], [0], [1.0], [1, 2])",
        "torch.sparse_csc_tensor([0, 10**6], [0], [1.0], [2, 1])",
        "torch.sparse_bsr_tensor([0, 10**6], [0], torch.ones(1, 1, 1), [1, 2])",
        "torch.sparse_bsc_tensor([0, 1], [10**6], torch.ones(1, 1, 1), [2, 1])",
    ],
)
def test_a_sparse_tensor_reaches_no_memory_but_its_own(code: str) -> None:
    """Its invariants are checked, which it is not allowed to leave out."""
    (row,) = checked(result=f"{code}.to_dense()", expect={"finite": True})
    assert (row.status, row.verdict) == ("failed", "error")
    with pytest.raises(ConfigError, match="check_invariants is not allowed"):
        parse(f"{code[:-1]}, check_invariants=False)", [])


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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("torch.no_grad()", "torch.no_grad is no function on tensors"),
        ("torch.load(1)", "torch.load is no function on tensors"),
        ("torch.matmull(1)", "torch.matmull is no function on tensors (did you mean 'matmul'?)"),
    ],
)
def test_only_a_function_with_a_name_that_is_near_is_suggested(code: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_functions(parse(code, ()))
    assert str(refused.value) == said
