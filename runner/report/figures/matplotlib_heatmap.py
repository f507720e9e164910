"""Operations by sizes as a heat map: what has no number is hatched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runner.report.figures.picture import NARROWEST_INCHES, Grid
from runner.report.language import Words, amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_INCHES = (0.62, 0.27)
LETTER_INCHES = 0.075  # of the names beside the cells
MOST_NUMBERS = 600  # written into cells; more take seconds to draw, and nobody reads them


def draw_grid(figure: Figure, grid: Grid, words: Words) -> None:
    """Draw a grid's panels beside each other, with their scale and what the hatching means."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch

    columns = min(2, len(grid.panels))
    lines = math.ceil(len(grid.panels) / columns)
    names = LETTER_INCHES * max(map(len, grid.lines))
    inches = (0.4 + max(1.6, CELL_INCHES[0] * len(grid.columns)), 1.1 + CELL_INCHES[1] * len(grid.lines))
    figure.set_size_inches(max(NARROWEST_INCHES, names + columns * inches[0] + 0.8), lines * inches[1] + 0.7)
    all_axes: Any = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    scale = _scale(grid)
    colours = colormaps["PuOr" if grid.ratio else "cividis"]  # both are for the colour-blind too
    for position, axes in enumerate(all_axes.flat):
        if position >= len(grid.panels):
            axes.remove()
            continue
        _draw_panel(axes, grid, position, scale, colours)
        axes.tick_params(length=0, labelbottom=position + columns >= len(grid.panels))
        if len(grid.panels) * len(grid.lines) * len(grid.columns) <= MOST_NUMBERS:
            _write_numbers(axes, grid, position, lambda number: colours(scale(number)), words)
    figure.colorbar(
        ScalarMappable(scale, colours),
        ax=figure.axes,
        shrink=0.8,
        label=words["speedup" if grid.ratio else "time"],
        format=lambda value, _: amount(value, grid.unit, words),
    ).minorticks_off()
    handles = [Patch(facecolor="white", edgecolor="#777777", hatch="////", label=words["missing_cell"])]
    figure.legend(handles=handles, loc="outside lower left", frameon=False)


def _draw_panel(axes: Axes, grid: Grid, position: int, scale: Any, colours: Any) -> None:
    from matplotlib.patches import Rectangle

    title, values = grid.panels[position]
    width, height = len(grid.columns), len(grid.lines)
    axes.set(title=title, xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_xticks(range(width), grid.columns, rotation=45, ha="right")
    axes.set_yticks(range(height), grid.lines)
    axes.grid(visible=False)
    axes.add_patch(  # shows through where nothing is drawn over it
        Rectangle((-0.5, -0.5), width, height, facecolor="white", edgecolor="#AAAAAA", hatch="////", linewidth=0)
    )
    points = [[values.get((line, column)) for column in grid.columns] for line in grid.lines]
    numbers = [[math.nan if point is None or point.y is None else point.y for point in line] for line in points]
    axes.pcolormesh(range(width), range(height), numbers, norm=scale, cmap=colours, edgecolors="white", linewidth=0.5)


def _write_numbers(axes: Axes, grid: Grid, position: int, colour_of: Any, words: Words) -> None:
    _, values = grid.panels[position]
    for (line, column), point in values.items():
        if point.y is None or line not in grid.lines or column not in grid.columns:
            continue
        red, green, blue, *_ = colour_of(point.y)
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"  # as bright as ITU-R BT.601 says
        text = amount(point.y, grid.unit, words, grid.significant)
        at = grid.columns.index(column), grid.lines.index(line)
        axes.text(*at, text, ha="center", va="center", color=ink, fontsize=7)


def _scale(grid: Grid) -> Any:
    from matplotlib.colors import LogNorm

    numbers = [p.y for _, values in grid.panels for p in values.values() if p.y is not None]
    if not grid.ratio:
        return LogNorm(min(numbers), max(*numbers, min(numbers) * 1.01))
    far = max(2.0, *(max(number, 1 / number) for number in numbers))
    return LogNorm(1 / far, far)  # 1 is in the middle
