"""The report's pictures and its page, from an analysis: ``figures/`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from runner.analysis.analysis import Analysis
from runner.files import make_folder, write_atomically
from runner.report.figures.names import Names
from runner.report.figures.picture import Heatmap, Mark, Plot
from runner.report.figures.plots import (
    Marks,
    block_plots,
    heatmap_of,
    implementation_plot,
    roofline_plot,
    speedup_plot,
    time_plot,
    transfer_plot,
)
from runner.report.language import Words, finding_text, sentence_text
from runner.report.page.command import Reproducer
from runner.report.page.listing import (
    Listing,
    comparison_listing,
    job_listing,
    row_listing,
    table_listing,
)
from runner.report.page.page import page_of
from runner.report.tables import Table
from runner.rows.rows import Sample, grouped

FOLDER = "figures"
FIRST = "derivations"  # the table that a lesson is for
DRAWN = (  # the names of all pictures
    *("implementations", "times", "speedups", "roofline", "transfers", "heatmap"),
    *("samples", "distribution", "machine"),
)


@dataclass(frozen=True)
class Pictures:
    """What can be drawn of a run, with the names that its cells have there."""

    names: Names
    drawn: tuple[Plot | Heatmap, ...]

    @property
    def titles(self) -> dict[str, str]:
        """What each shows, by the name of its file."""
        return {picture.key: picture.title for picture in self.drawn}


def pictures_of(analysis: Analysis, words: Words, *, blocks: Sequence[Sample] = ()) -> Pictures:
    """Which pictures the rows are enough for; of a single cell those of its ``blocks``."""
    names = Names(analysis.benchmarks, analysis.report)
    plots = (
        implementation_plot(analysis.benchmarks, words),
        speedup_plot(analysis.speedups, names, words, _marks(analysis, names)),
        time_plot(analysis.benchmarks, names, words),
        roofline_plot(analysis.benchmarks, words),
        transfer_plot(analysis.rows, words),
        *(block_plots(blocks, words) if blocks else ()),
    )
    heatmap = heatmap_of(analysis.benchmarks, analysis.speedups, names, words)
    return Pictures(names, tuple(filter(None, (*plots, heatmap))))


def _marks(analysis: Analysis, names: Names) -> Marks:
    """The crossovers of the ratios that are plotted, which have no transfers in them."""
    marks = {}
    for crossing in analysis.crossovers:
        if crossing.transfers == "none" and crossing.elements is not None:
            panel, series = names.panel(crossing), names.series(crossing)
            ends, style = (crossing.elements_low, crossing.elements_high), names.styles[series]
            marks[panel, series] = Mark(crossing.elements, *ends, style)
    return marks


def draw_figures(root: Path, pictures: Pictures, words: Words) -> None:
    """Write ``figures/``, and remove what an earlier report drew there and this one does not."""
    folder = root / FOLDER
    if pictures.titles or folder.exists():
        make_folder(folder)
    for name in set(DRAWN).difference(pictures.titles):
        for suffix in (".png", ".svg"):
            (folder / name).with_suffix(suffix).unlink(missing_ok=True)
    if not pictures.titles:
        return
    from runner.report.figures.prints import draw

    draw(pictures.drawn, folder, words)


def write_page(
    root: Path,
    *,
    analysis: Analysis,
    pictures: Pictures,
    environment: Mapping[str, Any],
    notes: Sequence[str],
    words: Words,
    tables: Sequence[Table] = (),
) -> None:
    """Write ``report.html``; ``tables`` are shown as they are, before the rows'."""
    as_they_are = [table_listing(table, words) for table in tables]
    first = [listing for listing in as_they_are if listing.key == FIRST]
    others = [listing for listing in as_they_are if listing.key != FIRST]
    others += _listings(analysis, pictures.names.distinguishing, environment, words)
    page = page_of(
        rows=analysis.rows,
        environment=environment,
        notes=notes,
        found=[
            (sentence_text(headline, words), [finding_text(finding, words) for finding in found])
            for headline, found in [(analysis.headline, analysis.findings), *analysis.further]
        ],
        answers=[
            (
                sentence_text(answer.question, words),
                [(sentence_text(said, words), said.cells) for said in answer.sentences],
            )
            for answer in analysis.answers
        ],
        pictures=pictures.drawn,
        first=first,
        listings=others,
        words=words,
    )
    write_atomically(root / "report.html", page)


def _listings(
    analysis: Analysis, distinguishing: Sequence[str], environment: Mapping[str, Any], words: Words
) -> list[Listing]:
    reproducer = Reproducer(environment, distinguishing)
    listings = [
        comparison_listing(analysis, distinguishing, words),
        row_listing(analysis.benchmarks, distinguishing, reproducer, words),
    ]
    of_jobs = grouped(analysis.rows, attrgetter("job"))
    listings += [
        job_listing(rows, reproducer, words) for job, rows in of_jobs.items() if job != "benchmark"
    ]
    return [listing for listing in listings if listing is not None]
