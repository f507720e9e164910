"""What is drawn is what the rows say, the missing as missing.

The files are the same on another day.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from runner.analysis.analysis import Analysis, analyse
from runner.config.schema import Report
from runner.report.figures.picture import Heatmap, Plot
from runner.report.figures.plots import transfer_plot
from runner.report.figures.prints import draw
from runner.report.figures.vega_charts import chart_of
from runner.report.language import words_of
from runner.report.publish import pictures_of
from runner.report.summary import show
from runner.rows.csv_store import write_records
from runner.rows.rows import BenchmarkRow, Sample, TransferRow
from tests.support.report_rows import rows

EN = words_of("en")


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(rows(), [], Report())


def plot(found: Analysis, key: str) -> Plot:
    (wanted,) = (plot for plot in pictures_of(found, EN).drawn if plot.key == key)
    assert isinstance(wanted, Plot)
    return wanted


def heatmap_of(found: Analysis) -> Heatmap:
    heatmap = pictures_of(found, EN).drawn[-1]
    assert isinstance(heatmap, Heatmap)
    return heatmap


def test_times_are_drawn_with_their_intervals_and_the_missing_with_their_reason(
    found: Analysis,
) -> None:
    times = plot(found, "times")
    assert [panel.title for panel in times.panels] == ["matmul", "add", "transpose"]
    series = {series.name: series for series in times.panels[0].series}
    assert list(series) == [
        "cpu float32",
        "gpu float32",
        "cpu bfloat16",
        "gpu bfloat16",
        "cpu float16",
        "gpu float16",
    ]
    smallest, *_, largest = series["cpu float16"].points
    assert (smallest.x, smallest.y) == (4096, pytest.approx(2e-6 + 4096 * 2e-9 * 0.6))
    assert (smallest.low, smallest.high) == (
        pytest.approx(smallest.y * 0.98),
        pytest.approx(smallest.y * 1.03),
    )
    assert (largest.x, largest.y, largest.note) == (
        64 * 256 * 256,
        None,
        "timeout: stopped after limit.time_s=30 s",
    )
    flagged = times.panels[1].series[0].points[1]
    assert (flagged.label, flagged.note, flagged.doubtful) == ("256x256", "contended", True)


def test_a_series_looks_the_same_in_every_picture(found: Analysis) -> None:
    of_times = {
        series.name: series.style
        for panel in plot(found, "times").panels
        for series in panel.series
    }
    of_ratios = {
        series.name: series.style
        for panel in plot(found, "speedups").panels
        for series in panel.series
    }
    assert of_ratios == {
        name: of_times[name] for name in ("gpu float32", "gpu bfloat16", "gpu float16")
    }
    assert len(set(of_times.values())) == len(of_times)


def test_ratios_are_drawn_with_the_crossover_that_was_found(found: Analysis) -> None:
    ratios = plot(found, "speedups")
    matmul = ratios.panels[0]
    (crossing,) = (
        c
        for c in found.crossovers
        if c.op == "matmul" and c.dtype == "float32" and c.transfers == "none"
    )
    (mark,) = (mark for mark in matmul.marks if mark.style == matmul.series[0].style)
    assert crossing.state == "found"
    assert (mark.x, mark.low, mark.high) == (
        crossing.elements,
        crossing.elements_low,
        crossing.elements_high,
    )
    assert all(
        point.y is None for series in ratios.panels[2].series for point in series.points
    )  # a view has no ratio
    assert ratios.panels[2].series[0].points[0].note == "device=cpu: a view moves no data"


def test_the_peaks_are_those_that_the_fractions_were_taken_of(found: Analysis) -> None:
    roofline = plot(found, "roofline")
    assert len(roofline.panels) == 6
    for panel in roofline.panels:
        memory, compute = panel.lines
        assert memory.label == "peak memory bandwidth, 1 TB/s"
        assert compute.label == "peak compute rate, 10 TFLOP/s"
        assert memory.points[-1] == compute.points[0] == (pytest.approx(10), pytest.approx(1e13))
        assert memory.points[0][1] == pytest.approx(memory.points[0][0] * 1e12)
    without = analyse(
        [replace(row, fraction_of_peak=None) for row in found.benchmarks], [], Report()
    )
    assert {panel.lines for panel in plot(without, "roofline").panels} == {()}


def test_copies_are_drawn_by_way_and_memory() -> None:
    points = "[[1024, 1e-5, 9e-6, 1.1e-5], [2048, 1e-5, null, null], [1048576, 1e-4, null, null]]"
    names = {
        "cell": "c1",
        "job": "transfer",
        "op": "copy",
        "size": "scalar",
        "dtype": "uint8",
        "device": "gpu",
    }
    to_device = TransferRow(**names, to_device=True, memory="pinned", points=points)
    plot = transfer_plot([to_device, replace(to_device, to_device=False, memory="pageable")], EN)
    assert plot is not None
    (panel,) = plot.panels
    assert [series.name for series in panel.series] == [
        "to the device, pinned",
        "to the host, pageable",
    ]
    first, _, last = panel.series[0].points
    assert (first.x, first.y, first.low, first.high, first.label, first.cell) == (
        1024,
        1e-5,
        9e-6,
        1.1e-5,
        "1.02 kB",
        "c1",
    )
    assert (last.x, last.y, last.low) == (1048576, 1e-4, None)


def test_the_heat_map_has_a_tile_for_each_cell_and_says_why_one_is_empty(found: Analysis) -> None:
    heatmap = heatmap_of(found)
    assert heatmap.ratio
    assert heatmap.columns == ("64x64", "256x256", "1024x1024", "64x256x256")
    panels = dict(heatmap.panels)
    assert list(panels) == ["gpu float32", "gpu bfloat16", "gpu float16"]
    assert panels["gpu float16"]["matmul", "64x256x256"].y is None
    alone = analyse([row for row in found.benchmarks if row.device == "cpu"], [], Report())
    heatmap = heatmap_of(alone)
    assert heatmap.ratio  # of dtypes: there is no other device
    one = analyse([row for row in alone.benchmarks if row.dtype == "float32"], [], Report())
    heatmap = heatmap_of(one)
    assert not heatmap.ratio
    assert dict(heatmap.panels)["cpu"]["add", "64x64"].y == pytest.approx(2e-6 + 4096e-10)


def test_a_flagged_time_stands_in_brackets_on_its_tile(found: Analysis, tmp_path: Path) -> None:
    one = [r for r in found.benchmarks if (r.device, r.dtype) == ("cpu", "float32")]
    heatmap = heatmap_of(analyse(one, [], Report()))
    (spec,) = chart_of(heatmap, EN).values()
    tiles = {(v["line"], v["size"]): v["short"] for v in spec["data"]["values"]}
    assert tiles["add", "64x64"] == "2.4 µs"
    assert tiles["add", "256x256"] == "(8.6 µs)"
    draw([heatmap], tmp_path, EN)
    assert "( ) flagged; the table says why" in (tmp_path / "heatmap.svg").read_text()


def test_a_ratio_that_is_unsure_has_a_question_mark_and_no_colour(tmp_path: Path) -> None:
    few = {"ci_low_s": None, "ci_high_s": None}
    unsure = [replace(r, **few) if (r.op, r.size) == ("add", "64x64") else r for r in rows()]
    heatmap = heatmap_of(analyse([r for r in unsure if r.dtype == "float32"], [], Report()))
    (spec,) = chart_of(heatmap, EN).values()
    tiles = {(v["line"], v["size"]): v for v in spec["data"]["values"]}
    assert tiles["add", "64x64"]["unsure"]
    assert tiles["add", "64x64"]["short"].endswith("?")
    sure = tiles["matmul", "64x64"]
    assert (sure["unsure"], sure["short"]) == (False, sure["short"].rstrip("?"))
    assert "!datum.unsure" in spec["transform"][0]["calculate"]
    draw([heatmap], tmp_path, EN)
    assert "? without colour, the ratio has no clear" in (tmp_path / "heatmap.svg").read_text()


def test_the_files_are_the_same_each_time(found: Analysis, tmp_path: Path) -> None:
    small = [plot(found, "speedups"), heatmap_of(found)]
    for name in ("a", "b"):
        draw(small, tmp_path / name, EN)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["heatmap.png", "heatmap.svg", "speedups.png", "speedups.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / "speedups.svg").read_text()
    assert ">size, by the elements of the first input<" in svg.replace("\n", "")  # words stay words
    assert "var(" not in svg  # nor names of the page's colours


@pytest.mark.slow
def test_beside_many_rows_figures_are_drawn_in_a_process_of_their_own(
    found: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(pictures_of(found, EN).drawn, tmp_path / "here", EN)
    with monkeypatch.context() as patch:
        patch.setattr("runner.report.summary.MANY", 0)
        patch.setattr("runner.report.figures.prints.draw", None)  # that of this process
        show(tmp_path, found.rows, [], Report(), quiet=True)
    assert len(list((tmp_path / "here").iterdir())) == 8
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("many", [0, 10_000])
def test_figures_that_cannot_be_written_end_the_report(
    many: int, found: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.report.summary.MANY", many)
    tmp_path.joinpath("figures").write_text("a file is in the way")
    with pytest.raises(FileExistsError):
        show(tmp_path, found.rows, [], Report())


def test_the_page_draws_the_same_numbers(found: Analysis) -> None:
    for picture in pictures_of(found, EN).drawn[:-1]:
        assert isinstance(picture, Plot)
        chart = chart_of(picture, EN)
        assert list(chart) == [panel.title for panel in picture.panels]
        for panel in picture.panels:
            drawn = chart[panel.title]["data"]["values"]
            assert [(value["x"], value["y"], value["href"]) for value in drawn] == [
                (point.x, point.y, f"#{point.cell}") for point in panel.points
            ]
    heatmap = heatmap_of(found)
    specs = chart_of(heatmap, EN).values()
    drawn = [value for spec in specs for value in spec["data"]["values"]]
    assert sum(value["short"] == "×" for value in drawn) == sum(
        point.y is None for _, values in heatmap.panels for point in values.values()
    )


def test_a_huge_run_is_drawn_in_part_and_says_so() -> None:
    one = rows()[0]
    many = [
        replace(one, cell=f"c{op}-{n}", op=f"op{op}", size=str(n), flop=None)
        for op in range(30)
        for n in range(1, 401, 2)
    ]
    found = analyse(many, [], Report())
    times, heatmap = plot(found, "times"), heatmap_of(found)
    assert len(pictures_of(found, EN).drawn) == 2
    assert (len(times.panels), len(times.panels[0].series[0].points)) == (9, 16)
    assert times.omitted == 21 + 9 * (200 - 16)
    assert times.panels[0].series[0].points[0].x == 1
    assert times.panels[0].series[0].points[-1].x == 399
    assert (len(heatmap.lines), len(heatmap.columns), heatmap.omitted) == (30, 16, 200 - 16)


def test_one_cell_alone_is_not_drawn(
    found: Analysis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one: BenchmarkRow = found.benchmarks[0]
    show(tmp_path, [one], [], Report())
    assert not (tmp_path / "figures").exists()
    assert "drawing" not in capsys.readouterr().err
    assert (
        tmp_path / "report.html"
    ).stat().st_size < 50_000  # nor are libraries for charts that are not there


def test_figures_that_no_longer_apply_are_removed(found: Analysis, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in ("times.png", "mine.txt"):
        (folder / name).write_text("old")
    show(tmp_path, found.rows[:1], [], Report())
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_sizes_of_as_many_elements_have_places_of_their_own() -> None:
    one = rows()[0]
    sizes = ("64x64", "16x256", "4096")
    several = [
        replace(one, cell=f"c{size}{dtype}", size=size, dtype=dtype, flop=None)
        for size in sizes
        for dtype in ("float32", "float16")
    ]
    times = plot(analyse(several, [], Report()), "times")
    places = {point.label: point.x for point in times.panels[0].points}
    assert len(set(places.values())) == 3
    axis = chart_of(times, EN)["matmul"]["layer"][0]["encoding"]["x"]["axis"]
    assert axis["values"] == sorted(places.values())
    labels, found_at = axis["labelExpr"].split("[indexof(")
    assert json.loads(labels) == list(places)
    assert json.loads(found_at.partition(", datum")[0]) == list(places.values())


def test_the_front_of_implementations_is_what_no_sound_one_beats_in_both() -> None:
    one = replace(rows()[0], flop=None)
    known = {"plain": (4.0, 1.0), "fast": (1.0, 8.0), "exact": (9.0, 0.0), "worse": (5.0, 2.0)}
    several = [
        replace(one, impl=name, cell=name, median_s=seconds, error_roundoffs=error)
        for name, (seconds, error) in known.items()
    ]
    wrong = replace(several[0], impl="wrong", cell="wrong", median_s=0.1, flags=("wrong_values",))
    overflown = replace(wrong, impl="overflown", cell="overflown", error_roundoffs=math.inf)
    drawn = plot(analyse([*several, wrong, overflown], [], Report()), "implementations")
    (panel,) = drawn.panels
    assert [series.name for series in panel.series] == [*known, "wrong"]
    (front,) = panel.lines
    assert front.points == ((1.0, 8.0), (4.0, 8.0), (4.0, 1.0), (9.0, 1.0), (9.0, 0.01))
    assert front.at_end

    # beside the left edge its words stand to the right of it
    best = replace(several[1], error_roundoffs=0.5)
    (panel,) = plot(analyse([several[0], best, several[3]], [], Report()), "implementations").panels
    assert [(line.points, line.at_end) for line in panel.lines] == [(((1.0, 0.5),), False)]


def test_a_single_cell_shows_its_blocks_their_spread_and_the_machine(tmp_path: Path) -> None:
    blocks = [
        Sample(2, 2e-3 + n * 1e-5, None, None, None, None, used=n != 3, machine_slowdown=1 + n / 9)
        for n in range(40)
    ]
    write_records(tmp_path / "samples.csv", blocks)
    show(tmp_path, rows()[:1], [], Report())
    for name in ("samples", "distribution", "machine"):
        svg = (tmp_path / "figures" / f"{name}.svg").read_text()
        assert "<svg" in svg
    assert ">set aside<" in (tmp_path / "figures" / "samples.svg").read_text().replace("\n", "")
    (tmp_path / "samples.csv").write_text("calls,wall_s\nx,y\n")  # damaged: there are none
    show(tmp_path, rows()[:1], [], Report())
    assert list((tmp_path / "figures").iterdir()) == []
