"""A cell measured in several fresh processes: one row, whose interval covers what differs between them.

Some of what an operation costs is settled when a process starts (where its memory lies, which
threads got which core) and stays so to its end, so that no number of samples from one process tells
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from runner.measure.engine import observations
from runner.rows.flags import merged
from runner.rows.rows import BenchmarkRow, Sample
from runner.stats.intervals import mean_interval, quantile


def combined(
    earlier: BenchmarkRow, latest: BenchmarkRow, samples: Sequence[Sample]
) -> BenchmarkRow:
    """The row of a cell after one more process.

    Args:
        earlier: the row of the processes before, which the result otherwise is.
        latest: that of the last process alone.
        samples: of all of them.

    Returns:
        a row whose median is that of the processes' medians, with Student's interval of these.
    """
    # what was settled when a process started makes its samples alike, so that processes
    # count, not samples
    used = [sample for sample in samples if sample.used]
    numbers = sorted({sample.process for sample in used})
    medians = [
        _median_of([sample for sample in used if sample.process == number]) for number in numbers
    ]
    low, high = mean_interval(medians) or (None, None)
    middle = median(medians)

    # the range is that of all samples, and what the processes cost adds up
    times = sorted(sample.wall_s / sample.calls for sample in used)
    return replace(
        earlier,
        median_s=middle,
        ci_low_s=min(low, middle)
        if low is not None
        else None,  # the interval is of the geometric mean
        ci_high_s=max(high, middle) if high is not None else None,
        min_s=times[0],
        q1_s=quantile(times, 0.25),
        q3_s=quantile(times, 0.75),
        samples=len(used),
        processes=len(numbers),
        preempted_samples=(earlier.preempted_samples or 0) + (latest.preempted_samples or 0),
        timing_s=(earlier.timing_s or 0.0) + (latest.timing_s or 0.0),
        stop=latest.stop,
        flop_per_s=earlier.flop / middle if earlier.flop and middle else None,
        bytes_per_s=earlier.bytes / middle if earlier.bytes and middle else None,
        fraction_of_peak=_scaled(earlier.fraction_of_peak, earlier.median_s, middle),
        peak_memory_bytes=max(
            filter(None, (earlier.peak_memory_bytes, latest.peak_memory_bytes)), default=None
        ),
        concurrent_sweep=earlier.concurrent_sweep or latest.concurrent_sweep,
        seconds=(earlier.seconds or 0.0) + (latest.seconds or 0.0),
        flags=merged(earlier.flags, latest.flags),
    )


def _median_of(samples: Sequence[Sample]) -> float:
    return median(
        observations((sample.allocation, sample.wall_s / sample.calls) for sample in samples)
    )


def _scaled(fraction: float | None, was_s: float | None, is_s: float) -> float | None:
    """A fraction of a rate, for another time of the same work."""
    return fraction * was_s / is_s if fraction is not None and was_s and is_s else None
