"""What is plotted: points, panels and heat maps, before any drawing library sees them.

``vega_charts.py`` makes charts of these for the page, and ``prints.py`` prints the same charts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

# Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")


@dataclass(frozen=True)
class PlotPoint:
    """One cell."""

    y: float | None
    # low, high: the 95 % interval of y
    low: float | None
    high: float | None
    # x, y: in SI units; y is None where there is no number, and ``note`` says why
    x: float
    label: str  # the size as text
    cell: str  # the row that it comes from
    note: str = ""
    rank: int = 1  # the number of the size's dimensions; a line connects points of one rank
    doubtful: bool = False  # whether no speed-up would be claimed from it; ``note`` says why
    unsure: bool = False  # whether it is a ratio without a clear verdict


@dataclass(frozen=True)
class Series:
    """Points of one name."""

    name: str
    style: int  # the same name has the same colour and marker in every panel
    points: tuple[PlotPoint, ...]


@dataclass(frozen=True)
class Mark:
    """A position on the x axis, such as a crossover, with its interval."""

    x: float
    low: float | None
    high: float | None
    style: int


@dataclass(frozen=True)
class Line:
    """A line that points are read against."""

    label: str
    points: tuple[tuple[float, float], ...]
    at_end: bool = True  # whether its label stands at its end; else at its beginning


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def points(self) -> list[PlotPoint]:
        """Those of all of its series."""
        return list(chain.from_iterable(series.points for series in self.series))


@dataclass(frozen=True)
class Plot:
    """Panels that share their axes' meaning; both axes are logarithmic unless it is ``linear``."""

    key: str  # the file's name, and the key of its words
    title: str
    x_title: str
    y_title: str
    panels: tuple[Panel, ...]
    # x_unit, y_unit: ``s``, ``FLOP/s``, ``B``; blank for a plain number
    x_unit: str = ""
    y_unit: str = ""
    level: float | None = None  # a line to draw across, such as 1 for a ratio
    connected: bool = True  # whether a series' points are joined by lines
    by_size: bool = False  # whether x is labelled by the sizes, as people write them
    linear: bool = False
    histogram: bool = False  # whether only how many points have which y is shown
    omitted: int = 0  # how many panels, series or points had no room

    @property
    def points(self) -> list[PlotPoint]:
        """Those of all of its panels."""
        return list(chain.from_iterable(panel.points for panel in self.panels))

    @property
    def styles(self) -> dict[str, int]:
        """The style of each series, by its name."""
        every_series = chain.from_iterable(panel.series for panel in self.panels)
        return {series.name: series.style for series in every_series}


@dataclass(frozen=True)
class Heatmap:
    """Operations by sizes, a panel for each series."""

    key: str
    title: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    # the title of each, and its tiles by (line, column): the number, or None with a reason; no tile
    # where that is no part of the run
    panels: tuple[tuple[str, dict[tuple[str, str], PlotPoint]], ...]
    ratio: bool  # whether the numbers are ratios, of which 1 is the middle; else seconds
    omitted: int = 0

    @property
    def points(self) -> list[PlotPoint]:
        """Those of all of its panels."""
        return list(chain.from_iterable(tiles.values() for _, tiles in self.panels))

    @property
    def unit(self) -> str:
        """Of its numbers; blank of ratios."""
        return "" if self.ratio else "s"

    @property
    def significant(self) -> int:
        """How many digits of its numbers are shown: ratios lie close to 1."""
        return 3 if self.ratio else 2
