"""What found no calm moment is visited again when all else is done, within a share of the time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

from runner.cells.cell import Cell
from runner.execute.cell_runner import CellGroup, Run, in_rounds

RunGroup = Callable[[CellGroup[Run], int], None]
Tell = Callable[[Sequence[Cell], int, float], None]


def run_all(groups: Sequence[CellGroup[Run]], share: float, run: RunGroup[Run], tell: Tell) -> None:
    """Run all groups, then again those that found no calm moment, the first to wait first.

    That may take a ``share`` of the time of the first visits; none begins that took longer than
    what is left of it. ``tell`` is told their cells, in how many processes they run, and the rest.
    """
    left_s = share * _run(groups, run)
    waiting = deque(filter(_found_no_calm, groups))
    while waiting and waiting[0].spent_s <= left_s:
        chosen: list[CellGroup[Run]] = []
        rest_s = left_s
        while waiting and waiting[0].spent_s <= rest_s:
            rest_s -= waiting[0].spent_s
            chosen.append(waiting.popleft())
        cells = [run.cell for run in chain.from_iterable(group.runs for group in chosen)]
        tell(cells, steps(chosen), left_s)
        left_s -= _run(chosen, run)
        waiting += filter(_found_no_calm, chosen)


def steps(groups: Sequence[CellGroup[Run]]) -> int:
    """How many times a cell begins in its groups' processes."""
    return sum(len(group.runs) * group.processes for group in groups)


def _run(groups: Sequence[CellGroup[Run]], run: RunGroup[Run]) -> float:
    """The seconds that it took; each group knows its own."""
    start = time.monotonic()
    for process, group in in_rounds(groups):
        begun = time.monotonic()
        run(group, process)
        group.spent_s = time.monotonic() - begun + (group.spent_s if process > 1 else 0.0)
    return time.monotonic() - start


def _found_no_calm(group: CellGroup[Run]) -> bool:
    rows = chain.from_iterable(run.rows for run in group.runs)
    return any("slow_machine" in getattr(row, "flags", ()) for row in rows)
