"""The report's pictures and its page, from an analysis: ``figures/`` and ``report.html``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from runner.analysis.analysis import Analysis
from runner.report.figures.names import Names
from runner.report.figures.picture import Heatmap, Mark, Plot
from runner.report.figures.plots import heatmap_of, roofline_plot, speedup_plot, time_plot, transfer_plot
from runner.report.figures.vega_charts import chart_of, chart_of_heatmap
from runner.report.language import Words, sentence
from runner.report.page.command import Reproducer
from runner.report.page.listing import Listing, comparison_listing, crossover_listing, job_listing, row_listing
from runner.report.page.page import page_of
from runner.rows.csv_store import write_atomically
from runner.rows.rows import BenchmarkRow, Row

FOLDER = "figures"
WORTH_A_PROCESS = 10_000  # rows; of fewer, all else is done before another process has started


@dataclass(frozen=True)
class Pictures:
    """What can be drawn of a run, with the names that its cells have there."""

    names: Names
    plots: tuple[Plot, ...]
    heatmaps: tuple[Heatmap, ...]

    @property
    def titles(self) -> dict[str, str]:
        """What each shows, by the name of its file."""
        return {plot.key: plot.title for plot in self.plots} | {heatmap.key: heatmap.title for heatmap in self.heatmaps}


def pictures_of(found: Analysis, words: Words) -> Pictures:
    """Which pictures the rows are enough for; none of a single cell."""
    names = Names(found.benchmarks, found.report)
    marks = {
        (names.panel(one), names.series(one)): Mark(
            one.elements, one.elements_low, one.elements_high, names.styles.get(names.series(one), 0)
        )
        for one in found.crossovers
        if one.transfers == "none" and one.elements is not None
    }
    plots = (
        time_plot(found.benchmarks, names, words),
        speedup_plot(found.speedups, names, words, marks),
        roofline_plot(found.benchmarks, words),
        transfer_plot(found.rows, words),
    )
    heatmap = heatmap_of(found.benchmarks, found.speedups, names, words)
    return Pictures(names, tuple(plot for plot in plots if plot), (heatmap,) if heatmap else ())


@contextmanager
def drawing(root: Path, words: Words, rows: int) -> Iterator[Callable[[Pictures], Any]]:
    """Gives what draws ``figures/`` by the end of a block; for many rows in a process beside it.

    Raises:
        OSError: the folder cannot be written.
    """
    if rows < WORTH_A_PROCESS:
        asked: list[Pictures] = []
        yield asked.append
        for pictures in asked:
            draw_figures(root, pictures, words)
        return
    ignored = (signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for this process
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=signal.signal, initargs=ignored) as beside:
        begun = [beside.submit(_import_matplotlib)]
        yield lambda pictures: begun.append(beside.submit(draw_figures, root, pictures, words))
        for each in begun:
            each.result()


def _import_matplotlib() -> None:
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401  # it takes a while, which passes beside what comes before the drawing


def draw_figures(root: Path, pictures: Pictures, words: Words) -> None:
    """Write ``figures/``; without pictures matplotlib is not even imported.

    Raises:
        OSError: the folder cannot be written.
    """
    for stale in (root / FOLDER).glob("*.*"):
        if stale.stem not in pictures.titles and stale.suffix in (".png", ".svg"):
            stale.unlink()
    if not pictures.titles:
        return
    from runner.report.figures.matplotlib_figures import draw

    print("drawing figures ...", file=sys.stderr, flush=True)
    draw(pictures.plots, pictures.heatmaps, root / FOLDER, words)


def write_page(
    root: Path,
    *,
    found: Analysis,
    pictures: Pictures,
    environment: Mapping[str, Any],
    notes: Sequence[str],
    words: Words,
) -> None:
    """Write ``report.html``.

    Raises:
        OSError: it cannot be written.
    """
    charts = {plot.key: chart_of(plot, words) for plot in pictures.plots}
    charts |= {heatmap.key: chart_of_heatmap(heatmap, words) for heatmap in pictures.heatmaps}
    answers = [
        (sentence(answer.question, words), [(sentence(one, words), one.cells) for one in answer.sentences])
        for answer in found.answers
    ]
    listings = _listings(found, pictures.names.distinguishing, environment, words)
    page = page_of(
        rows=found.rows,
        environment=environment,
        notes=notes,
        answers=answers,
        charts=charts,
        listings=listings,
        words=words,
    )
    write_atomically(root / "report.html", page)


def _listings(found: Analysis, lesser: Sequence[str], environment: Mapping[str, Any], words: Words) -> list[Listing]:
    reproducer = Reproducer(environment, lesser)
    tables = [
        crossover_listing(found.crossovers, lesser, words),
        comparison_listing(found.speedups, lesser, found.report, words),
        row_listing(found.benchmarks, lesser, reproducer, words),
    ]
    others: dict[str, list[Row]] = {}
    for row in found.rows:
        if not isinstance(row, BenchmarkRow):
            others.setdefault(row.job, []).append(row)
    tables += [job_listing(rows, reproducer, words) for rows in others.values()]
    return [table for table in tables if table is not None]
