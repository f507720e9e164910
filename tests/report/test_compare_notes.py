"""What a comparison of two runs says beside its table, from folders that hold rows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from runner.config.schema import Compare, Report
from runner.errors import ConfigError
from runner.report.compare import Comparison, _all_notes, compare_runs, comparison_of
from runner.report.language import ENGLISH
from runner.rows.csv_store import write_records, write_rows
from runner.rows.rows import PAIRS_FILE, AutogradRow, BenchmarkRow, PairVisit
from tests.analysis.test_changes import a_run
from tests.report.test_compare import HOST, saved

FEW = "of so few cells it is not known"


def with_environment(folder: Path, **environment: Any) -> str:
    """A saved run's folder, as text, with what it was made with."""
    path = folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | environment))
    return str(folder)


def found_in(
    later: Sequence[str | Path], earlier: Sequence[str | Path], **settings: Any
) -> Comparison:
    """The comparison of these folders."""
    sides = [str(folder) for folder in later], [str(folder) for folder in earlier]
    return comparison_of(*sides, Report(), Compare(**settings), file="compare.csv")


def notes_of(later: Sequence[str | Path], earlier: Sequence[str | Path]) -> list[str]:
    """What is said of them, in English."""
    return _all_notes(found_in(later, earlier), ENGLISH)


def rows_in(folder: Path, rows: Sequence[BenchmarkRow]) -> Path:
    write_rows(folder / "results.csv", rows)
    return folder


def test_cells_that_tell_less_than_before_are_named_with_why(tmp_path: Path) -> None:
    old, new = saved(tmp_path / "old", seed=1), saved(tmp_path / "new", seed=2)
    rows = a_run(Random(2), 0.003)
    rows[4] = replace(rows[4], status="unsupported", median_s=None, ci_low_s=None, ci_high_s=None)
    rows[5] = replace(rows[5], flags=("late_work",))
    said = "\n".join(notes_of([rows_in(new, rows)], [old]))
    assert (
        "can no longer be compared: add 12x8 float32 cpu threads=2 (unsupported), "
        "add 13x8 float32 cpu threads=2 (it goes on after it has returned)" in said
    )


def test_a_run_that_was_interrupted_says_so_and_its_missing_cells_count(tmp_path: Path) -> None:
    old, new = saved(tmp_path / "old", seed=1), saved(tmp_path / "new", seed=2)
    rows_in(new, a_run(Random(2), 0.003)[:50])
    assert found_in([new], [old]).can_see
    assert not any("of 60 cells" in note for note in notes_of([new], [old]))
    for folder in (old, new):
        with_environment(folder, cells=60)
    found = found_in([new], [old])
    assert not found.can_see
    said = "\n".join(_all_notes(found, ENGLISH))
    assert f"{new} has 50 of 60 cells" in said and f"{old} has" not in said
    assert "too few cells have times on both sides" in said
    assert found_in([old], [new]).can_see  # the later side lacks nothing


def gradients(verdict: str, **fields: Any) -> AutogradRow:
    status = "failed" if verdict == "fail" else "ok"
    names = {"cell": "g1", "job": "autograd", "op": "add", "size": "8x8", "dtype": "float64"}
    named = {**names, "device": "cpu", "probe": "zeros", "oracle": "analytic", "argument": "0"}
    return AutogradRow(**{**named, "verdict": verdict, "status": status, **fields})


@pytest.mark.parametrize(
    ("before", "after", "named", "failed"),
    [
        (gradients("pass"), gradients("fail"), True, True),
        (gradients("pass"), gradients("pass"), False, False),
        (gradients("fail"), gradients("fail"), False, True),
        (gradients("fail"), gradients("fail", probe="ones"), True, True),
        (gradients("pass"), gradients("fail", op="mul"), False, True),  # which was not checked
        (gradients("pass", size="9x9"), gradients("fail"), True, True),
        (gradients("pass"), gradients("", status="crashed", probe=None), True, True),
    ],
)
def test_a_gradient_that_passed_and_fails_became_wrong(
    before: AutogradRow, after: AutogradRow, named: bool, failed: bool, tmp_path: Path
) -> None:
    for name, check in (("old", before), ("new", after)):
        write_rows(saved(tmp_path / name, seed=len(name)) / "autograd.csv", [check])
    found = found_in([tmp_path / "new"], [tmp_path / "old"])
    assert (found.fails, found.failed) == (named, failed)
    said = "\n".join(_all_notes(found, ENGLISH))
    assert ("fails now and did not before: autograd add 8x8 float64 cpu" in said) == named


def test_runs_of_gradient_checks_alone_are_refused(tmp_path: Path) -> None:
    for name in ("old", "new"):
        folder = saved(tmp_path / name)
        (folder / "results.csv").unlink()
        write_rows(folder / "autograd.csv", [gradients("pass")])
    with pytest.raises(ConfigError, match="takes runs of benchmarks, and compares their checks"):
        found_in([tmp_path / "new"], [tmp_path / "old"])


def test_the_gate_refuses_what_no_cell_could_show_and_a_percentage(tmp_path: Path) -> None:
    old, new = saved(tmp_path / "old", seed=1), saved(tmp_path / "new", seed=2)
    for share, said in ((0.01, "is within report.same_within=0.01"), (5, "is 500 %; 0.05 is 5 %")):
        with pytest.raises(ConfigError, match=f"slower_than={share} {said}"):
            found_in([new], [old], slower_than=share)
    with_environment(new, report={"same_within": 0.06})  # as the run was made with
    with pytest.raises(ConfigError, match=r"slower_than=0\.05 is within"):
        found_in([new], [old])


