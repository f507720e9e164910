"""A line of a bill: what a call of a model, all of them, or a part of the model's time takes."""

from __future__ import annotations

from dataclasses import dataclass

from runner.config.axes import CellKey


@dataclass(frozen=True, kw_only=True)
class Charge(CellKey):
    """A row of ``bill.csv``: a call of a workload, or their sum. Every interval is one of 95 %.

    Attributes:
        workload: the workload that the call belongs to.
        part: call; model (the model as a whole); sum (of the calls); or what the model's time is
            made of beside the sum: caches, page_faults, outside, untimed or unexplained; or what
            it takes with transfers: all_moved, or best_plan.
        cell: identity of the measured row; blank for a sum.
        node: the machine that measured it.
        count: how often the model makes the call.
        modules: which parts of the model make it, each with how often.
        call_s: seconds of one call.
        call_low_s: lower end of its interval.
        call_high_s: upper end of its interval.
        in_model_s: seconds of one call where the model makes it, its inputs as they are there.
        total_s: count times call_s.
        share: share of the side's sum.
        bound: the measured peak that limits the call: compute or memory.
        fraction_of_peak: the share of that peak that the call reaches.
        saved_bytes: bytes that its forward passes keep for a backward pass.
        missing: calls that the sum lacks, since they have no time.
        of_model: total_s over the time of the model itself.
        of_model_low: lower end of its interval.
        of_model_high: upper end of its interval.
        axis: the axis on which sides are compared.
        baseline: the baseline's value of it.
        other: this side's value of it.
        baseline_total_s: ``total_s`` of the baseline.
        saved_s: baseline_total_s - total_s.
        speedup: baseline_total_s / total_s.
        low: lower end of its interval; of a sum from visits that go through all calls, or blank.
        high: upper end of its interval.
        moved: the calls that are made on this side, where not all are.
        transfers_s: seconds of what then moves between the devices, part of total_s.
        visits: number of visits in the ratio.
        verdict: faster, slower, same or unclear.
        reason: why there is no time, no ratio, or no interval.
    """

    workload: str
    part: str
    cell: str | None = None
    node: str | None = None
    count: int | None = None
    modules: str | None = None
    call_s: float | None = None
    call_low_s: float | None = None
    call_high_s: float | None = None
    in_model_s: float | None = None
    total_s: float | None = None
    share: float | None = None
    bound: str | None = None
    fraction_of_peak: float | None = None
    saved_bytes: int | None = None
    missing: int | None = None
    of_model: float | None = None
    of_model_low: float | None = None
    of_model_high: float | None = None
    axis: str = ""
    baseline: str = ""
    other: str = ""
    baseline_total_s: float | None = None
    saved_s: float | None = None
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    moved: str | None = None
    transfers_s: float | None = None
    visits: int | None = None
    verdict: str | None = None
    reason: str | None = None
