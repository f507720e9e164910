"""What jobs say stands in files, from which a resumed sweep has what a dead driver did not read."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from runner.cells.cell import Cell
from runner.cluster.chunk import Chunk
from runner.cluster.chunk_folder import ChunkWriter
from runner.cluster.messages import CellResult, ChunkStarted, Ending, JobEnded, append, read
from runner.cluster.takeover import take_over
from runner.errors import ConfigError
from tests.support.factories import cell, ran

STARTED = ChunkStarted("node-a", {"id": "e1", "started": "now", "variables": {"OMP_X": "1"}})


def result(of: Cell, **row: object) -> CellResult:
    text = "calls,wall_s\n5,0.1\n"
    return CellResult(of.identity, [ran(size=of.size, **row)], text, "a log\n", "now")


def test_messages_are_read_as_they_were_said_and_damage_costs_its_line_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.messages"
    with pytest.raises(FileNotFoundError):  # another driver has taken over
        append(path, STARTED)
    path.touch()
    said = [STARTED, result(cell(size=4)), JobEnded(Ending.DONE, place="n1", of_node=True)]
    for message in said[:2]:
        append(path, message)
    messages, end = read(path)
    assert messages == said[:2]
    with path.open("ab") as file:
        file.write(b'{"kind": "CellResult", "cell')  # whoever wrote was killed
    assert read(path, end) == ([], end)
    append(path, said[2])
    assert read(path, end)[0] == said[2:]
    assert read(path)[0] == said
    foreign = b"""[]\n{"kind": "os"}\n{"kind": "ChunkStarted", "node": 1, "environment": {}}\n
{"kind": "CellResult", "job": "benchmark", "cell": "c", "rows": [], "samples": "", "log": "",
 "ended": ""}\n{"kind": "JobEnded"}\n"""
    path.write_bytes(foreign)
    assert read(path)[0] == []


def test_a_resumed_sweep_has_what_jobs_said_to_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "environment.json").write_text("{}")
    cells = tuple(cell(size=size) for size in (4, 5, 6))
    shared = tmp_path / ".shared"
    shared.mkdir()
    writer = ChunkWriter(tmp_path, lambda number: (f"seed={number}",), samples=True)
    run = writer.begin(Chunk((0, 1, 2), cells))
    elsewhere = ChunkWriter(tmp_path, samples=True, messages=shared).begin(Chunk((3,), cells[:1]))
    for message in (STARTED, result(cells[0]), result(cells[1])):
        append(run.messages, message)
    take_over(tmp_path)
    said = capsys.readouterr().err
    assert said == "2 cells had ended in 2 jobs whose driver was gone; cancelled: 0\n"
    rows = pd.read_csv(run.folder / "results.csv")
    assert list(rows["cell"]) == [one.identity for one in cells[:2]]
    about = json.loads((run.folder / "chunk.json").read_text())
    assert (about["messages"], about["node"]) == (None, "node-a")
    assert about["cells"] == {one.identity: f"seed={n}" for n, one in enumerate(cells)}
    assert not run.messages.exists()
    assert not elsewhere.folder.exists()  # nothing was left of it
    assert not list(shared.iterdir())
    take_over(tmp_path)
    assert not capsys.readouterr().err


def test_what_a_chunks_file_names_is_left_alone_where_it_is_no_file_of_messages(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(["../own.txt", "x.messages", None, 5]):
        folder = tmp_path / f"{number}_1-cells-1"
        folder.mkdir()
        (folder / "chunk.json").write_text(json.dumps({"messages": name, "cells": {}}))
    (tmp_path / "own.txt").write_text("mine")
    take_over(tmp_path)
    assert (tmp_path / "own.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("*/chunk.json"))) == 4


def test_jobs_that_may_still_run_are_not_doubled_where_nothing_is_known_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    writer = ChunkWriter(tmp_path / "out", samples=True)
    run = writer.begin(Chunk((0,), (cell(),)))
    run.job_id = "17"
    writer.describe(run)
    monkeypatch.setenv("PATH", str(tmp_path))
    advice = "the jobs 17 of Slurm, which this sweep has sent, may still run; resume where squeue"
    with pytest.raises(ConfigError, match=advice):
        take_over(tmp_path / "out")
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    os.chmod(tmp_path / "squeue", 0o755)
    with pytest.raises(ConfigError, match="Slurm does not answer"):
        take_over(tmp_path / "out")
    assert run.messages.exists()
