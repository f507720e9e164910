"""Runs of older releases are read, with blanks for what they did not have.

Damage in them is refused all the same.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from runner.config.renamed import RENAMED
from runner.config.schema import Report
from runner.report.conclude import conclude
from runner.rows.csv_store import (
    DamagedFile,
    read_records,
    read_rows,
    write_records,
    write_rows,
)
from runner.rows.rows import FILE_OF_JOB, ROW_OF_JOB, AutogradRow, BenchmarkRow, PairVisit, Sample
from tests.conftest import ROOT
from tests.support.commands import answers

pytestmark = pytest.mark.usefixtures("_without_pictures")
DATA = ROOT / "tests" / "data" / "schema1"  # written by the release that had schema 1
SCHEMA_2 = ROOT / "tests" / "data" / "schema2"  # and by the one that had schema 2


def test_rows_of_schema_1_have_their_values_and_blanks_for_later_columns() -> None:
    rows, table = read_rows(DATA / "results.csv", BenchmarkRow), pd.read_csv(DATA / "results.csv")
    assert len(rows) == len(table) == 48
    for row, line in zip(rows, table.itertuples(), strict=True):
        assert (row.cell, row.op, row.threads, row.status) == (
            line.cell,
            line.op,
            line.threads,
            line.status,
        )
        assert row.median_s == line.median_s or (
            row.median_s is None and line.status == "unavailable"
        )
        assert (row.node, row.cache, row.compile, row.launch_s, row.inputs) == (None,) * 5
    assert {row.verdict for row in read_rows(DATA / "autograd.csv", AutogradRow)} == {"pass"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("add,8x8", "add,8x9"),  # a value
        (",median_s,", ",median_ms,"),  # a column's name
        (",schema,checksum", ",checksum,schema"),
        ("\ncell,", "\n"),
        (",False,,1,x", ",False,,2,x"),  # the schema of a row
    ],
)
def test_a_row_of_schema_1_that_was_altered_is_refused(old: str, new: str, tmp_path: Path) -> None:
    text = "\n" + (DATA / "results.csv").read_text()
    assert old in text
    (tmp_path / "results.csv").write_text(text.replace(old, new, 1)[1:])
    with pytest.raises(DamagedFile):
        read_rows(tmp_path / "results.csv", BenchmarkRow)


def test_a_sweep_of_schema_1_is_put_together_from_its_cells_in_todays_columns(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(("results.csv", "autograd.csv")):
        (tmp_path / f"{number}_cell").mkdir()
        (tmp_path / f"{number}_cell" / name).write_bytes((DATA / name).read_bytes())
    assert conclude(tmp_path, Report(baseline={"threads": 1}), strict=False) == 0
    assert read_rows(tmp_path / "results.csv", BenchmarkRow) == read_rows(
        DATA / "results.csv", BenchmarkRow
    )
    assert "node" in pd.read_csv(tmp_path / "results.csv").columns
    cells = sorted(path.read_bytes() for path in tmp_path.glob("*_cell/*.csv"))
    assert cells == sorted((DATA / name).read_bytes() for name in ("results.csv", "autograd.csv"))
    assert len(pd.read_csv(tmp_path / "autograd.csv")) == 8


@pytest.mark.parametrize("job", [job for job in FILE_OF_JOB if job not in ("noise", "trace")])
def test_rows_of_schema_2_have_their_values_under_todays_names(job: str) -> None:
    path = SCHEMA_2 / FILE_OF_JOB[job]
    rows, table = (
        read_rows(path, ROW_OF_JOB[job]),
        pd.read_csv(path, dtype=str, keep_default_na=False),
    )
    assert len(rows) == len(table) > 0
    names, values = RENAMED.get(path.name, {}), 0
    for row, line in zip(rows, table.to_dict("records"), strict=True):
        for column in set(line) - {"schema", "checksum"}:
            old = str(line[column])
            expected = RENAMED.get(f"{path.name} {column}", {}).get(old, old)
            value = getattr(row, names.get(column, column))
            written = " ".join(value) if isinstance(value, tuple) else value
            assert str("" if written is None else written) == expected, column
            values += expected != ""
    assert values > 15 * len(rows)


def test_a_run_of_schema_2_is_reported_by_what_it_was_made_with(tmp_path: Path) -> None:
    for name in ("results.csv", "environment.json"):
        (tmp_path / name).write_bytes((SCHEMA_2 / name).read_bytes())
    assert conclude(tmp_path, Report(), strict=False, measured=False) == 0
    now, then = pd.read_csv(tmp_path / "speedup.csv"), pd.read_csv(SCHEMA_2 / "speedup.csv")
    assert (
        json.loads((tmp_path / "environment.json").read_text())["report"]["reuse"] == 10
    )  # it is left as it was
    then = then.rename(columns=RENAMED["speedup.csv"])
    then["compile"] = then["compile"].astype(str).map(RENAMED["results.csv compile"])
    pd.testing.assert_frame_equal(now[then.columns], then)
    page = (tmp_path / "report.html").read_text()
    assert page.count("on_contention=wait") == len(
        pd.read_csv(tmp_path / "results.csv")
    )  # a command a row


def test_samples_of_schema_2_are_read() -> None:
    samples = read_records(SCHEMA_2 / "cell" / "samples.csv", Sample)
    assert [(sample.used, sample.allocation) for sample in samples] == [(True, 0)]


def test_a_report_of_files_that_cannot_be_read_leaves_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {"results.csv": "cell,who,knows\n", "speedup.csv": "kept", "report.html": "kept"}
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    assert conclude(tmp_path, Report(), strict=False) == 1
    assert "can be read; what is there is left as it is" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left


def test_what_is_asked_of_a_report_counts_more_than_what_its_run_was_made_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "environment.json").write_text(
        '{"report": {"baseline": {"threads": 1}, "same_within": 0.9}}'
    )
    rows = read_rows(DATA / "results.csv", BenchmarkRow)
    write_rows(tmp_path / "results.csv", [row for row in rows if row.size == "256x256"])
    before, verdicts = (tmp_path / "results.csv").read_bytes(), {}
    by_threads = pd.read_csv(DATA / "speedup_threads.csv")
    is_here = by_threads["speedup"].notna() & (by_threads["size"] == "256x256")
    one = by_threads[is_here].iloc[0]
    sides = one["baseline_cell"], one["other_cell"]
    visits = [PairVisit(*sides, visit, 0, 1, 0, 1, 1.5, 1.0) for visit in range(40)]
    write_records(tmp_path / "pairs.csv", visits)
    for asked in ((), ("same_within",)):
        assert conclude(tmp_path, Report(same_within=0.01), strict=False, explicit=asked) == 0
        verdicts[asked] = set(pd.read_csv(tmp_path / "speedup.csv")["verdict"].dropna())
    surely = {"faster", "slower"}
    assert not verdicts[()] & surely
    assert verdicts[("same_within",)] & surely
    assert (tmp_path / "results.csv").read_bytes() == before


def test_an_old_sweep_is_reported_and_not_taken_up_as_if_it_were_todays(tmp_path: Path) -> None:
    """A partial one of schema 1 states its gap; of schema 2 the program has changed."""
    sweep, out = tmp_path / "sweep", tmp_path / "out"
    shutil.copytree(SCHEMA_2 / "cell", sweep / "0_op=add")
    shutil.copy(SCHEMA_2 / "environment.json", sweep)
    (sweep / "multirun.yaml").touch()
    (out / "0_old").mkdir(parents=True)
    (out / "1_cut").mkdir()
    (out / "environment.json").write_text(
        '{"cells": 60, "report": {"baseline": {"threads": 1}, "later": 3}}'
    )
    text = (DATA / "results.csv").read_text()
    (out / "0_old" / "results.csv").write_text(text)
    (out / "1_cut" / "results.csv").write_text(text[:-40])
    again, report = answers(
        tmp_path,
        ["-m op=add size=8 threads=1 timing=minimal resume=sweep", "job=report run=out"],
        heavy=True,
    )
    # no field of its op file has changed, though some had other names
    assert again.code == 2
    assert "add 8x8 float32 cpu threads=1 was measured with a different definition" in again.stderr
    assert "(timing.patience_s: None -> 0.0; timing.revisit_share: None -> 0.0)" in again.stderr

    assert report.code == 1
    assert "12 of 60 cells are not there: resume=out runs them" in report.stdout
    shown = report.stdout.replace(f"{tmp_path}/", "")
    assert "damaged, not used: out/1_cut/results.csv: line 49 was altered" in shown
    assert len(pd.read_csv(out / "speedup.csv")) == 24
