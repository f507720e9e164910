"""Run folders that came from elsewhere: what is damaged is named, the rest is used, all else stays.

Nothing outside the folder is touched, whatever it holds.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import fields, make_dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.cells.cell import SCHEMA_VERSION
from runner.config.schema import Report
from runner.errors import ConfigError
from runner.files import bounded_lines
from runner.report.conclude import conclude, load_run
from runner.rows.csv_store import DamagedFile, collect, read_rows, write_records, write_rows
from runner.rows.environment_file import all_environments, code_order, read_environment
from runner.rows.rows import FILE_OF_JOB, ROW_OF_JOB, BenchmarkRow, Row, Sample
from runner.sweep.run_folder import free_folder
from tests.conftest import SMOKE
from tests.support.commands import answers
from tests.support.factories import row

pytestmark = pytest.mark.usefixtures("_without_pictures")
COPIES = int(os.environ.get("DAMAGED_COPIES", "200"))
"""How many damaged copies the slow tests make."""

SIZES = [f"{2**n}x{2**n}" for n in range(3, 9)]
ODD: list[Any] = [None, "", "x" * 200, -1.0, 0, 10**400, float("nan"), "<b>", [1], {"a": 2}]


def cells() -> list[BenchmarkRow]:
    """Rows of a sweep of six sizes on two devices."""
    made = []
    for number, size in enumerate(SIZES):
        made.append(row("cpu", 1e-3 * 2**number, size=size, cell=f"c{2 * number:015x}"))
        made.append(row("cuda", 2e-3, size=size, cell=f"c{2 * number + 1:015x}"))
    return made


def a_run(root: Path) -> Path:
    """A finished sweep's folder."""
    for number, of_cell in enumerate(cells()):
        (root / f"{number}_cell").mkdir(parents=True)
        write_rows(root / f"{number}_cell" / "results.csv", [of_cell])
    write_rows(root / "results.csv", cells())
    environment = {"cells": 12, "report": {"baseline": {"device": "cpu"}}, "host": {"cores": 2}}
    (root / "environment.json").write_text(json.dumps(environment))
    return root


def report(root: Path) -> int:
    """What ``job=report`` ends with."""
    try:
        return conclude(root, Report(), strict=False, measured=False)
    except (ConfigError, OSError):
        return 2


def cut(path: Path, draw: Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size + 1)])


def altered(path: Path, draw: Random) -> None:
    data = bytearray(path.read_bytes() or b"x")
    for _ in range(draw.randint(1, 20)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)


def forged(path: Path, draw: Random) -> None:
    """Any value in any column, with a right checksum."""
    name = draw.choice([f.name for f in fields(BenchmarkRow)])
    odd = draw.choice([value for value in ODD if not isinstance(value, list | dict)])
    write_rows(path.with_name("results.csv"), [replace(draw.choice(cells()), **{name: odd})])


def odd_json(path: Path, draw: Random) -> None:
    tree = json.loads((path.parent / "environment.json").read_text()) if draw.random() < 0.9 else {}
    tree[draw.choice(["cells", "report", "host", "torch", "nodes", "command", "x"])] = draw.choice(
        ODD[:5] + ODD[6:]
    )
    (path.parent / "environment.json").write_text(json.dumps(tree))


def linked(path: Path, draw: Random) -> None:
    base = next(folder for folder in path.parents if (folder / "outside").is_dir())
    path.unlink(missing_ok=True)
    path.symlink_to(base / "outside" / draw.choice(["note.txt", "", "nowhere"]))


def removed(folder: Path, draw: Random) -> None:
    shutil.rmtree(folder)


def renamed(folder: Path, draw: Random) -> None:
    new = folder.with_name(draw.choice(["²_x", "-1_", "9" * 40, "a\nb"]))
    if not new.exists():
        folder.rename(new)


Damage = Callable[[Path, Random], None]

OF_A_FILE: list[Damage] = [cut, altered, forged, linked, lambda path, draw: path.unlink()]
OF_A_FOLDER: list[Damage] = [removed, renamed]


