"""Cells one by one: pairs in place of a product, from the command line or a file."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Runner
from tests.support.commands import Answer, answers

FILES = {
    "mine/sweep/pairs.yaml": "# @package _global_\nzip:\n- {op: matmul, size: {m: 8, k: 4}}\n"
    "- {op: exp, size: 16}\nhydra: {sweeper: {params: {threads: '1,2'}}}\n",
    "shapes.csv": "\ufeffop, size ,op.kwargs.dim,dtype\n"
    'softmax,8x16,0,\n\nadd,"64x64 ",,bfloat16\n',
    "shapes.jsonl": '{"op": "softmax", "size": "8x16", "op.kwargs.dim": 0}\n\n'
    '{"op": "add", "size": 64, "dtype": "bfloat16", "op.kwargs.dim": null}\n',
    "counted.csv": "op,size,count\nadd,8,3\nadd,16,2\n",
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
PAIRS = "zip=[{op: matmul, size: 64}, {op: add, size: 128x32}]"
OF_A_FILE = ["softmax 8x16 float32 cpu dim=0", "add 64x64 bfloat16 cpu"]
CELLS = {
    "pairs are cells": (PAIRS, ["matmul 64x64 float32 cpu", "add 128x32 float32 cpu"]),
    "other axes multiply them": (
        f"dtype=float32,bfloat16 {PAIRS}",
        [
            "matmul 64x64 float32 cpu",
            "matmul 64x64 bfloat16 cpu",
            "add 128x32 float32 cpu",
            "add 128x32 bfloat16 cpu",
        ],
    ),
    "a sweep's file may list cells": (
        "--config-dir mine +sweep=pairs",
        [f"{of} float32 cpu threads={n}" for of in ("matmul 8x4", "exp 16x16") for n in (1, 2)],
    ),
    "a file has a line each": ("cells=shapes.csv", OF_A_FILE),
    "or an object": ("cells=shapes.jsonl", OF_A_FILE),
    "a workload lists its calls, and several go together": (
        "workload=mlp,conv_net dtype=float32,bfloat16",
        [
            "mlp.relu_1 64x512 float32 cpu",
            "mlp.relu_1 64x512 bfloat16 cpu",
            "conv_net.relu_1 1x64x112x112 float32 cpu",
            "conv_net.relu_1 1x64x112x112 bfloat16 cpu",
        ],
    ),
    "one call is chosen": ("workload=mlp call=relu_1", ["mlp.relu_1 64x512 float32 cpu"]),
    "shapes may have counts": (
        "cells=counted.csv",
        ["add 8x8 float32 cpu", "add 16x16 float32 cpu"],
    ),
    "which make them a workload": ("cells=counted.csv call=add_2", ["add 16x16 float32 cpu"]),
}
WRONG = {
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


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What each command gives, where those of :data:`CELLS` are dry runs."""
    folder = tmp_path_factory.mktemp("lists")
    (folder / "mine" / "sweep").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "bytes.csv").write_bytes(b"op\n\xff\xfe\n")
    right = [command for command, _ in CELLS.values()]
    commands = [*(f"dry_run=true {command}" for command in right), *WRONG]
    return dict(zip([*right, *WRONG], answers(folder, commands), strict=True))


@pytest.mark.parametrize(("command", "cells"), CELLS.values(), ids=CELLS)
def test_a_list_has_the_cells_that_it_names(
    command: str, cells: list[str], said: dict[str, Answer]
) -> None:
    assert said[command].code == 0, said[command]
    found = [line.partition("    ")[0] for line in said[command].stdout.splitlines()[:-1]]
    of_several_calls = command.startswith("workload=mlp,")
    assert [cell for cell in found if "relu_1" in cell or not of_several_calls] == cells


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


def test_wrong_lists_are_one_line(said: dict[str, Answer]) -> None:
    for command, expected in WRONG.items():
        assert said[command].code == 2, said[command]
        assert expected in said[command].stderr
        assert len(said[command].told) == 1
