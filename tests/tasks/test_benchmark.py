"""Benchmarks on the simulated device: all cells of this file run in one other process."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

CELLS = """
import json
from dataclasses import asdict, replace
from tests.support.factories import QUICK, STATE, cell
from types import SimpleNamespace
from runner.execute.cell_run import run_cell
from runner.measure.device import find_device

sim = {"device": "sim", "backend_module": "tests.support.simulated_device"}
adding = {
    "name": "adding", "call": "tests.tasks.test_benchmark.added", "signature": "n, n -> n",
    "inputs": ["to", "other"], "restore": ["to"], "differentiable": False,
}
where = {
    "name": "where", "call": "tests.tasks.test_benchmark.of_current", "signature": "n -> n",
    "differentiable": False,
}
seen = replace(QUICK, check="profiler", energy_s=0.1)
cells = {
    "graph": cell(adding, size=64, graph=True, **sim),
    "cold": cell("add", size=64, cache="cold", timing=seen, **sim),
    "warm": cell("add", size=64, timing=seen, **sim),
    "second": cell(where, size=64, **{**sim, "device": "sim:1"}),
}
for name, one in cells.items():
    print(json.dumps({name: [asdict(row) for row in run_cell(one, STATE).rows]}, default=str))

device = find_device("sim", sim["backend_module"])
device.flush_cache()
flushed = device._flushed.nbytes
device._module.get_device_properties = lambda of: SimpleNamespace(last_level_cache_size=4 * 2**30)
print(json.dumps({"caches": [{"flushed": flushed, "told": device.cache_bytes}]}))
"""


def added(to: Any, other: Any) -> Any:
    """The sum, in the first one's place."""
    return to.add_(other)


def of_current(x: torch.Tensor) -> torch.Tensor:
    """What works on the current device alone, as Triton's kernels do."""
    assert x.device.index == torch.get_device_module(x.device).current_device()
    return -x


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The row of each cell, by its name."""
    command = [sys.executable, "-c", CELLS]
    known = {**os.environ, "SIM_CLOCK": "scripted", "SIM_MODEL": "small,small"}
    said = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, Any]] = {}
    for line in said.stdout.splitlines():
        if line.startswith("{"):
            ((name, (row,)),) = json.loads(line).items()
            found[name] = row
    return found


@pytest.mark.slow
def test_a_graph_changes_its_inputs_once(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["graph"]
    assert (row["status"], row["checked"]) == ("ok", "full"), row["reason"]
    assert "wrong_values" not in row["flags"]


@pytest.mark.slow
def test_what_calls_in_a_row_find_is_not_said_of_cold_ones(
    rows: dict[str, dict[str, Any]],
) -> None:
    warm, cold = rows["warm"], rows["cold"]
    assert (warm["status"], cold["status"]) == ("ok", "ok")
    assert warm["kernel_s"] > 0 and warm["energy_j"] > 0
    assert cold["kernel_s"] is None and cold["energy_j"] is None


@pytest.mark.slow
def test_a_flush_is_beyond_caches_that_a_device_does_not_tell_of(
    rows: dict[str, dict[str, Any]],
) -> None:
    """It has 4 GB, of which an eighth is taken; some name the cache otherwise than CUDA does."""
    assert rows["caches"] == {"flushed": 500_000_000, "told": 4 * 2**30}


@pytest.mark.slow
def test_a_cell_finds_its_device_to_be_the_current_one(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["second"]["status"] == "ok", rows["second"]["reason"]