def own(paths: Iterable[Path]) -> list[Path]:
    """Those that are no links: what a link leads to is not ours to damage."""
    return [path for path in sorted(paths) if not path.is_symlink()]


def damage(root: Path, draw: Random) -> None:
    """Do something to some of a run's files."""
    for _ in range(draw.randint(1, 4)):
        files = [path for path in own(root.rglob("*.*")) if path.is_file()]
        folders = [path for path in own(root.iterdir()) if path.is_dir()]
        environment = root / "environment.json"
        kind = draw.random()
        if files and kind < 0.6:
            draw.choice(OF_A_FILE)(draw.choice(files), draw)
        elif folders and kind < 0.8:
            draw.choice(OF_A_FOLDER)(draw.choice(folders), draw)
        elif environment in files:
            try:
                odd_json(root / "x", draw)
            except ValueError:  # it is damaged already
                cut(environment, draw)


def outside(base: Path) -> dict[str, bytes]:
    """What lies beside a run."""
    folder = base / "outside"
    if not folder.exists():
        folder.mkdir()
        (folder / "note.txt").write_text("mine\n")
        (folder / "results.csv").write_text("mine too\n")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_any_damage_ends_in_a_report_or_a_line_and_touches_nothing_else(seed: int) -> None:
    with TemporaryDirectory() as base:
        before = outside(Path(base))
        root = a_run(Path(base, "run"))
        damage(root, Random(seed))
        assert report(root) in (0, 1, 2)
        assert outside(Path(base)) == before


def first_words(table: bytes) -> set[bytes]:
    """What each line of a table begins with: its cell."""
    return {line.partition(b",")[0] for line in table.splitlines()}


@settings(max_examples=12)
@example(seed=6284)  # a name and a checksum are damaged
@example(seed=501909)  # a name alone is, of a cell whose own folder is there
@given(seed=st.integers(0, 2**32))
def test_no_report_leaves_fewer_cells_than_it_found(seed: int) -> None:
    """Whichever of the folders are gone."""
    draw = Random(seed)
    with TemporaryDirectory() as base:
        root = a_run(Path(base, "run"))
        for folder in draw.sample(sorted(root.glob("*_cell")), draw.randint(1, 12)):
            shutil.rmtree(folder)
        if draw.random() < 0.3:
            altered(root / "results.csv", draw)
        before = (root / "results.csv").read_bytes()
        report(root)
        after = (root / "results.csv").read_bytes()
        if after != before:  # a damaged name gives way to the right one
            found, left = first_words(before), first_words(after)
            assert len(found - left) <= len(left - found)


def test_a_run_within_a_run_is_a_run_of_its_own(tmp_path: Path) -> None:
    root = a_run(tmp_path / "run")
    inner = a_run(root / "again")
    write_rows(inner / "results.csv", [row(cell="c9", size="9x9")])
    assert {found.cell for found in load_run(root).rows_of_job["benchmark"]} == {
        found.cell for found in cells()
    }


def test_a_cell_that_ended_well_is_not_replaced_by_a_later_failure(tmp_path: Path) -> None:
    good, bad = row(cell="c1"), row(cell="c1", median_s=None, status="crashed")
    for name, of_folder in (("0_a", good), ("1_b", bad)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "results.csv", [of_folder])
    os.utime(tmp_path / "0_a" / "results.csv", (1, 1))
    assert collect(tmp_path, "benchmark")[0] == [good]


@pytest.mark.parametrize(("latest", "counts"), [("new", "crashed"), ("old", "ok")])
def test_a_row_of_the_code_before_does_not_stand_for_one_of_the_latest(
    latest: str, counts: str, tmp_path: Path
) -> None:
    """Also where the latest failed; code that was restored is the latest again."""

    def made_with(name: str) -> dict[str, Any]:
        return {"id": name, "code": {"own": {"folder": "x", "content": {"own.py": name}}}}

    resumed = [made_with("new"), made_with(latest)]
    text = json.dumps({**made_with("old"), "resumed": resumed})
    (tmp_path / "environment.json").write_text(text)
    good = row(cell="c1", environment="old")
    bad = row(cell="c1", median_s=None, status="crashed", environment="new")
    for name, of_folder in (("0_a", good), ("1_b", bad)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "results.csv", [of_folder])
    assert [found.status for found in collect(tmp_path, "benchmark")[0]] == [counts]


