"""What else changed in a cell: what ran, and whether it can still be compared."""

import json
from typing import Any

import pytest

from runner.analysis.changes import changes, summary_of, what_changed
from tests.support.factories import row

LONG = "k" * 100  # of which the profiler's table has no more


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([["a", 1.0, 0]], [["b", 1.0, 0]], ["a 1 to 0", "b 0 to 1"]),
        ([["a", 1.0, 0], ["c", 2.0, 0]], [["c", 3.0, 0], ["b", 1, 0]], ["a 1 to 0", "b 0 to 1"]),
        ([["a", 1.0, 0]], [["a", 2.0, 0]], ["a 1 to 2"]),
        ([[LONG, 1.0, 0], [LONG, 3.0, 0]], [[LONG, 3.0, 0], [LONG, 1.0, 0]], []),
        ([[LONG, 1.0, 0], [LONG, 3.0, 0]], [[LONG, 3.0, 0]], [f"{LONG} 4 to 3"]),
    ],
)
def test_of_kernels_the_first_that_is_gone_and_the_first_new_one_are_named(
    before: list, after: list, said: list[str]
) -> None:
    found = what_changed(*(row(kernels=json.dumps(kernels)) for kernels in (before, after)))
    assert found == [f"kernels {text}" for text in said]


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ({"status": "unsupported", "median_s": None}, "unsupported"),
        ({"status": "unavailable", "median_s": None}, "unavailable"),
        ({"flags": ("contended", "nonfinite")}, "its output is not finite"),
        ({"flags": ("late_work",)}, "it goes on after it has returned"),
        ({"gradient": "inconclusive"}, "its gradient is inconclusive"),
        ({"flags": ("contended",)}, None),  # which another moment would change
        ({"status": "crashed", "median_s": None}, None),  # it became wrong
        ({"gradient": "fail", "flags": ("wrong_gradient",)}, None),
        ({}, None),
    ],
)
def test_a_cell_that_tells_less_than_before_says_why(
    after: dict[str, Any], lost: str | None
) -> None:
    (found,) = changes(
        [[row(gradient="pass")]],
        [[row(**{"gradient": "pass", **after})]],
        margin=0.01,
        slower_than=0.05,
    ).cells
    assert found.lost == lost


def test_cells_that_an_interrupted_run_lacks_had_to_show_a_difference_too() -> None:
    sizes = [f"{n}x8" for n in range(8, 28)]
    before, after = ([row(size=size) for size in sizes[:most]] for most in (20, 8))
    found = changes([before] * 3, [after] * 3, margin=0.01, slower_than=0.05)
    assert summary_of(found, [0.05], 0.05).could_show == {0.05: 1.0}
    assert summary_of(found, [0.05], 0.05, is_cut_short=True).could_show == {0.05: 0.4}
