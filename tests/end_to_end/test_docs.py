"""The documentation is run: its commands, and the lines of Python that it shows."""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from runner.rows.flags import FLAGS
from runner.rows.rows import STATUSES
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
    for file, text in {"op/swish": example, "workload/net": workload}.items():
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


def test_the_lines_of_pandas_read_what_a_run_leaves(smoke: Path) -> None:
    (lines,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "outputs" / "README.md").read_text(), re.DOTALL
    )
    assert lines.count("\n") == 4
    (left_out,) = re.findall(r'contains\("(.*?)"\)', lines)
    found = {name for name in FLAGS if re.search(left_out, name)}
    assert found == {name for name, flag in FLAGS.items() if flag.forbids_ratio}
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(lines.replace("outputs/<date>/<time>", str(smoke)), {})
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
        assert not heading or heading in slugs, f"{page.name}: {link}"


def test_the_readme_is_short_and_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150 and len(readme.split()) <= 900
    for page in DOCS:
        assert f"({page.relative_to(ROOT).as_posix()})" in readme or page.name == "index.md"


def test_the_reference_is_what_the_code_says() -> None:
    """Each field has its meaning, and ``make docs`` would change nothing."""
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["pages"]()
    for name, text in made.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text, name
        assert not re.search(r"\|\s*\|$", text, re.MULTILINE), name


def test_each_flag_and_status_has_its_paragraph() -> None:
    page = (ROOT / "docs" / "reference" / "flags.md").read_text(encoding="utf-8")
    for flag in FLAGS:
        assert re.search(rf"^`{flag}`\n: \S", page, re.MULTILINE), flag
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