def test_of_a_file_with_a_damaged_line_the_rest_is_used(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_rows(path, cells())
    text = path.read_text().replace("32x32", "33x33", 1)
    path.write_text(text)
    rows, damaged, _ = collect(tmp_path, "benchmark")
    assert len(rows) == 11
    assert damaged == [f"{path}: line 6 was altered, or lines after it are missing"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("median_s", odd) for odd in (-1.0, float("nan"), float("inf"), 5e-324, 1e308)),
        *(("flop", 10**400), ("threads", -3), ("op", ""), ("size", None), ("job", "libraries")),
        *(("op", "y" * 100_000), ("cell", ""), ("cell", "a b"), ("bytes_per_s", 0.0)),
    ],
)
def test_a_value_that_cannot_be_is_named_by_file_line_and_column(
    column: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "results.csv"
    write_rows(path, [*cells()[:3], replace(cells()[3], **{column: value})])
    rows, damaged, _ = collect(tmp_path, "benchmark")
    assert rows == cells()[:3]
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{path}: line 5: {column} ")
    assert len(damaged[0]) < 400


OF_TYPE: dict[str, list[Any]] = {
    "str": [
        *("", "²", "9" * 5_000, "{", "5", "x" * 9_999, "\x1b[2J", "pass", "😀" * 40),
        *('{"class": 1, "a b": 2, "op": 3}', '{"workload": 5, "count": 1e400}', "[[1,2,3,4]]"),
    ],
    "int": [0, 1, -1, 10**99],
    "float": [0.0, -1.0, float("nan"), float("inf"), 1e-29, 1e29],
    "bool": [True, False],
    "tuple[str, ...]": [("made_up",), ("<b>", "view"), ("x" * 50,) * 50],
}


def odd_row(job: str, draw: Random) -> Row:
    """A row of a job in which two columns, whichever they are, hold whatever their type allows."""
    kind = ROW_OF_JOB[job]
    types = {field.name: str(field.type) for field in fields(kind)}
    usual = {"str": "x", "int": 1, "float": 1e-3, "bool": True, "tuple[str, ...]": ()}
    values = {name: None if "None" in type_ else usual[type_] for name, type_ in types.items()}
    values |= {"cell": "c0", "job": job, "size": "8x8", "status": "ok", "device": "cpu"}
    if job == "benchmark":
        values |= vars(cells()[draw.randrange(12)])
    for name in draw.sample(sorted(types.keys() - {"cell", "job"}), 2):
        values[name] = draw.choice(OF_TYPE[types[name].partition(" | ")[0]])
    return kind(**values)


@settings(max_examples=8)
@given(job=st.sampled_from(sorted(ROW_OF_JOB)), seed=st.integers(0, 2**32))
def test_any_value_in_any_column_of_any_job_ends_in_a_report(job: str, seed: int) -> None:
    draw = Random(seed)
    with TemporaryDirectory() as base:
        root = a_run(Path(base, "run"))
        forged_rows = [replace(odd_row(job, draw), cell=f"c{number}") for number in range(4)]
        (root / "12_odd").mkdir()
        write_rows(root / "12_odd" / FILE_OF_JOB[job], forged_rows)
        assert report(root) in (0, 1)


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_shown_and_is_not_called_right(
    error: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = {"max_relative_error": error, "error_roundoffs": error}
    odd = [replace(of_cell, **errors) for of_cell in cells()]
    write_rows(tmp_path / "results.csv", odd)
    assert report(tmp_path) == 0
    said = capsys.readouterr()
    assert "have the values" not in said.out
    assert "damaged" not in said.out + said.err


def newer(count: int) -> list[BenchmarkRow]:
    """Rows of a schema with further columns, statuses and flags."""
    names = [(f"column_{n}", "str | None", None) for n in range(count)]
    of_newer = make_dataclass("BenchmarkRow", names, bases=(BenchmarkRow,), frozen=True)
    values = {f.name: getattr(cells()[0], f.name) for f in fields(BenchmarkRow)}
    further = {name: f"text {name}" for name, *_ in names}
    first = of_newer(**values | further | {"flags": ("uneven", "steep")})
    return [first, replace(first, cell="c00f", status="skipped", column_1=None)]


def test_a_newer_schema_is_read_kept_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, of_newer in enumerate(newer(10)):
        (tmp_path / f"{number}_x").mkdir()
        path = tmp_path / f"{number}_x" / "results.csv"
        with monkeypatch.context() as patch:
            patch.setattr("runner.rows.csv_store.SCHEMA_VERSION", SCHEMA_VERSION + 1)
            write_rows(path, [of_newer])
    assert report(tmp_path) == 1
    said = capsys.readouterr()
    assert said.out.count("a newer release wrote some of these rows") == 1
    for word in ("column_0", "column_9", "uneven", "steep", "skipped"):
        assert word in said.out
        assert word in (tmp_path / "report.html").read_text()
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["column_3"], first["flags"]) == ("text column_3", "uneven steep")
    assert (second["status"], second["column_1"]) == ("skipped", "")
    assert read_rows(tmp_path / "results.csv", BenchmarkRow)[0].op == "add"


def test_a_file_of_an_earlier_build_of_this_schema_lacks_a_column(tmp_path: Path) -> None:
    names = [f.name for f in fields(BenchmarkRow) if f.name != "reference"]
    base = make_dataclass("BenchmarkRow", [(name, "str | None", None) for name in names])
    earlier = base(**{name: getattr(row(), name) for name in names})
    write_rows(tmp_path / "results.csv", [earlier])
    (read,) = read_rows(tmp_path / "results.csv", BenchmarkRow)
    assert read == row()


def test_no_cell_of_a_csv_is_a_spreadsheets_formula_and_all_are_read_back(tmp_path: Path) -> None:
    texts = ["=cmd|calc", "+1+1", "-x", "@sum", "\tx", "'=a", "'a", "-1.5", "plain"]
    rows = [row(cell=f"c{n}", op=text) for n, text in enumerate(texts)]
    write_rows(tmp_path / "results.csv", rows)
    assert read_rows(tmp_path / "results.csv", BenchmarkRow) == rows
    write_records(tmp_path / "table.csv", rows)
    for name in ("results.csv", "table.csv"):
        with (tmp_path / name).open(newline="") as file:
            written = [line["op"] for line in csv.DictReader(file)]
        assert not [text for text in written if text[0] in "=+@\t" or text == "-x"]


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.touch()
    os.truncate(path, 2**24)
    with pytest.raises(DamagedFile, match="a line is longer than"):
        read_rows(path, BenchmarkRow)
    os.truncate(path, 2**33)
    with path.open() as file, pytest.raises(ValueError, match="larger than"):
        list(bounded_lines(file))


HUGE = 2**42  # bytes, of which none takes room on the disk


@pytest.mark.parametrize(
    "name", ["results.csv", "environment.json", "speedup.csv", "pairs.csv", "0_cell/results.csv"]
)
def test_a_file_without_an_end_is_not_read(name: str, tmp_path: Path) -> None:
    """Nor counted: a terabyte of nothing takes an hour to go through."""
    root = a_run(tmp_path)
    (root / name).touch()
    try:
        os.truncate(root / name, HUGE)
    except OSError:
        pytest.skip("this file system has no such files")
    assert report(root) in (0, 1)
    if name == "0_cell/results.csv":  # nor is it written over
        free = free_folder(root / "0_cell", cells()[0].cell, {}, resuming=True)
        assert free.name == "0_cell-2"


@pytest.mark.parametrize("wall_s", [-1.0, float("nan"), float("inf"), 1e300])
def test_blocks_that_cannot_be_are_not_drawn(wall_s: float, tmp_path: Path) -> None:
    """Of a run of one cell, whose blocks the report shows."""
    write_rows(tmp_path / "results.csv", cells()[:1])
    blocks = [Sample(1, wall_s, None, None, None, None, used=True)] * 9
    write_records(tmp_path / "samples.csv", blocks)
    assert report(tmp_path) == 0
    assert "NaN" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ('{"cells": "abc", "python": "3"}', ["cells is abc"]),
        ('{"cells": NaN, "host": []}', ["cells is nan", "host is []"]),
        ('{"host": {"load_1min": "abc", "cores": 2}}', ["host.load_1min is abc"]),
        ('{"nodes": {"a": null, "b": {"code": {"c": null, "d": 3}}}}', ["nodes.b.code.d is 3"]),
        ('{"nodes": {"a.b": "x", "c": {"torch": 3}}}', ["nodes.a b is x", "nodes.c.torch is 3"]),
        ('{"command": ["a", 1], "devices": [3]}', ["command[] is 1", "devices[] is 3"]),
        ('{"x": ' + '{"a": ' * 20 + "1" + "}" * 21, ["x.a.a.a.a.a.a.a.a.a.a.a is "]),
        ('{"folder": "\\ud800x"}', []),
        ('{"calibration": [3, {"pairs": -1}], "noise_sources": 3}', ["", "", ""]),
    ],
)
def test_what_of_an_environment_is_not_of_its_type_is_left_out(
    text: str, left_out: list[str], tmp_path: Path
) -> None:
    (tmp_path / "environment.json").write_text(text)
    problems: list[str] = []
    json.dumps(read_environment(tmp_path, problems)).encode()
    assert all(isinstance(of_one, dict) for of_one in all_environments(tmp_path).values())
    code_order(tmp_path)
    assert len(problems) == len(left_out)
    for problem, begin in zip(problems, left_out, strict=True):
        assert problem.startswith(begin)


