"""``job=compare``: two runs' folders by the command line, its files and its exit codes."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from runner.rows.csv_store import write_rows
from tests.analysis.test_changes import a_run
from tests.analysis.test_operation_changes import runs_of
from tests.conftest import ROOT
from tests.support.commands import answers

HOST = {"name": "here", "cores": 2}


def saved(folder: Path, slower: dict[int, float] | None = None, seed: int = 0, **host: str) -> Path:
    """A run's folder of sixty cells."""
    folder.mkdir(parents=True)
    write_rows(folder / "results.csv", a_run(Random(seed), 0.003, slower=slower))
    environment = {"host": HOST | host, "torch": {"version": f"2.{seed}"}, "started": str(seed)}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def compared(
    base: Path, *words: str, sides: Sequence[str] = ("run=new", "against=old")
) -> tuple[int, str]:
    """The exit code, and what was printed."""
    command = ["job=compare", *sides, "hydra.run.dir=out", *words]
    (answer,) = answers(base, [command], heavy=True)
    return answer.code, answer.stdout + answer.stderr


def large_number(base: Path) -> tuple[str, str, str]:
    """What the page says first: its tone, its number, and of what."""
    page = (base / "out" / "compare.html").read_text()
    (first, *_) = re.findall(r'<li class="(\w*)"><strong>(.*?)</strong>(?:<br>)?([^<]*)', page)
    return first


def large_numbers(base: Path) -> list[str]:
    """The numbers that the page says first, with their sentences."""
    page = (base / "out" / "compare.html").read_text()
    found = re.findall(r"<strong>(.*?)</strong>(?:<br>)?([^<]*)", page)
    return [" ".join(texts) for texts in found]


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
    links = re.findall(r'href="#([^"]*)" aria-label="\[', page)
    assert len(links) == (code == 3) and all(f'id="{link}"' in page for link in links)
    assert "## What changed" in text and "the gate names what was measured as" in text


def test_an_operation_whose_cells_are_together_slower_is_named(tmp_path: Path) -> None:
    """Each of its cells alone is too little to be sure of."""
    names = {"old": ["old1", "old2", "old3"], "new": ["new1", "new2", "new3"]}
    for seed, (side, folders) in enumerate(names.items()):
        runs = runs_of(Random(seed), 3, *(("op7", 0.12) if side == "new" else ()))
        # another varies by so much that it is slower still, and not surely
        uneven = (0.9, 1.7, 1.5) if side == "new" else (1.0, 1.0, 1.0)
        for folder, run, times in zip(folders, runs, uneven, strict=True):
            rows = [replace(r, median_s=r.median_s * times) if r.op == "op3" else r for r in run]
            if folder == "new2":
                rows[7 * 6] = replace(rows[7 * 6], flags=("contended",))
            write_rows(saved(tmp_path / folder) / "results.csv", rows)
    sides = ["run=[new1,new2,new3]", "against=[old1,old2,old3]"]
    code, said = compared(tmp_path, sides=sides)
    assert code == 3, said
    cells = pd.read_csv(tmp_path / "out" / "compare.csv")
    operations = pd.read_csv(tmp_path / "out" / "compare_operations.csv").set_index("op")
    assert not cells["is_slower"].any()
    assert list(operations.index[operations["is_slower"]]) == ["op7"]
    slowest = operations.loc["op7"]
    assert slowest["low"] <= 1 / 1.12 <= slowest["high"] < 0.95
    assert (slowest["cells"], slowest["all_cells"]) == (5, 6)
    assert operations.loc["op3", "speedup"] < slowest["speedup"]
    assert slowest["verdict"] == "slower" and len(operations) == 20

    # in all that is read, what fails the gate first
    sentence = (
        r"slower by more than 5 % in the weighted mean of its cells: op7 cpu \(0\.8\d*×, 5 of its 6"
    )
    texts = {end: (tmp_path / "out" / f"compare.{end}").read_text() for end in ("md", "html")}
    assert all(re.search(sentence, text) for text in (said, *texts.values()))
    assert "nothing is surely" not in said
    assert large_number(tmp_path)[:2] == ("wrong", "1")
    section = texts["md"].partition("## Operations")[2]
    lines = re.findall(r"^\| (op\d+) *\| *(\S+) ", section, re.MULTILINE)
    assert lines[:2] == [("op7", "5/6"), ("op3", "6")]


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


