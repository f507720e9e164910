"""A cell measured in several fresh processes: one row, whose interval covers how these differ.

Some of what an operation costs is settled when a process starts (where its memory lies, which
threads got which core) and stays so to its end, so that no number of samples from one process tells
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from statistics import median

from runner.measure.engine import observations
from runner.rows.flags import merged
from runner.rows.rows import BenchmarkRow, Sample, grouped
from runner.stats.intervals import mean_interval, spread_of


def combined(
    earlier: BenchmarkRow, latest: BenchmarkRow, samples: Sequence[Sample]
) -> BenchmarkRow:
    """The row of a cell after one more process, whose median is that of the processes' medians."""
    # what was settled when a process started makes its samples alike: processes count, not samples
    used = [sample for sample in samples if sample.used]
    medians = _medians(used)
    middle = median(medians)
    slowdowns = filter(None, (earlier.machine_slowdown, latest.machine_slowdown))
    of_memory = filter(None, (earlier.memory_slowdown, latest.memory_slowdown))
    was_slow = earlier.as_it_came_s is not None or latest.as_it_came_s is not None

    # the interval is of the geometric mean, and need not hold the median
    low, high = mean_interval(medians) or (None, None)
    slower = middle / earlier.median_s if earlier.median_s else None
    fraction = earlier.fraction_of_peak
    peaks = [p for p in (earlier.peak_memory_bytes, latest.peak_memory_bytes) if p]

    # the range is that of all samples, and what the processes cost adds up
    times = sorted(sample.wall_s / sample.calls for sample in used)
    return replace(
        earlier,
        median_s=middle,
        ci_low_s=None if low is None else min(low, middle),
        ci_high_s=None if high is None else max(high, middle),
        **spread_of(times),
        machine_slowdown=max(slowdowns, default=None),
        memory_slowdown=max(of_memory, default=None),
        as_it_came_s=median(_medians(samples)) if was_slow else None,
        samples=len(used),
        processes=len(medians),
        preempted_samples=(earlier.preempted_samples or 0) + (latest.preempted_samples or 0),
        timing_s=(earlier.timing_s or 0.0) + (latest.timing_s or 0.0),
        stop=latest.stop,
        flop_per_s=earlier.flop / middle if earlier.flop and middle else None,
        bytes_per_s=earlier.bytes / middle if earlier.bytes and middle else None,
        fraction_of_peak=fraction / slower if fraction is not None and slower else None,
        peak_memory_bytes=max(peaks, default=None),
        concurrent_sweep=earlier.concurrent_sweep or latest.concurrent_sweep,
        seconds=(earlier.seconds or 0.0) + (latest.seconds or 0.0),
        flags=merged(earlier.flags, latest.flags),
    )


def _medians(samples: Sequence[Sample]) -> list[float]:
    """Seconds of a call in each process."""
    medians = []
    for of_process in grouped(samples, attrgetter("process")).values():
        timed = ((sample.allocation, sample.wall_s / sample.calls) for sample in of_process)
        medians.append(median(observations(timed)))
    return medians
