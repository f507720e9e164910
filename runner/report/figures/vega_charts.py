"""The same pictures for the page, with hover values: Vega-Lite specifications, which Vega draws in the browser."""

from __future__ import annotations

import math
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
Spec = dict[str, Any]


def chart_of(plot: Plot, words: Words) -> Spec:
    """A plot of which one panel is shown at a time, chosen from a list."""
    styles = {series.name: series.style for panel in plot.panels for series in panel.series}
    names = sorted(styles, key=styles.__getitem__)
    points = [
        {"panel": panel.title, "series": series.name, "bottom": HEIGHT - 2 - 9 * (series.style % 6)}
        | _values(point, plot.y_unit, words)
        for panel in plot.panels
        for series in panel.series
        for point in series.points
    ]
    scale = {"domain": names, "range": [f"var(--series-{styles[name] % len(COLOURS)})" for name in names]}
    shapes = {"domain": names, "range": [SHAPES[styles[name] % len(SHAPES)] for name in names]}
    legend = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 300}
    x = {"field": "x", "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 12}}
    encoding = {
        "x": x | {"title": plot.x_title, "axis": _axis("x", plot.x_unit, words)},
        "y": {"field": "y", "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 12}}
        | {"title": plot.y_title, "axis": _axis("y", plot.y_unit, words)},
        "color": {"field": "series", "type": "nominal", "scale": scale, "legend": legend},
    }
    shape = {"field": "series", "type": "nominal", "scale": shapes, "legend": legend}
    there, tooltip = {"filter": "isValid(datum.y)"}, _tooltip(plot, words)
    link = {"href": {"field": "href"}, "tooltip": tooltip}
    interval = {"y": encoding["y"] | {"field": "low"}, "y2": {"field": "high"}}
    fill = {"field": "series", "type": "nominal", "scale": scale, "legend": None}
    hollow = {"condition": {"test": "datum.doubtful", "value": 0}, "value": 1}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "aria": False},
            "encoding": interval,
        },
        {"transform": [there], "mark": {"type": "point", "size": 75, "opacity": 1, "strokeWidth": 1.5}}
        | {"encoding": link | {"shape": shape, "fill": fill, "fillOpacity": hollow}},
        {
            "transform": [{"filter": "!isValid(datum.y)"}],
            "mark": {"type": "text", "text": "×", "fontSize": 17, "baseline": "bottom"},
            "encoding": link | {"y": {"field": "bottom", "type": "quantitative", "scale": None}},
        },
    ]
    if plot.connected:
        line = {"type": "line", "aria": False, "invalid": "break-paths-filter-domains"}
        layers.insert(0, {"mark": line, "encoding": {"detail": {"field": "rank"}}})
    spec = _spec(plot, points, [panel.title for panel in plot.panels], words)
    layer = [{"encoding": encoding, "layer": layers}, *_level(plot), *_marks(plot, x, scale), *_ceilings(plot)]
    return spec | {"height": HEIGHT, "layer": layer}


def chart_of_heatmap(heatmap: Heatmap, words: Words) -> Spec:
    """Operations by sizes, a panel at a time."""
    cells: list[Spec] = []
    for title, values in heatmap.panels:
        for (line, column), point in values.items():
            if line in heatmap.lines and column in heatmap.columns:
                short = "×" if point.y is None else amount(point.y, heatmap.unit, words, heatmap.significant)
                cells.append({"panel": title, "line": line, "short": short, **_values(point, heatmap.unit, words)})
    number = {"calculate": "isValid(datum.y) ? log(datum.y) / LN10 : null", "as": "level"}
    far = max([0.3, *(abs(_log10(cell["y"])) for cell in cells if cell["y"])])
    scale = (
        {"scheme": "purpleorange", "reverse": True, "domain": [-far, far]} if heatmap.ratio else {"scheme": "cividis"}
    )
    label = _label("pow(10, datum.value)", heatmap.unit, words)
    dark = f"abs(datum.level) > {0.55 * far}" if heatmap.ratio else "datum.level < (extent[0] + extent[1]) / 2"
    what = words["speedup" if heatmap.ratio else "time"]
    tooltip = [{"field": "line", "title": words["operation"]}, *_hover(words, what)]
    rows = {"grid": False, "labelLimit": LABEL_PIXELS}
    position = {
        "x": {"field": "size", "type": "ordinal", "sort": list(heatmap.columns), "title": words["size"]}
        | {"axis": {"labelAngle": -40, "grid": False}},
        "y": {"field": "line", "type": "nominal", "sort": list(heatmap.lines), "title": None, "axis": rows},
    }
    legend = {"title": what, "labelExpr": label, "orient": "bottom", "gradientLength": 220}
    colour: Spec = {"field": "level", "type": "quantitative", "scale": scale, "legend": legend}
    levels = [_log10(cell["y"]) for cell in cells if cell["y"]]
    missing = {"test": "!isValid(datum.level)", "value": "currentColor"}
    ink = {"condition": [missing, {"test": f"isValid(datum.level) && ({dark})", "value": "white"}], "value": "black"}
    shown = {"text": {"field": "short"}, "color": ink, "tooltip": tooltip, "href": {"field": "href"}}
    spec = _spec(heatmap, cells, [title for title, _ in heatmap.panels], words)
    spec["transform"].append(number)
    spec["params"].append({"name": "extent", "value": [min(levels), max(levels)]})
    layers: list[Spec] = [
        {"mark": "rect", "encoding": {"color": colour, "tooltip": tooltip, "href": {"field": "href"}}},
        {"mark": {"type": "rect", "color": "#80808030"}, "transform": [{"filter": "!isValid(datum.level)"}]},
        {"mark": {"type": "text", "fontSize": 11}, "encoding": shown},
    ]
    return spec | {"height": ROW_HEIGHT * len(heatmap.lines), "encoding": position, "layer": layers}