@pytest.mark.parametrize("text", ["5", "[]", '"x"', "{", '{"a":' * 100_000])
def test_an_environment_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(text)
    with pytest.raises(ConfigError, match=r"environment\.json is damaged"):
        read_environment(tmp_path)


@pytest.mark.slow
def test_damaged_copies_of_a_run(tmp_path: Path) -> None:
    before = outside(tmp_path)
    whole = a_run(tmp_path / "whole")
    for seed in range(COPIES):
        root = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
        damage(root, Random(seed))
        table = root / "results.csv"
        found = table.read_bytes() if table.is_file() and not table.is_symlink() else b""
        assert report(root) in (0, 1, 2), seed
        left = table.read_bytes() if found else found
        assert left == found or first_words(found) <= first_words(left), seed
        assert outside(tmp_path) == before, seed
        shutil.rmtree(root)


@pytest.mark.slow
def test_damaged_copies_of_a_sweep_taken_up_again(smoke: Path, tmp_path: Path) -> None:
    """By the command line, which lists what it would run; some are reported too."""
    before = outside(tmp_path)
    for begin in range(0, COPIES, 100):
        commands = []
        for seed in range(begin, begin + 100):
            root = Path(shutil.copytree(smoke, tmp_path / f"run{seed}", symlinks=True))
            damage(root, Random(seed))
            commands.append([*SMOKE, f"resume={root.name}", "dry_run=true"])
            commands += [["job=report", f"run={root.name}"]] * (seed % 20 == 0)
        for answer in answers(tmp_path, commands, heavy=True):
            assert answer.code in (0, 1, 2)
            assert "Traceback" not in answer.stderr
            assert answer.code != 2 or len(answer.stderr.splitlines()) <= 3, answer.stderr
        for seed in range(begin, begin + 100):
            shutil.rmtree(tmp_path / f"run{seed}")
        assert outside(tmp_path) == before
