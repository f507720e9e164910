"""Timing, comparing and checking functions of tensors, in the process that asks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch

from opsweep.given import Function, FunctionOfTensors, device_of
from opsweep.records import Comparison, Gradients, Time
from runner.analysis.pairs import Pairs
from runner.calls.bound_operation import dense
from runner.config.schema import Timing
from runner.execute.turns import pairs_of
from runner.measure.engine import Measurement
from runner.tasks.benchmark import Ready, time_alone
from runner.tasks.in_turn import measured_in_turn, open_side, visit_sides
from runner.verify.gradients.finding import verdict_with_reason
from runner.verify.gradients.verifier import NO_INPUT
from runner.verify.gradients.verifier import check_gradients as verified
from runner.verify.values import relative_error

WARMUP_SHARE = 0.2  # of the time, at most


def time(function: Function, *tensors: torch.Tensor, max_time_s: float = 0.3) -> Time:
    """What a call of a function costs, in this process as it is.

    Args:
        function: is called with copies of the tensors, so that these stay as they are.
        tensors: of any shapes and dtypes, on one device.
        max_time_s: seconds after which sampling stops, however wide the interval is.

    Raises:
        TypeError: the function cannot be called, or one of the others is no strided tensor.
        ValueError: ``max_time_s`` is not positive.
    """
    timing, given = _timing(max_time_s), FunctionOfTensors(function, tensors)
    ready = given.ready(device_of(*tensors, *given.results()), timing)
    return _time(ready, time_alone(ready))


def compare(
    new: Function,
    old: Function,
    *tensors: torch.Tensor,
    margin: float = 0.05,
    max_time_s: float = 1.0,
) -> Comparison:
    """One function against another on the same tensors, in turn until it is clear which is faster.

    Args:
        new: is compared
        old: with this one; both are called with copies of the tensors.
        tensors: of any shapes and dtypes, on one device.
        margin: the relative difference up to which the two count as the same.
        max_time_s: seconds for each of them, after which there are no more turns.

    Raises:
        TypeError: a function cannot be called, or one of the others is no strided tensor.
        ValueError: ``max_time_s`` is not positive, or too short for several calls.
    """
    timing = _timing(max_time_s)
    sides = [FunctionOfTensors(function, tensors) for function in (old, new)]
    results = [side.results() for side in sides]
    device = device_of(*tensors, *chain.from_iterable(results))
    opened = [open_side(side.ready(device, timing)) for side in sides]
    for side, open_ in zip(sides, opened, strict=True):
        if open_.opening.sampled is not None:
            took = f"a call of {side.name} takes {open_.opening.call_s:.3g} s"
            raise ValueError(f"{took}; give max_time_s={20 * open_.opening.call_s:.3g} or more")

    visits = visit_sides(opened, same_within=margin)
    cells = [open_.ready.task.cell for open_ in opened]
    pairs = Pairs(pairs_of(cells, visits, 1))
    ratio = pairs.ratio(cells[0].identity, cells[1].identity, margin)
    assert ratio is not None  # there was a visit
    claimed = ratio.without_interval() if ratio.withheld else ratio
    error, reason = _difference(*results)
    times = [_time(o.ready, measured_in_turn(o, visits, i)) for i, o in enumerate(opened)]
    return Comparison(
        new=times[1],
        old=times[0],
        speedup=ratio.value,
        low=claimed.low,
        high=claimed.high,
        verdict=ratio.verdict(margin),
        margin=margin,
        visits=ratio.visits,
        max_relative_error=error,
        reason="; ".join(filter(None, (ratio.withheld, reason))),
    )


def check_gradients(function: Function, *tensors: torch.Tensor) -> Gradients:
    """Whether a function's gradients are right: finite differences, forward mode, and more.

    Args:
        function: of tensors, or a ``torch.nn.Module``, whose parameters are checked too.
        tensors: their values are the example; gradients are taken of those that need one, or else
            of all floating ones. Calls are many: a few hundred elements are enough.

    Raises:
        TypeError: the function cannot be called, or one of the others is no strided tensor.
        Exception: what the function raises at these tensors.
    """
    given = FunctionOfTensors(function, tensors)
    bound = given.with_gradient()
    if not bound.inputs:
        return Gradients(given.name, "unsupported", NO_INPUT, ())
    checks = verified(bound, device_of(*tensors).torch)
    verdict, reason = verdict_with_reason(checks)
    script = next((check.script for check in checks if check.script), "")
    return Gradients(given.name, verdict or "unsupported", reason, tuple(checks), script)


def _timing(max_time_s: float) -> Timing:
    if not 0 < max_time_s < float("inf"):
        raise ValueError(f"max_time_s={max_time_s}: give a positive number of seconds")
    share_s = WARMUP_SHARE * max_time_s
    return Timing(max_time_s=max_time_s, warmup_s=share_s, patience_s=share_s)


def _time(ready: Ready, found: Measurement) -> Time:
    low_s, high_s = found.interval or (None, None)
    return Time(
        name=ready.task.cell.op,
        median_s=found.median_s,
        low_s=low_s,
        high_s=high_s,
        min_s=found.min_s,
        samples=sum(sample.used for sample in found.samples),
        calls_per_sample=found.calls_per_sample,
        device=ready.task.device.name,
        stop=found.stop,
        flags=found.flags,
    )


def _difference(
    old: Sequence[torch.Tensor], new: Sequence[torch.Tensor]
) -> tuple[float | None, str]:
    """How far results are from others, and why that cannot be said."""
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (new, old)]
    if shapes[0] != shapes[1]:
        return None, f"the results have the shapes {shapes[0]} and {shapes[1]}"
    pairs = [
        [dense(tensor.detach()).cpu() for tensor in pair] for pair in zip(new, old, strict=True)
    ]
    return max((relative_error(*pair) for pair in pairs), default=None), ""
