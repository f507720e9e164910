"""The command beside a row measures the row's cell again, and nothing else."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from runner.report.page.command import Reproducer
from runner.rows.environment_file import read_environment
from runner.rows.rows import AutogradRow, BenchmarkRow, Row, TensorRow, TransferRow
from tests.support.commands import answers

KNOWN = {"cell": "c1", "size": "64x64", "dtype": "float32", "device": "cpu", "threads": 2}
ADD = BenchmarkRow(
    **KNOWN,
    job="benchmark",
    op="add",
    cache="warm",
    layout="contiguous",
    fill="normal",
    compile="off",
)


def command(row: Row, *given: str, varying: tuple[str, ...] = ()) -> str:
    """The command of a row in a run that was made with these arguments."""
    return Reproducer(
        {"command": ["/usr/bin/python", "/x/runner/__main__.py", *given]}, varying
    ).command(row)


COMMANDS: list[tuple[Row, list[str], str]] = [
    (ADD, [], "python -m runner op=add size=64x64 dtype=float32 device=cpu threads=2"),
    (
        ADD,
        [
            "+sweep=cpu",
            "dtype=float32,float16",
            "timing=minimal",
            "hydra.sweep.dir=x",
            "hydra.mode=MULTIRUN",
        ],
        "python -m runner +sweep=cpu timing=minimal op=add size=64x64 dtype=float32 device=cpu "
        "threads=2 "
        "'hydra.sweeper.also=[]'",
    ),
    (
        BenchmarkRow(
            **{**KNOWN, "size": "8x8 n=3"},
            job="benchmark",
            op="matmul",
            compile="default",
            direction="both",
        ),
        ["-m", "size={m: 8, k: 8, n: 3}", "exclude=[{op: add}]", "strict=true"],
        "python -m runner op=matmul 'size=\"8x8 n=3\"' dtype=float32 device=cpu threads=2 "
        "direction=both "
        "compile=default",
    ),
    (
        BenchmarkRow(**KNOWN, job="benchmark", op="softmax"),
        ["-m", "op=softmax", "op.kwargs.dim=0,1"],
        "python -m runner -m op.kwargs.dim=0,1 op=softmax size=64x64 dtype=float32 device=cpu "
        "threads=2",
    ),
    (
        BenchmarkRow(**KNOWN, job="benchmark", op="softmax", parameters="dim=0 dtype=torch.int8"),
        ["-m", "op=softmax", "op.kwargs.dim=0,1", "+op.kwargs.dtype=torch.int8,torch.half"],
        "python -m runner op=softmax size=64x64 dtype=float32 device=cpu threads=2 "
        "op.kwargs.dim=0 +op.kwargs.dtype=torch.int8",
    ),
    (
        TensorRow(**KNOWN, job="tensors", op="lesson_1_1_random", case="lesson_1_1_random"),
        ["+sweep=lesson"],
        "python -m runner dtype=float32 device=cpu threads=2 case=lesson_1_1_random",
    ),
    (
        AutogradRow(**KNOWN, job="autograd", op="add", memory_layout="inputs spaced"),
        [],
        "python -m runner op=add size=64x64 dtype=float32 device=cpu threads=2 job=autograd",
    ),
    (
        TransferRow(**{**KNOWN, "device": "gpu"}, job="transfer", op="transfer"),
        ["+sweep=lesson"],
        "python -m runner device=gpu threads=2 job=transfer",
    ),
]


@pytest.mark.parametrize(("row", "given", "expected"), COMMANDS)
def test_a_command_names_its_cell(row: Row, given: list[str], expected: str) -> None:
    assert command(row, *given) == expected


def test_every_such_command_runs_one_cell(tmp_path: Path) -> None:
    """Or as many as there are of a field that no option of the report's knows."""
    said = answers(tmp_path, [[*shlex.split(of)[3:], "dry_run=true"] for _, _, of in COMMANDS])
    for (_, _, of), answer in zip(COMMANDS, said, strict=True):
        assert answer.code == 0, answer
        assert answer.stdout.count("\n") == 2 + ("op.kwargs.dim=0,1" in of)


def test_what_is_no_axis_is_the_rows_own_too(tmp_path: Path) -> None:
    given = ["-m", "op=add", "timing=minimal,quick", "backend_module=null,mine"]
    words = {"v1": ["backend_module=null", "timing=quick"]}
    environment = {"command": ["python", "runner", *given], "resumed": [{"variants": words}]}
    (tmp_path / "environment.json").write_text(json.dumps({**environment, "variants": words}))
    problems: list[str] = []
    read = read_environment(tmp_path, problems)
    assert (read["resumed"][0]["variants"], read["variants"], problems) == (words, words, [])
    said = Reproducer(read, ()).command(replace(ADD, variant="v1"))
    assert said == (
        "python -m runner op=add size=64x64 dtype=float32 device=cpu threads=2 "
        "backend_module=null timing=quick"
    )


def test_what_a_grid_of_gradients_sets_is_said_of_its_own_rows_alone() -> None:
    environment = {"command": ["python", "runner", "+sweep=cpu"]}
    of = Reproducer({**environment, "variants": {"v1": ["job=autograd"]}}, ()).command
    gradient = AutogradRow(**KNOWN, job="autograd", op="add", variant="v1")
    assert "job=" not in of(replace(ADD, variant="v1"))
    assert of(gradient).count("job=autograd") == 1


def test_what_other_rows_have_otherwise_is_said() -> None:
    row = replace(ADD, direction="forward")
    assert command(row, varying=("direction",)).endswith(" threads=2 direction=forward")
