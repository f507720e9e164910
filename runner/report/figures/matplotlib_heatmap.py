"""Operations by sizes as a heat map: what has no number is hatched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runner.report.figures.picture import NARROWEST_INCHES, Heatmap, PlotPoint
from runner.report.language import Words, amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE_INCHES = (0.62, 0.27)
LETTER_INCHES = 0.075  # of the names beside the tiles
MOST_NUMBERS = 600  # written into tiles; more take seconds to draw, and nobody reads them


def draw_heatmap(figure: Figure, heatmap: Heatmap, words: Words) -> None:
    """Draw a heat map's panels beside each other, with their scale and what the hatching means."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch

    # as large as its names and its tiles are
    columns = min(2, len(heatmap.panels))
    lines = math.ceil(len(heatmap.panels) / columns)
    names = LETTER_INCHES * max(map(len, heatmap.lines))
    inches = (
        0.4 + max(1.6, TILE_INCHES[0] * len(heatmap.columns)),
        1.1 + TILE_INCHES[1] * len(heatmap.lines),
    )
    figure.set_size_inches(
        max(NARROWEST_INCHES, names + columns * inches[0] + 0.8), lines * inches[1] + 0.7
    )
    all_axes: Any = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)

    # the panels, with their numbers where these can be read
    scale = _scale(heatmap)
    colours = colormaps["PuOr" if heatmap.ratio else "cividis"]  # both are for the colour-blind too
    for position, axes in enumerate(all_axes.flat):
        if position >= len(heatmap.panels):
            axes.remove()
            continue
        _draw_panel(axes, heatmap, position, scale, colours)
        axes.tick_params(length=0, labelbottom=position + columns >= len(heatmap.panels))
        if len(heatmap.panels) * len(heatmap.lines) * len(heatmap.columns) <= MOST_NUMBERS:
            _write_numbers(axes, heatmap, position, lambda number: colours(scale(number)), words)

    # what the colours and the hatching mean
    figure.colorbar(
        ScalarMappable(scale, colours),
        ax=figure.axes,
        shrink=0.8,
        label=words["speedup" if heatmap.ratio else "time"],
        format=lambda value, _: amount(value, heatmap.unit, words),
    ).minorticks_off()
    handles = [
        Patch(facecolor="white", edgecolor="#777777", hatch="////", label=words["missing_tile"])
    ]
    figure.legend(handles=handles, loc="outside lower left", frameon=False)


def _draw_panel(axes: Axes, heatmap: Heatmap, position: int, scale: Any, colours: Any) -> None:
    from matplotlib.patches import Rectangle

    title, tiles = heatmap.panels[position]
    width, height = len(heatmap.columns), len(heatmap.lines)
    axes.set(title=title, xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_xticks(range(width), heatmap.columns, rotation=45, ha="right")
    axes.set_yticks(range(height), heatmap.lines)
    axes.grid(visible=False)
    axes.add_patch(  # shows through where nothing is drawn over it
        Rectangle(
            (-0.5, -0.5),
            width,
            height,
            facecolor="white",
            edgecolor="#AAAAAA",
            hatch="////",
            linewidth=0,
        )
    )
    numbers = [
        [_number(tiles.get((line, column))) for column in heatmap.columns] for line in heatmap.lines
    ]
    axes.pcolormesh(
        range(width),
        range(height),
        numbers,
        norm=scale,
        cmap=colours,
        edgecolors="white",
        linewidth=0.5,
    )


def _number(point: PlotPoint | None) -> float:
    return math.nan if point is None or point.y is None else point.y


def _write_numbers(
    axes: Axes, heatmap: Heatmap, position: int, colour_of: Any, words: Words
) -> None:
    _, tiles = heatmap.panels[position]
    for (line, column), point in tiles.items():
        if point.y is None or line not in heatmap.lines or column not in heatmap.columns:
            continue
        red, green, blue, *_ = colour_of(point.y)
        ink = (
            "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        )  # as bright as ITU-R BT.601 says
        text = amount(point.y, heatmap.unit, words, heatmap.significant)
        at = heatmap.columns.index(column), heatmap.lines.index(line)
        axes.text(*at, text, ha="center", va="center", color=ink, fontsize=7)


def _scale(heatmap: Heatmap) -> Any:
    from matplotlib.colors import LogNorm

    numbers = [point.y for point in heatmap.points if point.y is not None]
    if not heatmap.ratio:
        return LogNorm(min(numbers), max(*numbers, min(numbers) * 1.01))
    far = max(2.0, *(max(number, 1 / number) for number in numbers))
    return LogNorm(1 / far, far)  # 1 is in the middle