def _spec(picture: Plot | Heatmap, values: list[Spec], panels: list[str], words: Words) -> Spec:
    chosen = {"input": "select", "options": panels, "name": f"{words['shown']} ", "element": f"#choice-{picture.key}"}
    return {
        "$schema": SCHEMA,
        "usermeta": {"title": picture.title},
        "description": f"{picture.title}. {words['chart_alt']}",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "params": [{"name": "panel", "value": panels[0], "bind": chosen}],
        "transform": [{"filter": "datum.panel === panel"}],
    }


def _values(point: PlotPoint, unit: str, words: Words) -> Spec:
    """What a point's marks and its hover text need; a number as text is in the reader's language."""
    between = "" if point.low is None or point.high is None else "–"
    ends = [amount(end, unit, words) for end in (point.low, point.high) if end is not None] if between else []
    return {
        "x": point.x,
        "y": point.y,
        "low": point.low if between else None,
        "high": point.high if between else None,
        "rank": point.rank,
        "size": point.label,
        "doubtful": point.doubtful,
        "number": "×" if point.y is None else amount(point.y, unit, words, 4),
        "interval": between.join(ends),
        "note": point.note,
        "href": f"#{point.cell}" if point.cell else None,
    }


def _tooltip(plot: Plot, words: Words) -> list[Spec]:
    titles = {"panel": words["panel"], "series": words["series"]}
    return [*({"field": field, "title": title} for field, title in titles.items()), *_hover(words, plot.y_title)]


def _hover(words: Words, number: str) -> list[Spec]:
    titles = {"size": words["size"], "number": number, "interval": words["interval"], "note": words["note"]}
    return [{"field": field, "type": "nominal", "title": title} for field, title in titles.items()]


def _level(plot: Plot) -> list[Spec]:
    if plot.level is None:
        return []
    return [
        {"data": {"values": [{"y": plot.level}]}, "transform": [], "mark": {"type": "rule", "strokeDash": [2, 2]}}
        | {"encoding": {"y": {"field": "y", "type": "quantitative"}}}
    ]


def _marks(plot: Plot, x: Spec, scale: Spec) -> list[Spec]:
    """Crossovers, and their intervals as bands."""
    values = [
        {"panel": panel.title, "series": series.name, "x": mark.x, "low": mark.low, "high": mark.high}
        for panel in plot.panels
        for mark in panel.marks
        for series in panel.series
        if series.style == mark.style
    ]
    if not values:
        return []
    colour = {"field": "series", "type": "nominal", "scale": scale, "legend": None}
    shared: Spec = {"data": {"values": values}, "transform": [{"filter": "datum.panel === panel"}]}
    ends = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "color": colour, "opacity": {"value": 0.15}}
    return [
        shared | {"mark": {"type": "rect", "aria": False}, "encoding": ends},
        shared
        | {"mark": {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.5}, "encoding": {"x": x, "color": colour}},
    ]


def _ceilings(plot: Plot) -> list[Spec]:
    values = []
    for panel in plot.panels:
        xs = [point.x for series in panel.series for point in series.points]
        for name, line in (panel.ceiling.lines(min(xs) / 2, max(xs) * 2) if panel.ceiling else {}).items():
            values += [{"panel": panel.title, "peak": name, "x": x, "y": y} for x, y in line]
    if not values:
        return []
    position = {axis: {"field": axis, "type": "quantitative"} for axis in ("x", "y")}
    return [
        {"data": {"values": values}, "transform": [{"filter": "datum.panel === panel"}]}
        | {"mark": {"type": "line", "strokeDash": [6, 3]}, "encoding": position | {"detail": {"field": "peak"}}}
    ]


def _axis(name: str, unit: str, words: Words) -> Spec:
    """Labels at whole powers of ten, or at 1, 2 and 5 where the axis spans few; lines at powers of ten stand out."""
    decades = f"(log(domain('{name}')[1] / domain('{name}')[0]) / LN10)"
    power = "pow(10, floor(log(datum.value * 1.0001) / LN10))"
    labelled = f"{decades} < 0.8 || indexof({decades} < 2.5 ? [1, 2, 5] : [1], round(datum.value / {power})) >= 0"
    label = f"{labelled} ? {_label('datum.value', unit, words)} : ''"
    weight = {"condition": {"test": f"round(datum.value / {power}) == 1", "value": 1}, "value": 0.35}
    return {"labelExpr": label, "labelOverlap": "greedy", "gridOpacity": weight}


def _label(value: str, unit: str, words: Words) -> str:
    """An expression that writes an axis' number as :func:`runner.report.language.amount` does."""
    kind = "prefix" if unit else "count"
    text = (
        f"format({value}, '.3~s')" if unit else f"({value} < 1000 ? format({value}, '.3~r') : format({value}, '.3~s'))"
    )
    text = f"replace({text}, '.', '{words['decimal']}')"
    if unit:
        text = f"replace({text}, regexp('([a-zA-Zµ]?)$'), ' $1')"
    for prefix in filter(None, PREFIXES.values()):
        if (translated := words.get(f"{kind}_{prefix}", prefix)) != prefix:
            text = f"replace({text}, '{prefix}', '{translated}')"
    return f"{text} + '{words.get(f'unit_{unit}', unit)}'"


def _log10(value: float) -> float:
    return math.log10(value)
