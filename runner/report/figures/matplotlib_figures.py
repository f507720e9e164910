"""The figures for print: PNG and SVG by matplotlib, the same bytes for the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from runner.report.figures.matplotlib_heatmap import draw_heatmap
from runner.report.figures.picture import (
    COLOURS,
    NARROWEST_INCHES,
    Heatmap,
    Panel,
    Plot,
    PlotPoint,
    Series,
)
from runner.report.language import Words, amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = (
    "o",
    "s",
    "^",
    "D",
    "v",
    "P",
    "X",
    "<",
    ">",
    "p",
    "*",
    "h",
)  # 12 of them: no two series share both
COLUMNS = 3  # panels beside each other on a page
PANEL_INCHES = (3.5, 2.7)
LETTERS_PER_INCH = 12  # of a title
LETTERS_ABOVE = 34  # a panel
LETTER_INCHES, HANDLE_INCHES = 0.072, 0.65  # of a legend's entry
CEILING_LINES: dict[str, Any] = {"memory_peak": "--", "compute_peak": "-"}
CROWDED = 12  # points of a series, from which on their intervals have no caps
ROOM_FOR_MISSING = 0.2  # of a panel's height
STYLE = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # has Cyrillic, and comes with matplotlib
    "font.size": 8.5,
    "figure.dpi": 110,  # of the PNG
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # else it is computed again for each title
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # words stay words, for search and screen readers
    "svg.hashsalt": "opsweep",  # else each drawing has names of its own
    "figure.constrained_layout.use": True,
}
# what a decade is divided into, by the least number of decades that an axis spans; below the last one it is not
BETWEEN: tuple[tuple[float, tuple[float, ...]], ...] = (
    (3, (1,)),
    (1.2, (1, 2, 5)),
    (0.6, (1, 1.5, 2, 3, 5, 7)),
)
MOST_LETTERS = 34  # of all numbers below a panel, with two between each and the next


def draw(plots: Sequence[Plot], heatmaps: Sequence[Heatmap], folder: Path, words: Words) -> None:
    """Draw each as PNG and SVG.

    Raises:
        OSError: the folder cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)
    with rc_context(STYLE):  # type: ignore[arg-type]  # its stubs list the keys
        for plot in plots:
            lines, columns = _shape(len(plot.panels))
            width = max(NARROWEST_INCHES, columns * PANEL_INCHES[0])
            figure = Figure(figsize=(width, lines * PANEL_INCHES[1] + 0.6))
            _draw_plot(figure, plot, words)
            _save(figure, plot, folder, words)
        for heatmap in heatmaps:
            figure = Figure()
            draw_heatmap(figure, heatmap, words)
            _save(figure, heatmap, folder, words)


