"""A model from its trace to its bill, from the command line; and wrong models, each in a line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from runner.report.place import place
from tests.conftest import ROOT, Runner
from tests.support.commands import answers

MODEL = """
import torch
from torch import nn

def make_model():
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())

def make_inputs():
    return torch.rand(16, 32)

def make_wide_inputs():
    return torch.rand(16, 33)

def fails():
    raise OSError("no weights")
"""
TRACE = ["job=trace", "model=net.make_model", "inputs=net.make_inputs", "name=net", "into=mine"]
SWEEP = ["--config-dir", "mine", "workload=net", "timing=minimal"]


@pytest.mark.exhaustive
def test_a_model_is_traced_swept_and_billed(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    runner(*TRACE, "hydra.run.dir=traced")
    (row,) = pd.read_csv(tmp_path / "traced" / "trace.csv").to_dict("records")
    assert (row["calls"], row["distinct"], row["not_reproduced"]) == (6, 5, 0)
    calls = yaml.safe_load((tmp_path / "mine" / "workload" / "net.yaml").read_text())["net"][
        "calls"
    ]
    assert [call["name"] for call in calls] == [
        *("model", "t_1", "addmm_1", "relu_1", "t_2", "addmm_2"),
    ]
    assert calls[3]["count"] == 2

    runner(*SWEEP, "threads=1,2", "hydra.sweep.dir=out")
    bill = pd.read_csv(tmp_path / "out" / "bill.csv")
    # what the model's time is made of is told where it was measured in a calm moment
    further = {"caches", "page_faults", "outside", "unexplained"}
    assert list(bill["part"][~bill["part"].isin(further)]) == ["sum", "model", *["call"] * 5] * 2
    assert (bill["in_model_s"][bill["part"] == "call"] > 0).all()
    sums = bill[bill["part"] == "sum"]
    of_calls = bill[bill["part"] == "call"].groupby("threads")["total_s"].sum()
    assert list(sums["total_s"]) == pytest.approx(list(of_calls))
    assert (tmp_path / "out" / "rounds.csv").is_file()
    report = (tmp_path / "out" / "report.md").read_text()
    assert "What does net pay?" in report and "| all calls | 5 calls |" in report
    assert 'id="table-bill"' in (tmp_path / "out" / "report.html").read_text()

    # the tables alone give the same bill, and each row's command measures its call
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(rows["workload"]) == {"net"}
    runner("job=report", "run=out")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "bill.csv"), bill)
    page = (tmp_path / "out" / "report.html").read_text()
    command = re.search(r"python -m runner [^<]*call=relu_1[^<]*", page)
    assert command
    (listed,) = answers(tmp_path, [[*command[0].split()[3:], "dry_run=true"]])
    assert listed.stdout.startswith("net.relu_1 16x64")


BERT = """
import torch
from torch import nn
from transformers import BertConfig, BertModel

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
        self.model = BertModel(BertConfig(num_hidden_layers=2, vocab_size=1000, **sizes))

    def forward(self, words):
        return self.model(words).last_hidden_state

def make_inputs():
    return torch.randint(0, 1000, (2, 32))