def test_the_first_number_and_its_sentence_are_of_one_kind(tmp_path: Path) -> None:
    saved(tmp_path / "old", seed=1)
    rows = a_run(Random(2), 0.003, slower={3: 1.3, 4: 1.3})
    rows[0] = replace(rows[0], flags=("wrong_values",))
    write_rows(saved(tmp_path / "new", seed=2) / "results.csv", rows)
    assert compared(tmp_path)[0] == 3
    slower, wrong, _ = large_numbers(tmp_path)
    assert slower.startswith("2 slower by more than 5 %: add 11x8")
    assert wrong.startswith("1 fails now and did not before: add 8x8")


def test_what_fails_the_gate_comes_first_in_files_that_hold_only_some(tmp_path: Path) -> None:
    for name, slower in (("old", {}), ("new", {149: 1.3})):
        rows = a_run(Random(len(name)), 0.003, 150, slower)
        rows[148] = replace(
            rows[148], instructions=1_000 + 100 * len(slower), instructions_by="perf"
        )
        write_rows(saved(tmp_path / name) / "results.csv", rows)
    assert compared(tmp_path)[0] == 3
    text = (tmp_path / "out" / "compare.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| add")]
    assert len(lines) == 100 and "... and 50 lines more in the CSV" in text
    assert ["157x8" in lines[0], "156x8" in lines[1]] == [True, True]
    page = (tmp_path / "out" / "compare.html").read_text()
    body = page[page.index("<tbody>") :]
    assert body.index("157x8") < body.index("156x8") < body.index(">8x8<")
    sizes = pd.read_csv(tmp_path / "out" / "compare.csv")["size"]
    assert list(sizes) == [f"{8 + number}x8" for number in range(150)]  # as in the later run


def test_a_comment_is_shorter_than_what_takes_it(tmp_path: Path) -> None:
    for name in ("old", "new"):
        rows = [
            replace(row, aten_calls=json.dumps({name * 600: 1})) for row in a_run(Random(0), 0.003)
        ]
        write_rows(saved(tmp_path / name) / "results.csv", rows)
    compared(tmp_path)
    text = (tmp_path / "out" / "compare.md").read_text()
    assert 20_000 < len(text) <= 60_000 and "lines more in the CSV" in text


