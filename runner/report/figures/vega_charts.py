"""Pictures as Vega-Lite specifications, which Vega draws on the page and :mod:`.prints` on paper.

Their constant parts are the templates in ``charts/``.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runner.errors import printable
from runner.report.figures.names import anchor
from runner.report.figures.picture import COLOURS, Heatmap, Plot, PlotPoint
from runner.report.language import PREFIXES, Words, amount

SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "triangle-down", "cross"),
    *("triangle-right", "triangle-left", "stroke"),
)
SHOWN_PANEL = {"filter": "datum.panel === panel"}
Spec = dict[str, Any]


def chart_of(plot: Plot, words: Words) -> Spec:
    """A plot of which one panel is shown at a time, chosen from a list."""
    points, marks, ceilings = [], [], []
    for panel in plot.panels:
        names = {series.style: series.name for series in panel.series}
        for series in panel.series:
            above = 2 + 9 * (series.style % 6)  # pixels: the series' crosses stand one on another
            own = {"panel": panel.title, "series": series.name, "above": above}
            points += [own | _values(point, plot.y_unit, words) for point in series.points]
        for mark in panel.marks:
            if mark.style in names:  # else its series had no room
                own = {"panel": panel.title, "series": names[mark.style]}
                marks.append(own | {"x": mark.x, "low": mark.low, "high": mark.high})
        for name, line in panel.ceiling_lines.items():
            ceilings += [{"panel": panel.title, "peak": name, "x": x, "y": y} for x, y in line]

    names_by_style = sorted(plot.styles, key=plot.styles.__getitem__)
    styles = sorted(plot.styles.values())
    colours = [f"var(--series-{style % len(COLOURS)})" for style in styles]
    shapes = [SHAPES[style % len(SHAPES)] for style in styles]
    return _rendered(
        "plot.json.j2",
        picture=plot,
        words=words,
        points=points,
        marks=marks,
        ceilings=ceilings,
        x=_axis("x", plot.x_title, plot.x_unit, words),
        y=_axis("y", plot.y_title, plot.y_unit, words),
        colours={"domain": names_by_style, "range": colours},
        shapes={"domain": names_by_style, "range": shapes},
        tooltip=_tooltip({"panel": words["panel"], "series": words["series"]}, plot.y_title, words),
    )


def chart_of_heatmap(heatmap: Heatmap, words: Words) -> Spec:
    """Operations by sizes, a panel at a time."""
    tiles = []
    for title, points in heatmap.panels:
        for (line, column), point in points.items():
            if line in heatmap.lines and column in heatmap.columns:
                values = _values(point, heatmap.unit, words)
                if point.y is not None:
                    values["short"] = amount(point.y, heatmap.unit, words, heatmap.significant)
                tiles.append({"panel": title, "line": line, "short": "×", **values})
    levels = [math.log10(point.y) for point in heatmap.points if point.y]
    number = words["speedup" if heatmap.ratio else "time"]
    return _rendered(
        "heatmap.json.j2",
        picture=heatmap,
        words=words,
        points=tiles,
        lowest=min(levels),
        highest=max(levels),
        farthest=max([0.3, *map(abs, levels)]),
        number=number,
        label=_label("pow(10, datum.value)", heatmap.unit, words),
        tooltip=_tooltip({"line": words["operation"]}, number, words),
    )


@cache
def _templates() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "charts")
    return Environment(loader=loader, undefined=StrictUndefined)  # of JSON, not HTML


def _rendered(template: str, **values: object) -> Spec:
    text = _templates().get_template(template).render(values, shown_panel=SHOWN_PANEL)
    spec: Spec = json.loads(text)
    return spec


def _tooltip(names: dict[str, str], number: str, words: Words) -> list[Spec]:
    """What is shown when a point is hovered: its names, its number and what there is to say."""
    titles = {"size": words["size"], "number": number}
    titles |= {"interval": words["interval"], "note": words["note"]}
    fields: list[Spec] = [{"field": field, "title": title} for field, title in names.items()]
    return fields + [
        {"field": field, "type": "nominal", "title": title} for field, title in titles.items()
    ]


def _values(point: PlotPoint, unit: str, words: Words) -> Spec:
    """What a point's marks and its hover text need, with numbers in the reader's language."""
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
        "note": printable(point.note, 300),
        "href": f"#{anchor(point.cell)}" if point.cell else None,
    }


def _axis(name: str, title: str, unit: str, words: Words) -> Spec:
    """A logarithmic axis, labelled at powers of ten, and at 1, 2 and 5 where it spans few."""
    decades = f"(log(domain('{name}')[1] / domain('{name}')[0]) / LN10)"
    power = "pow(10, floor(log(datum.value * 1.0001) / LN10))"
    leading = f"round(datum.value / {power})"
    labelled = f"{decades} < 0.8 || indexof({decades} < 2.5 ? [1, 2, 5] : [1], {leading}) >= 0"
    axis = {
        "labelExpr": f"{labelled} ? {_label('datum.value', unit, words)} : ''",
        "labelOverlap": "greedy",
        "gridOpacity": {"condition": {"test": f"{leading} == 1", "value": 1}, "value": 0.35},
    }
    scale = {"type": "log", "nice": False, "padding": 12}
    return {"field": name, "type": "quantitative", "scale": scale, "title": title, "axis": axis}


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
