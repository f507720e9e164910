"""Operations of one's own, right and wrong, and further jobs, in one real run."""

from pathlib import Path

import pandas as pd
import pytest

from runner.config.schema import Report
from runner.report.conclude import conclude
from tests.conftest import make_runner

OPS = {
    "swish": "call: my_package.ops.swish\nsignature: ... n -> ... n\n"
    "kwargs: {beta: 2.0}\nflop: 5 * batch * n\n",
    "angle": "call: torch.acos\nsignature: '... n -> ... n'\ndomain: '[-1, 1]'\nsize: 4x6\n",
    "sinus": "call: my_package.ops.sinus\nsignature: '... n -> ... n'\ndtypes: [floating]\n",
}
CODE = """
import torch

def swish(x, beta):
    return x * torch.sigmoid(beta * x)

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos() * 1.0001

def sinus(x):
    return Wrong.apply(x)
"""
SWEEP = """\
# @package _global_
defaults:
  - override /timing: minimal
hydra:
  sweeper:
    params: {op: "swish,relu", size: "8,16", dtype: float32}
    also:
      - {op: angle, job: autograd, dtype: float64}
      - {op: sinus, job: autograd, size: 8, dtype: float64}
      - {op: sinus, size: 8}
      - {op: matmul, job: roof, size: 8, dtype: "float32,int32", device: "cpu,gpu"}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run, which a wrong gradient makes fail."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("mine/op", "mine/sweep", "my_package"):
        (folder / name).mkdir(parents=True)
    for name, text in OPS.items():
        (folder / "mine" / "op" / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    (folder / "mine" / "sweep" / "mine.yaml").write_text(SWEEP)
    (folder / "my_package" / "ops.py").write_text(CODE)
    command = ["--config-dir", "mine", "+sweep=mine", "hydra.sweep.dir=out"]
    make_runner(folder)(*command, code=1)
    return folder / "out"


def test_an_operation_of_ones_own_runs_from_a_folder_of_ones_own(out: Path) -> None:
    found = pd.read_csv(out / "results.csv")
    found = found[found["op"] != "sinus"]
    assert list(found["op"] + found["size"]) == ["swish8x8", "swish16x16", "relu8x8", "relu16x16"]
    assert set(found["status"]) == {"ok"}
    assert list(found["flop"])[:2] == [5 * 64, 5 * 256]
    assert found["gradient"].eq("pass").all()


def test_any_torch_operation_is_verified_by_its_name(out: Path) -> None:
    rows = pd.read_csv(out / "autograd.csv")
    rows = rows[rows["op"] == "angle"]
    assert set(rows["verdict"]) <= {"pass", "inconclusive", "kink"}
    assert (rows.loc[rows["probe"] == "scale 30", "verdict"] == "pass").all()
    assert rows["seconds"].gt(0).all()


def test_a_wrong_gradient_is_a_failure_and_no_speedup(out: Path) -> None:
    rows = pd.read_csv(out / "autograd.csv")
    wrong = rows[(rows["op"] == "sinus") & (rows["verdict"] == "fail")]
    assert set(wrong["oracle"]) == {"finite_differences"}
    assert 5e-5 < wrong["max_relative_error"].max() < 2e-4
    assert wrong["reason"].str.contains("off by").all()
    row = pd.read_csv(out / "results.csv").set_index("op").loc["sinus"]
    assert row["gradient"] == "fail"
    assert "wrong_gradient" in row["flags"].split()


@pytest.mark.usefixtures("_without_pictures")
def test_each_wrong_gradient_alone_is_exit_code_1(out: Path) -> None:
    folders = sorted(out.glob("[0-9]*_*"), key=lambda path: int(path.name.partition("_")[0]))
    codes = [conclude(folder, Report(), strict=False) for folder in folders]
    assert codes == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_a_roof_is_a_row_for_each_device_and_dtype(out: Path) -> None:
    found = pd.read_csv(out / "roofs.csv")
    assert list(found["dtype"] + found["device"]) == [
        "float32cpu",
        "float32gpu",
        "int32cpu",
        "int32gpu",
    ]
    here = found[found["device"] == "cpu"]
    assert (here["status"] == "ok").all(), here["reason"].to_list()
    assert (here[["flop_per_s", "bytes_per_s"]] > 0).all(axis=None)
    assert here["bytes_per_s"].nunique() == 1


def test_peaks_of_tests_are_not_kept_among_the_users(out: Path) -> None:
    kept = pd.read_csv(out / "roofs.csv")["saved_to"].dropna()
    assert not any(Path(path).is_relative_to(Path.home()) for path in kept)
