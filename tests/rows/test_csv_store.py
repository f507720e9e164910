"""Rows and their files: what is written is read back, and what was damaged is refused."""

import csv
import io
import math
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.rows.csv_store import (
    DamagedFile,
    collect,
    collect_pairs,
    files_of_jobs,
    loses_nothing,
    read_records,
    read_rows,
    write_atomically,
    write_records,
    write_rows,
)
from runner.rows.rows import (
    ROW_OF_JOB,
    AutogradRow,
    BenchmarkRow,
    PairVisit,
    Sample,
    TransferRow,
)

ROOT = Path(__file__).parents[2]
ROW = BenchmarkRow("ab12", "benchmark", "matmul", "4x4", "float32", "cpu", median_s=0.1 + 0.2)
AWKWARD = 'two\nlines, a "quote", a comma; µs → 数 🙂 \r\n end '
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
)
VALUES = {
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "tuple[str, ...]": st.lists(st.from_regex(r"[a-z_]+", fullmatch=True)).map(tuple),
    "int": st.integers(),
    "bool": st.booleans(),
    "bool | None": st.none() | st.booleans(),
    "int | None": st.none() | st.integers(),
    "float | None": st.none() | st.floats(allow_nan=False),
}


def rows_of(row_type):
    """Lists of rows with anything in their fields."""
    return st.lists(
        st.builds(row_type, **{f.name: VALUES[f.type] for f in fields(row_type)}),
        min_size=1,
        max_size=3,
    )


@pytest.mark.parametrize("points", ["[[1024, 8e-3, 7e-3, 9e-3], [2048, 9e-3, null, null]]", "[]"])
def test_a_transfer_whose_size_has_no_interval_is_read_back(points: str, tmp_path: Path) -> None:
    """As where copies of the largest size took all the time there was."""
    row = TransferRow("ab12", "transfer", "copy", "8", "uint8", "gpu", points=points)
    (tmp_path / "0_cell").mkdir()
    write_rows(tmp_path / "0_cell" / "transfers.csv", [row])
    assert collect(tmp_path, "transfer")[:2] == ([row], [])


def written(path, *rows):
    """The text of a file with these rows, or with one."""
    write_rows(path, rows or [ROW])
    return path.read_text(encoding="utf-8")


def assert_damaged(path):
    """Reading is refused, with a message that names the file."""
    with pytest.raises(DamagedFile, match=re.escape(str(path))):
        read_rows(path, BenchmarkRow)


@pytest.mark.parametrize("row_type", ROW_OF_JOB.values())
@settings(max_examples=25)
@given(data=st.data())
def test_rows_of_every_job_are_read_back_as_written(row_type, data):
    rows = data.draw(rows_of(row_type))
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        write_rows(path, rows)
        assert read_rows(path, row_type) == rows


def test_blanks_awkward_text_and_every_digit_survive(tmp_path):
    row = replace(
        ROW,
        reason=AWKWARD,
        seconds=5e-324,
        q1_s=math.pi,
        max_relative_error=math.inf,
        bytes=2**70 + 1,
    )
    written(tmp_path / "results.csv", row, ROW)
    assert read_rows(tmp_path / "results.csv", BenchmarkRow) == [row, ROW]


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r", "a\r\nb", "a\n\rb"])
def test_every_end_of_a_line_is_read_back(text, tmp_path):
    row = replace(ROW, reason=text)
    written(tmp_path / "results.csv", row, ROW)
    assert read_rows(tmp_path / "results.csv", BenchmarkRow) == [row, ROW]


def test_lines_of_a_value_are_no_cells(tmp_path):
    """Or a table with such a value would never be written again."""
    rows = [replace(ROW, reason='at first\nThen, "later"\rand, so on'), replace(ROW, cell="cd34")]
    text = written(tmp_path / "results.csv", *rows)
    assert loses_nothing(tmp_path / "results.csv", rows)
    assert not loses_nothing(tmp_path / "results.csv", rows[:1])
    # a quote that is lost hides no row
    for at in (at for at, sign in enumerate(text) if sign == '"'):
        (tmp_path / "results.csv").write_text(text[:at] + text[at + 1 :], encoding="utf-8")
        assert not loses_nothing(tmp_path / "results.csv", rows[:1])


def test_nan_is_read_back_as_nan(tmp_path):
    written(tmp_path / "results.csv", replace(ROW, max_relative_error=math.nan))
    (read,) = read_rows(tmp_path / "results.csv", BenchmarkRow)
    assert math.isnan(read.max_relative_error)


