"""``report.html``: one file with its libraries inside, which works from disk with no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from runner import __version__
from runner.errors import printable
from runner.report.figures.names import anchor
from runner.report.figures.picture import COLOURS, Heatmap, Plot
from runner.report.figures.vega_charts import chart_of
from runner.report.language import FindingText, Words, first_of, ratio_text
from runner.report.page.bars import Bars
from runner.report.page.facts import facts_of, flatten
from runner.report.page.listing import Listing
from runner.rows.flags import FLAGS, merged
from runner.rows.rows import BenchmarkRow, Row

HERE = Path(__file__).parent
TABLE_LIBRARY = ("dataTables.min.js",)
CHART_LIBRARY = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
MOST_NOTES = 20
LONGEST_SHOWN = 10_000  # characters of what a row or a file says

Found = tuple[str, Sequence[FindingText]]
"""What was compared or measured, and what was found."""
AnswerText = tuple[str, Sequence[tuple[str, Sequence[str]]]]
"""A question, and its sentences, each with the cells that it is made from."""


def page_of(
    *,
    rows: Sequence[Row],
    environment: Mapping[str, Any],
    notes: Sequence[str],
    listings: Sequence[Listing],
    words: Words,
    pictures: Sequence[Plot | Heatmap] = (),
    found: Sequence[Found] = (),
    first: Sequence[Listing] = (),
    first_facts: Sequence[tuple[str, str]] = (),
    answers: Sequence[AnswerText] = (),
) -> str:
    """The page's text.

    Its title is what is ``found`` first, and ``first`` are the tables that come before all else.
    ``first_facts`` are pairs of a heading and a sentence that begin its summary.
    """
    # only what the page needs is in it, so that the report of a single row stays small
    seen = set(merged(*(row.flags for row in rows if isinstance(row, BenchmarkRow))))
    big = any(len(listing.lines) > 1 for listing in (*first, *listings))
    scripts = (*(TABLE_LIBRARY if big else ()), *(CHART_LIBRARY if pictures else ()))
    flags = [(name, words.get(f"flag_{name}", flag.why), flag) for name, flag in FLAGS.items()]
    charts = {each.key: list(chart_of(each, words).items()) for each in pictures}  # in order
    script = _template("report.js.j2").render(words=words, charts=charts) if scripts else ""
    texts = [script, _joined(scripts)] if scripts else []
    facts = facts_of(rows, environment, words)
    bars = Bars(finding.ratio for finding in chain.from_iterable(of for _, of in found))
    return _template("report.html.j2").render(
        script=script,
        script_hashes=" ".join(map(_policy_hash, texts)) or "'none'",
        words=words,
        version=__version__,
        facts=[*facts[:1], *first_facts, *facts[1:]],
        notes=first_of(notes, MOST_NOTES, words),
        found=found,
        bars=bars,
        bars_how=words["bars_how"].format(most=ratio_text(bars.most, words))
        if bars.are_any
        else "",
        first=first,
        answers=answers,
        pictures=pictures,
        listings=listings,
        environment=flatten({**environment, "calibration": None}),  # which has many lines
        flags=flags,
        seen=seen,
        colours=COLOURS,
        libraries=_packed(scripts) if scripts else "",
        licences=(HERE / "assets" / "LICENSES.txt").read_text(encoding="utf-8") if scripts else "",
    )


def _template(name: str) -> Template:
    loader = FileSystemLoader(HERE / "templates")
    engine = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_without_signs
    )
    engine.trim_blocks = engine.lstrip_blocks = True
    engine.filters["anchor"] = anchor
    return engine.get_template(name)


def _without_signs(value: object) -> object:
    """Foreign text without signs that turn its direction or hide it; our own, with lines, as is."""
    is_foreign = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value), LONGEST_SHOWN) if is_foreign else value


def _policy_hash(script: str) -> str:
    """What lets a browser run a script by a page's policy (CSP, level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _joined(names: tuple[str, ...]) -> str:
    texts = [(HERE / "assets" / name).read_text(encoding="utf-8") for name in names]
    return ";\n".join(re.sub(r"\n//# sourceMappingURL=\S*", "", text) for text in texts)


@lru_cache(maxsize=2)
def _packed(names: tuple[str, ...]) -> str:
    """Libraries as one text for the page, compressed to a third; browsers unpack it themselves."""
    packed = gzip.compress(_joined(names).encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode()
