"""The documentation is run: its commands, and the lines of Python that it shows."""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.cli.arguments import AB, SCHEMA
from runner.config.schema import JOBS
from runner.report.column_reference import tables
from runner.rows.flags import FLAGS
from runner.rows.rows import ROW_OF_JOB, STATUSES
from tests.conftest import ROOT
from tests.support.commands import answers
from tests.support.shape import folders

DOCS = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "outputs/README.md")),
    # but for the page that a test runs as a whole
    *sorted(page for page in DOCS if page.name != "implementations.md"),
    *(path for path in (ROOT / "conf").rglob("*.yaml") if path.parent.name not in ("op", "case")),
]
COMMANDS = sorted(
    {
        re.sub(r"\s+#.*|  .*", "", line.strip().lstrip("$# ").strip("`"))
        for page in PAGES
        for line in page.read_text().splitlines()
        if re.match(r"\s*([$#] )?python -m runner( |$)", line)
    }
)


OF_OPERATIONS = r"\+sweep=(cpu|gpu|lesson|smoke|autograd|crossover)\b(?!.* op=)"


@pytest.mark.slow
@pytest.mark.parametrize("narrowed", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_documented_command_is_accepted(narrowed: bool, tmp_path: Path) -> None:
    """A question is answered, and of anything else there are cells to run.

    Those of a sweep of many operations take long to compose: one of them shows as much.
    """
    example, *_ = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL
    )
    workload, *_ = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL
    )
    sweep, *_ = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "use.md").read_text(), re.DOTALL)
    files = {"op/swish": example, "workload/net": workload, "sweep/block": sweep}
    for file, text in files.items():
        (tmp_path / "mine" / file).parent.mkdir(parents=True)
        (tmp_path / "mine" / f"{file}.yaml").write_text(text)
    (tmp_path / "shapes.csv").write_text("op,size,count\nadd,8,2\n")
    asked: dict[tuple[str, ...], str] = {}  # each once, with dry_run=true or without
    for command in COMMANDS:
        words = shlex.split(command.replace("into=mine", "into=elsewhere"))[3:]
        if "outputs/" not in command:
            if narrowed and re.search(OF_OPERATIONS, command):
                words.append("op=add")
            is_question = {"--help", "--cfg", "--info", "dry_run=true", "job=schema"} & set(words)
            asked[tuple(words if is_question else [*words, "dry_run=true"])] = command
    assert ("timing=quick", "dry_run=true") in asked
    said = dict(zip(asked.values(), answers(tmp_path, list(asked)), strict=True))
    assert not {command: answer for command, answer in said.items() if answer.code != 0}
    assert all(answer.stdout for answer in said.values())


def test_the_lines_of_pandas_read_what_a_run_leaves(smoke: Path, tmp_path: Path) -> None:
    (lines,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "outputs" / "README.md").read_text(), re.DOTALL
    )
    assert lines.count("\n") == 4
    (left_out,) = re.findall(r'contains\("(.*?)"\)', lines)
    found = {name for name in FLAGS if re.search(left_out, name)}
    assert found == {name for name, flag in FLAGS.items() if flag.forbids_ratio}

    # which times are in doubt is the machine's doing
    rows = pd.read_csv(smoke / "results.csv")
    rows.assign(flags=None).to_csv(tmp_path / "results.csv", index=False)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(lines.replace("outputs/<date>/<time>", str(tmp_path)), {})
    assert re.search(r"add\s+16x16\s+forward\s+\d+\s+warm\s+\d", shown.getvalue())
    assert "bfloat16" in shown.getvalue()


def test_every_operation_and_sweep_is_listed() -> None:
    readme = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("operations", "use"))
    for path in [*(ROOT / "conf" / "op").glob("*.yaml"), *(ROOT / "conf" / "sweep").glob("*.yaml")]:
        assert f"`{path.stem}`" in readme, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        target, _, heading = link.partition("#")
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {link}"
        titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if heading else []
        slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        slugs += re.findall(r'<a id="([^"]+)">', file.read_text()) if heading else []
        assert not heading or heading in slugs, f"{page.name}: {link}"


def test_the_readme_is_short_and_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150 and len(readme.split()) <= 900
    for page in DOCS:
        assert re.search(rf"\({page.relative_to(ROOT).as_posix()}(#[\w-]+)?\)", readme), page.name


def test_no_page_is_a_dead_end_and_the_contents_have_all() -> None:
    """A reader goes on from each page, and finds each in the table of contents.

    The page of hardware is made by its stages and has its links there.
    """
    contents = (ROOT / "docs" / "index.md").read_text()
    for page in DOCS:
        last = page.read_text().rstrip().split("\n\n")[-1]
        assert "](" in last or page.name == "hardware.md", page.name
        name = page.relative_to(ROOT / "docs").as_posix()
        assert f"({name})" in contents or name == "index.md", name
    assert "(docs/index.md)" in (ROOT / "README.md").read_text()