def test_pandas_reads_rows_without_options(tmp_path):
    path = tmp_path / "results.csv"
    written(
        path,
        replace(ROW, reason=AWKWARD, threads=2, samples=8, q1_s=1e-5),
        replace(ROW, threads=4, samples=None),
    )
    table = pd.read_csv(path)
    assert table["threads"].tolist() == [2, 4]
    assert [table[name].dtype.kind for name in ("threads", "seed", "schema")] == ["i", "i", "i"]
    assert [table[name].dtype.kind for name in ("median_s", "q1_s", "samples", "flop")] == [
        "f",
        "f",
        "f",
        "f",
    ]
    assert table["median_s"].tolist() == [0.1 + 0.2] * 2
    assert table["q1_s"].tolist()[0] == 1e-5
    assert table["samples"].isna().tolist() == [False, True]
    assert table["flop"].isna().all()
    assert table["reason"].tolist()[0] == AWKWARD
    assert table["reason"].isna().tolist() == [False, True]
    assert table["size"].tolist() == ["4x4", "4x4"]


def test_pandas_reads_samples_without_options(tmp_path):
    path = tmp_path / "samples.csv"
    samples = [
        Sample(5, 1 / 3, 0.25, 0, 0.0, 0, used=True),
        Sample(5, 1e-9, None, 1, None, None, used=False),
    ]
    write_records(path, samples)
    assert read_records(path, Sample) == samples
    table = pd.read_csv(path)
    assert list(table.columns) == [
        "calls",
        "wall_s",
        "cpu_s",
        "preemptions",
        "waiting_s",
        "allocation",
        "used",
        "process",
        "machine_slowdown",
        "calm",
    ]
    kinds = [dtype.kind for dtype in table.dtypes]
    assert kinds == ["i", "f", "f", "i", "f", "f", "b", "i", "f", "b"]
    assert table["wall_s"].tolist() == [1 / 3, 1e-9]
    assert table["cpu_s"].isna().tolist() == [False, True]
    assert table["used"].tolist() == [True, False]


def test_a_long_table_has_the_text_of_each_value_and_is_never_whole_in_memory(tmp_path):
    numbers = (-0.0, 0.0, 1, math.nan, math.inf, 1e-300, 2**70, 1 / 3, None)
    texts = ("=1+1", "-1.5", AWKWARD, "", "plain", "'@x")
    visits = [
        PairVisit(
            *(texts[n % 6], f"c{n}", n, 0, 1, 0, 1),
            *(numbers[n % 9], numbers[n % 7], 1, numbers[n % 8]),
            calm=n % 2 == 0,
        )
        for n in range(20_000)
    ]
    tracemalloc.start()
    write_records(tmp_path / "pairs.csv", visits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    written = (tmp_path / "pairs.csv").read_bytes().decode()
    assert peak < 2 * len(written)

    guarded = {"=1+1": "'=1+1", "'@x": "''@x", None: ""}
    expected = io.StringIO(newline="")
    writer = csv.writer(expected, lineterminator="\n")
    writer.writerow(vars(visits[0]))
    for visit in visits:
        values = ["" if value is None else str(value) for value in vars(visit).values()]
        writer.writerow([guarded.get(text, text) for text in values])
    assert written == expected.getvalue()


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 0.99])
def test_file_cut_short_is_refused(tmp_path, share):
    path = tmp_path / "results.csv"
    text = written(path)
    path.write_text(text[: int(share * len(text))], encoding="utf-8")
    assert_damaged(path)


def test_last_row_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    text = written(path, ROW, ROW)
    last_row = len(text.splitlines()[-1])
    for cut in range(2, last_row + 1):
        path.write_text(text[:-cut], encoding="utf-8")
        assert_damaged(path)


def test_any_digit_altered_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    text = written(path)
    first_row = text.index("\n")
    positions = [at for at, letter in enumerate(text) if letter.isdigit() and at > first_row]
    assert len(positions) > 20
    for at in positions:
        path.write_text(f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}", encoding="utf-8")
        assert_damaged(path)


@pytest.mark.parametrize("column", ["cell", "reason", "median_s", "schema", "checksum"])
def test_removed_column_is_refused(tmp_path, column):
    path = tmp_path / "results.csv"
    written(path)
    pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    assert_damaged(path)


def test_column_removed_from_one_row_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    header, line = csv.reader(written(path).splitlines())
    path.write_text(f"{','.join(header)}\n{','.join(line[1:])}\n", encoding="utf-8")
    assert_damaged(path)


def test_line_added_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(written(path) + "\n", encoding="utf-8")
    assert_damaged(path)


def test_rows_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    written(
        path,
        AutogradRow(cell="c", job="autograd", op="add", size="4", dtype="float32", device="cpu"),
    )
    assert_damaged(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\x00\x01\x02", b"\xff\xfe\x00garbage\x80" * 50, Random(3).randbytes(2_000)],
)
def test_file_that_was_never_written_here_is_refused(tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    assert_damaged(path)


def test_write_atomically_replaces_the_whole_content(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "a long first content\r\n")
    write_atomically(path, "µ\r\n")
    assert path.read_bytes() == "µ\r\n".encode()
    assert os.listdir(tmp_path) == ["file"]


def test_write_atomically_without_a_folder_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "absent" / "file", "text")
    assert os.listdir(tmp_path) == []


