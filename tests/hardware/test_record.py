"""What a stage leaves behind, and the page that is made of it."""

import os
import tarfile
from dataclasses import replace
from pathlib import Path

from runner.hardware import record
from runner.hardware.page import page_of
from runner.hardware.record import Found, pack, read_found, table_of, unpack, write_found
from tests.conftest import ROOT

LINE = Found(
    *("path", "smoke", "cells ran", "12 of 12", "all", "yes", "2026-01-01T00:00:00+00:00", "9.5"),
    *("cuda:0 A card; PyTorch 2.9.0, Python 3.12.1, Linux; opsweep 0.1.0", "no"),
)


def test_findings_are_read_as_they_were_written(tmp_path: Path) -> None:
    table = table_of(tmp_path / "new", "path")
    lines = [LINE, replace(LINE, check="a, b\n|c", passed="")]
    write_found(table, lines)
    assert read_found(table) == lines
    assert read_found(table_of(tmp_path, "path")) == []


def test_an_archive_holds_what_was_measured_and_fits(tmp_path: Path, monkeypatch) -> None:
    run, archive = tmp_path / "runs" / "smoke", tmp_path / "path.tar.gz"
    for name in ("results.csv", "report.html", "0_add/samples.csv"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(os.urandom(10_000))
    pack(tmp_path / "runs", archive)
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == ["smoke/0_add/samples.csv", "smoke/results.csv"]
    monkeypatch.setattr(record, "LARGEST_BYTES", 15_000)
    pack(tmp_path / "runs", archive)
    assert archive.stat().st_size <= 15_000
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["smoke/results.csv"]


def test_runs_of_another_machine_are_put_back_and_nothing_else(tmp_path: Path) -> None:
    archive, there = tmp_path / "path.tar.gz", tmp_path / "there"
    (there / "smoke").mkdir(parents=True)
    (there / "smoke" / "results.csv").write_text("theirs")
    (there / "smoke" / "environment.json").write_text("{}")
    pack(there, archive)
    here = tmp_path / "here"
    (here / "smoke").mkdir(parents=True)
    (here / "smoke" / "results.csv").write_text("mine")
    unpack(archive, here)
    assert (here / "smoke" / "results.csv").read_text() == "mine"
    assert (here / "smoke" / "environment.json").is_file()

    with tarfile.open(archive, "w:gz") as tar:  # somebody else's
        tar.add(there / "smoke" / "results.csv", "../outside.csv")
    unpack(archive, here)
    assert not (tmp_path / "outside.csv").exists()


def test_runs_are_put_back_by_a_python_without_filters(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "there" / "smoke").mkdir(parents=True)
    (tmp_path / "there" / "smoke" / "results.csv").write_text("theirs")
    archive, extract = tmp_path / "path.tar.gz", tarfile.TarFile.extract
    pack(tmp_path / "there", archive)
    with tarfile.open(tmp_path / "others.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "there" / "smoke" / "results.csv", "../outside.csv")

    def extract_of_3_10_11(self, member, path=""):
        extract(self, member, path)

    monkeypatch.delattr(tarfile, "data_filter")
    monkeypatch.setattr(tarfile.TarFile, "extract", extract_of_3_10_11)
    unpack(archive, tmp_path / "here")
    assert (tmp_path / "here" / "smoke" / "results.csv").read_text() == "theirs"
    unpack(tmp_path / "others.tar.gz", tmp_path / "here")
    assert not (tmp_path / "outside.csv").exists()


def test_the_page_says_what_is_simulated_and_what_failed(tmp_path: Path) -> None:
    simulated = replace(LINE, machine="sim:0 simulated accelerator; x", simulated="yes")
    write_found(table_of(tmp_path / "sim", "path"), [simulated])
    page = page_of(tmp_path)
    assert "No stage has run on real hardware yet" in page
    assert "sim:0 simulated accelerator (simulated" in page

    failed = replace(LINE, check="launches", got="2 | of 3", passed="no")
    figure = replace(LINE, step="roof", check="peak", got="1e12 FLOP/s", expected="", passed="")
    write_found(table_of(tmp_path / "card", "path"), [LINE, failed, figure])
    page = page_of(tmp_path)
    assert "No stage has run" not in page
    assert page.index("cuda:0 A card") < page.index("sim:0")  # real ones come first
    assert "| path | smoke | 2 | 1 |" in page
    assert "- path, smoke: launches: 2 \\| of 3; expected: all" in page
    assert "| path | roof | peak | 1e12 FLOP/s |" in page


def test_the_documented_page_is_made_of_what_is_kept() -> None:
    kept = ROOT / "outputs" / "hardware"
    assert (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8") == page_of(kept)