"""


@pytest.mark.exhaustive
def test_a_model_of_another_package_is_billed(runner: Runner, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "bert.py").write_text(BERT)
    inputs = ["inputs=bert.make_inputs", "name=bert", "into=mine"]
    runner("job=trace", "model=bert.Encoder", *inputs, "hydra.run.dir=traced")
    (row,) = pd.read_csv(tmp_path / "traced" / "trace.csv").to_dict("records")
    assert row["not_reproduced"] == 0 and row["calls"] > row["distinct"] > 10

    runner(*SWEEP[:1], "mine", "workload=bert", "timing=minimal", "hydra.sweep.dir=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(rows["status"]) == {"ok"} and rows["checked"].notna().all()
    bill = pd.read_csv(tmp_path / "out" / "bill.csv")
    calls = bill[bill["part"] == "call"]
    assert calls["count"].sum() == row["calls"] and (calls["in_model_s"] > 0).all()


@pytest.mark.exhaustive
def test_a_killed_sweep_of_a_workload_is_taken_up_again(runner: Runner, tmp_path: Path) -> None:
    lines = [
        {"function": "torch.add", "args": [{"shape": [8, n]}, 1.0], "outputs": [[8, n]], "count": n}
        for n in range(1, 31)
    ]
    lines.append({"function": "torch.nonzero", "reason": "its result depends on the numbers"})
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ["cells=many.jsonl", "timing=minimal", "threads=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *command, "hydra.sweep.dir=out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(tmp_path.glob("out/*/results.csv"))) < 10:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    runner(*command, "resume=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(rows["count"]) == [*range(1, 31), 1]
    assert rows["reason"].iloc[-1] == "its result depends on the numbers"
    assert pd.read_csv(tmp_path / "out" / "bill.csv").loc[0, "missing"] == 1


@pytest.mark.exhaustive
def test_a_wrong_model_is_one_line(tmp_path: Path, runner: Runner) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    wrong = {
        "model=net.fails": "model=net.fails cannot be built: OSError: no weights",
        "inputs=net.make_wide_inputs": "does not take what inputs=net.make_wide_inputs gives",
        "model=net.nothing": "net has no 'nothing'",
    }
    for word, said in wrong.items():
        done = runner(*TRACE, word, code=2)
        (line,) = [line for line in done.stderr.splitlines() if "importing torch" not in line]
        assert said in line
    assert not (tmp_path / "mine").exists()


def test_a_wrong_workload_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine" / "workload").mkdir(parents=True)
    files = {
        "no_function": "no_function: {calls: [{count: 3}]}",
        "no_outputs": "no_outputs: {calls: [{function: torch.add, args: []}]}",
        "no_field": "no_field: {calls: [{function: torch.add, arg: []}]}",
        "good": "good: {calls: [{op: add, size: 8, count: 2}]}",
    }
    for name, text in files.items():
        (tmp_path / "mine" / "workload" / f"{name}.yaml").write_text(text)
    wrong = {
        "workload=no_function": "workload no_function, call 1: missing field function",
        "workload=no_outputs": "call 1: torch.add: missing field outputs",
        "workload=no_field": "call 1: a call: unknown field 'arg' (did you mean 'args'?)",
        "workload=goods": "workload=goods is unknown; did you mean good?",
        "workload=good call=ad_1": "call=ad_1 is none (did you mean 'add_1'?)",
        "workload=good size=8": "size is given for all cells too",
        "job=trace name=a": "job=trace needs model, inputs, into",
    }
    commands = [f"--config-dir mine {words} dry_run=true" for words in wrong]
    for answer, said in zip(answers(tmp_path, commands), wrong.values(), strict=True):
        assert answer.code == 2, answer
        assert said in answer.stderr
        assert len(answer.told) == 1


def test_a_call_goes_where_it_was_faster(tmp_path: Path) -> None:
    calls = [{"op": "add", "shape": [8, 8], "dtype": "float32", "device": "cpu", "sure": True}]
    curve = {"op": "matmul", "dtype": "float32", "device": "gpu", "wins_from": [90, 100, 120]}
    curves = [
        {**curve, "smallest": 10, "largest": 1000},
        {**curve, "op": "exp", "wins_from": [None, None, None], "smallest": 10, "largest": 1000},
    ]
    file = tmp_path / "place.json"
    file.write_text(json.dumps({"baseline": "cpu", "calls": calls, "curves": curves}))
    asked = {
        ("add", (8, 8)): ("cpu", 0.95),
        ("add", (8, 9)): ("cpu", 0.0),
        ("matmul", (5, 10)): ("cpu", 0.95),
        ("matmul", (11, 10)): ("gpu", 0.5),
        ("matmul", (20, 10)): ("gpu", 0.95),
        ("matmul", (2000, 10)): ("gpu", 0.5),
        ("exp", (20, 10)): ("cpu", 0.95),
    }
    for (op, shape), answer in asked.items():
        assert place(op, shape, "float32", str(file)) == answer
