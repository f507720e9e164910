"""How a run's cells are told apart in pictures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.config.axes import FURTHER, NAMED
from runner.config.schema import Report
from runner.rows.rows import BenchmarkRow

FURTHER_COLUMNS = (*FURTHER, "node", "variant")  # what a series' name does not say


class Names:
    """How a run's cells are told apart: a panel by the operation and what else varies, a series by the rest.

    Attributes:
        baseline: what the others are compared with, ``device=cpu``.
        styles: a number for each series, the same in every plot.
        distinguishing: which of the lesser columns a reader needs to tell the rows apart.
    """

    def __init__(self, rows: Sequence[BenchmarkRow], report: Report) -> None:
        self.baseline = f"{report.axis}={report.value}"
        self._axis = report.axis
        series = [key for key in ("dtype", "device") if key != self._axis and _varies(rows, key)]
        self.distinguishing = _distinguishing_columns(rows)
        self._distinguishing = [key for key in self.distinguishing if key != self._axis]
        self._panel = attrgetter("op", *self._distinguishing, "op")  # the last only so that there are always several
        self._series_of_row = attrgetter(self._axis, *series, self._axis)
        self._series_of_ratio = attrgetter("other", *series, "other")
        self._known: dict[tuple[object, ...], str] = {}  # a name is made once for all of its rows
        self.styles = {name: n for n, name in enumerate(dict.fromkeys(map(self.series, rows)))}

    def panel(self, item: BenchmarkRow | Speedup | Crossover) -> str:
        """The name of the panel that a row, or its comparison, is drawn in."""
        values = self._panel(item)
        if values not in self._known:
            pairs = zip(self._distinguishing, values[1:-1], strict=True)
            self._known[values] = " ".join([item.op, *(f"{key}={value}" for key, value in pairs if value is not None)])
        return self._known[values]

    def series(self, item: BenchmarkRow | Speedup | Crossover) -> str:
        """The name of its line there: the compared value, then the dtype and device where several are."""
        values = (self._series_of_row if isinstance(item, BenchmarkRow) else self._series_of_ratio)(item)
        key = ("series", *values)
        if key not in self._known:
            first = [] if self._axis in ("op", "size") else [str(values[0])]
            if self._axis not in ("op", "size", "dtype", "device"):
                first = [f"{self._axis}={values[0]}"]
            self._known[key] = " ".join([*first, *map(str, values[1:-1])])
        return self._known[key]


def _distinguishing_columns(rows: Sequence[BenchmarkRow]) -> list[str]:
    """Those that vary; the variant only where nothing else tells two rows apart."""
    combinations = set(map(attrgetter(*FURTHER_COLUMNS), rows))  # few, whose values are quickly compared
    columns = zip(*combinations, strict=True)  # none of no rows
    keys = [key for key, values in zip(FURTHER_COLUMNS, columns, strict=False) if len(set(values)) > 1]
    if "variant" in keys:
        names = [key for key in (*NAMED, *keys) if key != "variant"]
        if len(set(map(attrgetter(*names), rows))) == len(rows):
            keys.remove("variant")
    return keys


def _varies(rows: Sequence[BenchmarkRow], key: str) -> bool:
    return len(set(map(attrgetter(key), rows))) > 1
