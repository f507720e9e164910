"""Cells one by one: pairs in place of a product, from the command line or a file."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Runner
from tests.support.commands import answers


def listed(base: Path, *words: str) -> list[str]:
    """The cells that a dry run lists."""
    (answer,) = answers(base, [[*words, "dry_run=true"]])
    assert answer.code == 0, answer
    return [line.partition("    ")[0] for line in answer.stdout.splitlines()[:-1]]


def test_pairs_are_cells_and_other_axes_multiply_them(tmp_path: Path) -> None:
    pairs = "zip=[{op: matmul, size: 64}, {op: add, size: 128x32}]"
    assert listed(tmp_path, pairs) == ["matmul 64x64 float32 cpu", "add 128x32 float32 cpu"]
    assert listed(tmp_path, pairs, "dtype=float32,bfloat16") == [
        "matmul 64x64 float32 cpu",
        "matmul 64x64 bfloat16 cpu",
        "add 128x32 float32 cpu",
        "add 128x32 bfloat16 cpu",
    ]


def test_a_sweeps_file_may_list_cells(tmp_path: Path) -> None:
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "pairs.yaml").write_text(
        "# @package _global_\nzip:\n- {op: matmul, size: {m: 8, k: 4}}\n- {op: exp, size: 16}\n"
        "hydra: {sweeper: {params: {threads: '1,2'}}}\n"
    )
    cells = listed(tmp_path, "--config-dir", "mine", "+sweep=pairs")
    assert [cell.split()[:2] for cell in cells] == [["matmul", "8x4"]] * 2 + [["exp", "16x16"]] * 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "shapes.csv",
            '\ufeffop, size ,op.kwargs.dim,dtype\nsoftmax,8x16,0,\n\nadd,"64x64 ",,bfloat16\n',
        ),
        (
            "shapes.jsonl",
            '{"op": "softmax", "size": "8x16", "op.kwargs.dim": 0}\n\n'
            '{"op": "add", "size": 64, "dtype": "bfloat16", "op.kwargs.dim": null}\n',
        ),
    ],
)
def test_cells_come_from_a_file_with_a_line_each(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert listed(tmp_path, f"cells={name}") == [
        "softmax 8x16 float32 cpu dim=0",
        "add 64x64 bfloat16 cpu",
    ]


@pytest.mark.slow
def test_listed_cells_run_and_are_taken_up_again(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "shapes.csv").write_text("op,size\nadd,8\nmatmul,16\n")
    command = ["cells=shapes.csv", "timing=minimal"]
    runner(*command, "hydra.sweep.dir=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(rows["op"] + rows["size"]) == ["add8x8", "matmul16x16"]
    (tmp_path / "shapes.csv").write_text("op,size\nadd,8\nmatmul,16\nexp,8\n")
    runner(*command, "resume=out")
    assert len(pd.read_csv(tmp_path / "out" / "results.csv")) == 3


def test_a_workload_lists_its_calls_and_several_go_together(tmp_path: Path) -> None:
    both = listed(tmp_path, "workload=mlp,conv_net", "dtype=float32,bfloat16")
    assert [cell for cell in both if "relu_1" in cell] == [
        "mlp.relu_1 64x512 float32 cpu",
        "mlp.relu_1 64x512 bfloat16 cpu",
        "conv_net.relu_1 1x64x112x112 float32 cpu",
        "conv_net.relu_1 1x64x112x112 bfloat16 cpu",
    ]
    assert listed(tmp_path, "workload=mlp", "call=relu_1") == ["mlp.relu_1 64x512 float32 cpu"]


def test_a_count_makes_a_file_of_shapes_a_workload(tmp_path: Path) -> None:
    (tmp_path / "shapes.csv").write_text("op,size,count\nadd,8,3\nadd,16,2\n")
    cells = listed(tmp_path, "cells=shapes.csv")
    assert cells == ["add 8x8 float32 cpu", "add 16x16 float32 cpu"]
    assert listed(tmp_path, "cells=shapes.csv", "call=add_2") == ["add 16x16 float32 cpu"]


def test_wrong_lists_are_one_line(tmp_path: Path) -> None:
    files = {
        "unknown.csv": "op,colour\nadd,red\n",
        "size.csv": "op,size\nadd,8\nadd,large\n",
        "short.csv": "op,size\nadd\n",
        "twice.csv": "op,op\nadd,mul\n",
        "empty.csv": "op,size\n",
        "text.jsonl": "[1, 2]\n",
        "broken.jsonl": "{\n",
        "lists.jsonl": '{"op": ["add", "mul"], "size": 8}\n',
        "many.csv": "op,size\n" + "add,8\n" * 5,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.csv").write_bytes(b"op\n\xff\xfe\n")
    commands = {
        "cells=unknown.csv": "cells=unknown.csv, line 2: colour is no key of a cell; allowed: op,",
        "cells=size.csv": "cells=size.csv, line 3: ",
        "cells=short.csv": "line 2 has 1 entries, not 2",
        "cells=twice.csv": "a column is there twice",
        "cells=empty.csv": "lists no cell",
        "cells=text.jsonl": "line 1 is no object",
        "cells=broken.jsonl": "cells=broken.jsonl is no list of cells",
        "cells=bytes.csv": "cells=bytes.csv is no list of cells",
        "cells=nowhere.csv": "cells=nowhere.csv cannot be read: No such file",
        "cells=many.csv sweep.max_cells=4": "lists more than sweep.max_cells=4",
        "cells=size.csv zip=[{op:add}]": "both list cells",
        "cells=size.csv size=8,16": "size is given for all cells too",
        "zip=[add]": "zip: add is no cell",
        "zip=[{}]": "zip: {} is no cell",
        # lists of their own lengths, which make no pairs
        "zip={op:[matmul,add],size:[64,128,256]}": "is no list of cells; write an entry for each",
        "zip=[{op:[add,mul],size:[64,128,256]}]": "zip, cell 1: op=['add', 'mul'] is a list, and",
        "zip=[{op:add,dtype:[float32,float64]}]": "is a list, and a cell has one dtype",
        "cells=lists.jsonl": "cells=lists.jsonl, line 1: op=['add', 'mul'] is a list, and a cell",
        "zip=[{op:add,hydra.run.dir:x}]": "hydra.run.dir is no key of a cell",
    }
    for answer, said in zip(answers(tmp_path, list(commands)), commands.values(), strict=True):
        assert answer.code == 2, answer
        assert said in answer.stderr
        assert len(answer.told) == 1
