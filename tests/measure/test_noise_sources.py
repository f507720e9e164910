"""What of a machine makes it noisy, from what Linux says in its files."""

from pathlib import Path

import pytest

from runner.config.schema import LANGUAGES
from runner.measure.noise_sources import LOOKS, noise_sources, noisy
from runner.report.language import words_of

LOUD = {
    "governor": ("powersave\n", "powersave"),
    "boost": ("1\n", "1"),
    "no_turbo": ("0\n", "0"),
    "smt": ("1\n", "1"),
    "cpu_quota": ("150000 100000\n", "150000 100000"),
    "cpu_quota_v1": ("150000\n", "150000"),
    "steal": ("cpu  700 100 100 9000 9000 20 30 50 7 0\ncpu0 1 2 3 4 5 6 7 8\n", "5.0 %"),
    "running": ("1.14 1.19 1.11 4/106 14805\n", "4"),
    "isolated": ("\n", ""),
    "huge_pages": ("[always] madvise never\n", "always"),
}
QUIET = {
    "governor": "performance\n",
    "boost": "0\n",
    "no_turbo": "1\n",
    "smt": "0\n",
    "cpu_quota": "max 100000\n",
    "cpu_quota_v1": "-1\n",
    # a counter since the start, which is seldom 0
    "steal": "cpu  210737 708 17898 186139 1235 0 297 109 0 0\n",
    "running": "0.00 0.00 0.00 1/106 14805\n",
    "isolated": "2-3\n",
    "huge_pages": "always [madvise] never\n",
}


def written(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = root / LOOKS[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_noisy_machine_is_told_from_a_quiet_one(tmp_path: Path) -> None:
    texts = {name: text for name, (text, _) in LOUD.items()}
    found = noise_sources(written(tmp_path / "loud", texts))
    assert found == noisy(found) == {name: value for name, (_, value) in LOUD.items()}
    quiet = noise_sources(written(tmp_path / "quiet", QUIET))
    assert None not in quiet.values()
    assert noisy(quiet) == {}


@pytest.mark.parametrize(
    ("name", "groups", "folder", "loud", "quiet"),
    [
        ("cpu_quota", "1:cpu:/other\n0::/a/b\n", "sys/fs/cgroup", "50000 100000", "max 100000"),
        ("cpu_quota_v1", "4:cpu,cpuacct:/a/b\n0::/\n", "sys/fs/cgroup/cpu", "50000", "-1"),
    ],
)
def test_a_quota_of_the_own_group_or_of_one_that_contains_it_holds(
    name: str, groups: str, folder: str, loud: str, quiet: str, tmp_path: Path
) -> None:
    """As of a service of systemd, whose group is not the root's."""
    files = [tmp_path / folder / place / Path(LOOKS[name].file).name for place in ("a/b", "a", "")]
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.write_text(quiet)
    assert noise_sources(tmp_path)[name] == quiet
    for file in files:
        file.write_text(loud)
        assert noise_sources(tmp_path)[name] == loud, file
        file.write_text(quiet)


def test_what_is_not_there_or_says_something_else_is_blank(tmp_path: Path) -> None:
    nothing = dict.fromkeys(LOOKS)
    assert noise_sources(tmp_path) == nothing
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_bytes(b"\xff\xfe")
    (tmp_path / "proc" / "loadavg").write_text("0.1")
    assert noise_sources(tmp_path) == nothing
    assert noisy({**nothing, "steal": 3, "of a newer release": "x"}) == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_look_says_what_to_do(language: str) -> None:
    assert {f"noise_{name}" for name in LOOKS} <= words_of(language).keys()
