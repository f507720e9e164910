"""Every YAML under ``conf/`` is run: each operation, timing preset and sweep, by the command in its first lines."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT, Runner
from tests.support.commands import answers

CONF = ROOT / "conf"
OPS = sorted(path.stem for path in (CONF / "op").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
LESSON = {"matmul", "add", "mul", "transpose", "transpose_copy", "sum"}
Rows = Callable[..., pd.DataFrame]


def test_the_operations_that_the_project_promises_are_there() -> None:
    promised = "bmm linear addmm einsum conv2d softmax layer_norm gelu relu exp mean max cumsum sort topk gather cat "
    assert LESSON | set((promised + "scaled_dot_product_attention fft").split()) <= set(OPS)


def test_every_operation_runs_with_right_values_and_gradients(rows: Rows) -> None:
    found = rows("-m", "op=glob(*)", "timing=minimal").set_index("op")
    assert set(found.index) == set(OPS)
    assert (found["status"] == "ok").all(), found["reason"].dropna().to_dict()
    assert (found["median_s"] > 0).all()
    assert (found["finite_fraction"] == 1).all()
    assert (found["max_relative_error"] <= found["allowed_relative_error"]).all()
    assert set(found["gradient"]) == {"pass"}
    assert found.loc[["transpose"], "flags"].str.contains("view").all()
    assert (
        not found["flags"].drop("transpose").fillna("").str.contains("view|wrong|nonfinite").any()
    )
    assert found.loc["matmul", "flop"] == 2 * 512**3
    assert found.loc["matmul", "bytes"] == 3 * 4 * 512**2
    assert found.loc["transpose", "bytes"] == 0


def test_every_operation_answers_in_every_kind_of_dtype(rows: Rows) -> None:
    dtypes = ["float32", "float16", "float64", "int32", "complex64", "bool"]
    found = rows(
        "-m", "op=glob(*)", f"dtype={','.join(dtypes)}", "timing=minimal", "size=1x2x4x8,8x8,2x8x8"
    )
    assert len(found.groupby(["op", "dtype"])) == len(OPS) * len(dtypes)
    assert set(found["status"]) <= {"ok", "unsupported"}, found[
        ~found["status"].isin(["ok", "unsupported"])
    ].to_dict()
    assert not found["flags"].fillna("").str.contains("wrong").any()


@pytest.mark.slow
def test_sweep_autograd_finds_every_gradient_right(rows: Rows) -> None:
    found = rows("+sweep=autograd", "device=cpu", file="autograd.csv")
    assert set(found["op"]) == set(OPS)
    assert set(found["verdict"].dropna()) <= {"pass", "kink", "inconclusive", "unsupported"}
    assert set(found["status"]) <= {"ok", "unsupported"}
    oracles = found.groupby("oracle")["verdict"].value_counts().unstack()["pass"]
    assert set(oracles.index) == {
        "finite_differences",
        "float64_reference",
        "forward_mode",
        "invariant",
    }
    told = found[found["verdict"] == "pass"].groupby(["op", "oracle"]).size().unstack()
    assert (told["finite_differences"] >= 8).all()


OTHER_SWEEPS = {
    "autograd",
    "mistakes",
    "roof",
    "transfer",
    "crossover",
}  # of other jobs, or of sizes that it chooses


@pytest.mark.parametrize("sweep", sorted(set(SWEEPS) - OTHER_SWEEPS))
def test_every_sweep_runs_at_small_sizes(sweep: str, rows: Rows) -> None:
    found = rows(f"+sweep={sweep}", "size=8,2x8x8", "dtype=float32", "timing=minimal")
    assert set(found["op"]) == LESSON
    assert set(found.loc[found["device"] == "cpu", "status"]) == {"ok"}


def test_the_main_sweep_has_the_lessons_cells(runner: Runner) -> None:
    cells = runner("+sweep=gpu", "dry_run=true").stdout.splitlines()
    assert "matmul 64x1024x1024 float16 cpu" in cells
    words = [cell.split() for cell in cells[:-1] if not cell.startswith("autograd")]
    gradients = {tuple(cell.split()) for cell in cells[:-1] if cell.startswith("autograd")}
    ops, sizes, dtypes, devices = (set(column) for column in zip(*words, strict=True))
    assert (ops, dtypes, devices) == (LESSON, {"float32", "float16", "bfloat16"}, {"cpu", "gpu"})
    assert len(sizes) >= 5
    assert {(op, dtype, device) for _, op, _, dtype, device in gradients} == {
        (op, dtype, device) for op in ops for dtype in dtypes for device in devices
    }
    assert cells[-1] == f"{len(ops) * len(dtypes) * 2 * (len(sizes) + 1)} cells"
    assert all({a[3], b[3]} == devices for a, b in zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONF / "timing").glob("*.yaml")))
def test_every_timing_preset_measures(preset: str, rows: Rows) -> None:
    row = rows(f"timing={preset}", "timing.processes=1", "op=add", "size=8").iloc[0]
    assert row["status"] == "ok"
    assert row["min_s"] <= row["q1_s"] <= row["median_s"] <= row["q3_s"]


def test_each_file_begins_with_the_command_that_uses_it(tmp_path: Path) -> None:
    commands = {}
    for path in sorted(CONF.rglob("*.yaml")):
        lines = [
            line for line in path.read_text().splitlines() if not line.startswith("# @package")
        ]
        command = re.fullmatch(r"# (python -m runner.*?)(  +\(.*\))?", lines[0])
        assert command, f"{path}: {lines[0]}"
        words = shlex.split(command[1])[3:]
        assert path.stem in " ".join(words) or path.name == "config.yaml"
        if path.parent.name in ("op", "case"):
            assert yaml.safe_load(path.read_text())["name"] == path.stem
        commands[path] = [*words, "dry_run=true"]
    said = dict(zip(commands, answers(tmp_path, list(commands.values())), strict=True))
    assert not {path: answer for path, answer in said.items() if answer.code != 0}


def test_an_operation_of_ones_own_runs_from_a_folder_of_ones_own(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "sweep").mkdir()
    (tmp_path / "mine" / "op" / "swish.yaml").write_text(
        "name: swish\ncall: my_package.ops.swish\nsignature: ... n -> ... n\nkwargs: {beta: 2.0}\nflop: 5 * batch * n\n"
    )
    (tmp_path / "mine" / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params: {op: 'swish,relu', size: '8,16', dtype: float32}\n"
    )
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "ops.py").write_text(
        "import torch\ndef swish(x, beta):\n    return x * torch.sigmoid(beta * x)\n"
    )
    runner("--config-dir", "mine", "+sweep=mine", "timing=minimal", "hydra.sweep.dir=out")
    found = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(found["op"] + found["size"]) == ["swish8x8", "swish16x16", "relu8x8", "relu16x16"]
    assert set(found["status"]) == {"ok"}
    assert list(found["flop"])[:2] == [5 * 64, 5 * 256]
    assert found["gradient"].eq("pass").all()


def test_flop_are_counted_where_the_file_gives_no_formula(rows: Rows) -> None:
    row = rows(
        "op=matmul", "op.flop=''", "size={m: 4, k: 6, n: 8, batch: 3}", "timing=minimal"
    ).iloc[0]
    assert row["flop"] == 2 * 3 * 4 * 6 * 8
    assert row["size"] == "3x4x6 n=8"


def test_an_operation_that_cannot_be_cut_down_is_checked_at_full_size(rows: Rows) -> None:
    row = rows("op=topk", "op.derived_dims.k=100", "size=128", "timing=minimal").iloc[0]
    assert (row["status"], row["checked_size"]) == ("ok", "128x128")
    assert row["max_relative_error"] == 0