def test_write_atomically_over_a_folder_leaves_it_as_it_was(tmp_path):
    target = tmp_path / "file"
    target.mkdir()
    (target / "inside").write_text("old")
    with pytest.raises(OSError, match="file"):
        write_atomically(target, "text")
    assert os.listdir(tmp_path) == ["file"]
    assert (target / "inside").read_text() == "old"


def test_write_atomically_on_a_full_disk_leaves_the_old_content(tmp_path):
    pytest.importorskip("resource")  # no limit on a file's size on Windows
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import resource, sys, pathlib\n"
        "from runner.rows.csv_store import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomically(pathlib.Path(sys.argv[1]), 'x' * 100_000)\n"
        "except OSError as error:\n"
        "    print(type(error).__name__, error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout.split()[:1], done.stderr) == (0, ["OSError"], "")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_collect_follows_the_numbers_of_the_jobs(tmp_path):
    for number in (10, 2, 0, 11, 1, 9):
        folder = tmp_path / f"{number}_size={number}"
        folder.mkdir()
        one = replace(ROW, seed=number, cell=f"m{number}")
        written(folder / "results.csv", one, replace(one, cell=f"a{number}", op="add"))
    (tmp_path / "3_no_rows").mkdir()
    written(
        tmp_path / "results.csv", replace(ROW, seed=99)
    )  # the sweep's own table, made from the others
    rows, damaged, _ = collect(tmp_path, "benchmark")
    assert [(row.seed, row.op) for row in rows] == [
        (n, op) for n in (0, 1, 2, 9, 10, 11) for op in ("matmul", "add")
    ]
    assert damaged == []


def test_the_files_of_all_jobs_are_found_in_their_order_and_none_of_a_run_within(tmp_path):
    for name in ("10_b", "9_a", "x", "0_run", "2_odd"):
        (tmp_path / name).mkdir()
        for file in ("results.csv", "noise.csv"):
            (tmp_path / name / file).touch()
    (tmp_path / "0_run" / "environment.json").touch()
    (tmp_path / "2_odd" / "noise.csv").unlink()
    (tmp_path / "2_odd" / "noise.csv").mkdir()
    found = {job: [path.parent.name for path in of] for job, of in files_of_jobs(tmp_path).items()}
    assert found.pop("benchmark") == ["x", "2_odd", "9_a", "10_b"]
    assert found.pop("noise") == ["x", "9_a", "10_b"]
    assert not any(found.values())


def test_visits_are_of_the_row_that_counts(tmp_path):
    """A cell that was measured again, in turn or alone, leaves its earlier visits behind."""
    visit = PairVisit("base", "other", 0, 0, 1, 0, 1, 2.0, 1.0)
    again = replace(visit, baseline_s=9.0)
    for number, visits in enumerate(([visit, replace(visit, other_cell="third")], [again], [])):
        folder = tmp_path / f"{number}_op"
        folder.mkdir()
        names = (["base", "other", "third"], ["other"], ["third"])[number]
        written(folder / "results.csv", *(replace(ROW, cell=name) for name in names))
        os.utime(folder / "results.csv", ns=(number, number))
        if visits:
            write_records(folder / "pairs.csv", visits)
    homes = collect(tmp_path, "benchmark").homes
    assert {cell: home.name for cell, home in homes.items()} == {"other": "1_op", "third": "2_op"}
    assert collect_pairs(tmp_path, homes) == ([again], [])


def test_collect_reports_a_damaged_file_and_keeps_the_others(tmp_path):
    for number in range(4):
        folder = tmp_path / f"{number}_op"
        folder.mkdir()
        written(folder / "results.csv", replace(ROW, seed=number, cell=f"c{number}"))
    broken, other = tmp_path / "1_op" / "results.csv", tmp_path / "2_op" / "results.csv"
    broken.write_text(broken.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    other.write_bytes(b"\xff")
    rows, damaged, _ = collect(tmp_path, "benchmark")
    assert [row.seed for row in rows] == [0, 3]
    assert len(damaged) == 2
    assert damaged[0].startswith(f"{broken}: ")
    assert damaged[1].startswith(f"{other}: ")


def test_collect_of_a_single_run_reads_its_own_file(tmp_path):
    written(tmp_path / "results.csv")
    assert collect(tmp_path, "benchmark")[:2] == ([ROW], [])
    assert collect(tmp_path, "autograd")[:2] == ([], [])
