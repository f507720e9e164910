"""Benchmarks on the simulated device: all cells of this file run in one other process."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

CELLS = """
import json
from dataclasses import asdict
from tests.support.factories import STATE, cell
from runner.execute.cell_run import run_cell

sim = {"device": "sim", "backend_module": "tests.support.simulated_device"}
adding = {
    "name": "adding", "call": "tests.tasks.test_benchmark.added", "signature": "n, n -> n",
    "inputs": ["to", "other"], "restore": ["to"], "differentiable": False,
}
cells = {
    "graph": cell(adding, size=64, graph=True, **sim),
}
for name, one in cells.items():
    print(json.dumps({name: [asdict(row) for row in run_cell(one, STATE).rows]}, default=str))
"""


def added(to: Any, other: Any) -> Any:
    """The sum, in the first one's place."""
    return to.add_(other)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The row of each cell, by its name."""
    command = [sys.executable, "-c", CELLS]
    known = {**os.environ, "SIM_CLOCK": "scripted"}
    said = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, Any]] = {}
    for line in said.stdout.splitlines():
        if line.startswith("{"):
            ((name, (row,)),) = json.loads(line).items()
            found[name] = row
    return found


def test_a_graph_changes_its_inputs_once(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["graph"]
    assert (row["status"], row["checked"]) == ("ok", "full"), row["reason"]
    assert "wrong_values" not in row["flags"]