def test_exit_codes_stand_in_one_place() -> None:
    """A page that explains them again would be another list to keep."""
    listing = re.compile(r"^\| (code|exit code) \||130 interrupted", re.MULTILINE)
    pages = [page for page in (ROOT / "README.md", *DOCS) if listing.search(page.read_text())]
    assert [page.name for page in pages] == ["flags.md"]


def test_the_configuration_lists_every_job() -> None:
    (said,) = re.findall(
        r"^job: null  # (.*?); null", (ROOT / "conf" / "config.yaml").read_text(), re.MULTILINE
    )
    assert set(said.split(", ")) == {*JOBS, AB.removeprefix("job="), SCHEMA}
    (column,) = re.findall(r"^\| .*`job` \|.*?: (.*) \|$", columns_page(), re.MULTILINE)
    assert set(re.split(", | or ", column)) == set(ROW_OF_JOB)


def test_every_table_of_a_run_is_listed_and_explained() -> None:
    listed = (ROOT / "outputs" / "README.md").read_text()
    for file in tables():
        assert f"#{file.replace('.', '')})" in listed, file
        assert f"\n## {file}\n" in columns_page(), file


def columns_page() -> str:
    """The page that explains the columns."""
    return (ROOT / "docs" / "reference" / "columns.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_the_documented_lines_read_results_with_their_types(library: str, smoke: Path) -> None:
    """Columns that are blank in this run have their types too."""
    pytest.importorskip(library, reason=f"the extra tables is not installed: {library}")
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL
    )
    (lines,) = [block for block in blocks if "results.csv" in block and library in block]
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(lines.replace("outputs/<date>/<time>", str(smoke)), names)
    rows = names["rows"]
    types = dict(zip(rows.columns, rows.dtypes, strict=True))
    wanted = {
        "median_s": "f|double",
        "samples": "int",
        "kernel_s": "f|double",
        "kernels": "str|varchar",
    }
    wanted |= {
        "concurrent_sweep": "bool",
        "power_before_w": "f|double",
        "throttle_reasons": "str|varchar",
    }
    for column, kind in wanted.items():
        assert re.match(rf"({kind}|bigint)", str(types[column]).lower()), (column, types[column])


def test_the_reference_is_what_the_code_says() -> None:
    """Each field has its meaning, and ``make docs`` would change nothing."""
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["pages"]()
    for name, text in made.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text, name
        assert not re.search(r"\|\s*\|$", text, re.MULTILINE), name


def test_each_flag_and_status_has_its_paragraph() -> None:
    page = (ROOT / "docs" / "reference" / "flags.md").read_text(encoding="utf-8")
    for flag in FLAGS:
        assert re.search(rf"^#### `{flag}`\n\n\S", page, re.MULTILINE), flag
    for status in STATUSES:
        assert re.search(rf"^\| `{status}` \| \S", page, re.MULTILINE), status


def test_nothing_points_outside_the_repository() -> None:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = done.stdout.split() if done.returncode == 0 else []
    for name in names:
        if name != "tests/end_to_end/test_docs.py" and (ROOT / name).is_file():
            text = (ROOT / name).read_text(errors="replace")  # a picture is no text
            assert not re.search(r"\.\./shared|/work/|files\.pythonhosted", text), name


UNUSUAL = (
    "door",
    "besides",
    "stead",
    "anew",
    "afresh",
    "for want of",
    "befall",
    "mend",
    "by itself",
)
"""Words of a translation, for which plain English has others."""


def test_prose_is_plain_english() -> None:
    """Strings, comments and pages; whole words, so that ``mend`` is not found in ``recommend``."""
    words = re.compile(rf"\b({'|'.join(UNUSUAL)})\b", re.IGNORECASE)
    kinds = (".py", ".md", ".yaml", ".toml")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for path in map(ROOT.joinpath, tracked.stdout.split()):
        if path.suffix in kinds and path.is_file() and path != Path(__file__):
            assert not words.search(path.read_text(encoding="utf-8")), path


def test_the_walk_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    steps = re.findall(r"^\d+\. `(\w+)/`: (.*)$", text, re.MULTILINE)
    assert len(steps) == 12
    for room, sentence in steps:
        names = re.findall(r"`([\w/]+\.py)`", sentence)
        assert names
        for name in names:
            assert (ROOT / "runner" / room / name).is_file() or (
                ROOT / "runner" / name
            ).is_file(), f"{room}: {name}"
    rooms = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
    assert rooms == set(folders())
