"""The same pictures for the page, with hover values: Vega-Lite specifications, which Vega draws in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runner.report.figures.picture import COLOURS, Heatmap, Plot, PlotPoint
from runner.report.language import PREFIXES, Words, amount

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched
SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "triangle-right",
    "triangle-left",
    "stroke",
]
HEIGHT = 340  # pixels
LABEL_PIXELS = 360  # of a row's name
ROW_HEIGHT = 30  # of a heat map
LEGEND = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 300}
SHOWN_PANEL = {"filter": "datum.panel === panel"}
Spec = dict[str, Any]


def chart_of(plot: Plot, words: Words) -> Spec:
    """A plot of which one panel is shown at a time, chosen from a list."""
    values = []
    for panel in plot.panels:
        for series in panel.series:
            bottom = (
                HEIGHT - 2 - 9 * (series.style % 6)
            )  # where the crosses of what is missing stand
            own = {"panel": panel.title, "series": series.name, "bottom": bottom}
            values += [own | _values(point, plot.y_unit, words) for point in series.points]

    # the layers share their axes and the colours of their series
    x = _logarithmic("x", title=plot.x_title, axis=_axis("x", plot.x_unit, words))
    y = _logarithmic("y", title=plot.y_title, axis=_axis("y", plot.y_unit, words))
    encoding = {"x": x, "y": y, "color": _by_series(_colours(plot), LEGEND)}
    layers = [_intervals(y), _points(plot, words), _missing(plot, words)]
    if plot.connected:
        line = {"type": "line", "aria": False, "invalid": "break-paths-filter-domains"}
        layers.insert(0, _layer(line, {"detail": {"field": "rank"}}))
    series_layer = {"encoding": encoding, "layer": layers}

    spec = _spec(plot, values, [panel.title for panel in plot.panels], words)
    return spec | {
        "height": HEIGHT,
        "layer": [series_layer, *_level(plot), *_marks(plot), *_ceilings(plot)],
    }


def chart_of_heatmap(heatmap: Heatmap, words: Words) -> Spec:
    """Operations by sizes, a panel at a time."""
    values = _tiles(heatmap, words)
    levels = [math.log10(tile["y"]) for tile in values if tile["y"]]
    far = max([0.3, *map(abs, levels)])

    # the numbers are read on the colour of their tile
    dark = (
        f"abs(datum.level) > {0.55 * far}"
        if heatmap.ratio
        else "datum.level < (extent[0] + extent[1]) / 2"
    )
    missing = {"test": "!isValid(datum.level)", "value": "currentColor"}
    on_dark = {"test": f"isValid(datum.level) && ({dark})", "value": "white"}
    ink = {"condition": [missing, on_dark], "value": "black"}

    number = words["speedup" if heatmap.ratio else "time"]
    link = {
        "tooltip": [{"field": "line", "title": words["operation"]}, *_hover(words, number)],
        "href": {"field": "href"},
    }
    layers = [
        _layer("rect", {"color": _level_colour(heatmap, far, number, words), **link}),
        {
            "mark": {"type": "rect", "color": "#80808030"},
            "transform": [{"filter": "!isValid(datum.level)"}],
        },
        _layer(
            {"type": "text", "fontSize": 11}, {"text": {"field": "short"}, "color": ink, **link}
        ),
    ]

    spec = _spec(heatmap, values, [title for title, _ in heatmap.panels], words)
    spec["transform"].append(
        {"calculate": "isValid(datum.y) ? log(datum.y) / LN10 : null", "as": "level"}
    )
    spec["params"].append({"name": "extent", "value": [min(levels), max(levels)]})
    height = ROW_HEIGHT * len(heatmap.lines)
    return spec | {"height": height, "encoding": _tile_position(heatmap, words), "layer": layers}


def _spec(picture: Plot | Heatmap, values: list[Spec], panels: list[str], words: Words) -> Spec:
    """What every chart has: its data, and the list from which a panel is chosen."""
    chosen = {
        "input": "select",
        "options": panels,
        "name": f"{words['shown']} ",
        "element": f"#choice-{picture.key}",
    }
    return {
        "$schema": SCHEMA,
        "usermeta": {"title": picture.title},
        "description": f"{picture.title}. {words['chart_alt']}",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "params": [{"name": "panel", "value": panels[0], "bind": chosen}],
        "transform": [SHOWN_PANEL],
    }


def _layer(mark: str | Spec, encoding: Spec, only: str = "") -> Spec:
    """Marks of those data for which an expression holds; blank: of all."""
    layer = {"mark": mark, "encoding": encoding}
    return layer | {"transform": [{"filter": only}]} if only else layer


def _own_layer(
    mark: Spec, encoding: Spec, values: Sequence[Spec], *, every_panel: bool = False
) -> Spec:
    """Marks of data of its own."""
    transform = [] if every_panel else [SHOWN_PANEL]
    return {"data": {"values": values}, "transform": transform} | _layer(mark, encoding)


def _quantitative(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _logarithmic(field: str, **more: Any) -> Spec:
    return _quantitative(field, scale={"type": "log", "nice": False, "padding": 12}, **more)


def _by_series(scale: Spec, legend: Spec | None) -> Spec:
    return {"field": "series", "type": "nominal", "scale": scale, "legend": legend}


def _names(plot: Plot) -> list[str]:
    return sorted(plot.styles, key=plot.styles.__getitem__)


def _colours(plot: Plot) -> Spec:
    names, styles = _names(plot), plot.styles
    return {
        "domain": names,
        "range": [f"var(--series-{styles[name] % len(COLOURS)})" for name in names],
    }


def _shapes(plot: Plot) -> Spec:
    names, styles = _names(plot), plot.styles
    return {"domain": names, "range": [SHAPES[styles[name] % len(SHAPES)] for name in names]}


def _intervals(y: Spec) -> Spec:
    ends = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    return _layer({"type": "rule", "aria": False}, ends, only="isValid(datum.low)")


def _points(plot: Plot, words: Words) -> Spec:
    """Filled, or hollow where they are doubtful."""
    look = {
        "shape": _by_series(_shapes(plot), LEGEND),
        "fill": _by_series(_colours(plot), None),
        "fillOpacity": {"condition": {"test": "datum.doubtful", "value": 0}, "value": 1},
    }
    mark = {"type": "point", "size": 75, "opacity": 1, "strokeWidth": 1.5}
    return _layer(mark, _link(plot, words) | look, only="isValid(datum.y)")


def _missing(plot: Plot, words: Words) -> Spec:
    mark = {"type": "text", "text": "×", "fontSize": 17, "baseline": "bottom"}
    encoding = _link(plot, words) | {"y": _quantitative("bottom", scale=None)}
    return _layer(mark, encoding, only="!isValid(datum.y)")


def _link(plot: Plot, words: Words) -> Spec:
    """From a point to its row, with its values when hovered."""
    titles = {"panel": words["panel"], "series": words["series"]}
    names = [{"field": field, "title": title} for field, title in titles.items()]
    return {"href": {"field": "href"}, "tooltip": [*names, *_hover(words, plot.y_title)]}


def _hover(words: Words, number: str) -> list[Spec]:
    titles = {
        "size": words["size"],
        "number": number,
        "interval": words["interval"],
        "note": words["note"],
    }
    return [{"field": field, "type": "nominal", "title": title} for field, title in titles.items()]


def _values(point: PlotPoint, unit: str, words: Words) -> Spec:
    """What a point's marks and its hover text need; a number as text is in the reader's language."""
    low, high, interval = None, None, ""
    if point.low is not None and point.high is not None:
        low, high = point.low, point.high
        interval = f"{amount(low, unit, words)}–{amount(high, unit, words)}"
    return {
        "x": point.x,
        "y": point.y,
        "low": low,
        "high": high,
        "rank": point.rank,
        "size": point.label,
        "doubtful": point.doubtful,
        "number": "×" if point.y is None else amount(point.y, unit, words, 4),
        "interval": interval,
        "note": point.note,
        "href": f"#{point.cell}" if point.cell else None,
    }


def _level(plot: Plot) -> list[Spec]:
    if plot.level is None:
        return []
    mark = {"type": "rule", "strokeDash": [2, 2]}
    return [_own_layer(mark, {"y": _quantitative("y")}, [{"y": plot.level}], every_panel=True)]


def _marks(plot: Plot) -> list[Spec]:
    """Crossovers, and their intervals as bands."""
    values = []
    for panel in plot.panels:
        for mark in panel.marks:
            names = [series.name for series in panel.series if series.style == mark.style]
            own = {"panel": panel.title, "x": mark.x, "low": mark.low, "high": mark.high}
            values += [own | {"series": name} for name in names]
    if not values:
        return []
    colour, x = _by_series(_colours(plot), None), _logarithmic("x")
    ends = {
        "x": x | {"field": "low"},
        "x2": {"field": "high"},
        "color": colour,
        "opacity": {"value": 0.15},
    }
    line = {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.5}
    return [
        _own_layer({"type": "rect", "aria": False}, ends, values),
        _own_layer(line, {"x": x, "color": colour}, values),
    ]


def _ceilings(plot: Plot) -> list[Spec]:
    values = []
    for panel in plot.panels:
        for name, line in panel.ceiling_lines.items():
            values += [{"panel": panel.title, "peak": name, "x": x, "y": y} for x, y in line]
    if not values:
        return []
    encoding = {"x": _quantitative("x"), "y": _quantitative("y"), "detail": {"field": "peak"}}
    return [_own_layer({"type": "line", "strokeDash": [6, 3]}, encoding, values)]


def _tiles(heatmap: Heatmap, words: Words) -> list[Spec]:
    values = []
    for title, tiles in heatmap.panels:
        for (line, column), point in tiles.items():
            if line in heatmap.lines and column in heatmap.columns:
                short = (
                    "×"
                    if point.y is None
                    else amount(point.y, heatmap.unit, words, heatmap.significant)
                )
                own = {"panel": title, "line": line, "short": short}
                values.append(own | _values(point, heatmap.unit, words))
    return values


def _tile_position(heatmap: Heatmap, words: Words) -> Spec:
    columns, lines = list(heatmap.columns), list(heatmap.lines)
    x_axis = {"labelAngle": -40, "grid": False}
    y_axis = {"grid": False, "labelLimit": LABEL_PIXELS}
    return {
        "x": {
            "field": "size",
            "type": "ordinal",
            "sort": columns,
            "title": words["size"],
            "axis": x_axis,
        },
        "y": {"field": "line", "type": "nominal", "sort": lines, "title": None, "axis": y_axis},
    }


def _level_colour(heatmap: Heatmap, far: float, title: str, words: Words) -> Spec:
    """The colour of a number's logarithm, with 1 in the middle of ratios."""
    scale: Spec = {"scheme": "cividis"}
    if heatmap.ratio:
        scale = {"scheme": "purpleorange", "reverse": True, "domain": [-far, far]}
    label = _label("pow(10, datum.value)", heatmap.unit, words)
    legend = {"title": title, "labelExpr": label, "orient": "bottom", "gradientLength": 220}
    return _quantitative("level", scale=scale, legend=legend)


