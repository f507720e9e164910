"""What schema 3 renamed, old -> new: runs of older releases are read by it, old keys and fields are refused by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.errors import ConfigError, suggestion

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
"""By where a name stands: the configuration's keys, the fields of op and case files (and of what a case expects), the
columns of each CSV, and the values of those columns that hold names."""


def with_todays_names(mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A mapping of an older release with the names of this one.

    Args:
        mapping: its keys are old names or new ones.
        where: where they stand, a key of :data:`RENAMED`.
    """
    names = RENAMED[where]
    return {names.get(name, name): value for name, value in mapping.items()}


def refusal(name: str, where: str) -> str:
    """What to say of an old name that somebody wrote; blank where it is none."""
    new = RENAMED[where].get(name)
    return f"{name} was renamed to {new}" if new else ""


def check_fields(
    names: Iterable[object], allowed: Sequence[str], kind: str, source: str, *, listed: str
) -> None:
    """Refuse a field of an op or case file that there is not, or not any more.

    Args:
        names: the fields that the file has.
        allowed: those that it may have.
        kind: op or case.
        source: which file, for the message.
        listed: the words before those that it may have.

    Raises:
        ConfigError: the message has the field's new name, or the one that was perhaps meant.
    """
    for name in map(str, names):
        if name not in allowed:
            unknown = f"unknown field {name!r}{suggestion(name, list(allowed))}; {listed} {', '.join(allowed)}"
            raise ConfigError(f"{source}: {refusal(name, kind) or unknown}")
