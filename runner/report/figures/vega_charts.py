"""Pictures as Vega-Lite specifications, which Vega draws on the page and :mod:`.prints` on paper.

Their constant parts are the templates in ``charts/``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runner.errors import printable
from runner.report.figures.names import anchor
from runner.report.figures.picture import COLOURS, Heatmap, Panel, Plot, PlotPoint
from runner.report.language import PREFIXES, Words, amount

SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "triangle-down", "cross"),
    *("triangle-right", "triangle-left", "stroke"),
)
FEW_DECADES = 2.5  # of a scale: it is labelled at 1, 2 and 5, and not at powers of ten alone
FILES = FileSystemLoader(Path(__file__).parent / "charts")
TEMPLATES = Environment(loader=FILES, undefined=StrictUndefined)  # of JSON, not HTML
Spec = dict[str, Any]


def chart_of(picture: Plot | Heatmap, words: Words) -> dict[str, Spec]:
    """A specification for each of its panels, by the panel's title."""
    return _plot(picture, words) if isinstance(picture, Plot) else _heatmap(picture, words)


def _plot(plot: Plot, words: Words) -> dict[str, Spec]:
    # series look the same in all panels
    names = sorted(plot.styles, key=plot.styles.__getitem__)
    styles = sorted(plot.styles.values())
    colours = [f"var(--series-{style % len(COLOURS)})" for style in styles]
    shapes = [SHAPES[style % len(SHAPES)] for style in styles]
    shared = {
        "picture": plot,
        "words": words,
        "colours": {"domain": names, "range": colours},
        "shapes": {"domain": names, "range": shapes},
        "tooltip": _tooltip({"series": words["series"]}, plot.y_title, words),
    }
    return {panel.title: _panel_spec(plot, panel, shared, words) for panel in plot.panels}


def _panel_spec(plot: Plot, panel: Panel, shared: Mapping[str, object], words: Words) -> Spec:
    points, marks, lines = [], [], []
    names = {series.style: series.name for series in panel.series}
    for series in panel.series:
        above = 2 + 9 * (series.style % 6)  # pixels: the series' crosses stand one on another
        own = {"series": series.name, "above": above}
        points += [own | _values(point, plot.y_unit, words) for point in series.points]
    for mark in panel.marks:
        if mark.style in names:  # else its series had no room
            own = {"series": names[mark.style]}
            marks.append(own | {"x": mark.x, "low": mark.low, "high": mark.high})
    for line in panel.lines:
        labelled = len(line.points) - 1 if line.at_end else 0
        for n, (x, y) in enumerate(line.points):
            own = {"line": line.label, "label": line.label if n == labelled else ""}
            lines.append(own | {"x": x, "y": y, "order": n, "at_end": line.at_end})

    sizes = {point.x: printable(point.label) for point in panel.points} if plot.by_size else None
    return _rendered(
        "histogram.json.j2" if plot.histogram else "plot.json.j2",
        **shared,
        points=points,
        marks=marks,
        lines=lines,
        x=_axis("x", plot.x_title, plot.x_unit, words, linear=plot.linear, sizes=sizes),
        y=_axis("y", plot.y_title, plot.y_unit, words, linear=plot.linear),
    )


def _heatmap(heatmap: Heatmap, words: Words) -> dict[str, Spec]:
    # what is unsure has no colour, and no say in those of the others
    levels = [math.log10(point.y) for point in heatmap.points if point.y and not point.unsure]
    levels = levels or [0.0]
    farthest = max([0.3, *map(abs, levels)])
    ends = (-farthest, farthest) if heatmap.ratio else (min(levels), max(levels))
    leading = (1, 2, 5) if ends[1] - ends[0] < FEW_DECADES else (1,)
    ticks = [math.log10(digit) + power for digit, power in product(leading, range(-12, 13))]
    number = words["speedup" if heatmap.ratio else "time"]
    panels = {}
    for title, points in heatmap.panels:
        tiles = []
        for (line, column), point in points.items():
            if line in heatmap.lines and column in heatmap.columns:
                values = _values(point, heatmap.unit, words)
                if point.y is not None:
                    short = amount(point.y, heatmap.unit, words, heatmap.significant)
                    short = f"({short})" if point.doubtful else short
                    values["short"] = f"{short}?" if point.unsure else short
                tiles.append({"line": line, "short": "×", **values})
        panels[title] = _rendered(
            "heatmap.json.j2",
            picture=heatmap,
            words=words,
            points=tiles,
            lowest=min(levels),
            highest=max(levels),
            farthest=farthest,
            ticks=[tick for tick in ticks if ends[0] <= tick <= ends[1]],
            number=number,
            label=_label("pow(10, datum.value)", heatmap.unit, words),
            tooltip=_tooltip({"line": words["operation"]}, number, words),
        )
    return panels


def _rendered(template: str, **values: object) -> Spec:
    text = TEMPLATES.get_template(template).render(values)
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
        "unsure": point.unsure,
        "number": "×" if point.y is None else amount(point.y, unit, words, 4),
        "interval": interval,
        "note": printable(point.note, 300),
        "href": f"#{anchor(point.cell)}" if point.cell else None,
    }


def _axis(
    name: str,
    title: str,
    unit: str,
    words: Words,
    *,
    linear: bool = False,
    sizes: Mapping[float, str] | None = None,
) -> Spec:
    """An axis: by the ``sizes`` of a panel, linear, or logarithmic.

    The latter is labelled at powers of ten, and at 1, 2 and 5 where it spans few.
    """
    axis: Spec = {"labelOverlap": "greedy"}
    scale: Spec = {"type": "log", "nice": False, "padding": 12}
    if sizes is not None:
        places, texts = json.dumps(list(sizes)), json.dumps(list(sizes.values()))
        label = f"{texts}[indexof({places}, datum.value)]"
        axis |= {"values": sorted(sizes), "labelExpr": label, "labelAngle": -40}
    elif linear:
        axis["labelExpr"] = _label("datum.value", unit, words, significant=4)
        scale = {"zero": False, "nice": False, "padding": 12}
    else:
        decades = f"(log(domain('{name}')[1] / domain('{name}')[0]) / LN10)"
        power = "pow(10, floor(log(datum.value * 1.0001) / LN10))"
        leading = f"round(datum.value / {power})"
        labelled = f"{decades} < 0.8 || indexof({decades} < 2.5 ? [1, 2, 5] : [1], {leading}) >= 0"
        axis["labelExpr"] = f"{labelled} ? {_label('datum.value', unit, words)} : ''"
        condition = {"test": f"{leading} == 1", "value": 1}
        axis["gridOpacity"] = {"condition": condition, "value": 0.35}
    return {"field": name, "type": "quantitative", "scale": scale, "title": title, "axis": axis}


def _label(value: str, unit: str, words: Words, significant: int = 3) -> str:
    """An expression that writes an axis' number as :func:`runner.report.language.amount` does."""
    text = f"format({value}, '.{significant}~s')"
    if not unit:
        text = f"({value} < 1000 ? format({value}, '.{significant}~r') : {text})"
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
