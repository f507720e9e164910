"""``job=compare``: two runs' folders by the command line, its files and its exit codes."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from runner.rows.csv_store import write_rows
from tests.analysis.test_changes import a_run
from tests.support.commands import answers

HOST = {"name": "here", "cores": 2}


def saved(folder: Path, slower: dict[int, float] | None = None, seed: int = 0, **host: str) -> Path:
    """A run's folder of sixty cells."""
    folder.mkdir(parents=True)
    write_rows(folder / "results.csv", a_run(Random(seed), 0.003, slower=slower))
    environment = {"host": HOST | host, "torch": {"version": f"2.{seed}"}, "started": str(seed)}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def compared(base: Path, *words: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    command = ["job=compare", "run=new", "against=old", "hydra.run.dir=out", *words]
    (answer,) = answers(base, [command], heavy=True)
    return answer.code, answer.stdout + answer.stderr


def large_number(base: Path) -> tuple[str, str, str]:
    """What the page says first: its tone, its number, and of what."""
    page = (base / "out" / "compare.html").read_text()
    (first, *_) = re.findall(r'<li class="(\w*)"><strong>(.*?)</strong>(?:<br>)?([^<]*)', page)
    return first


@pytest.mark.parametrize(
    ("slower", "words", "code"),
    [
        ({}, [], 0),
        ({3: 1.3}, [], 3),
        ({3: 1.3}, ["compare.slower_than=0.5"], 0),
        ({3: 1.01}, [], 0),
    ],
)
def test_the_gate(slower: dict[int, float], words: list[str], code: int, tmp_path: Path) -> None:
    saved(tmp_path / "old", seed=1)
    saved(tmp_path / "new", slower, seed=2)
    found, said = compared(tmp_path, *words)
    assert found == code
    assert ("slower by more than" in said) == (code == 3)
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert len(table) == 60
    assert list(table.loc[table["is_slower"], "size"]) == (["11x8"] if code == 3 else [])
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "the environments differ: torch.version 2.1 to 2.2" in text
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "11x8" in page and "torch.version 2.1 to 2.2" in page
    tone, number, sentence = large_number(tmp_path)
    assert (tone, number) == (("wrong", "1") if code == 3 else ("right", "0"))
    assert ("slower by more than" if code == 3 else "nothing") in sentence


@pytest.mark.parametrize(
    ("after", "words", "code"),
    [
        ((10_101, "callgrind"), [], 3),
        ((10_101, "callgrind"), ["compare.more_instructions=0.02"], 0),
        ((10_100, "callgrind"), [], 0),  # as much as it may
        ((9_000, "callgrind"), [], 0),
        ((20_000, "perf"), [], 0),  # of another processor than the one that Valgrind imitates
        ((None, None), [], 0),
    ],
)
def test_a_cell_with_more_instructions_is_named_whatever_its_time(
    after: tuple[int | None, str | None], words: list[str], code: int, tmp_path: Path
) -> None:
    for name, seed in (("old", 1), ("new", 2)):
        rows = a_run(Random(seed), 0.003)
        count, by = after if name == "new" else (10_000, "callgrind")
        rows[3] = replace(rows[3], instructions=count, instructions_by=by)
        write_rows(saved(tmp_path / name, seed=seed) / "results.csv", rows)
    found, said = compared(tmp_path, *words)
    assert found == code
    sentence = "more than 1 % more machine instructions a call, whatever the times: add 11x8"
    texts = [said, *((tmp_path / "out" / f"compare.{end}").read_text() for end in ("md", "html"))]
    assert [sentence in text for text in texts] == [code == 3] * 3
    table = pd.read_csv(tmp_path / "out" / "compare.csv").set_index("size")
    assert not table["is_slower"].any() and table["has_more_instructions"].sum() == (code == 3)
    cell = table.loc["11x8"]
    assert cell["before_instructions"] == 10_000
    if by == "callgrind" and count:
        assert cell["instructions_ratio"] == pytest.approx(count / 10_000)
    else:
        assert table["instructions_ratio"].isna().all()


def test_a_gate_that_cannot_see_does_not_pass(tmp_path: Path) -> None:
    for name, seed in (("old", 1), ("new", 2)):
        folder = saved(tmp_path / name, seed=seed)
        write_rows(folder / "results.csv", a_run(Random(seed), 0.1))
    code, said = compared(tmp_path)
    assert code == 4
    assert "cannot be told" in said
    tone, number, sentence = large_number(tmp_path)
    assert (tone, number, "cannot be told" in sentence) == ("unclear", "0", True)
    shutil.rmtree(tmp_path / "out")
    assert compared(tmp_path, "compare.unclear_exit=125")[0] == 125


def test_what_became_wrong_fails_and_what_was_wrong_before_is_an_old_failure(
    tmp_path: Path,
) -> None:
    old, new = saved(tmp_path / "old", seed=1), saved(tmp_path / "new", seed=2)
    rows = a_run(Random(2), 0.003)
    rows[0] = replace(rows[0], status="crashed", median_s=None, ci_low_s=None, ci_high_s=None)
    write_rows(new / "results.csv", rows)
    code, said = compared(tmp_path)
    assert code == 3
    assert "fails now and did not before: add 8x8 float32 cpu" in said
    shutil.rmtree(tmp_path / "out")
    write_rows(old / "results.csv", rows)
    assert compared(tmp_path)[0] == 1


def test_several_runs_a_side(tmp_path: Path) -> None:
    for seed, name in enumerate(("old", "older", "new", "newer")):
        saved(tmp_path / name, seed=seed)
    code, _ = compared(tmp_path, "run=[new,newer]", "against=[old, older]")
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert set(table["before_runs"]) == set(table["after_runs"]) == {2}


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    for name in ("old", "new", "same", "elsewhere", "damaged"):
        saved(tmp_path / name, **({"name": "there"} if name == "elsewhere" else {}))
    write_rows(
        tmp_path / "same" / "results.csv",
        [replace(found, op="mul") for found in a_run(Random(0), 0.0)],
    )
    (tmp_path / "damaged" / "results.csv").write_text("cell,op\n1,2\n")
    (tmp_path / "empty").mkdir()
    commands = {
        "job=compare run=empty against=old": "run=empty: no run's or sweep's folder",
        "job=compare run=new": "against=: no run's or sweep's folder",
        "job=compare run=new against=nowhere": "against=nowhere: no run's or sweep's folder",
        "job=compare run=same against=old": "have no cell in common",
        "job=compare run=new against=damaged": "damaged/results.csv",
        "job=compare run=new against=elsewhere": "the runs are of different machines",
        "job=compare run=new against=old compare.slower_than=-1": "compare.slower_than=-1",
        "job=compare run=new against=old compare.more_instructions=-1": "more_instructions=-1",
        "run=new against=old": "against= goes with job=compare",
        "-m job=report run=new": "job=report reads runs and cannot be swept",
    }
    for answer, said in zip(
        answers(tmp_path, list(commands), heavy=True), commands.values(), strict=True
    ):
        assert answer.code == 2, answer
        assert said in answer.stderr
        # a slow machine says what it is at
        lines = answer.told
        assert len(lines) == 1
    assert not list(tmp_path.glob("**/compare.csv"))


def test_runs_of_two_machines_are_compared_when_asked_and_every_sentence_says_so(
    tmp_path: Path,
) -> None:
    saved(tmp_path / "old", seed=1, name="there")
    saved(tmp_path / "new", seed=2)
    code, said = compared(tmp_path, "report.compare_across_nodes=true")
    assert code == 0
    assert said.count("on different machines") >= 3


def test_a_comparison_is_not_written_over(tmp_path: Path) -> None:
    saved(tmp_path / "old", seed=1)
    saved(tmp_path / "new", seed=2)
    assert compared(tmp_path)[0] == 0
    code, said = compared(tmp_path)
    assert (code, "already holds a comparison" in said) == (2, True)


def test_the_files_speak_russian_and_the_terminal_english(tmp_path: Path) -> None:
    saved(tmp_path / "old", seed=1)
    saved(tmp_path / "new", {4: 1.5}, seed=2)
    _, said = compared(tmp_path, "report.language=ru")
    assert "slower by more than 5 %" in said
    assert "медленнее более чем на 5 %" in (tmp_path / "out" / "compare.md").read_text()
