"""What schema 3 renamed, old -> new: older runs are read by it, old keys and fields refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

RENAMED: Mapping[str, Mapping[str, str]] = {
    "key": {
        "contended": "on_contention",
        "resume_anyway": "resume_force",
        "report.reuse": "report.calls_per_transfer",
        "report.across_nodes": "report.compare_across_nodes",
        "cluster.cells_per_job": "cluster.cells_per_chunk",
        "cluster.job_time_s": "cluster.chunk_time_s",
        "cluster.together": "cluster.colocate_comparisons",
        "hydra.sweeper.crossover.within": "hydra.sweeper.crossover.rtol",
    },
    "op": {
        "dims": "derived_dims",
        "index": "index_inputs",
        "pack": "as_list",
        "fixed": "nondifferentiable_inputs",
        "about": "description",
    },
    "case": {"given": "inputs", "about": "description"},
    "case expect": {"shares": "aliases"},
    "results.csv": {
        "interruptions": "interruption_source",
        "fraction_of_roof": "fraction_of_peak",
        "roof": "bound",
        "beside": "concurrent_sweep",
    },
    "results.csv compile": {"True": "default", "False": "off"},
    "results.csv stop": {"places": "allocations"},
    "autograd.csv": {"layout": "memory_layout"},
    "autograd.csv oracle": {"itself": "invariant", "backward_plumbing": "autograd_grad"},
    "tensors.csv check": {"shares": "aliases"},
    "transfers.csv": {"off": "max_relative_residual"},
    "roofs.csv": {"kept": "saved_to"},
    "samples.csv": {"place": "allocation", "kept": "used"},
    "speedup.csv": {"reuse": "calls_per_transfer"},
    "crossover.csv": {"reuse": "calls_per_transfer"},
}
"""By where a name stands: the configuration's keys, the fields of op and case files (and of what a
case expects), the columns of each CSV, and the values of those columns that hold names."""


def with_todays_names(mapping: Mapping[str, Value], where: str) -> dict[str, Value]:
    """A mapping of an older release with the names of this one; ``where`` is a key of RENAMED."""
    names = RENAMED[where]
    return {names.get(name, name): value for name, value in mapping.items()}


def refusal(name: str, where: str) -> str:
    """What to say of an old name that somebody wrote; blank where it is none."""
    new = RENAMED.get(where, {}).get(name)
    return f"{name} was renamed to {new}" if new else ""
