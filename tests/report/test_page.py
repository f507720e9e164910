"""The page as a reader meets it, in headless Chromium.

From disk, without a network, by mouse and by keyboard.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.language import words_of
from runner.report.publish import pictures_of, write_page
from runner.report.tables import derivations_table, fastest_table
from runner.rows.rows import AutogradRow
from tests.conftest import ROOT
from tests.support.report_rows import rows

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no chromium and chromedriver here: apt-get install chromium chromium-driver",
)
PATIENCE_S = 120  # of waiting for what comes at once, on a machine that has nothing else to do
PHONE, DESK = (390, 844), (1280, 900)
CONTRAST = """
  const light = (colour) => {  // relative luminance, as WCAG 2.2 defines it
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
    const [r, g, b] = parts.map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return /, 0\\)|transparent/.test(colour) ? back(e.parentElement) : colour;
  };
  const ink = (e) => {
    const style = getComputedStyle(e);
    return e.closest("svg") && style.fill !== "currentcolor" ? style.fill : style.color;
  };
  const texts = [
    "h1", "p.soft", "a", "td", "th", "dt", "caption", "input", "code", ".chart svg text"
  ];
  return texts.map(selector => {
    const element = document.querySelector(selector);
    const [a, b] = [light(ink(element)), light(back(element))].sort((x, y) => y - x);
    return [selector, (a + .05) / (b + .05), light(back(element))];
  });
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser for all of this file's tests; it may not reach anything."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of rows that are known."""
    root, words = tmp_path_factory.mktemp("a run"), words_of("en")
    analysis = analyse(rows(), [], Report())
    environment = {
        "command": ["python", "-m", "+sweep=gpu", "timing=minimal", "hydra.sweep.dir=x"],
        "host": {"name": "here", "system": "Linux", "cores": 2, "load_1min": 0.5},
        "torch": {"version": "2.13.0", "threads": 2},
    }
    notes = ["<script>alert(1)</script> & a note"]
    pictures = pictures_of(analysis, words)
    write_page(
        root,
        analysis=analysis,
        pictures=pictures,
        environment=environment,
        notes=notes,
        words=words,
        tables=[table] if (table := fastest_table(analysis.benchmarks)) else [],
    )
    return root / "report.html"


