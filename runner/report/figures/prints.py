"""The figures for print: PNG and SVG of the page's charts, the same bytes for the same rows."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from runner.files import make_folder, write_atomically
from runner.report.figures.picture import COLOURS, Heatmap, Plot
from runner.report.figures.vega_charts import Spec, chart_of
from runner.report.language import Words

PLOT_PIXELS = {"width": 330, "height": 250}  # of a panel
TILE_PIXELS, NARROWEST_PIXELS = 62, 160  # across: of a heat map's tile, of its panel
GREY = "#555555"
BEYOND = re.compile(r"\\ud[89ab]..\\ud[c-f]..")  # signs that Vega cuts in two where a text is long
CONFIG = {
    "background": "white",
    "font": "Liberation Sans",  # has Cyrillic, and comes with vl-convert
    "view": {"stroke": None},
    "title": {"anchor": "start", "fontSize": 13, "subtitleFontSize": 12, "subtitleColor": GREY},
    "axis": {"gridColor": "#DDDDDD", "domainColor": GREY, "labelFontSize": 11},
    "axisX": {"titleFontSize": 12, "titleFontWeight": "normal"},
    "axisY": {"titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 360},
    "legend": {"columns": 3, "labelFontSize": 12, "titleFontWeight": "normal"},
    "rule": {"color": GREY},
    "line": {"color": GREY, "strokeWidth": 1.4},
}


def draw(pictures: Sequence[Plot | Heatmap], folder: Path, words: Words) -> None:
    """Draw each as PNG and SVG."""
    make_folder(folder)
    # the last, a heat map, has four times the pixels of the others: first, while the library that
    # draws has little memory of its own yet
    for picture in reversed(pictures):
        size, shared, columns = PLOT_PIXELS, ["color", "x", "y"], 2
        if isinstance(picture, Heatmap):
            size = {"width": max(NARROWEST_PIXELS, TILE_PIXELS * len(picture.columns))}
        else:
            shared = ["color", "shape", "x" if picture.connected else "y"]
            columns = 2 if len(picture.panels) == 4 else 3
        page = _page(picture, words, size=size, shared=shared, columns=columns)
        _save(page, folder / picture.key)


def _page(
    picture: Plot | Heatmap,
    words: Words,
    *,
    size: dict[str, int],
    shared: Sequence[str],
    columns: int,
) -> Spec:
    """All panels of a picture beside each other; its ``shared`` channels have one scale."""
    parts = ("height", "data", "encoding", "transform", "mark", "layer")
    panels = []
    for position, (title, spec) in enumerate(chart_of(picture, words).items()):
        text = json.dumps({part: spec[part] for part in parts if part in spec} | size)
        for axis in {"x", "y"}.difference(shared):  # so Vega names the scales that are not
            text = text.replace(f"domain('{axis}')", f"domain('concat_{position}_{axis}')")
        panels.append(json.loads(text) | {"title": title})

    more = f" ({words['omitted'].format(omitted=picture.omitted)})" if picture.omitted else ""
    heading = {"text": picture.title + more, "subtitle": _signs(picture, words), "fontSize": 15}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": heading | {"fontWeight": "normal", "offset": 16},
        "concat": panels,
        "columns": min(columns, len(panels)),
        "resolve": {"scale": dict.fromkeys(shared, "shared")},
        "config": CONFIG,
    }


def _signs(picture: Plot | Heatmap, words: Words) -> str:
    """What the signs in a picture mean that no legend explains; of those alone that it has."""
    signs = []
    panels = picture.panels if isinstance(picture, Plot) else ()
    if any(point.doubtful and point.y is not None for point in picture.points):
        sign = "( )" if isinstance(picture, Heatmap) else "○"
        signs.append(f"{sign} {words['doubtful']}")
    if isinstance(picture, Heatmap) and any(point.unsure for point in picture.points):
        signs.append(f"? {words['unsure']}")
    if any(point.y is None for point in picture.points):
        signs.append(f"× {words['missing']}")
    if any(panel.marks for panel in panels):
        signs.append(f"¦ {words['crossover']}")
    return " · ".join(signs)


def _save(page: Spec, path: Path) -> None:
    """As PNG and SVG, which leaves words as words, for search and screen readers."""
    text = BEYOND.sub(r"\\u25a1", json.dumps(page)).replace("currentColor", "black")
    for number, colour in enumerate(COLOURS):
        text = text.replace(f"var(--series-{number})", colour)
    svg = vl_convert.vegalite_to_svg(text, vl_version="6.4")  # the page's own
    svg = re.sub(r"gradient_\d+", "gradient", svg)  # else each drawing has a number of its own
    write_atomically(path.with_suffix(".svg"), svg, durable=False)
    png = _compressed(vl_convert.svg_to_png(svg))
    write_atomically(path.with_suffix(".png"), png, durable=False)


def _compressed(png: bytes) -> bytes:
    """The same picture at a quarter of its size: vl-convert packs its pixels for speed."""
    start = png.index(b"IDAT")
    length = int.from_bytes(png[start - 4 : start], "big")
    pixels = zlib.decompress(png[start + 4 : start + 4 + length])
    chunk = b"IDAT" + zlib.compress(pixels)
    checked = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[: start - 4] + checked + png[start + 8 + length :]
