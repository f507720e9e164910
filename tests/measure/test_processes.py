"""What several processes measured becomes one row."""

import math

import pytest

from runner.measure.processes import combined
from runner.rows.rows import Sample
from tests.support.factories import row


def blocks(process: int, seconds: float) -> list[Sample]:
    """Ten blocks of two calls, of which the last was set aside."""
    return [
        Sample(2, 2 * seconds * (10 if n == 9 else 1), None, 0, 0.0, None, n < 9, process)
        for n in range(10)
    ]


def test_the_interval_covers_the_spread_between_processes() -> None:
    samples = [
        block
        for process, seconds in enumerate((1.0, 1.2, 1.1), start=1)
        for block in blocks(process, seconds)
    ]
    one = row(
        median_s=1.0,
        ci_low_s=0.999,
        ci_high_s=1.001,
        samples=9,
        machine_slowdown=1.02,
        memory_slowdown=1.2,
        preempted_samples=1,
        flop=11,
        flags=("view",),
    )
    both = combined(
        one,
        row(
            median_s=1.1,
            machine_slowdown=1.3,
            as_it_came_s=1.4,
            preempted_samples=2,
            flags=("view", "contended"),
        ),
        samples,
    )
    assert (both.machine_slowdown, both.memory_slowdown) == (1.3, 1.2)
    assert both.as_it_came_s == pytest.approx(1.1)  # of each process, with what was set aside
    assert both.median_s == pytest.approx(1.1)
    assert both.processes == 3
    assert both.samples == 27
    assert both.preempted_samples == 3
    assert both.flop_per_s == pytest.approx(10)
    assert both.flags == ("view", "contended")
    logs = [math.log(v) for v in (1.0, 1.2, 1.1)]
    half = 4.302652729911275 * math.sqrt(
        sum((v - sum(logs) / 3) ** 2 for v in logs) / 2 / 3
    )  # t(0.975, 2)
    assert both.ci_high_s == pytest.approx(math.exp(sum(logs) / 3 + half))
    assert both.ci_low_s == pytest.approx(math.exp(sum(logs) / 3 - half))
