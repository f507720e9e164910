"""What found no calm moment is visited again when all else is done, within a share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Generic

from runner.cells.cell import Cell
from runner.execute.cell_runner import CellGroup, CellRunner, Run, in_rounds
from runner.files import write_atomically

RunGroup = Callable[[CellGroup[Run], int], None]
Tell = Callable[[Sequence[Cell], int, float], None]


def run_all(
    cells: CellRunner,
    groups: Sequence[CellGroup[Run]],
    share: float,
    run: RunGroup[Run],
    tell: Tell,
) -> None:
    """Run all groups, then again those that found no calm moment, the first to wait first.

    That may take a ``share`` of the time of the first visits; none begins that took longer than
    what is left of it. A visit that found a slower machine than the one before leaves what that one
    gave. ``tell`` is told their cells, in how many processes they run, and the rest.
    """
    left_s = share * _run(groups, run)
    waiting = list(filter(_found_no_calm, groups))
    while chosen := _fitting(waiting, left_s):
        going = set(map(id, chosen))
        waiting = [group for group in waiting if id(group) not in going]
        tell([of.cell for of in chain.from_iterable(g.runs for g in chosen)], steps(chosen), left_s)
        cells.wait_for_files()
        before = [_Before(group) for group in chosen]
        left_s -= _run(chosen, run)
        for first in before:
            if first.was_better:
                first.restore_rows()
                cells.save(first.restore_files)
        waiting += filter(_found_no_calm, chosen)


def steps(groups: Sequence[CellGroup[Run]]) -> int:
    """How many times a cell begins in its groups' processes."""
    return sum(len(group.runs) * group.processes for group in groups)


def _fitting(waiting: Sequence[CellGroup[Run]], left_s: float) -> list[CellGroup[Run]]:
    """Those that take no longer than what is left, the first to wait first."""
    chosen = []
    for group in waiting:
        if group.spent_s <= left_s:
            left_s -= group.spent_s
            chosen.append(group)
    return chosen


class _Before(Generic[Run]):
    """What a group's visits gave before the next ones."""

    def __init__(self, group: CellGroup[Run]) -> None:
        self._group, self._slowdown = group, _slowdown(group)
        self._rows = [run.rows for run in group.runs]
        self._tables = {table: table.read_bytes() for table in self._there()}

    @property
    def was_better(self) -> bool:
        """Whether the next ones failed, or found the machine slower still."""
        is_slow = _found_no_calm(self._group) and _slowdown(self._group) > self._slowdown
        return is_slow or not all(run.did_well for run in self._group.runs)

    def restore_rows(self) -> None:
        """Have the rows back."""
        for run, rows in zip(self._group.runs, self._rows, strict=True):
            run.rows = rows

    def restore_files(self) -> None:
        """Have the tables in the cells' folders back."""
        for table in set(self._there()) - self._tables.keys():
            table.unlink()
        for table, content in self._tables.items():
            write_atomically(table, content)

    def _there(self) -> Iterator[Path]:
        return chain.from_iterable(run.folder.glob("*.csv") for run in self._group.runs)


def _slowdown(group: CellGroup[Run]) -> float:
    rows = chain.from_iterable(run.rows for run in group.runs)
    return max((getattr(row, "machine_slowdown", None) or 1.0 for row in rows), default=1.0)


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