def test_what_no_two_runs_have_in_common_is_no_difference_and_few_are_named(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(("old", "new")):
        of_one_run = {"noise_sources": {"steal": str(number), "running": str(number)}}
        further = {"variables": {f"V{n}": name for n in range(12)}} | of_one_run
        path = saved(tmp_path / name, seed=1) / "environment.json"
        path.write_text(json.dumps({"host": HOST, **further}))
    _, said = compared(tmp_path)
    (line,) = [line for line in said.splitlines() if "environments differ" in line]
    assert line.count(" old to new") == 10 and line.endswith("; and 2 more")
    assert "V0 old to new" in line and "noise" not in line


def test_several_runs_a_side(tmp_path: Path) -> None:
    for seed, name in enumerate(("old", "older", "new", "newer")):
        saved(tmp_path / name, seed=seed)
    code, _ = compared(tmp_path, "run=[new,newer]", "against=[old, older]")
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert set(table["before_runs"]) == set(table["after_runs"]) == {2}


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    for name in ("old", "new", "same", "elsewhere", "damaged", "threads"):
        saved(tmp_path / name, **({"name": "there"} if name == "elsewhere" else {}))
    write_rows(
        tmp_path / "same" / "results.csv",
        [replace(found, op="mul") for found in a_run(Random(0), 0.0)],
    )
    threads = [replace(found, threads=7) for found in a_run(Random(0), 0.0)]
    write_rows(tmp_path / "threads" / "results.csv", threads)
    saved(tmp_path / "schema1")
    shutil.copy(ROOT / "tests" / "data" / "schema1" / "results.csv", tmp_path / "schema1")
    (tmp_path / "damaged" / "results.csv").write_text("cell,op\n1,2\n")
    (tmp_path / "empty").mkdir()
    commands = {
        "job=compare run=empty against=old": "run=empty: no run's or sweep's folder",
        "job=compare run=new": "against=: no run's or sweep's folder",
        "job=compare run=new against=nowhere": "against=nowhere: no run's or sweep's folder",
        "job=compare run=same against=old": "have no cell in common: the nearest ones differ in op",
        "job=compare run=threads against=old": "the nearest ones differ in threads 2 and 7;",
        "job=compare run=schema1 against=old": "their schemas differ, as one is of a release with",
        "job=compare run=new against=./new": "new is given twice",
        "job=compare run=[new,old,new] against=same": "new is given twice",
        "job=compare run=new against=damaged": "damaged/results.csv",
        "job=compare run=new against=elsewhere": "the runs are of different machines",
        "job=compare run=new against=old compare.slower_than=-1": "compare.slower_than=-1",
        "job=compare run=new against=old compare.more_instructions=-1": "more_instructions=-1",
        "run=new against=old": "against= goes with job=compare",
        "job=compare run=new,same against=old": "give several runs as run=[new,same]",
        "job=compare run=new against=old compare.slower_than=5": "=5 is 500 %; 0.05 is 5 %",
        "job=compare run=new against=old dry_run=true": "takes no dry_run=; allowed: job, run",
        "job=compare run=new against=old strict=true": "takes no strict=",
        "job=compare run=new against=old hydra.sweep.dir=x": "takes no hydra.sweep.dir=",
        "job=compare run=new against=old timing=quick": "takes no timing=",
        "job=compare run=new against=old report.baseline={op: add}": "takes no report.baseline=",
        "job=compare run=new against=old ab.a.path=x": "takes no ab.a.path=",
        "job='compare' run=new": "against=: no run's or sweep's folder",
        "hydra.mode=RUN job=compare run=new against=nowhere": "against=nowhere: no run's",
        "-m job=compare run=new against=old": "job=compare reads runs and cannot be swept",
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
    assert not (tmp_path / "outputs").exists()  # nor an empty folder


@pytest.mark.parametrize("of", ["host", "environment", "rows"])
def test_runs_of_two_machines_are_compared_when_asked_and_every_sentence_says_so(
    of: str, tmp_path: Path
) -> None:
    for number, name in enumerate(("old", "new")):
        spread, nodes = (0.003, 0.1)[of == "rows"], ("here-1", f"here-{2 * number + 1}")
        rows = a_run(Random(number), spread)[number : 59 + number]
        rows[5] = replace(rows[5], flags=("wrong_values",) * number)
        rows[7] = replace(rows[7], node=nodes[1] if of == "rows" else None)
        folder = saved(tmp_path / name, seed=number, name=name if of == "host" else "here")
        write_rows(folder / "results.csv", rows)
        path = folder / "environment.json"
        node = {"node": nodes[of == "environment"]} if of != "host" else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | node))
    code, said = compared(tmp_path)
    assert (code, "of different machines" in said) == (2, True)
    code, said = compared(tmp_path, "report.compare_across_nodes=true")
    assert code == 3
    *_, last, _ = lines = said.splitlines()
    sentences = lines[next(n for n, line in enumerate(lines) if "fails now" in line) : -1]
    assert len(sentences) >= 7 and "only after" in last
    assert [line for line in sentences if "on different machines" not in line] == []


def test_cells_that_ran_where_they_ran_before_are_of_one_machine(tmp_path: Path) -> None:
    """As on a cluster of two nodes, or with a run of a release that knew a machine by its name."""
    for number, name in enumerate(("old", "new")):
        folder = saved(tmp_path / name, seed=number, name="here")
        rows = [
            replace(row, node=f"node-{n % 2}") for n, row in enumerate(a_run(Random(number), 0.003))
        ]
        write_rows(folder / "results.csv", rows)
        path = folder / "environment.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"node": "driver-1"}))
    code, said = compared(tmp_path)
    assert (code, "machine" in said) == (0, False)
    written = json.loads(path.read_text())
    path.write_text(json.dumps({key: written[key] for key in written if key != "node"}))
    code, said = compared(tmp_path, "hydra.run.dir=again")
    assert (code, "machine" in said) == (0, False)


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


def test_what_a_run_was_made_with_counts_unless_another_is_given(tmp_path: Path) -> None:
    saved(tmp_path / "old", seed=1)
    path = saved(tmp_path / "new", seed=2) / "environment.json"
    made_with = {"language": "ru", "same_within": 0.04, "compare_across_nodes": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"report": made_with}))
    assert compared(tmp_path)[0] == 4  # 5 % is hardly to be told from 4 %
    assert "Что изменилось" in (tmp_path / "out" / "compare.md").read_text()
    typed = ["report.same_within=0.01", "report.language=en", "hydra.run.dir=typed"]
    code, said = compared(tmp_path, *typed)
    assert (code, "environments differ" in said.splitlines()[0]) == (0, True)
    assert "What changed" in (tmp_path / "typed" / "compare.md").read_text()
