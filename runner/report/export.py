"""A run in the formats of other tools: ``report.export``, a file each in the run's folder.

A cell that is not comparable, such as a contended one, is left out: those who read the file would
take its time for a change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from runner import __version__
from runner.analysis.comparison import objection
from runner.config.axes import label
from runner.files import write_atomically
from runner.rows.rows import BenchmarkRow

Rows = Sequence[BenchmarkRow]
QUARTILES = 2 * NormalDist().inv_cdf(0.75)  # from one to the other, in standard deviations
TUKEY = 1.5  # interquartile ranges beyond the quartiles, where outliers begin


def export(root: Path, names: Sequence[str], rows: Rows, environment: Mapping[str, Any]) -> int:
    """Write a run's cells in these formats; returns how many cells are left out of the files."""
    timed = [row for row in rows if not objection(row)]
    for name in names:
        made = FORMATS[name](timed, environment)
        text = json.dumps(made, indent=1, allow_nan=False, default=str)
        write_atomically(root / f"{name}.json", text + "\n")
    return len(rows) - len(timed)


def _named(rows: Rows) -> list[tuple[str, BenchmarkRow]]:
    """Each row with its name, which holds the variant only where two would be called alike.

    Tools keep a series for each name, and a changed timing is no reason for another one.
    """
    labels = [label("benchmark", row) for row in rows]
    count_of = Counter(labels)
    names = [
        f"{name} {row.variant}" if count_of[name] > 1 and row.variant else name
        for name, row in zip(labels, rows, strict=True)
    ]
    return list(zip(names, rows, strict=True))


def _github_action_benchmark(rows: Rows, environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The list that github-action-benchmark reads as ``customSmallerIsBetter``.

    https://github.com/benchmark-action/github-action-benchmark, README, "Custom benchmark".
    """
    entries = []
    for name, row in _named(rows):
        extra = ", ".join([f"cell={row.cell}", f"samples={row.samples}", *row.flags])
        entry = {"name": name, "unit": "s", "value": row.median_s, "extra": extra}
        if row.ci_low_s is not None and row.ci_high_s is not None:
            entry["range"] = f"{row.ci_low_s:.6g} to {row.ci_high_s:.6g}"
        entries.append(entry)
    return entries


def _pytest_benchmark(rows: Rows, environment: Mapping[str, Any]) -> dict[str, Any]:
    """A file as ``pytest --benchmark-json`` writes it, for ``pytest-benchmark compare``.

    https://github.com/ionelmc/pytest-benchmark, ``session.py`` and ``stats.py``.
    """
    host, git = environment.get("host") or {}, _measured_commit(environment)
    return {
        "machine_info": {**host, "node": host.get("name"), "torch": environment.get("torch")},
        "commit_info": {"id": git.get("commit") or "unversioned", "dirty": git.get("changed")},
        "benchmarks": [_benchmark(name, row) for name, row in _named(rows)],
        "datetime": environment.get("started"),
        "version": f"opsweep {__version__}",
    }


def _measured_commit(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The checkout of the code that was measured; where torch's own was, this program's."""
    of_code = [described.get("git") for described in (environment.get("code") or {}).values()]
    return next(filter(None, of_code), None) or environment.get("git") or {}


def _benchmark(name: str, row: BenchmarkRow) -> dict[str, Any]:
    return {
        "group": row.op,
        "name": name,
        "fullname": name,
        "params": {"size": row.size, "dtype": row.dtype, "device": row.device},
        "param": name,
        "extra_info": {"cell": row.cell, "flags": list(row.flags)},
        "options": {"timer": "perf_counter", "warmup": True, "disable_gc": True},
        "stats": _stats(row),
    }


def _stats(row: BenchmarkRow) -> dict[str, Any]:
    """What is a row's; a deviation is a normal distribution's of the same quartiles."""
    low, high = row.q1_s or 0.0, row.q3_s or 0.0
    mean, rounds = row.mean_s or row.median_s or 0.0, row.samples or 0
    return {
        "min": row.min_s,
        "max": row.max_s,
        "mean": mean,
        "stddev": (high - low) / QUARTILES,
        "rounds": rounds,
        "median": row.median_s,
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": None,  # which nobody has counted
        "stddev_outliers": None,
        "outliers": "",
        "ld15iqr": max(row.min_s or 0.0, low - TUKEY * (high - low)),
        "hd15iqr": min(row.max_s or high, high + TUKEY * (high - low)),
        "ops": 1 / mean if mean else None,
        "total": mean * rounds,  # of a call, as its rounds' times are
        "iterations": row.calls_per_sample,
    }


FORMATS: Mapping[str, Callable[[Rows, Mapping[str, Any]], object]] = {
    "github_action_benchmark": _github_action_benchmark,
    "pytest_benchmark": _pytest_benchmark,
}
