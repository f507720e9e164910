"""Which pictures a run's rows are enough for, and what each shows; from rows alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from operator import attrgetter
from statistics import median
from typing import Any, TypeVar

from runner.analysis.comparison import FORBIDDING, OF_MOMENTS, Speedup, cost_of, objection
from runner.analysis.pairs import elements_of
from runner.config.axes import values_of
from runner.config.size import first_input_shape
from runner.report.figures.names import Names, shown_name
from runner.report.figures.picture import (
    Heatmap,
    Line,
    Mark,
    Panel,
    Plot,
    PlotPoint,
    Series,
)
from runner.report.language import Words, amount
from runner.rows.rows import BenchmarkRow, Row, Sample, TransferRow, grouped, varying

LEAST_NUMBERS = 5  # of a picture
MOST_PANELS = 9  # of a plot, which are a page; a reader of more of them turns to the CSV
MOST_SERIES = 12  # of a panel: the colours and markers that can be told apart in print
MOST_POINTS = 16  # of a series, spread over its sizes
MOST_LINES = 40  # of a heat map: operations
MOST_COLUMNS = 16  # of a heat map: sizes
MOST_BLOCKS = 1_000  # of a cell
LEAST_ROUNDOFFS = 0.01  # of an error that is drawn
APART = 1.15  # times as far right stands the next size of as many elements

Marks = Mapping[tuple[str, str], Mark]  # by panel and series
Item = TypeVar("Item")
Sized = BenchmarkRow | Speedup


def time_plot(rows: Sequence[BenchmarkRow], names: Names, words: Words) -> Plot | None:
    """Time against size; a panel for each operation."""
    # what is unavailable, the text says once
    shown = [row for row in rows if _has_shape(row) and row.status != "unavailable"]
    placed = ((names.panel(row), names.series(row), row) for row in shown)
    panels, omitted = _grouped(placed, _time, _size_order, names.styles, by_size=True)
    title, axes = words["plot_times"], (words["elements"], words["time"])
    plot = Plot("times", title, *axes, panels, y_unit="s", by_size=True, omitted=omitted)
    return _drawable(plot)


def speedup_plot(
    speedups: Sequence[Speedup], names: Names, words: Words, marks: Marks | None = None
) -> Plot | None:
    """Speed-up against size, with the crossovers marked."""
    placed = (
        (names.panel(item), names.series(item), item) for item in filter(_has_shape, speedups)
    )
    panels, omitted = _grouped(placed, _ratio, _size_order, names.styles, marks=marks, by_size=True)
    title = words["plot_speedups"].format(baseline=names.baseline)
    axes = words["elements"], words["speedup"]
    plot = Plot("speedups", title, *axes, panels, level=1.0, by_size=True, omitted=omitted)
    return _drawable(plot)


def roofline_plot(rows: Sequence[BenchmarkRow], words: Words) -> Plot | None:
    """Rate against FLOP per byte; a panel for each device and dtype, under the measured peaks."""
    timed = [row for row in rows if row.flop and row.bytes and row.median_s]
    several_nodes = len({row.node for row in timed}) > 1
    device_of = attrgetter("device", "dtype", "threads", *(["node"] if several_nodes else []))

    # a panel for each device, and a colour for each operation in the order of the panels
    by_panel = grouped(timed, lambda row: _device_name(*device_of(row)))
    placed: list[tuple[str, str, BenchmarkRow]] = []
    for name, of_device in by_panel.items():
        placed += [(name, shown_name(row.op), row) for row in of_device if _has_shape(row)]
    styles = _numbered(shown_name(row.op) for row in chain.from_iterable(by_panel.values()))
    panels, omitted = _grouped(placed, _rate, _size_order, styles)
    panels = tuple(
        replace(panel, lines=_ceiling(by_panel[panel.title], panel, words)) for panel in panels
    )
    measured = any(panel.lines for panel in panels)
    title = words["plot_roofline" if measured else "plot_roofline_without"]
    axes = words["intensity"], words["rate"]
    plot = Plot("roofline", title, *axes, panels, y_unit="FLOP/s", omitted=omitted, connected=False)
    return _drawable(plot)


def implementation_plot(rows: Sequence[BenchmarkRow], words: Words) -> Plot | None:
    """Error against time; a panel for what was implemented, with the front that nothing beats."""
    # where the result is no number and should be one, there is no place for it
    timed = [row for row in rows if row.median_s and math.isfinite(_error(row, math.nan))]
    names_of = values_of("op", "size", "dtype", "device", *varying(timed, ("direction", "threads")))
    several = [group for group in grouped(timed, names_of).values() if len(group) > 1]
    if len({row.impl for row in timed}) < 2 or not several:
        return None
    panel_of = {id(row): shown_name(" ".join(map(str, names_of(row)))) for row in timed}
    placed = [(panel_of[id(row)], row.impl, row) for row in chain.from_iterable(several)]
    styles = _numbered(impl for _, impl, _ in placed)
    panels, omitted = _grouped(placed, _exactness, attrgetter("median_s"), styles)
    panels = tuple(replace(panel, lines=(_front(panel, words),)) for panel in panels)
    title, axes = words["plot_implementations"], (words["time"], words["error_u"])
    plot = Plot("implementations", title, *axes, panels, x_unit="s", omitted=omitted)
    return replace(plot, connected=False)


def _error(row: BenchmarkRow, unknown: float) -> float:
    return unknown if row.error_roundoffs is None else row.error_roundoffs


def _exactness(row: BenchmarkRow) -> PlotPoint:
    """An error of 0 stands at the least that is drawn; a busy moment is no doubt about it."""
    point, error = _time(row), max(_error(row, 0.0), LEAST_ROUNDOFFS)
    doubtful = objection(row, OF_MOMENTS) is not None
    return replace(point, x=row.median_s or 0.0, y=error, low=None, high=None, doubtful=doubtful)


def _front(panel: Panel, words: Words) -> Line:
    """The points that no other beats in both time and error; what is flagged beats nothing."""
    corners: list[tuple[float, float]] = []
    sound = [point for point in panel.points if point.y is not None and not point.doubtful]
    for point in sorted(sound, key=attrgetter("x", "y")):
        if not corners or (point.y or 0.0) < corners[-1][1]:
            corners += [(point.x, corners[-1][1])] if corners else []
            corners.append((point.x, point.y or 0.0))
    # words that end at the left edge would run over the axis
    times = [point.x for point in panel.points if point.y is not None]
    ends_right = bool(corners) and corners[-1][0] ** 2 >= min(times) * max(times)
    return Line(words["front"], tuple(corners), at_end=ends_right)


def block_plots(blocks: Sequence[Sample], words: Words) -> list[Plot]:
    """Of a single cell: its blocks' times in turn, how they are spread, and the machine's state."""
    shown = _spread(list(enumerate(blocks, start=1)), MOST_BLOCKS)
    axes, omitted = (words["block"], words["block_time"]), len(blocks) - len(shown)
    empty = Plot("samples", words["plot_samples"], *axes, (), y_unit="s", omitted=omitted)
    empty = replace(empty, linear=True, connected=False)
    times = _with_blocks(empty, shown, lambda block: block.wall_s / block.calls, words)
    spread = replace(times, key="distribution", title=words["plot_distribution"], histogram=True)
    if all(block.machine_slowdown is None for block in blocks):
        return [times, spread]
    empty = replace(empty, key="machine", title=words["plot_machine"], y_title=words["slowdown"])
    slowness = replace(empty, y_unit="", level=1.0)
    return [times, spread, _with_blocks(slowness, shown, attrgetter("machine_slowdown"), words)]


def _with_blocks(
    plot: Plot,
    numbered: Iterable[tuple[int, Sample]],
    value_of: Callable[[Sample], float | None],
    words: Words,
) -> Plot:
    """A plot with a point for each block that has a value, in a colour for those that count."""
    of_series: dict[bool, list[PlotPoint]] = {}
    for number, block in numbered:
        value, label = value_of(block), f"{words['block']} {number}"
        if value is not None:
            point = PlotPoint(value, None, None, x=number, label=label, cell="")
            of_series.setdefault(block.used, []).append(point)
    series = [
        Series(words["block_used" if used else "block_set_aside"], int(not used), tuple(points))
        for used, points in of_series.items()
    ]
    return replace(plot, panels=(Panel("", tuple(series)),))


def _device_name(device: str, dtype: str, threads: int | None, node: str | None = None) -> str:
    words = [device, dtype, f"threads={threads}" if threads else "", node]
    return shown_name(" ".join(filter(None, words)))


def transfer_plot(rows: Sequence[Row], words: Words) -> Plot | None:
    """Time of a copy against its bytes; a panel a device, a series for each way and memory."""
    placed: list[tuple[str, str, PlotPoint]] = []
    for row in rows:
        if not isinstance(row, TransferRow) or row.status != "ok":
            continue
        way = words["to_device" if row.to_device else "to_host"]
        series = f"{way}, {words.get(f'memory_{row.memory}', str(row.memory))}"
        for size, seconds, low, high in json.loads(row.points or "[]"):
            label = amount(size, "B", words)
            point = PlotPoint(seconds, low, high, x=size, label=label, cell=row.cell)
            placed.append((shown_name(row.device_name or row.device), shown_name(series), point))
    styles = _numbered(series for _, series, _ in placed)
    panels, omitted = _grouped(placed, lambda point: point, attrgetter("x"), styles)
    title, axes = words["plot_transfers"], (words["copied"], words["time"])
    plot = Plot("transfers", title, *axes, panels, x_unit="B", y_unit="s", omitted=omitted)
    return _drawable(plot)


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: style for style, name in enumerate(dict.fromkeys(names))}


def heatmap_of(
    rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], names: Names, words: Words
) -> Heatmap | None:
    """Operations by sizes: the speed-up where one can be claimed anywhere, else the time."""
    ratio = any(speedup.speedup for speedup in speedups)
    timed = [row for row in rows if row.status != "unavailable"]
    items: Sequence[Sized] = speedups if ratio else timed
    placed = [(names.series(item), names.panel(item), item) for item in items if _has_shape(item)]

    # as many lines, columns and panels as there is room for
    every_size = {item.size for _, _, item in placed}
    sizes = sorted(every_size, key=lambda size: (elements_of(size) or 0, size))
    every_line = list(dict.fromkeys(line for _, line, _ in placed))
    every_series = list(dict.fromkeys(name for name, _, _ in placed))
    columns, lines = _spread(sizes, MOST_COLUMNS), every_line[:MOST_LINES]
    series = every_series[:MOST_SERIES]
    omitted = len(every_line) + len(sizes) + len(every_series)
    omitted -= len(lines) + len(columns) + len(series)

    # points are made of those alone that are shown
    tiles = set(product(series, lines, columns))
    panels: dict[str, dict[tuple[str, str], PlotPoint]] = {name: {} for name in series}
    for name, line, item in placed:
        if (name, line, item.size) in tiles:
            point = _ratio(item) if isinstance(item, Speedup) else _time(item)
            panels[name][line, item.size] = point
    template = words["plot_heatmap_ratio" if ratio else "plot_heatmap_time"]
    title, shape = template.format(baseline=names.baseline), (tuple(lines), tuple(columns))
    return _drawable(Heatmap("heatmap", title, *shape, tuple(panels.items()), ratio, omitted))


def _time(row: BenchmarkRow) -> PlotPoint:
    note = " ".join(row.flags) if row.median_s else f"{row.status}: {row.reason}"
    doubtful = any(flag in FORBIDDING for flag in row.flags)
    cost = cost_of(row) if row.median_s else None
    y = (None, None, None) if cost is None else (cost.value, cost.low, cost.high)
    return _point(row.size, y, cell=row.cell, note=note, doubtful=doubtful)


def _ratio(speedup: Speedup) -> PlotPoint:
    y, note = (speedup.speedup, speedup.low, speedup.high), speedup.verdict or speedup.reason
    point = _point(speedup.size, y, cell=speedup.other_cell, note=note or "")
    return replace(point, unsure=speedup.verdict == "unclear")


def _rate(row: BenchmarkRow) -> PlotPoint:
    assert row.flop and row.bytes
    times = row.median_s, row.ci_high_s, row.ci_low_s
    rate, low, high = (row.flop / seconds if seconds else None for seconds in times)
    return replace(_time(row), x=row.flop / row.bytes, y=rate, low=low, high=high)


Ends = tuple[float | None, float | None, float | None]


def _point(size: str, y: Ends, *, cell: str, note: str, doubtful: bool = False) -> PlotPoint:
    rank, x = max(1, len(first_input_shape(size) or ())), elements_of(size) or 0
    return PlotPoint(*y, x=x, label=size, cell=cell, note=note, rank=rank, doubtful=doubtful)


def _has_shape(item: Sized) -> bool:
    """Whether its size is a shape, and not that of a cell that could not even be composed."""
    return first_input_shape(item.size) is not None


def _size_order(item: Sized) -> tuple[int, int]:
    return len(first_input_shape(item.size) or ()), elements_of(item.size) or 0


def _grouped(
    placed: Iterable[tuple[str, str, Item]],
    point_of: Callable[[Item], PlotPoint],
    order: Callable[[Item], Any],
    styles: Mapping[str, int],
    *,
    marks: Marks | None = None,
    by_size: bool = False,
) -> tuple[tuple[Panel, ...], int]:
    """The panels of items with the names of panel and series, and how many have no room.

    ``order`` sorts the items of a series, whose ``styles`` are by name, and ``marks`` by panel and
    series; ``by_size``: x is a size's place.
    """
    of_panels: dict[str, dict[str, list[Item]]] = {}
    for panel, series, item in placed:
        of_panels.setdefault(panel, {}).setdefault(series, []).append(item)
    panels = []
    omitted = max(0, len(of_panels) - MOST_PANELS)
    for title, lines in list(of_panels.items())[:MOST_PANELS]:
        omitted += max(0, len(lines) - MOST_SERIES)
        drawn = []
        for name, items in list(lines.items())[:MOST_SERIES]:
            shown = _spread(sorted(items, key=order), MOST_POINTS)
            omitted += len(items) - len(shown)
            drawn.append(Series(name, styles[name], tuple(map(point_of, shown))))
        drawn = _apart(drawn) if by_size else drawn
        of_panel = [marks[title, name] for name in lines if marks and (title, name) in marks]
        panels.append(Panel(title, tuple(drawn), tuple(of_panel)))
    return tuple(panels), omitted


def _apart(series: Iterable[Series]) -> list[Series]:
    """With sizes of as many elements beside each other, so that each has a place of its own."""
    places: dict[float, dict[str, float]] = {}
    apart = []
    for one in series:
        points = []
        for point in one.points:
            at = places.setdefault(point.x, {})
            place = at.setdefault(point.label, point.x * APART ** len(at))
            points.append(replace(point, x=place))
        apart.append(replace(one, points=tuple(points)))
    return apart


Picture = TypeVar("Picture", Plot, Heatmap)


def _drawable(picture: Picture) -> Picture | None:
    """The picture if there is something to see; a table says a few numbers better, and at once."""
    enough = sum(point.y is not None for point in picture.points) >= LEAST_NUMBERS
    return picture if enough else None


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def _ceiling(rows: Sequence[BenchmarkRow], panel: Panel, words: Words) -> tuple[Line, ...]:
    """The most that a rate can be: the peaks of which the rows' fractions were taken.

    Either may be unknown; they reach some way beyond the panel's points.
    """
    peak = _median_peak(rows, "compute", "flop_per_s")
    bandwidth = _median_peak(rows, "memory", "bytes_per_s")
    xs = [point.x for point in panel.points]
    low, high = min(xs) / 2, max(xs) * 2
    ridge = peak / bandwidth if peak and bandwidth else None
    lines = []
    if bandwidth and (ridge is None or ridge > low):
        end = min(high, ridge or high)
        label = f"{words['memory_peak']}, {amount(bandwidth, 'B/s', words)}"
        ends = (low, low * bandwidth), (end, end * bandwidth)
        lines.append(Line(label, ends, at_end=False))
    if peak and (ridge is None or ridge < high):
        label = f"{words['compute_peak']}, {amount(peak, 'FLOP/s', words)}"
        lines.append(Line(label, ((max(low, ridge or low), peak), (high, peak))))
    return tuple(lines)


def _median_peak(rows: Sequence[BenchmarkRow], bound: str, rate: str) -> float | None:
    bounded = [row for row in rows if row.bound == bound and row.fraction_of_peak]
    peaks = [getattr(row, rate) / row.fraction_of_peak for row in bounded]
    return median(peaks) if peaks else None
