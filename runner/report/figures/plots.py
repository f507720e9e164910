"""Which pictures a run's rows are enough for, and what each shows; from rows alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from statistics import median
from typing import Any

from runner.analysis.comparison import FORBIDDING, Speedup, cost_of, elements_of
from runner.report.figures.names import Names
from runner.report.figures.picture import Heatmap, Mark, Panel, Plot, PlotPoint, RooflineCeiling, Series
from runner.report.language import Words, amount
from runner.rows.rows import BenchmarkRow, Row

LEAST_NUMBERS = 5  # of a picture
MOST_PANELS = 9  # of a plot, which are a page; a reader of more of them turns to the CSV
MOST_SERIES = 12  # of a panel: the colours and markers that can be told apart in print
MOST_POINTS = 16  # of a series, spread over its sizes
MOST_LINES = 40  # of a heatmap: operations
MOST_COLUMNS = 16  # of a heatmap: sizes

Marks = dict[tuple[str, str], Mark]  # by panel and series


def time_plot(rows: Sequence[BenchmarkRow], named: Names, words: Words) -> Plot | None:
    """Time against size; a panel for each operation."""
    there = [row for row in rows if row.status != "unavailable"]  # that a side is not there at all is said in the text
    found = ((named.panel(row), named.series(row), row) for row in there)
    panels, omitted = _panels(found, _time, named.styles)
    if not _drawable(panels):
        return None
    return Plot("times", words["plot_times"], words["elements"], words["time"], panels, y_unit="s", omitted=omitted)


def speedup_plot(speedups: Sequence[Speedup], named: Names, words: Words, marks: Marks | None = None) -> Plot | None:
    """Speed-up against size, with the crossovers marked."""
    found = ((named.panel(one), named.series(one), one) for one in speedups)
    panels, omitted = _panels(found, _ratio, named.styles, marks=marks)
    if not _drawable(panels):
        return None
    title = words["plot_speedups"].format(baseline=named.baseline)
    return Plot("speedups", title, words["elements"], words["speedup"], panels, level=1.0, omitted=omitted)


def roofline_plot(rows: Sequence[BenchmarkRow], words: Words) -> Plot | None:
    """Rate against FLOP per byte; a panel for each device and dtype, under the peaks that were measured."""
    timed = [row for row in rows if row.flop and row.bytes and row.median_s]
    nodes = len({row.node for row in timed}) > 1
    of: dict[tuple[Any, ...], list[BenchmarkRow]] = {}
    for row in timed:
        of.setdefault((row.device, row.dtype, row.threads, row.node if nodes else None), []).append(row)
    of_device = {
        " ".join(filter(None, [device, dtype, f"threads={threads}" if threads else "", node])): here
        for (device, dtype, threads, node), here in of.items()
    }
    found = ((name, row.op, row) for name, here in of_device.items() for row in here)
    styles = {name: n for n, name in enumerate(dict.fromkeys(row.op for here in of_device.values() for row in here))}
    ceilings = {name: _ceiling(here) for name, here in of_device.items()}
    panels, omitted = _panels(found, _rate, styles, ceilings=ceilings)
    if not _drawable(panels):
        return None
    key = "plot_roofline" if any(panel.ceiling for panel in panels) else "plot_roofline_without"
    axes = (words["intensity"], words["rate"])
    return Plot("roofline", words[key], *axes, panels, y_unit="FLOP/s", connected=False, omitted=omitted)


def transfer_plot(rows: Sequence[Row], words: Words) -> Plot | None:
    """Time of a copy against its bytes; a panel for each device, a series for each way and kind of host memory."""
    found: list[tuple[str, str, PlotPoint]] = []
    copies: Iterable[Any] = (row for row in rows if row.job == "transfer" and row.status == "ok")
    for row in copies:
        way = words["to_device" if row.to_device else "to_host"]
        name = f"{way}, {words.get(f'memory_{row.memory}', row.memory)}"
        for size, seconds, low, high in json.loads(row.points or "[]"):
            label = amount(size, "B", words)
            found.append(
                (row.device_name or row.device, name, PlotPoint(seconds, low, high, x=size, label=label, cell=row.cell))
            )
    styles = {name: n for n, name in enumerate(dict.fromkeys(name for _, name, _ in found))}
    panels, omitted = _panels(found, _itself, styles, order=lambda point: point.x)
    if not _drawable(panels):
        return None
    axes = (words["copied"], words["time"])
    return Plot("transfers", words["plot_transfers"], *axes, panels, x_unit="B", y_unit="s", omitted=omitted)


def heatmap_of(rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], named: Names, words: Words) -> Heatmap | None:
    """Operations by sizes: the speed-up where one can be claimed anywhere, else the time."""
    ratio = any(s.speedup for s in speedups)
    items: Sequence[Any] = speedups if ratio else [row for row in rows if row.status != "unavailable"]
    point_of = _ratio if ratio else _time
    there = [(named.series(item), named.panel(item), item) for item in items if _place(item.size)]
    sizes = sorted({item.size for _, _, item in there}, key=lambda size: (elements_of(size) or 0, size))
    lines, series = (list(dict.fromkeys(names)) for names in ([n for _, n, _ in there], [n for n, _, _ in there]))
    kept, shown = lines[:MOST_LINES], _spread(sizes, MOST_COLUMNS)
    places = set(product(series[:MOST_SERIES], kept, shown))
    panels: dict[str, dict[tuple[str, str], PlotPoint]] = {name: {} for name in series[:MOST_SERIES]}
    for name, line, item in there:
        if (name, line, item.size) in places:
            panels[name][line, item.size] = point_of(item)
    if sum(p.y is not None for values in panels.values() for p in values.values()) < LEAST_NUMBERS:
        return None
    title = words["plot_heatmap_ratio" if ratio else "plot_heatmap_time"].format(baseline=named.baseline)
    omitted = len(lines) - len(kept) + len(sizes) - len(shown) + len(series) - len(panels)
    return Heatmap("heatmap", title, tuple(kept), tuple(shown), tuple(panels.items()), ratio, omitted)


def _time(row: BenchmarkRow) -> PlotPoint:
    note = " ".join(row.flags) if row.median_s else f"{row.status}: {row.reason}"
    cost = cost_of(row) if row.median_s else None
    value, low, high = (cost.value, cost.low, cost.high) if cost is not None else (None, None, None)
    point = PlotPoint(value, low, high, note=note, **_of(row.size), cell=row.cell)
    return replace(point, doubtful=any(flag in FORBIDDING for flag in row.flags))


def _ratio(one: Speedup) -> PlotPoint:
    note = one.reason or one.verdict or ""
    return PlotPoint(one.speedup, one.low, one.high, note=note, **_of(one.size), cell=one.other_cell)


def _rate(row: BenchmarkRow) -> PlotPoint:
    assert row.flop and row.bytes
    rate, low, high = (row.flop / s if s else None for s in (row.median_s, row.ci_high_s, row.ci_low_s))
    return replace(_time(row), x=row.flop / row.bytes, y=rate, low=low, high=high)


def _itself(point: PlotPoint) -> PlotPoint:
    return point


def _of(size: str) -> dict[str, Any]:
    return {"x": elements_of(size), "label": size, "rank": size.partition(" ")[0].count("x") + 1}


@lru_cache(maxsize=10_000)
def _place(size: str) -> tuple[int, int] | None:
    """By rank and by elements; None where the size is no shape, as of a cell that could not even be composed."""
    elements = elements_of(size)
    return None if elements is None else (size.count("x"), elements)


def _panels(
    found: Iterable[tuple[str, str, Any]],
    point_of: Callable[[Any], PlotPoint],
    styles: dict[str, int],
    *,
    order: Callable[[Any], Any] = lambda item: _place(item.size),
    marks: Marks | None = None,
    ceilings: dict[str, RooflineCeiling | None] | None = None,
) -> tuple[tuple[Panel, ...], int]:
    """Group rows into panels and series, make points of those that have room, and count those that have none."""
    grouped: dict[str, dict[str, list[Any]]] = {}
    for panel, series, item in found:
        if order(item) is not None:
            grouped.setdefault(panel, {}).setdefault(series, []).append(item)
    omitted = max(0, len(grouped) - MOST_PANELS)
    panels = []
    for title, lines in list(grouped.items())[:MOST_PANELS]:
        omitted += max(0, len(lines) - MOST_SERIES)
        drawn = []
        for name, items in list(lines.items())[:MOST_SERIES]:
            kept = _spread(sorted(items, key=order), MOST_POINTS)
            omitted += len(items) - len(kept)
            drawn.append(Series(name, styles[name], tuple(map(point_of, kept))))
        here = [mark for (panel, name), mark in (marks or {}).items() if panel == title and name in lines]
        panels.append(Panel(title, tuple(drawn), tuple(here), (ceilings or {}).get(title)))
    return tuple(panels), omitted


def _drawable(panels: Sequence[Panel]) -> bool:
    """Whether there is something to see; of fewer numbers the table says it better, and at once."""
    points = (point for panel in panels for series in panel.series for point in series.points)
    return sum(point.y is not None for point in points) >= LEAST_NUMBERS


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def _ceiling(rows: Sequence[BenchmarkRow]) -> RooflineCeiling | None:
    """The peaks that the rows' fractions were taken of: a rate over its fraction."""
    peak, bandwidth = (
        median(tops) if tops else None
        for tops in (_tops(rows, "compute", "flop_per_s"), _tops(rows, "memory", "bytes_per_s"))
    )
    return RooflineCeiling(peak, bandwidth) if peak or bandwidth else None


def _tops(rows: Sequence[BenchmarkRow], bound: str, rate: str) -> list[float]:
    return [getattr(r, rate) / r.fraction_of_peak for r in rows if r.bound == bound and r.fraction_of_peak]
