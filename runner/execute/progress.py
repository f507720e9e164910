"""Signs of life during a sweep: a bar with the time left on a terminal, or a line for each cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer
from typing import TYPE_CHECKING

from runner.cells.cell import Cell
from runner.errors import ConfigError, tell
from runner.rows.rows import NON_FAILURES, BenchmarkRow, Row
from runner.units import time_text

if TYPE_CHECKING:  # rich is imported for a terminal alone
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 1.0  # in a log that nobody watches, but for the last cell and for trouble
LONG_S = 2.0  # what is left, from which on it is said
LONGEST_SILENCE_S = 1.0


@contextmanager
def announced(what: str, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Say what is being done, once it has taken so long that people wonder; quietly never.

    What it yields is to be called before anything else is shown: from then on nobody wonders.
    """
    line = Timer(LONGEST_SILENCE_S, tell, [f"{what} ..."])
    line.daemon = True
    if not quiet:
        line.start()
    try:
        yield line.cancel
    finally:
        line.cancel()


class Progress:
    """Shows how far a sweep is, on standard error, which results never use.

    It tells ``on_end`` of each cell, and ends the sweep by a ConfigError after so many failures,
    where it is to ``stop_after`` them. ``names`` are of cells, by their identities, whose labels
    others have too. ``quiet``: it shows trouble alone.
    """

    def __init__(
        self,
        total: int,
        stop_after: int | None = None,
        on_end: Callable[[Cell, list[Row]], None] = lambda cell, rows: None,
        *,
        names: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self._names = names or {}
        self._total, self._done, self._quiet = total, 0, quiet
        self._begun, self._last_line, self._shown = time.monotonic(), 0.0, 0
        self._stop_after, self._failed, self._on_end = stop_after, set[str](), on_end
        self._bar: RichProgress | None = None
        self._task: TaskID

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, cell: Cell, *, in_turn: bool = False) -> None:
        """A cell begins, alone or in turn with what it is compared with."""
        if self._bar is not None:
            description = f"{self._name(cell)}{', in turn' if in_turn else ''}"
            self._bar.update(self._task, description=description, refresh=True)

    def again(self, cells: Sequence[Cell], steps: int, longest_s: float) -> None:
        """These cells are visited again."""
        self._total += steps
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        why = f"the machine was slow all the time; for {time_text(longest_s)} at most"
        if not self._quiet:
            tell(f"visiting again {self._name(cells[0])}{more}: {why}")
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def end(self, cell: Cell, rows: list[Row]) -> None:
        """A cell has its rows."""
        self._done += 1
        self._on_end(cell, rows)
        if self._bar is None:
            self._print_line(cell, rows)
        else:
            self._bar.update(self._task, completed=self._done)
        if any(row.status not in NON_FAILURES for row in rows):
            self._failed.add(cell.identity)
            if len(self._failed) == self._stop_after:
                how_many = f"{self._stop_after} failed, and stop_after={self._stop_after}"
                raise ConfigError(f"stopped: {how_many}; resume= goes on")

    def _name(self, cell: Cell) -> str:
        return self._names.get(cell.identity, cell.label)

    def _print_line(self, cell: Cell, rows: list[Row]) -> None:
        trouble = any(row.status not in ("ok", "unavailable") for row in rows)
        now = time.monotonic()
        is_due = self._done == self._total or now - self._last_line >= LINE_EVERY_S
        if not trouble and (self._quiet or not is_due):
            return

        # with the numbers of those that had no line of their own
        first = f"{self._shown + 1}-" if self._shown + 1 < self._done else ""
        self._last_line, self._shown = now, self._done
        seconds = (now - self._begun) / self._done * (self._total - self._done)
        left = f", {timedelta(seconds=round(seconds))} left" if seconds >= LONG_S else ""
        tell(f"[{first}{self._done}/{self._total}] {self._name(cell)}: {_outcome(rows)}{left}")


def _bar() -> RichProgress:
    from rich import console, progress, table

    # the name of the cell takes what the numbers leave, so that no time is cut
    rest = table.Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return progress.Progress(
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=16),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}", markup=False, table_column=rest),
        console=console.Console(stderr=True),
        expand=True,
        refresh_per_second=2,
        auto_refresh=False,  # a thread that draws would take time from what is measured
        transient=True,
    )


def _outcome(rows: list[Row]) -> str:
    row = next((row for row in rows if row.status != "ok"), rows[0])
    if row.status == "ok" and isinstance(row, BenchmarkRow) and row.median_s is not None:
        return time_text(row.median_s)
    return row.status + (f", {row.reason}" if row.reason else "")
