"""How a run's cells are told apart in pictures and tables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from operator import attrgetter

from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.config.axes import FURTHER, NAMED, values_of
from runner.config.schema import Report
from runner.errors import printable
from runner.rows.rows import BenchmarkRow, varying

LONGEST_NAME = 100  # characters of a series' or a panel's name
FURTHER_COLUMNS = (*FURTHER, "node", "variant")  # what a series' name does not say


def anchor(cell: str) -> str:
    """The id of a cell's row on the page, which no other part of the page has."""
    return cell if re.fullmatch("[a-z][a-z0-9]*[0-9][a-z0-9]*", cell) else f"row-{cell}"


def shown_name(text: str) -> str:
    """A name as pictures have it: without signs that act on what shows it, and of some length."""
    shown = printable(text)
    if len(shown) <= LONGEST_NAME:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[
        :6
    ]  # so that no two become one
    return f"{shown[: LONGEST_NAME - 9]}...{digest}"


class Names:
    """A panel is told by the operation and what else varies, a series by the rest."""

    def __init__(self, rows: Sequence[BenchmarkRow], report: Report) -> None:
        self.baseline = shown_name(f"{report.axis}={report.value}")
        self._axis = report.axis
        # which of the further columns a reader needs to tell the rows apart
        self.distinguishing = _distinguishing_columns(rows)
        self._in_panels = [key for key in self.distinguishing if key != self._axis]
        self._panel_of = values_of(*self._in_panels)

        # a row has the compared value in its axis' column, a comparison has it as the other side
        in_series = [key for key in varying(rows, ("dtype", "device")) if key != self._axis]
        self._series_of_row = values_of(self._axis, *in_series)
        self._series_of_ratio = values_of("other", *in_series)

        # a name is made once for all of its rows, of which there may be 100,000
        self._panel_names: dict[tuple[object, ...], str] = {}
        self._series_names: dict[tuple[object, ...], str] = {}
        every_series = dict.fromkeys(map(self.series, rows))
        # a number for each series, the same in every plot
        self.styles = {name: style for style, name in enumerate(every_series)}

    def panel(self, item: BenchmarkRow | Speedup | Crossover) -> str:
        """The name of the panel that a row, or its comparison, is drawn in."""
        key = item.op, self._panel_of(item)
        if key not in self._panel_names:
            pairs = zip(self._in_panels, self._panel_of(item), strict=True)
            words = [f"{name}={value}" for name, value in pairs if value is not None]
            self._panel_names[key] = shown_name(" ".join([item.op, *words]))
        return self._panel_names[key]

    def series(self, item: BenchmarkRow | Speedup | Crossover) -> str:
        """The name of its line there: the compared value, then dtype and device if they vary."""
        is_row = isinstance(item, BenchmarkRow)
        key = self._series_of_row(item) if is_row else self._series_of_ratio(item)
        if key not in self._series_names:
            self._series_names[key] = self._series_name(*key)
        return self._series_names[key]

    def _series_name(self, compared: object, *others: object) -> str:
        words = [str(compared), *map(str, others)]
        if self._axis in ("op", "size"):
            words = words[1:]  # which the panel and the x axis say
        elif self._axis not in ("dtype", "device"):
            words[0] = f"{self._axis}={compared}"
        return shown_name(" ".join(words))


def _distinguishing_columns(rows: Sequence[BenchmarkRow]) -> list[str]:
    """Those that vary; the variant only where nothing else tells two rows apart."""
    combinations = set(map(attrgetter(*FURTHER_COLUMNS), rows))  # few, and quickly compared
    columns = zip(FURTHER_COLUMNS, zip(*combinations, strict=True), strict=False)
    keys = [key for key, values in columns if len(set(values)) > 1]
    if "variant" in keys:
        others = [key for key in (*NAMED, *keys) if key != "variant"]
        if len(set(map(attrgetter(*others), rows))) == len(rows):
            keys.remove("variant")
    return keys
