"""Every YAML under ``conf/`` is run.

Each operation, timing preset and sweep, by the command in its first lines.
"""

import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml

from runner.config.operation import Operation
from runner.config.schema import Timing
from runner.config.size import parse_size
from runner.errors import ConfigError
from runner.measure.noise_sources import LOOKS
from runner.rows.environment_file import read_environment
from tests.conftest import ROOT, Runner, make_runner
from tests.support.commands import answers
from tests.support.factories import cell, op_file, ran

CONF = ROOT / "conf"
NARROW = {"int8_matmul": "int8", "scaled_matmul": "float8_e4m3fn"}  # in a dtype of 8 bits alone
OPS = sorted({path.stem for path in (CONF / "op").glob("*.yaml")} - set(NARROW))
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
LESSON = {"matmul", "add", "mul", "transpose", "transpose_copy", "sum"}
Rows = Callable[..., pd.DataFrame]


def test_the_operations_that_the_project_promises_are_there() -> None:
    promised = (
        "bmm linear addmm einsum conv2d softmax layer_norm gelu relu exp mean max cumsum sort topk "
        "gather cat scaled_dot_product_attention fft"
    )
    assert LESSON | set(promised.split()) <= set(OPS)


DTYPES = ("float32", "int32", "complex64", "bool")
SMALL = ("8x8", "2x8x8", "1x2x4x8", "1x2x3x4x5")  # the first that an operation can have


def small_size(op: str) -> str:
    """A small size of an operation."""
    operation = Operation.from_mapping(op_file(op), op)
    for size in SMALL:
        with suppress(ConfigError):
            operation.bind(parse_size(size))
            return size
    raise AssertionError(f"{op} has none of the sizes {SMALL}")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A row of every operation in every kind of dtype."""
    folder = tmp_path_factory.mktemp("operations")
    (folder / "mine" / "sweep").mkdir(parents=True)
    ops = {size: [op for op in OPS if small_size(op) == size] for size in SMALL}
    first, *further = (
        {"op": ",".join(names), "size": size, "dtype": ",".join(DTYPES)}
        for size, names in ops.items()
    )
    sweep = {"hydra": {"sweeper": {"params": first, "also": further}}}
    text = "# @package _global_\n" + yaml.safe_dump(sweep)
    (folder / "mine" / "sweep" / "every.yaml").write_text(text)
    command = ["--config-dir", "mine", "+sweep=every", "timing=minimal", "hydra.sweep.dir=out"]
    make_runner(folder)(*command)
    return pd.read_csv(folder / "out" / "results.csv")


@pytest.mark.slow
def test_every_operation_runs_with_right_values_and_gradients(found: pd.DataFrame) -> None:
    rows = found[found["dtype"] == "float32"].set_index("op")
    assert sorted(rows.index) == OPS
    assert (rows["status"] == "ok").all(), rows["reason"].dropna().to_dict()
    assert (rows["median_s"] > 0).all()
    assert (rows["finite_fraction"] == 1).all()
    assert (rows["max_relative_error"] <= rows["allowed_relative_error"]).all()
    assert set(rows["gradient"]) == {"pass"}
    assert rows.loc[["transpose"], "flags"].str.contains("view").all()
    others = rows["flags"].drop("transpose").fillna("")
    assert not others.str.contains("view|wrong|nonfinite").any()
    assert rows.loc["matmul", "flop"] == 2 * 8**3
    assert rows.loc["matmul", "bytes"] == 3 * 4 * 8**2
    assert rows.loc["transpose", "bytes"] == 0


@pytest.mark.slow
def test_every_operation_answers_in_every_kind_of_dtype(found: pd.DataFrame) -> None:
    assert len(found) == len(found.groupby(["op", "dtype"])) == len(OPS) * len(DTYPES)
    assert set(found["status"]) <= {"ok", "unsupported"}, found["reason"].dropna().to_list()
    assert not found["flags"].fillna("").str.contains("wrong").any()
    ran = found[found["status"] == "ok"].groupby("dtype").size()
    assert set(ran.index) == set(DTYPES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        pytest.param("bfloat16", marks=pytest.mark.exhaustive),
        pytest.param("float64", marks=pytest.mark.exhaustive),
        pytest.param("float16", marks=pytest.mark.exhaustive),
    ],
)
def test_every_operation_runs_at_its_own_size(dtype: str, rows: Rows) -> None:
    measured = rows("-m", "op=glob(*)", f"dtype={dtype}", "timing=minimal")
    assert set(measured["op"]) == {*OPS, *NARROW}
    measured = measured[measured["op"].isin(OPS)]
    if dtype == "float32":
        assert set(measured["status"]) == {"ok"}
        assert set(measured["gradient"]) == {"pass"}
    assert set(measured["status"]) <= {"ok", "unsupported"}
    assert not measured["flags"].fillna("").str.contains("wrong").any()


@pytest.mark.slow
def test_sweep_autograd_finds_every_gradient_right(rows: Rows) -> None:
    found = rows("+sweep=autograd", "device=cpu", file="autograd.csv")
    assert set(found["op"]) == {*OPS, *NARROW}
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


@pytest.mark.parametrize("op", NARROW)
def test_a_product_of_8_bits_is_right_or_says_why_it_is_not_there(op: str) -> None:
    row = ran(op, dtype=NARROW[op], size="64x64")
    assert row.status in ("ok", "unsupported"), row.reason
    if row.status == "ok":
        assert (row.checked, row.finite_fraction) == ("full", 1.0)
        assert row.max_relative_error <= row.allowed_relative_error <= 0.01
        assert row.bytes == 2 * 64**2 + row.output_bytes
    assert "takes no floating dtype" in cell(op, dtype="float32", size="64x64").infeasible_reason


OTHER = {"autograd", "compiled", "mistakes", "roof", "transfer", "crossover", "noise"}
OTHER |= {"models", "opinfo"}  # which have tests of their own
"""Sweeps of other jobs, of every operation, or of sizes that they choose."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "sweep",
    [name for name in SWEEPS if name not in OTHER],
)
def test_a_sweep_runs_at_small_sizes(sweep: str, rows: Rows) -> None:
    words = ["size=2x8x8", "dtype=float32", "timing=minimal", "hydra.sweeper.also=[]"]
    measured = rows(f"+sweep={sweep}", *words)
    assert set(measured["op"]) == LESSON
    assert set(measured.loc[measured["device"] == "cpu", "status"]) == {"ok"}


