"""Sides that take turns in a process: what they say meanwhile is charged to none of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.execute import turns_run
from runner.execute.turns import ALL_SIDES, Plan
from runner.measure.visits import Visits
from runner.tasks.in_turn import Opened, visit_sides
from tests.support.factories import STATE, cell


def test_waiting_for_a_calm_moment_is_charged_to_no_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, str]] = []

    def on_a_slow_machine(
        opened: Sequence[Opened], *, same_within: float, processes: int, process: int
    ) -> Visits:
        opened[0].ready.task.report_wait(2.0)
        return visit_sides(opened, same_within=same_within, processes=processes, process=process)

    monkeypatch.setattr(turns_run, "visit_sides", on_a_slow_machine)
    cells = [cell("add", size=8, threads=threads) for threads in (1, 2)]
    is_lost, outcome = turns_run.run_in_turn(
        cells,
        STATE,
        Plan(0.02),
        lambda side, step: said.append((side, step)),
        lambda *_: pytest.fail("both sides are here"),
        folders=[tmp_path, tmp_path],
    )
    assert not is_lost and outcome is not None and outcome.pairs
    (waited,) = [side for side, step in said if "2.0 times slower" in step]
    assert waited == ALL_SIDES
    assert {side for side, _ in said} == {0, 1, ALL_SIDES}  # each says its own before and after