def test_what_differs_within_a_side_and_between_sides_comes_first(tmp_path: Path) -> None:
    folders = [saved(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b", "c"))]
    torch, code = {"version": "2.12"}, {"git": {"commit": "c1"}, "content": {"p.py": "1"}}
    for folder in folders:
        with_environment(folder, git={"commit": folder.name}, torch=torch, code={"p": code})
    made_otherwise = {"torch": {"version": "2.13"}, "python": "3.13", "host": HOST}
    with_environment(folders[1], resumed=[made_otherwise], cells=60)
    noted = {"calibration": [{"op": "add"}], "variables": {f"V{n}": "1" for n in range(12)}}
    later = {"commit": "c2"}
    code = {"git": later, "content": {"p.py": "2"}}
    with_environment(folders[2], python="3.14", devices=[{"name": "B"}], code={"p": code}, **noted)
    mixed, differing, *_ = notes_of(folders[2:], folders[:2])
    of_both = f"{folders[0]} + {folders[1]}: not of one environment"
    assert mixed == f"{of_both}: torch.version 2.12 and 2.13"
    assert differing.startswith(
        "the environments differ: torch.version 2.12 and 2.13 to 2.12; python 3.13 to 3.14; "
        "devices[0].name blank to B; code.p.git.commit c1 to c2; code.p.content.p.py 1 to 2; "
        "variables.V0 blank to 1"
    )
    assert differing.endswith("and 8 more") and "calibration" not in differing

    # all of them are in a table, the program's own checkout too
    sides = [str(folders[2])], [str(folders[1])]
    compare_runs(tmp_path / "out" / "compare.csv", *sides, Report(), Compare(), quiet=True)
    table = pd.read_csv(tmp_path / "out" / "compare_environments.csv").set_index("name")
    assert table.loc["opsweep's own git.commit", "after"] == "c"
    assert len(table) == 18 and "variables.V11" in table.index
    page = (tmp_path / "out" / "compare.html").read_text()
    summary = page[page.index('id="summary"') :]
    assert summary.index("not of one environment") < summary.index("the environments differ")
    assert summary.index("the environments differ") < summary.index("<dt>", 400)
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "\n- the environments differ" in text.partition("nothing is surely")[0]


def test_cells_of_another_timing_have_nothing_in_common_and_no_hash_is_named(
    tmp_path: Path,
) -> None:
    for name in ("old", "new"):
        rows = [replace(row, variant=f"v{name}") for row in a_run(Random(1), 0.003)]
        rows_in(saved(tmp_path / name), rows)
    with pytest.raises(ConfigError) as error:
        found_in([tmp_path / "new"], [tmp_path / "old"])
    assert "the nearest ones differ in the op file or the timing;" in str(error.value)


def test_a_share_below_what_is_enough_is_not_rounded_up_to_it(tmp_path: Path) -> None:
    for name, cells in (("old", 1000), ("new", 1000)):
        rows = a_run(Random(len(name) + (name == "old")), 0.003, cells)
        if name == "new":
            rows[:104] = [replace(row, flags=("contended",)) for row in rows[:104]]
        rows_in(saved(tmp_path / name), rows)
    found = found_in([tmp_path / "new"], [tmp_path / "old"])
    said = "\n".join(_all_notes(found, ENGLISH))
    assert not found.can_see and "30 %: 89.6 %" in said


@pytest.mark.parametrize(
    ("cells", "spread", "in_turn", "said"),
    [
        (5, 0.003, False, FEW),
        (60, 0.1, False, "several runs of a side"),
        (60, 0.1, True, "give job=ab more time"),
        (60, 0.003, False, "; in 90 % of these cells the gate names what was measured as"),
    ],
)
def test_the_advice_is_of_what_is_the_matter(
    cells: int, spread: float, in_turn: bool, said: str, tmp_path: Path
) -> None:
    new = rows_in(saved(tmp_path / "new", seed=2), a_run(Random(2), spread, cells))
    old = rows_in(
        saved(new / "a" if in_turn else tmp_path / "old"), a_run(Random(1), spread, cells)
    )
    notes = notes_of([new], [old])
    assert sum(said in note for note in notes) == 1
    advices = (FEW, "several runs of a side", "give job=ab more time")
    assert sum(any(advice in note for advice in advices) for note in notes) == (said in advices)


def test_sides_that_took_turns_are_judged_again_by_their_visits(tmp_path: Path) -> None:
    new = saved(tmp_path / "new", seed=2)
    old = saved(new / "a", seed=1)
    cells = [row.cell for row in a_run(Random(1), 0.003)]
    numbers = range(40)
    visits = [[PairVisit(c, c, n, 0, 1, 0, 0, 1.2e-3, 1e-3) for n in numbers] for c in cells]
    write_records(new / PAIRS_FILE, list(chain.from_iterable(visits)))
    found = found_in([new], [old])
    assert found.in_turn and found.changes[0].speedup == pytest.approx(1.2)
    assert found_in([new], [old], slower_than=0.3).slower_than == 0.3
    elsewhere = saved(tmp_path / "old", seed=1)
    assert found_in([new], [elsewhere]).changes[0].speedup != pytest.approx(1.2)


def test_it_is_said_of_how_many_cells_the_instructions_are_known(tmp_path: Path) -> None:
    for name in ("old", "new"):
        rows = a_run(Random(len(name)), 0.003)
        counted = {"instructions": 1_000, "instructions_by": "perf"}
        rows[:7] = [replace(row, **counted) for row in rows[:7]]
        rows_in(saved(tmp_path / name), rows)
    said = "instructions were counted on both sides in 7 of 60 cells"
    assert any(said in note for note in notes_of([tmp_path / "new"], [tmp_path / "old"]))
