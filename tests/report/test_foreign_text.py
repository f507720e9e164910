"""Names and reasons that came from elsewhere, in the terminal, Markdown and the page."""

import base64
import gzip
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from runner.analysis.analysis import analyse
from runner.config.schema import Report
from runner.report.figures.names import LONGEST_NAME, anchor, shown_name
from runner.report.language import words_of
from runner.report.markdown import as_text
from runner.report.publish import draw_figures, pictures_of
from runner.report.summary import show
from tests.support.report_rows import rows

EVIL = "\x1b[2J\x1b]0;owned\x07\u202eabc\n# head <script>x</script> [click](javascript:x) `c` |"


@pytest.fixture
def shown(
    tmp_path: Path, _without_pictures: None, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str, str]:
    """What is printed, and the texts of ``report.md`` and ``report.html``."""
    foreign = [replace(row, op=EVIL, device_name=EVIL, node=EVIL) for row in rows()]
    failed = replace(foreign[0], cell="libraries", status="failed", reason=EVIL, median_s=None)
    long = replace(failed, cell="rows", reason="x" * 100_000)
    show(tmp_path, [*foreign, failed, long], [EVIL], Report())
    return (
        capsys.readouterr().out,
        (tmp_path / "report.md").read_text(),
        (tmp_path / "report.html").read_text(),
    )


def test_nothing_of_it_acts_on_the_terminal(shown: tuple[str, str, str]) -> None:
    printed, _, _ = shown
    assert not set(printed) & set("\x1b\x07\x00\u202e")
    assert "\\x1b[2J" in printed


def test_nothing_of_it_is_markdown(shown: tuple[str, str, str]) -> None:
    _, text, _ = shown
    assert not set(text) & set("\x1b\x07\u202e")
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[click|(?<!\\)`c`|^# head", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 20_000


def test_formulas_are_no_emphasis_and_names_stay_readable() -> None:
    assert as_text("sin(x**2 + y**2), ~~a~~, &lt;") == r"sin(x\*\*2 + y\*\*2), \~\~a\~\~, \&lt;"
    assert as_text("layer_norm _a_ __init__") == r"layer_norm \_a\_ \_\_init\_\_"


def test_the_page_runs_its_own_scripts_alone(shown: tuple[str, str, str]) -> None:
    """By their hashes, which are those of what the browser runs."""
    _, _, page = shown
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    (packed,) = re.findall(r'id="libraries">(.*?)</script>', page, re.DOTALL)
    (inline,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    texts = [inline.encode(), gzip.decompress(base64.b64decode(packed))]
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
    scripts = " ".join(f"'sha256-{digest}'" for digest in hashes)
    assert f"script-src {scripts};" in policy
    assert "base-uri 'none'; form-action 'none'" in policy
    assert "<script>x" not in page
    assert "\u202e" not in page


def test_no_cell_has_an_id_of_the_page_itself(shown: tuple[str, str, str]) -> None:
    _, _, page = shown
    ids = re.findall(r' id="(.*?)"', page)
    assert len(ids) == len(set(ids))
    assert {"row-libraries", "row-rows"} <= set(ids)


def test_anchors_of_our_own_cells_are_their_identities() -> None:
    assert anchor("c0123456789abcde") == "c0123456789abcde"
    for name in ("libraries", "main", "dt-search-0", "DataTables_Table_0"):
        assert anchor(name) == f"row-{name}"


def test_long_names_are_cut_and_stay_different() -> None:
    first, second = (shown_name("y" * 10_000 + end) for end in "ab")
    assert first != second
    assert len(first) <= LONGEST_NAME


def test_signs_beyond_the_usual_are_drawn(tmp_path: Path) -> None:
    """What draws them cuts a long text between the halves of such a sign."""
    odd = [replace(row, op="\N{GRINNING FACE}" * 45) for row in rows()]
    words = words_of("en")
    draw_figures(tmp_path, pictures_of(analyse(odd, [], Report()), words), words)
    assert list((tmp_path / "figures").glob("*.png"))


def test_only_pictures_of_its_own_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in ("times.png", "heatmap.svg", "mine.png", "wedding.svg", "photo.jpg"):
        (folder / name).touch()
    words = words_of("en")
    none = pictures_of(analyse(rows()[:1], [], Report()), words)
    draw_figures(tmp_path, none, words)
    left = {path.name for path in folder.iterdir()}
    assert left == {"mine.png", "wedding.svg", "photo.jpg"}
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        draw_figures(tmp_path, none, words)
    assert {path.name for path in folder.iterdir()} == left