def _axis(name: str, unit: str, words: Words) -> Spec:
    """Labels at whole powers of ten, or at 1, 2 and 5 where the axis spans few; lines at powers of ten stand out."""
    decades = f"(log(domain('{name}')[1] / domain('{name}')[0]) / LN10)"
    power = "pow(10, floor(log(datum.value * 1.0001) / LN10))"
    labelled = f"{decades} < 0.8 || indexof({decades} < 2.5 ? [1, 2, 5] : [1], round(datum.value / {power})) >= 0"
    label = f"{labelled} ? {_label('datum.value', unit, words)} : ''"
    weight = {
        "condition": {"test": f"round(datum.value / {power}) == 1", "value": 1},
        "value": 0.35,
    }
    return {"labelExpr": label, "labelOverlap": "greedy", "gridOpacity": weight}


def _label(value: str, unit: str, words: Words) -> str:
    """An expression that writes an axis' number as :func:`runner.report.language.amount` does."""
    text = f"format({value}, '.3~s')"
    if not unit:
        text = f"({value} < 1000 ? format({value}, '.3~r') : {text})"
    text = f"replace({text}, '.', '{words['decimal']}')"
    if unit:
        text = f"replace({text}, regexp('([a-zA-Zµ]?)$'), ' $1')"

    # Vega writes the prefixes in English
    kind = "prefix" if unit else "count"
    for prefix in filter(None, PREFIXES.values()):
        translated = words.get(f"{kind}_{prefix}", prefix)
        if translated != prefix:
            text = f"replace({text}, '{prefix}', '{translated}')"
    return f"{text} + '{words.get(f'unit_{unit}', unit)}'"
