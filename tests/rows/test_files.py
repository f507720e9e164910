"""Files of a run: made under names that nobody can guess, and never through a link."""

import os
from pathlib import Path

import pytest

from runner.files import MOST_LOGGED, make_folder, open_log, trim_log, write_atomically
from runner.sweep.resume import remove_leftovers


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    report = tmp_path / "report.md"
    report.symlink_to(victim)
    for number in range(os.getpid() - 5, os.getpid() + 5):
        (tmp_path / f".report.md.{number}").symlink_to(victim)
    write_atomically(report, "ours")
    assert victim.read_text() == "mine"
    assert report.read_text() == "ours"
    assert not report.is_symlink()


def test_a_second_name_of_a_file_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")
    os.link(tmp_path / "copy", tmp_path / "results.csv")
    write_atomically(tmp_path / "results.csv", "ours")
    assert (tmp_path / "copy").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "folder"])
def test_no_log_is_written_into_what_is_not_its_own(kind: str, tmp_path: Path) -> None:
    victim, log = tmp_path / "victim", tmp_path / "run.log"
    victim.write_text("mine")
    make = {
        "link": lambda: log.symlink_to(victim),
        "second name": lambda: os.link(victim, log),
        "fifo": lambda: os.mkfifo(log),
        "folder": log.mkdir,
    }
    make[kind]()
    with pytest.raises(OSError, match=r"."):
        open_log(str(log))
    assert victim.read_text() == "mine"


def test_a_log_that_is_too_long_keeps_both_ends(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"begin" + b"x" * 3 * MOST_LOGGED + b"end")
    trim_log(log)
    text = log.read_bytes()
    assert text.startswith(b"begin")
    assert text.endswith(b"end")
    assert b"bytes were left out here" in text
    assert len(text) < MOST_LOGGED
    trim_log(tmp_path / "nowhere")


def test_no_folder_of_a_run_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "0_cell").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="it is a link"):
        make_folder(tmp_path / "0_cell")
    make_folder(tmp_path / "1_cell" / ".hydra", parents=True)


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "0_cell").mkdir()
    ours = tmp_path / "0_cell" / f".results.csv.{'0a' * 8}.opsweep"
    mine = [tmp_path / ".my.csv.bak", tmp_path / "0_cell" / ".notes.csv.2024"]
    for path in (ours, *mine):
        path.touch()
    remove_leftovers(tmp_path)
    assert not ours.exists()
    assert all(path.exists() for path in mine)
