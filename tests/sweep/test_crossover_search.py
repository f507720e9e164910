"""A search for the size at which the other side begins to win.

Few sizes, and no more than it needs.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.analysis.comparison import compare
from runner.analysis.pairs import Pairs
from runner.config.schema import Report
from runner.errors import ConfigError
from runner.rows.rows import PairVisit
from runner.sweep.crossover_search import Outcome, Range, outcome_of, requested_sizes
from tests.support.commands import answers
from tests.support.factories import row


def outcomes(crossing_at: int, **special: Outcome) -> Callable[[int], Outcome]:
    """What a noiseless machine says, but for some sizes."""
    return lambda n: special.get(f"n{n}") or ("wins" if n >= crossing_at else "loses")


def test_a_search_asks_for_few_sizes_and_ends_within_its_share() -> None:
    for true in range(17, 4097):
        sizes = requested_sizes(outcomes(true), Range(16, 4096))
        assert len(sizes) <= Range(16, 4096).max_sizes == 10
        below, above = (max(n for n in sizes if n < true), min(n for n in sizes if n >= true))
        assert above <= below * 1.05 or above == below + 1


def test_a_search_ends_at_once_where_a_side_wins_everywhere_or_nothing_can_be_said() -> None:
    ends = [16, 4096]
    assert requested_sizes(outcomes(1), Range(16, 4096)) == ends
    assert requested_sizes(outcomes(9_999), Range(16, 4096)) == ends
    assert requested_sizes(lambda _: "no_ratio", Range(16, 4096)) == ends


def test_a_search_comes_down_from_what_is_too_large_and_goes_round_what_was_disturbed() -> None:
    assert requested_sizes(outcomes(100, n4096="too_large"), Range(16, 4096))[:4] == [
        16,
        4096,
        256,
        64,
    ]
    assert requested_sizes(lambda n: "too_large" if n > 20 else "loses", Range(16, 4096)) == [
        16,
        4096,
        256,
        64,
    ]
    disturbed = requested_sizes(outcomes(100, n4096="disturbed", n256="disturbed"), Range(16, 4096))
    assert disturbed[:5] == [16, 4096, 4095, 256, 257]
    assert requested_sizes(lambda _: "disturbed", Range(16, 4096)) == [16, 4096, 17, 18]


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, "wins"),
        ({"flags": ("slow_machine",), "machine_slowdown": 1.9}, "disturbed"),
        ({"flags": ("contended",)}, "disturbed"),
        ({"median_s": 0.1, "flags": ("slow_machine",), "machine_slowdown": 1.9}, "wins"),
        ({"status": "out_of_memory", "median_s": None}, "too_large"),
        ({"flags": ("view", "slow_machine")}, "no_ratio"),
    ],
)
def test_a_slow_moment_tells_a_search_nothing_but_what_is_clear(
    fields: dict[str, Any], outcome: Outcome
) -> None:
    times = {"baseline_s": 1.0, "other_s": 1.0, "machine_slowdown": 1.1}
    calm = [PairVisit("a", "b", number, 0, 1, 0, 1, **times) for number in range(200)]
    sides = [row("cpu"), row("gpu", **{"median_s": 0.7, **fields})]
    report = Report(baseline={"device": "cpu"})
    (comparison,) = compare(sides, report, pairs=Pairs(calm))
    assert outcome_of(comparison, sides, report.same_within) == outcome


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 5000, "high": 4096}, r"low=5000 and high=4096 are no sizes from small to large"),
        ({"low": 1, "high": 2.5}, r"low=1 and high=2.5 are no sizes"),
        ({"low": 1, "high": 9, "rtol": 2}, r"rtol=2 is out of range; give a share such as 0.05"),
        (
            {"low": 1, "high": 9, "size": "8x64"},
            r"size=8x64 has no place for the number; write \{n\} there",
        ),
        ({"lwo": 1}, r"give low, high, rtol and size, such as \{low: 16, high: 4096"),
    ],
)
def test_a_range_that_is_none_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Range.of(given)


def test_a_search_that_cannot_be_is_refused(tmp_path: Path) -> None:
    wrong = {
        "size=64": r"size is what this sweep looks for; give its range instead",
        "device=cpu": r"no two cells differ in device alone, one of them with device=cpu; "
        r"give the axis two values",
    }
    said = answers(tmp_path, [["+sweep=crossover", word] for word in wrong])
    for message, answer in zip(wrong.values(), said, strict=True):
        assert answer.code == 2
        assert re.search(message, answer.stderr)
