"""The example in outputs/example is one of today's: ``make example`` makes it again."""

import json
import re

from runner.rows.csv_store import collect
from runner.rows.rows import FILE_OF_JOB
from tests.conftest import ROOT

EXAMPLE = ROOT / "outputs" / "example"


def test_the_example_is_small_and_readable_and_names_its_machine() -> None:
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 3_000_000
    found = {job: collect(EXAMPLE, job) for job in FILE_OF_JOB}
    assert [of_job.damaged for of_job in found.values() if of_job.damaged] == []
    rows = found["benchmark"].rows
    environment = json.loads((EXAMPLE / "environment.json").read_text())
    page = (EXAMPLE / "report.html").read_text()
    for words in (
        str(rows[0].device_name),
        f"{environment['host']['cores']} cores",
        environment["torch"]["version"],
    ):
        assert words in page
    assert environment["folder"] == "."  # nobody's own folders


def test_the_readme_links_to_the_example_and_shows_one_of_its_figures() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "(outputs/example/report.md)" in readme
    (figure,) = re.findall(r"!\[[^\]]+\]\((outputs/example/figures/[^)]+)\)", readme)
    assert (ROOT / figure).is_file()