def _save(figure: Figure, picture: Plot | Heatmap, folder: Path, words: Words) -> None:
    """As PNG and SVG; without dates and versions, so that they are the same bytes on another day."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    more = f" ({words['omitted'].format(omitted=picture.omitted)})" if picture.omitted else ""
    title = fill(picture.title + more, int(figure.get_figwidth() * LETTERS_PER_INCH))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    # not savefig, which draws everything once more beforehand
    png: Any = FigureCanvasAgg(figure)
    png.print_png(folder / f"{picture.key}.png", metadata={"Software": None})
    figure.set_layout_engine("none")  # it is laid out by now, which takes as long as drawing it
    svg: Any = FigureCanvasSVG(figure)
    svg.print_svg(folder / f"{picture.key}.svg", metadata={"Date": None, "Creator": None})


def _shape(panels: int) -> tuple[int, int]:
    columns = min(COLUMNS, panels) if panels != COLUMNS + 1 else 2  # four are a square
    return math.ceil(panels / columns), columns


def _draw_plot(figure: Figure, plot: Plot, words: Words) -> None:
    shape = _shape(len(plot.panels))
    all_axes: Any = figure.subplots(
        *shape, squeeze=False, sharex=plot.connected, sharey=not plot.connected
    )
    for position, axes in enumerate(all_axes.flat):
        if position >= len(plot.panels):
            axes.remove()
            continue
        _draw_panel(axes, plot, plot.panels[position], words)
        axes.tick_params(labelbottom=True)
        if position % shape[1] == 0:
            axes.set_ylabel(plot.y_title)
        if position + shape[1] >= len(plot.panels):
            axes.set_xlabel(plot.x_title)
    _legend(figure, plot, words)


def _draw_panel(axes: Axes, plot: Plot, panel: Panel, words: Words) -> None:
    axes.set(xscale="log", yscale="log", title=fill(panel.title, LETTERS_ABOVE))
    axes.set_xlim(*_ends(plot.panels if plot.connected else [panel]))

    # beneath the series: what they are compared with
    if plot.level is not None:
        axes.axhline(plot.level, color="#555555", linewidth=1)
    for mark in panel.marks:
        colour = _colour(mark.style)
        axes.axvline(mark.x, color=colour, linestyle=":", linewidth=1.2)
        if mark.low and mark.high:
            axes.axvspan(mark.low, mark.high, color=colour, alpha=0.12, linewidth=0)

    for series in panel.series:
        _draw_series(axes, series, plot.connected)
    for name, ends in panel.ceiling_lines.items():
        axes.plot(*zip(*ends, strict=True), CEILING_LINES[name], color="#555555", linewidth=1)

    # the crosses of what is missing stand at the bottom
    if any(point.y is None for point in panel.points):
        low, high = axes.get_ylim()
        axes.set_ylim(low / (high / low) ** ROOM_FOR_MISSING, high)
    _ticks(axes.xaxis, plot.x_unit, words)
    _ticks(axes.yaxis, plot.y_unit, words)


def _ends(panels: Sequence[Panel]) -> tuple[float, float]:
    """From where to where their axis goes: some way beyond the points on it, of which there may be a single one."""
    xs = [point.x for point in chain.from_iterable(panel.points for panel in panels)]
    low, high = min(xs), max(xs)
    beyond = 2.0 if low == high or any(panel.ceiling for panel in panels) else (high / low) ** 0.05
    return low / beyond, high * beyond


def _draw_series(axes: Axes, series: Series, connected: bool) -> None:
    look: dict[str, Any] = {
        "color": COLOURS[series.style % len(COLOURS)],
        "marker": MARKERS[series.style % len(MARKERS)],
    }

    # a line joins the points of one rank
    for rank in dict.fromkeys(point.rank for point in series.points):
        points = [point for point in series.points if point.rank == rank]
        line = "-" if connected else "none"
        axes.errorbar(
            [point.x for point in points],
            [
                math.nan if point.y is None else point.y for point in points
            ],  # a line is broken where there is no number
            yerr=_intervals(points),
            linestyle=line,
            capsize=2 if len(points) <= CROWDED else 0,
            elinewidth=0.9,
            markeredgecolor="white",
            markeredgewidth=0.4,
            **look,
        )

    # what is flagged is hollow, and what has no number is a cross
    doubtful: list[Any] = [(p.x, p.y) for p in series.points if p.doubtful and p.y is not None]
    if doubtful:
        hollow: dict[str, Any] = {
            "linestyle": "none",
            "markerfacecolor": "white",
            "markeredgewidth": 1,
            "zorder": 3,
        }
        axes.plot(*zip(*doubtful, strict=True), **look, **hollow)
    missing = [point.x for point in series.points if point.y is None]
    if missing:
        height = (
            0.02 + ROOM_FOR_MISSING * (series.style % 6) / 6
        )  # of the panel: several stand above each other
        axes.plot(
            missing,
            [height for _ in missing],
            "x",
            color=look["color"],
            transform=axes.get_xaxis_transform(),
        )


def _intervals(points: Sequence[PlotPoint]) -> Any:
    """How far the intervals reach below and above the points; no number where that is not known."""
    below = [
        max(0.0, p.y - p.low) if p.y is not None and p.low is not None else math.nan for p in points
    ]
    above = [
        max(0.0, p.high - p.y) if p.y is not None and p.high is not None else math.nan
        for p in points
    ]
    return [below, above]


def _legend(figure: Figure, plot: Plot, words: Words) -> None:
    """The series, and what the other signs mean that occur in the plot."""
    from matplotlib.lines import Line2D

    def grey(label: str, line: Any = "none", **look: Any) -> Line2D:
        return Line2D([], [], color="#555555", linestyle=line, label=words[label], **look)

    line: Any = "-" if plot.connected else "none"
    handles = [
        Line2D(
            [],
            [],
            color=_colour(style),
            marker=MARKERS[style % len(MARKERS)],
            linestyle=line,
            label=name,
        )
        for name, style in plot.styles.items()
    ]

    # signs of which the plot has none are not explained
    points = list(chain.from_iterable(panel.points for panel in plot.panels))
    if any(point.doubtful and point.y is not None for point in points):
        handles.append(grey("doubtful", marker="o", markerfacecolor="white"))
    if any(point.y is None for point in points):
        handles.append(grey("missing", marker="x"))
    if any(panel.marks for panel in plot.panels):
        handles.append(grey("crossover", ":"))
    if any(panel.ceiling for panel in plot.panels):
        handles += [grey(name, line) for name, line in CEILING_LINES.items()]
    columns = _legend_columns(
        [str(handle.get_label()) for handle in handles], figure.get_figwidth()
    )
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False)


def _legend_columns(names: Sequence[str], inches: float) -> int:
    """The most columns, filled one after another, that fit into a width."""
    for columns in range(len(names), 1, -1):
        short, longer = divmod(len(names), columns)
        left, needed = list(names), 0.0
        for column in range(columns):
            height = short + (column < longer)
            needed += HANDLE_INCHES + LETTER_INCHES * max(map(len, left[:height]))
            del left[:height]
        if needed <= inches:
            return columns
    return 1


def _ticks(axis: Any, unit: str, words: Words) -> None:
    """Ticks at whole powers of ten, or between them too where the axis spans few; each with its unit."""
    from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    divided = [subs for least, subs in BETWEEN if decades >= least]
    locators: list[Locator] = [MaxNLocator(most, steps=[1, 2, 5, 10]) for most in (5, 3)]
    if divided:
        finest = len(BETWEEN) - len(divided)
        locators = [LogLocator(subs=subs, numticks=9) for _, subs in BETWEEN[finest::-1]]

    # the first whose numbers have room below the axis; else the last, which has the fewest
    for locator in locators:
        ticks = [
            amount(tick, unit, words)
            for tick in locator.tick_values(low, high)
            if low <= tick <= high
        ]
        if axis.axis_name == "y" or sum(len(tick) + 2 for tick in ticks) <= MOST_LETTERS:
            break
    axis.set_major_locator(locator)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(lambda value, _: amount(value, unit, words))


def _colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]