@pytest.fixture
def opened(chromium: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    """The page, drawn, in a light window of a desk's width."""
    show(chromium, page)
    return chromium


@pytest.fixture
def read(chromium: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    """The same for tests that change nothing of it, which stand beside each other: drawn once."""
    if not chromium.execute_script("return 'unchanged' in document.documentElement.dataset"):
        show(chromium, page)
        chromium.execute_script("document.documentElement.dataset.unchanged = ''")
    return chromium


def show(
    browser: webdriver.Chrome, page: Path, size: tuple[int, int] = DESK, theme: str = "light"
) -> None:
    """Open a page and wait until its figures are there."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get("about:blank")  # so that a fragment's change is no mere jump
    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE_S).until(
        lambda b: b.execute_script("return 'ready' in document.documentElement.dataset")
    )


def cells(browser: webdriver.Chrome, table: str, column: int) -> list[str]:
    """The texts of a table's column, in the order that is shown."""
    lines = "[...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
    script = f"return {lines}.map(line => line.cells[arguments[1]].textContent)"
    found: list[str] = browser.execute_script(script, table, column)
    return found


def log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """What the browser has noted since the last call."""
    found: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found


@pytest.mark.parametrize(("name", "charts"), [("page", 15), ("example", 19)])
def test_nothing_is_wrong_and_nothing_is_fetched(
    chromium: webdriver.Chrome, page: Path, name: str, charts: int
) -> None:
    asked = page if name == "page" else ROOT / "outputs" / "example" / "report.html"
    for kind in ("browser", "performance"):
        log(chromium, kind)
    show(chromium, asked)
    assert log(chromium, "browser") == []
    events = [json.loads(entry["message"])["message"] for entry in log(chromium, "performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in urls if not url.startswith(("file:", "about:", "data:", "blob:"))] == []
    assert [url for url in urls if url.startswith("file:")] == [asked.as_uri()]
    assert len(chromium.find_elements(By.CSS_SELECTOR, ".chart svg")) == charts


def test_the_page_forbids_what_it_does_not_need(opened: webdriver.Chrome) -> None:
    fetched = (
        "fetch('http://127.0.0.1:9/').then(() => 'reached', e => String(e)).then(arguments[0])"
    )
    assert "Failed to fetch" in opened.execute_async_script(fetched)
    refused = [entry["message"] for entry in log(opened, "browser")]
    assert any(
        "127.0.0.1" in message and "Content Security Policy" in message for message in refused
    )


def test_texts_are_shown_as_texts(read: webdriver.Chrome) -> None:
    text = read.find_element(By.ID, "main").text
    assert "<script>alert(1)</script> & a note" in text
    assert "Imagined <b>1000</b>" in text


def test_the_findings_come_first_and_then_what_was_measured(read: webdriver.Chrome) -> None:
    assert read.find_element(By.TAG_NAME, "h1").text == "device: gpu against cpu"
    assert read.title == "device: gpu against cpu – opsweep"
    headings = [heading.text for heading in read.find_elements(By.CSS_SELECTOR, "h2")]
    further = "dtype: bfloat16, float16 against float32"
    assert headings[:4] == [further, "Figures", "Summary", "Questions and answers"]
    of_each = read.find_elements(By.CSS_SELECTOR, ".findings")
    found = of_each[0].find_elements(By.CSS_SELECTOR, "li")
    tones = [item.get_attribute("class") for item in found]
    assert tones == ["faster", "slower", "right", "unclear"]
    assert re.match(r"1\d(\.\d)?× [\d.]+ to [\d.]+\nas fast: matmul .* with gpu", found[0].text)
    assert found[2].text.startswith(
        "71\nof 71 timed cells have the values of the function itself in float64, at"
    )
    assert re.match(r"Trustworthy in part\n20 of 2\d comparisons .*\n3 of 71", found[3].text)
    link = found[0].find_element(By.CSS_SELECTOR, "a").get_attribute("href") or ""
    assert read.find_element(By.ID, link.partition("#")[2]).tag_name == "tr"

    assert read.find_element(By.CSS_SELECTOR, "h1 + p").text.startswith(
        "71 of 72 cells were timed. Operations: matmul, add, transpose."
    )
    summary = read.find_element(By.CSS_SELECTOR, "section[aria-labelledby=summary]").text
    for words in (
        "cpu AMD EPYC, gpu:0 Imagined <b>1000</b>; 2 cores, load 0.50 at the start",
        "within ±2.5 % for half of them",
        "timeout: 1",
    ):
        assert words in summary


def test_each_ratio_has_a_bar_on_the_scale_of_all_with_its_interval_on_it(
    read: webdriver.Chrome,
) -> None:
    widths = {}
    for finding in read.find_elements(By.CSS_SELECTOR, ".findings li"):
        for bar in finding.find_elements(By.CSS_SELECTOR, ".bar"):
            value, interval = (bar.find_element(By.CSS_SELECTOR, tag).rect for tag in ("span", "i"))
            number = finding.find_element(By.TAG_NAME, "strong").text.removesuffix("×")
            widths[float(number)] = value["width"] / bar.rect["width"]
            is_longer = "as long" in finding.text
            assert is_longer == (value["x"] > bar.rect["x"] + 1)  # it grows to the left
            end = value["x"] + (0 if is_longer else value["width"])
            assert interval["x"] - 4 <= end <= interval["x"] + interval["width"] + 4
    assert len(widths) >= 2
    assert sorted(widths.values()) == [widths[number] for number in sorted(widths)]
    text = read.find_element(By.ID, "main").text
    (most,) = re.findall(r"A bar runs from 1× to ([\d.]+)×, on a logarithmic scale", text)
    for number, width in widths.items():
        assert width == pytest.approx(math.log(number) / math.log(float(most)), abs=0.02)


def test_a_screen_reader_finds_names_for_everything(read: webdriver.Chrome) -> None:
    tree: dict[str, Any] = read.execute_cdp_cmd("Accessibility.getFullAXTree", {})
    nodes = [node for node in tree["nodes"] if not node["ignored"]]

    def named(role: str) -> list[str]:
        return [
            node.get("name", {}).get("value", "") for node in nodes if node["role"]["value"] == role
        ]

    assert len(named("table")) >= 4
    for role in (
        "table",
        "region",
        "link",
        "searchbox",
        "columnheader",
        "graphics-document",
    ):
        found = named(role)
        assert found, role
        assert all(found), role
    assert read.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    levels = [int(h.tag_name[1]) for h in read.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_number_leads_to_its_row_and_every_row_to_its_command(
    read: webdriver.Chrome,
) -> None:
    links = "[...document.querySelectorAll(\"a[href^='#']\")]"
    assert (
        read.execute_script(
            f"return {links}.filter(a => !document.getElementById(a.hash.slice(1))).length"
        )
        == 0
    )
    numbers = "return [...document.querySelectorAll('#comparison tbody td.number a')].length"
    assert read.execute_script(numbers) == 3 * 36
    row = read.find_element(By.ID, "cmatmul64x64float16gpu")
    row.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert row.find_element(By.TAG_NAME, "code").text == (
        "python -m runner +sweep=gpu timing=minimal op=matmul size=64x64 dtype=float16 device=gpu "
        "threads=2 "
        "'hydra.sweeper.also=[]'"
    )


def test_few_panels_stand_side_by_side_and_a_point_shows_its_numbers(
    read: webdriver.Chrome,
) -> None:
    times = read.find_element(By.ID, "chart-times")
    titles = [title.text for title in times.find_elements(By.CSS_SELECTOR, "p")]
    assert titles == ["matmul", "add", "transpose"]
    parts = times.find_elements(By.CSS_SELECTOR, ".chart")
    symbols = ".mark-symbol.role-mark path"
    counts = [len(part.find_elements(By.CSS_SELECTOR, symbols)) for part in parts]
    assert counts == [23, 24, 24]  # one of matmul has no time
    assert len({part.rect["y"] for part in parts}) == 1
    hover = """
      const add = document.querySelectorAll("#chart-times .chart")[1];
      const mark = add.querySelector(".mark-symbol.role-mark path");
      const box = mark.getBoundingClientRect();
      const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
      for (const name of ["move", "over"]) {
        mark.dispatchEvent(new MouseEvent("mouse" + name, at));
        mark.dispatchEvent(new PointerEvent("pointer" + name, at));
      }
    """
    read.execute_script("document.getElementById('chart-times').scrollIntoView()")
    read.execute_script(hover)
    tip = WebDriverWait(read, PATIENCE_S).until(
        lambda b: b.find_element(By.ID, "vg-tooltip-element").text
    )
    for words in ("cpu float32", "64x64", "2.41 µs", "2.36 µs–2.48 µs"):
        assert words in tip


def test_a_column_sorts_by_its_numbers_by_mouse_and_by_keyboard(opened: webdriver.Chrome) -> None:
    header = next(
        th
        for th in opened.find_elements(By.CSS_SELECTOR, "#rows th")
        if "time of a call" in th.text
    )
    column = opened.execute_script("return arguments[0].cellIndex", header)
    before = cells(opened, "rows", column)
    header.click()
    WebDriverWait(opened, PATIENCE_S).until(
        lambda _: header.get_attribute("aria-sort") == "ascending"
    )
    seconds = [row.median_s or -1.0 for row in rows()]
    order = sorted(range(len(seconds)), key=seconds.__getitem__)
    assert cells(opened, "rows", column) == [before[n] for n in order]
    header.find_element(By.CSS_SELECTOR, "[tabindex='0'], button").send_keys(Keys.ENTER)
    WebDriverWait(opened, PATIENCE_S).until(
        lambda _: header.get_attribute("aria-sort") == "descending"
    )
    assert cells(opened, "rows", column)[0] == before[order[-1]]


def test_a_table_is_filtered_by_several_words_and_a_link_shows_what_is_hidden(
    opened: webdriver.Chrome,
) -> None:
    box = opened.find_element(By.CSS_SELECTOR, "input[type=search][aria-controls=rows]")
    box.send_keys("matmul float16 gpu")
    shown = set(zip(*(cells(opened, "rows", column) for column in (0, 2, 3)), strict=True))
    assert shown == {("matmul", "float16", "gpu")}
    assert len(cells(opened, "rows", 0)) == 4
    hidden = "cadd64x64float32cpu"
    assert opened.find_elements(By.ID, hidden) == []
    opened.execute_script("document.querySelector(`a[href='#${arguments[0]}']`).click()", hidden)
    WebDriverWait(opened, PATIENCE_S).until(lambda b: b.find_elements(By.ID, hidden))
    assert len(cells(opened, "rows", 0)) == 72


def test_a_row_that_a_link_leads_to_stops_below_the_fixed_headings(
    opened: webdriver.Chrome,
) -> None:
    link = opened.find_element(By.CSS_SELECTOR, "#comparison tbody td.number a")
    hidden = (link.get_attribute("href") or "").partition("#")[2]
    opened.execute_script("arguments[0].click()", link)
    row = opened.find_element(By.ID, hidden)
    top = "return arguments[0].getBoundingClientRect()"
    WebDriverWait(opened, PATIENCE_S).until(lambda b: 0 <= b.execute_script(top, row)["top"] < 900)
    heading = opened.find_element(By.CSS_SELECTOR, "#rows th")
    below = opened.execute_script(top, heading)["bottom"]
    assert opened.execute_script(top, row)["top"] >= below - 1


def test_a_row_without_a_time_is_as_low_as_its_reason_allows(opened: webdriver.Chrome) -> None:
    row = opened.find_element(By.ID, "cmatmul64x256x256float16cpu")
    usual = opened.find_element(By.ID, "cmatmul64x64float16cpu")
    assert "timeout" in row.text
    assert row.rect["height"] <= 2 * usual.rect["height"]
    why = "unavailable: gpu: PyTorch 2.13.0+cpu finds no accelerator on this machine, only the CPU"
    opened.execute_script(
        "arguments[0].querySelector('td.text').textContent = arguments[1]", row, why
    )
    assert row.rect["height"] == usual.rect["height"]  # of every second row without an accelerator


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_have_contrast_on_every_text(
    chromium: webdriver.Chrome, page: Path, theme: str
) -> None:
    show(chromium, page, theme=theme)
    for selector, contrast, back in chromium.execute_script(CONTRAST):
        assert contrast >= 4.5, selector  # WCAG 2.2, 1.4.3
        assert (back > 0.5) == (theme == "light"), selector


def test_a_phone_needs_no_sideways_scrolling_but_in_tables(
    chromium: webdriver.Chrome, page: Path
) -> None:
    show(chromium, page, PHONE)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    charts = "[...document.querySelectorAll('.chart svg')]"
    widest = f"return Math.max(...{charts}.map(svg => svg.getBoundingClientRect().right))"
    assert chromium.execute_script(widest) <= PHONE[0]
    row = chromium.find_element(By.ID, "cmatmul64x64float16gpu")
    time = row.find_element(By.CSS_SELECTOR, "td.number")
    assert time.rect["x"] + time.rect["width"] <= PHONE[0]  # a row is a card
    shown = "return getComputedStyle(arguments[0], '::before').content"
    assert chromium.execute_script(shown, time) == '"time of a call, median: "'


@pytest.mark.slow
def test_both_gradients_of_a_derivation_are_in_sight_on_a_desk(
    chromium: webdriver.Chrome, tmp_path: Path
) -> None:
    numbers = "[-5.034429174458714, 17.840097395763202, 0.0]"
    row = AutogradRow(
        *("a", "autograd", "lesson_2_2_mean_squared_error", "3", "float64", "cpu"),
        probe="example",
        description="2.2, the gradient of a loss by a line's slope and offset",
        derivation="d/dw mean((w*x + b - t)**2) = mean(2*x*(b - t + w*x))",
        expected_values=numbers,
        got_values=numbers,
        verdict="pass",
    )
    table = derivations_table([row])
    assert table is not None
    words, analysis = words_of("en"), analyse(rows(), [], Report())
    made = {"pictures": pictures_of(analysis, words), "environment": {}, "notes": []}
    write_page(tmp_path, analysis=analysis, words=words, tables=[table], **made)
    show(chromium, tmp_path / "report.html")
    box = "document.getElementById('derivations').closest('.scroll')"
    assert chromium.execute_script(f"return {box}.scrollWidth - {box}.clientWidth") <= 0


@pytest.mark.parametrize("panels", [1, 3])
def test_no_text_of_a_chart_is_cut_at_its_edge(
    chromium: webdriver.Chrome, tmp_path: Path, panels: int
) -> None:
    words = words_of("en")
    sizes = {"64x64": "4096x768 o=3072", "256x256": "64x512x768 o=768"}
    impls = [f"an_implementation_with_a_rather_long_name_{number}" for number in range(4)]
    few = [one for one in rows() if one.device == "cpu" and one.size in sizes]
    long = [
        replace(one, op=f"op{n}", impl=impl, size=sizes[one.size], cell=f"c{n}{number}{impl}")
        for n, (number, one), impl in product(range(panels), enumerate(few[:6]), impls)
    ]
    analysis = analyse(long, [], Report())
    pictures = pictures_of(analysis, words)
    write_page(
        tmp_path, analysis=analysis, pictures=pictures, environment={}, notes=[], words=words
    )
    show(chromium, tmp_path / "report.html", (1400, 900))
    outside = """
      return [...document.querySelectorAll(".chart svg")].flatMap(svg => {
        const edge = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll("text")].filter(text => text.textContent);
        return texts.map(text => [text.textContent, text.getBoundingClientRect()])
          .filter(([_, box]) => box.left < edge.left - 1 || box.right > edge.right + 1)
          .map(([text, _]) => text);
      });
    """
    assert chromium.find_elements(By.CSS_SELECTOR, ".chart svg text")
    assert chromium.execute_script(outside) == []


@pytest.mark.slow
def test_of_many_panels_one_is_chosen(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    words = words_of("en")
    many = [
        replace(one, op=f"{one.op}{n}", cell=f"{one.cell}{n}") for n in range(3) for one in rows()
    ]
    analysis = analyse(many, [], Report())
    pictures = pictures_of(analysis, words)
    write_page(
        tmp_path, analysis=analysis, pictures=pictures, environment={}, notes=[], words=words
    )
    show(chromium, tmp_path / "report.html")
    times = chromium.find_element(By.ID, "chart-times")
    assert len(times.find_elements(By.CSS_SELECTOR, "svg")) == 1
    box = times.find_element(By.TAG_NAME, "select")
    box.send_keys(Keys.ARROW_DOWN)
    assert Select(box).first_selected_option.text == "add0"
    WebDriverWait(chromium, PATIENCE_S).until(
        lambda _: len(times.find_elements(By.CSS_SELECTOR, ".mark-symbol.role-mark path")) == 24
    )


@pytest.mark.slow
def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened: webdriver.Chrome) -> None:
    body, active = opened.find_element(By.TAG_NAME, "body"), opened.switch_to.active_element
    body.send_keys(Keys.TAB)
    active = opened.switch_to.active_element
    assert (active.text, active.rect["x"] >= 0) == ("Skip to the report", True)
    active.send_keys(Keys.ENTER)
    assert opened.switch_to.active_element.get_attribute("id") == "main"
    reached: set[str] = set()
    for _ in range(90):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        active = opened.switch_to.active_element
        reached.add(active.tag_name)
        assert active.value_of_css_property("outline-style") != "none", active.get_attribute(
            "outerHTML"
        )
        if active.get_attribute("type") == "search":
            break
    assert {"a", "input"} <= reached
