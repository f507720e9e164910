"""What found no calm moment is visited again when all else is done, within a share of the time."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from runner.cells.cell import Cell
from runner.execute.cell_runner import CellGroup, CellRun, CellRunner, Run, in_rounds
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

    def run_first(group: CellGroup[Run], process: int) -> None:
        run(group, process)
        is_done = share == 0 or not _found_no_calm(group)
        # a baseline may be in another group too
        if process == group.processes and is_done and len(group.runs) == 1:
            for of in cells.runs_of(group):  # which may be a hundred thousand in all
                of.rows = []

    left_s = share * _run(groups, run_first)
    waiting = list(filter(_found_no_calm, groups))
    under_way: set[int] = set()

    def run_again(group: CellGroup[Run], process: int) -> None:
        under_way.add(id(group))
        run(group, process)
        if process == group.processes:
            under_way.remove(id(group))

    while chosen := _fitting(waiting, left_s):
        going = set(map(id, chosen))
        waiting = [group for group in waiting if id(group) not in going]
        tell([of.cell for of in chain.from_iterable(g.runs for g in chosen)], steps(chosen), left_s)
        cells.wait_for_files()
        before = [_Before(cells.runs_of(group)) for group in chosen]
        try:
            left_s -= _run(chosen, run_again)
        finally:  # also where a signal ended them
            for group, first in zip(chosen, before, strict=True):
                if id(group) in under_way or first.was_better:
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


class _Before:
    """What visits to some cells gave before the next ones."""

    def __init__(self, runs: Sequence[CellRun]) -> None:
        self._runs, self._slowdown = runs, _slowdown(runs)
        self._rows, self._did_well = [run.rows for run in runs], [run.did_well for run in runs]
        self._tables = {table: table.read_bytes() for table in self._there()}

    @property
    def was_better(self) -> bool:
        """Whether the next ones failed, or found the machine slower still."""
        is_slow = _is_slow(self._runs) and _slowdown(self._runs) > self._slowdown
        now = (run.did_well for run in self._runs)
        return is_slow or any(map(operator.gt, self._did_well, now))

    def restore_rows(self) -> None:
        """Have the rows back."""
        for run, rows in zip(self._runs, self._rows, strict=True):
            run.rows = rows

    def restore_files(self) -> None:
        """Have the tables in the cells' folders back."""
        for table in set(self._there()) - self._tables.keys():
            table.unlink()
        for table, content in self._tables.items():
            write_atomically(table, content)

    def _there(self) -> Iterator[Path]:
        return chain.from_iterable(run.folder.glob("*.csv") for run in self._runs)


def _slowdown(runs: Sequence[CellRun]) -> float:
    rows = chain.from_iterable(run.rows for run in runs)
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
    return _is_slow(group.runs)


def _is_slow(runs: Sequence[CellRun]) -> bool:
    rows = chain.from_iterable(run.rows for run in runs)
    return any("slow_machine" in getattr(row, "flags", ()) for row in rows)
