"""A line of a bill: what a call of a model, all of them, or a part of the model's time takes."""

from __future__ import annotations

from dataclasses import dataclass

from runner.config.axes import CellKey


@dataclass(frozen=True, kw_only=True)
class Charge(CellKey):
    """A row of ``bill.csv``: a call of a workload, or their sum. Every interval is one of 95 %."""

    workload: str  # the workload that the call belongs to
    # call; model (the model as a whole); sum (of the calls); or what the model's time is made of
    # beside the sum: caches, page_faults, outside, untimed or unexplained; or what it takes with
    # transfers: all_moved, or best_plan
    part: str
    cell: str | None = None  # identity of the measured row; blank for a sum
    node: str | None = None  # the machine that measured it
    count: int | None = None  # how often the model makes the call
    modules: str | None = None  # which parts of the model make it, each with how often
    call_s: float | None = None  # seconds of one call
    call_low_s: float | None = None  # lower end of its interval
    call_high_s: float | None = None  # upper end of its interval
    # seconds of one call where the model makes it, its inputs as they are there
    in_model_s: float | None = None
    total_s: float | None = None  # count times call_s
    share: float | None = None  # share of the side's sum
    bound: str | None = None  # the measured peak that limits the call: compute or memory
    fraction_of_peak: float | None = None  # the share of that peak that the call reaches
    saved_bytes: int | None = None  # bytes that its forward passes keep for a backward pass
    missing: int | None = None  # calls that the sum lacks, since they have no time
    of_model: float | None = None  # total_s over the time of the model itself
    of_model_low: float | None = None  # lower end of its interval
    of_model_high: float | None = None  # upper end of its interval
    axis: str = ""  # the axis on which sides are compared
    baseline: str = ""  # the baseline's value of it
    other: str = ""  # this side's value of it
    # ``total_s`` of the baseline; of a sum, that of the calls which have a time on both sides
    baseline_total_s: float | None = None
    saved_s: float | None = None  # baseline_total_s less what the same calls take on this side
    speedup: float | None = None  # baseline_total_s over that
    # lower end of its interval; of a sum from visits that go through all calls, or blank
    low: float | None = None
    high: float | None = None  # upper end of its interval
    moved: str | None = None  # the calls that are made on this side, where not all are
    # seconds of what then moves between the devices, part of total_s
    transfers_s: float | None = None
    visits: int | None = None  # number of visits in the ratio
    verdict: str | None = None  # faster, slower, same or unclear
    reason: str | None = None  # why there is no time, no ratio, or no interval
