"""``job=noise``: which differences this machine lets one see, from pairs that differ in nothing.

What it finds is kept in ``noise.csv`` in the folder for caches, for a week, for later reports.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import date
from operator import attrgetter
from statistics import median
from typing import Any

import torch

from runner.analysis.pairs import FEWEST_CALM
from runner.config.schema import Report
from runner.measure.cache_table import CacheTable
from runner.measure.noise_sources import PAIR
from runner.rows.rows import NoiseRow
from runner.stats import sequential
from runner.stats.intervals import rate_high
from runner.tasks.benchmark import prepare
from runner.tasks.in_turn import open_side, visit_sides
from runner.tasks.task import Function, Task, TaskResult

PAIRS = 8  # of a cell
MARGIN = Report.same_within
EXPIRES_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Calibration:
    """A line of the file; what its fields are is said of rows."""

    host: str
    device_name: str
    threads: int
    torch: str  # its version
    op: str
    size: str
    dtype: str
    at_s: float  # seconds since 1970
    pairs: int
    alarms: int
    largest_difference: float
    visits: int
    smallest_difference: float
    alarm_rate_high: float
    calm_share: float


def run(task: Task) -> TaskResult:
    """Compare an operation with its twin several times; keep what that shows of the machine.

    Raises:
        RuntimeError: a call takes too long to be visited, or is a module's.
        OSError: what was found cannot be kept.
    """
    pairs = [_pair(task, number) for number in range(PAIRS)]
    ratios = [ratio for ratio, _ in pairs if ratio is not None]
    calm_share = sum(share for _, share in pairs) / PAIRS
    row = replace(task.blank(NoiseRow), pairs=len(ratios), calm_share=calm_share)
    if not ratios:
        return TaskResult([row])

    # what each interval says, and what it would have said of sides that differ
    ends = [(ratio.low, ratio.high, MARGIN) for ratio in ratios]
    alarms = sum(sequential.verdict_of(*of) in ("faster", "slower") for of in ends)
    told = (
        sequential.smallest_difference(r.value, *of) for r, of in zip(ratios, ends, strict=True)
    )
    row = replace(
        row,
        visits=round(median(ratio.visits for ratio in ratios)),
        smallest_difference=median(filter(None, told)),
        largest_difference=max(max(ratio.value, 1 / ratio.value) - 1 for ratio in ratios),
        alarms=alarms,
        alarm_rate_high=rate_high(alarms, len(ratios)),
    )
    here: dict[str, Any] = {
        "host": platform.node(),
        "torch": str(torch.__version__),
        "at_s": time.time(),
    }
    of_row = {name: getattr(row, name, None) for name in Calibration.__annotations__}
    SAVED.put(Calibration(**{**of_row, **here}), patience_s=10)
    return TaskResult([row])


def calibrations(device_names: Collection[str]) -> list[dict[str, Any]]:
    """What is known of devices of this machine, for ``environment.json``."""
    here, now = (platform.node(), str(torch.__version__)), time.time()
    lines = [line for line in SAVED.read() if (line.host, line.torch) == here]
    lines = [line for line in lines if line.device_name in device_names]
    valid = [line for line in lines if now - line.at_s < EXPIRES_S]
    return [{**asdict(line), "date": str(date.fromtimestamp(line.at_s))} for line in valid]


def _pair(task: Task, number: int) -> tuple[sequential.PairedRatio | None, float]:
    """The ratio of an operation and its twin, if moments were calm, and the share that were."""
    task.report_step(f"{PAIR} {number + 1} of {PAIRS}")
    seeded = replace(task, cell=replace(task.cell, seed=task.cell.seed + number))
    opened = [open_side(prepare(replace(seeded, function=twin))) for twin in _twins(task.function)]
    if any(side.opening.sampled is not None for side in opened):
        raise RuntimeError("a call takes too long to be visited in turn; give a smaller size")
    visits = visit_sides(opened, same_within=MARGIN).visits
    calm = [visit for visit in visits if visit.calm and visit.is_undisturbed((0, 1))]
    share = len(calm) / len(visits)
    if len(calm) < FEWEST_CALM:
        return None, share
    seconds = [[turn.seconds for turn in visit.turns] for visit in calm]
    return sequential.paired_ratio([sequential.log_ratios(seconds, 1)], MARGIN), share


def _twins(function: Function | None) -> tuple[Function, Function]:
    """Two functions of their own that do the same."""
    if function is None or isinstance(function, type | torch.nn.Module):
        raise RuntimeError("job=noise compares functions, and this is none")
    call: Callable[..., Any] = function

    def one(*args: object, **kwargs: object) -> object:
        return call(*args, **kwargs)

    def other(*args: object, **kwargs: object) -> object:
        return call(*args, **kwargs)

    return one, other


def _can_be(line: Calibration) -> bool:
    return 0 <= line.largest_difference < 1e9 and 0 <= line.at_s < 1e11


_key = attrgetter("host", "device_name", "threads", "torch", "op", "size", "dtype")
SAVED = CacheTable("noise.csv", Calibration, _can_be, _key)
