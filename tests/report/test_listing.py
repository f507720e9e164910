"""The page's tables, before they are a page."""

from dataclasses import replace

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.language import ENGLISH
from runner.report.page.command import Reproducer
from runner.report.page.listing import Listing, comparison_listing, job_listing, row_listing
from runner.rows.rows import AutogradRow
from tests.support.factories import row

ROWS = [row("cpu", 2e-3), row("gpu", 1e-3, flags=("contended",))]


def column(listing: Listing | None, head: str) -> list[str]:
    """The texts below a heading."""
    assert listing is not None
    position = [name for name, _ in listing.header].index(head)
    return [entries[position].text for _, entries in listing.lines]


def test_a_disturbed_time_stands_in_brackets_as_in_the_terminal() -> None:
    compared = comparison_listing(analyse(ROWS, [], Report()), [], ENGLISH)
    assert column(compared, "device=cpu") == ["2 ms"]
    assert column(compared, "the other") == ["(1 ms)"]
    cells = row_listing(ROWS, [], Reproducer({}, []), ENGLISH)
    assert column(cells, "time of a call, median") == ["2 ms", "(1 ms)"]
    assert column(cells, "95 % interval")[1] == "(990 µs – 1.01 ms)"


def test_what_is_for_programs_is_no_column_of_the_page() -> None:
    failed = AutogradRow("a", "autograd", "f", "3x5", "float64", "cpu", script="import torch")
    found = job_listing([failed], Reproducer({}, []), ENGLISH)
    texts = [entry.text for _, entries in found.lines for entry in entries]
    assert "f" in texts
    assert "import torch" not in texts


def test_what_is_moved_in_a_second_is_not_called_bytes() -> None:
    cells = row_listing([replace(ROWS[0], bytes_per_s=5e9)], [], Reproducer({}, []), ENGLISH)
    assert column(cells, "bytes per second") == ["5 GB/s"]


def test_what_is_its_own_reference_has_no_error() -> None:
    known = {"max_relative_error": 0.0, "allowed_relative_error": 7e-15, "impl": "default"}
    one = replace(ROWS[0], **known, compile="off", dtype="float64")
    cells = row_listing([one, replace(one, reference="a.b")], [], Reproducer({}, []), ENGLISH)
    assert column(cells, "error / allowed") == ["", "0.0e+00 / 7.0e-15"]