@pytest.mark.slow
def test_the_sweep_of_what_is_compiled_times_and_verifies_it(rows: Rows) -> None:
    words = ["op=softmax,addmm", "size=16x16", "device=cpu", "hydra.sweeper.also=[]"]
    measured = rows("+sweep=compiled", *words)
    assert set(measured["status"]) == {"ok"}
    assert set(measured["compile"]) == {"default"}
    assert set(measured["gradient"]) == {"pass"}


@pytest.mark.slow  # tests/tasks/test_noise.py has the job itself
def test_a_calibration_shows_what_can_be_seen_and_later_runs_know_of_it(
    runner: Runner, tmp_path: Path
) -> None:
    short = ["size=8", "device=cpu", "timing.max_time_s=0.5", "timing.warmup_s=0"]
    done = runner("+sweep=noise", "op=add", *short, "threads=1", "hydra.sweep.dir=noise")
    found = pd.read_csv(tmp_path / "noise" / "noise.csv")
    (pairs,) = found["pairs"]
    if not pairs:
        pytest.skip("the machine was so busy that all pairs were disturbed")
    assert pairs <= 8
    assert "seen from" in done.stdout
    assert f" of {pairs} pairs of equal sides a difference was claimed" in done.stdout
    assert read_environment(tmp_path / "noise")["noise_sources"].keys() == LOOKS.keys()

    axes = ["op=add", "dtype=float32,float64", *short, "threads=1", "hydra.sweep.dir=out"]
    runner("-m", *axes)
    (known,) = read_environment(tmp_path / "out")["calibration"]
    assert known["largest_difference"] == found["largest_difference"][0]
    (speedup,) = pd.read_csv(tmp_path / "out" / "speedup.csv").to_dict("records")
    assert speedup["smallest_difference"] >= max(0.0099, known["largest_difference"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What can be seen here" in page
    assert f"of {pairs} pairs of equal sides" in page


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONF / "timing").glob("*.yaml")))
def test_every_timing_preset_measures(preset: str) -> None:
    text = (CONF / "timing" / f"{preset}.yaml").read_text()
    briefly = {"patience_s": 0.0, "max_time_s": 0.2, "warmup_s": 0.01}
    row = ran("add", size=8, timing=Timing(**yaml.safe_load(text) | briefly))
    assert row.status == "ok"
    assert row.min_s <= row.q1_s <= row.q3_s <= row.max_s
    assert row.min_s <= row.median_s <= row.max_s  # it is of places in memory, quartiles of blocks


def test_flop_are_counted_where_the_file_gives_no_formula() -> None:
    size = {"m": 4, "k": 6, "n": 8, "batch": 3}
    row = ran({**op_file("matmul"), "flop": ""}, size=size)
    assert row.flop == 2 * 3 * 4 * 6 * 8
    assert row.size == "3x4x6 n=8"


def test_a_transform_of_real_numbers_takes_half_the_work_and_a_bias_is_added() -> None:
    assert ran("fft", size="4x8", dtype="complex64").flop == 5 * 4 * 8 * 3
    assert ran("fft", size="4x8").flop == 5 * 4 * 8 * 3 / 2
    assert ran("linear", size="4x8").flop == 2 * 4 * 8 * 8 + 4 * 8


def test_what_is_read_of_expanded_inputs_is_what_lies_in_memory() -> None:
    row = ran("add", size="16x8", layout="expanded")
    assert row.bytes == 2 * 4 * 8 + 4 * 16 * 8
    assert row.input_bytes == 2 * 4 * 16 * 8  # a transfer writes each element


def test_an_operation_that_cannot_be_cut_down_is_checked_at_full_size() -> None:
    row = ran({**op_file("topk"), "derived_dims": {"k": "100"}}, size=128)
    assert (row.status, row.checked_size) == ("ok", "128x128")
    assert row.max_relative_error == 0


def test_the_main_sweep_has_the_lessons_cells(tmp_path: Path) -> None:
    (answer,) = answers(tmp_path, ["+sweep=gpu dry_run=true"])
    cells = [line.partition("    ")[0] for line in answer.stdout.splitlines()]
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


def test_each_file_begins_with_the_command_that_uses_it() -> None:
    """Which ``test_docs.py`` runs, but for those of operations and cases, which are all alike.

    Every operation is run here by its name, and every case in ``test_lesson.py``.
    """
    for path in sorted(CONF.rglob("*.yaml")):
        lines = [
            line for line in path.read_text().splitlines() if not line.startswith("# @package")
        ]
        command = re.fullmatch(r"# (python -m runner.*?)(  +\(.*\))?", lines[0])
        assert command, f"{path}: {lines[0]}"
        words = shlex.split(command[1])[3:]
        if path.parent.name in ("op", "case"):
            assert words[0] == f"{path.parent.name}={path.stem}"
            assert yaml.safe_load(path.read_text())["name"] == path.stem
        else:
            assert path.stem in " ".join(words) or path.name == "config.yaml"
