"""Comparisons measured in turn, from the command line.

What is on the disk, and what becomes of sides that fail.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from runner.execute import cell_runner
from runner.execute.turns import Plan
from runner.execute.worker_process import Preflight
from runner.rows.rows import row_for
from tests.conftest import Runner, make_runner
from tests.support.commands import answers
from tests.support.factories import cell

QUICK = ("timing=quick", "timing.max_time_s=0.05", "timing.warmup_s=0.01", "timing.patience_s=0")
DTYPES = ("-m", "op=add", "size=8,16", "dtype=float32,float64", "threads=1", *QUICK)


def swept(runner: Runner, out: Path, *arguments: str, code: int = 0) -> pd.DataFrame:
    """The comparisons of a sweep."""
    runner(*arguments, f"hydra.sweep.dir={out}", code=code)
    return pd.read_csv(out / "speedup.csv")


def visits_in(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in sorted(out.glob("*/pairs.csv"))])


def measured_in_turn(out: Path) -> set[str]:
    """The operations that were visited beside their baseline.

    How many of the visits count is the machine's doing: a busy one may leave too few for a ratio.
    """
    op_of_cell = pd.read_csv(out / "results.csv").set_index("cell")["op"]
    return set(op_of_cell[visits_in(out)["other_cell"]])


@pytest.fixture(scope="module")
def by_dtype(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two sizes and dtypes, which nobody may change."""
    folder = tmp_path_factory.mktemp("in turn")
    make_runner(folder)(*DTYPES, "hydra.sweep.dir=out")
    return folder / "out"


@pytest.fixture
def by_dtype_copy(by_dtype: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test that changes it."""
    return Path(shutil.copytree(by_dtype, tmp_path / "out"))


def test_the_visits_are_on_the_disk_and_the_report_makes_the_same_interval(
    by_dtype_copy: Path, tmp_path: Path
) -> None:
    out = by_dtype_copy
    speedups = pd.read_csv(out / "speedup.csv")
    visits = visits_in(out)
    assert list(speedups["axis"]) == ["dtype", "dtype"]
    assert list(speedups["baseline"]) == ["float32", "float32"]
    in_turn = speedups[speedups["paired"].notna()]
    assert set(in_turn["pair_processes"]) <= {1}
    # on a busy machine there may be too few visits
    assert speedups.drop(in_turn.index)["reason"].notna().all()

    # each comparison's ratio is the median of its visits' ratios
    for _, speedup in in_turn.iterrows():
        own = visits[visits["other_cell"] == speedup["other_cell"]]
        assert set(own["baseline_cell"]) == {speedup["baseline_cell"]}
        undisturbed = own[own["undisturbed"]]
        calm = undisturbed[undisturbed["calm"]]
        # a busy machine may have few of either
        choices = (calm, undisturbed, own)
        counted = next(kept for kept in choices if len(kept) == speedup["paired"])
        assert len(counted) >= 2
        ratios = counted["baseline_s"] / counted["other_s"]
        assert ratios.median() == pytest.approx(speedup["speedup"], rel=0.05)
        assert set(own["baseline_turn"]) == set(own["other_allocation"]) == {0, 1}

    # rebuilt, and rebuilt from the run's own table alone
    alone = tmp_path / "alone"
    shutil.copytree(out, alone)
    for folder in alone.glob("[0-9]*_*"):
        shutil.rmtree(folder)
    shutil.copytree(alone, tmp_path / "by_size")
    for rebuilt in (out, alone):
        (rebuilt / "speedup.csv").unlink()
    said = answers(
        tmp_path,
        [
            ["job=report", "run=out"],
            ["job=report", "run=alone"],
            ["job=report", "run=by_size", "report.baseline={size: 8x8}"],
        ],
        heavy=True,
    )
    assert [answer.code for answer in said] == [0, 0, 0], said
    for rebuilt in (out, alone):
        pd.testing.assert_frame_equal(pd.read_csv(rebuilt / "speedup.csv"), speedups)

    # another baseline was not measured in turn
    others = pd.read_csv(tmp_path / "by_size" / "speedup.csv")
    assert others.loc[others["axis"] == "size", "paired"].isna().all()


@pytest.mark.slow
def test_rows_of_sides_have_all_that_other_rows_have(
    runner: Runner, by_dtype: Path, tmp_path: Path
) -> None:
    in_turn = pd.read_csv(by_dtype / "results.csv")
    runner(*DTYPES, "compare.in_turn=false", f"hydra.sweep.dir={tmp_path / 'alone'}")
    alone = pd.read_csv(tmp_path / "alone" / "results.csv")
    assert list(in_turn["cell"]) == list(alone["cell"])
    assert (in_turn["seconds"] > in_turn["timing_s"]).all()
    # which flags there are, and whether a median has an interval, is the machine's doing
    whole = set(alone.columns[alone.notna().all()]) - {"flags", "low_s", "high_s"}
    assert set(in_turn.columns[in_turn.notna().all()]) >= whole
    assert not list((tmp_path / "alone").glob("*/pairs.csv"))
    assert pd.read_csv(tmp_path / "alone" / "speedup.csv")["paired"].isna().all()


@pytest.mark.slow
def test_visits_are_shared_by_as_many_processes_as_were_asked_for(runner, tmp_path):
    out = tmp_path / "out"
    speedups = swept(runner, out, *DTYPES, "size=8", "compare.processes=2")
    visits = visits_in(out)
    assert sorted(set(visits["process"])) == [1, 2]
    assert len(speedups) == 1
    # on a busy machine there may be too few visits
    assert set(speedups["pair_processes"].dropna()) <= {2}
    assert (speedups["paired"].dropna() <= len(visits)).all()
    assert set(pd.read_csv(out / "results.csv")["processes"]) == {1}


@pytest.fixture
def three_ops(tmp_path: Path) -> list[str]:
    """Operations of the test's own.

    One that works, one that raises, one that ends its process at the third call.
    """
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "sides.py").write_text(
        "import os\nimport torch\n\ncalls = []\n\n"
        "def works(a):\n    return a + 1\n\n"
        "def raises(a):\n    raise ValueError('no such thing')\n\n"
        "def dies(a):\n    calls.append(a)\n"
        "    if len(calls) == 1:\n        print('process', os.getpid(), flush=True)\n"
        "    if len(calls) > 30:\n        os._exit(7)\n    return a + 1\n"
    )
    for name in ("works", "raises", "dies"):
        (tmp_path / "mine" / "op" / f"{name}.yaml").write_text(
            f'name: {name}\ncall: sides.{name}\nsignature: "n -> n"\ndifferentiable: false\n'
        )
    return ["--config-dir", "mine", "-m", "size=8", *QUICK, "report.baseline={op: works}"]


@pytest.mark.slow
def test_a_side_that_raises_has_its_row_and_the_others_go_on(runner, tmp_path, three_ops):
    (tmp_path / "mine" / "op" / "again.yaml").write_text(
        'name: again\ncall: sides.works\nsignature: "n -> n"\ndifferentiable: false\n'
    )
    out = tmp_path / "out"
    speedups = swept(runner, out, *three_ops, "op=works,raises,again", code=1)
    rows = pd.read_csv(out / "results.csv").set_index("op")
    assert dict(rows["status"]) == {"works": "ok", "raises": "failed", "again": "ok"}
    assert "no such thing" in rows.loc["raises", "reason"]
    by_op = speedups.set_index("op")
    assert measured_in_turn(out) == {"again"}
    assert pd.isna(by_op.loc["raises", "speedup"])


@pytest.mark.slow
def test_sides_of_a_process_that_dies_run_alone_next(runner, tmp_path, three_ops):
    out = tmp_path / "out"
    speedups = swept(runner, out, *three_ops, "op=works,dies", code=1)
    rows = pd.read_csv(out / "results.csv").set_index("op")
    assert dict(rows["status"]) == {"works": "ok", "dies": "crashed"}
    assert "exit code 7" in rows.loc["dies", "reason"]
    assert speedups["paired"].isna().all()
    assert not list(out.glob("*/pairs.csv"))


@pytest.mark.slow
def test_a_side_that_failed_takes_no_part_in_the_next_process(runner, tmp_path, three_ops):
    (tmp_path / "mine" / "op" / "again.yaml").write_text(
        'name: again\ncall: sides.works\nsignature: "n -> n"\ndifferentiable: false\n'
    )
    out = tmp_path / "out"
    swept(runner, out, *three_ops, "op=works,raises,again", "timing.processes=2", code=1)
    rows = pd.read_csv(out / "results.csv").set_index("op")
    assert dict(rows["status"]) == {"works": "ok", "raises": "failed", "again": "ok"}
    assert list(rows.loc[["works", "again"], "processes"]) == [2, 2]
    assert not rows.loc["raises", "reason"].startswith("in process")
    (log,) = out.glob("*op=raises*/run.log")
    assert log.read_text().count("no such thing") == 2  # the traceback and the row, once
    assert sorted(set(visits_in(out)["process"])) == [1, 2]


@pytest.mark.slow
def test_a_side_without_memory_beside_the_others_is_measured_by_itself(runner, tmp_path, three_ops):
    with (tmp_path / "sides.py").open("a") as file:
        file.write(
            "\n\nimport gc, weakref\n\nheld = []\n\n"
            "def holds(a):\n    held.append(weakref.ref(a))\n    return a + 1\n\n"
            "def greedy(a):\n    gc.collect()\n"
            "    if any(tensor() is not None for tensor in held):\n"
            "        raise MemoryError('out of memory')\n    return a + 1\n"
        )
    for name in ("holds", "greedy"):
        (tmp_path / "mine" / "op" / f"{name}.yaml").write_text(
            f'name: {name}\ncall: sides.{name}\nsignature: "n -> n"\ndifferentiable: false\n'
        )
    out = tmp_path / "out"
    *options, _ = three_ops
    options += ["report.baseline={op: holds}", "op=holds,greedy,works", "timing.processes=2"]
    speedups = swept(runner, out, *options)
    rows = pd.read_csv(out / "results.csv").set_index("op")
    assert set(rows["processes"]) == {2}
    assert dict(rows["status"]) == {"holds": "ok", "greedy": "ok", "works": "ok"}
    assert measured_in_turn(out) == {"works"}
    assert pd.isna(speedups.set_index("op").loc["greedy", "paired"])


@pytest.mark.slow
def test_a_group_whose_process_died_takes_no_turns_again(runner, tmp_path, three_ops):
    out = tmp_path / "out"
    swept(runner, out, *three_ops, "op=works,dies", "compare.processes=3", code=1)
    rows = pd.read_csv(out / "results.csv").set_index("op")
    assert dict(rows["status"]) == {"works": "ok", "dies": "crashed"}
    (log,) = out.glob("*op=dies*/run.log")
    lines = log.read_text().splitlines()
    assert sum(line.startswith("process ") for line in lines) == 2  # in turn and alone


@pytest.mark.slow
def test_a_missing_side_is_measured_again_with_its_partner(
    runner: Runner, by_dtype_copy: Path
) -> None:
    out = by_dtype_copy
    before = visits_in(out)
    (missing,) = out.glob("*dtype=float64*size=16*")
    shutil.rmtree(missing)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/results.csv")}
    again = swept(runner, out, *DTYPES, f"resume={out}")
    after = visits_in(out)
    changed = {path.parent.name for path, then in written.items() if path.stat().st_mtime_ns > then}
    assert len(changed) == 1
    assert "size=16" in changed.pop()
    assert len(list(out.glob("*/results.csv"))) == 4
    assert len(again) == 2
    assert set(before["other_cell"]) == set(after["other_cell"])


def test_a_side_measured_again_by_itself_keeps_no_earlier_visits(monkeypatch, tmp_path):
    side, pairs = cell("add", size="8"), tmp_path / "pairs.csv"
    pairs.write_text("of an earlier run")
    runner = cell_runner.CellRunner(lambda: None)
    environment = {"torch": {"threads": 1}, "id": "1", "node": "n"}
    runner._preflight = Preflight(environment, {"cpu": "cpu"}, {}, [])
    rows = [row_for(side, "timeout", "too long")]
    monkeypatch.setattr(runner.worker, "run", lambda *request: (rows, []))
    assert [row.status for row in runner.run_once(side, tmp_path)] == ["timeout"]
    assert not pairs.exists()


def test_devices_are_held_once_each_and_in_one_order(monkeypatch, tmp_path):
    held = []

    class Lock:
        def __init__(self, device, **options):
            held.append(device)

        def release(self):
            return False

    devices = {"gpu": "cuda:0", "cuda:0": "cuda:0", "cpu": "cpu"}
    runner = cell_runner.CellRunner(lambda: None)
    runner._preflight = Preflight({}, devices, {}, [])
    monkeypatch.setattr(cell_runner, "DeviceLock", Lock)
    monkeypatch.setattr(runner.worker, "run_in_turn", lambda *request: None)
    cells = [cell("add", size="8", device=device) for device in devices]
    assert runner.run_in_turn(cells, [tmp_path] * 3, Plan(0.02)) is None
    assert held == ["cpu", "cuda:0"]


@pytest.mark.slow
def test_what_is_compared_is_settled_and_said_before_the_first_cell(
    by_dtype: Path, smoke: Path, tmp_path: Path
) -> None:
    commands = ["+sweep=gpu dry_run=true", "-m op=add size=8 threads=1,2 dry_run=true"]
    devices, threads = (answer.stderr.splitlines()[-1] for answer in answers(tmp_path, commands))
    assert devices == (
        "compared in turn: device, with cpu as the baseline; "
        "without an accelerator dtype, with float32 as the baseline"
    )
    assert threads == "compared in turn: threads, with 1 as the baseline"
    environment = json.loads((by_dtype / "environment.json").read_text())
    assert environment["report"]["baseline"] == {"dtype": "float32"}

    # threads are each side's own
    assert set(pd.read_csv(smoke / "results.csv")["threads"]) == {1, 2}
    assert set(pd.read_csv(smoke / "speedup.csv")["axis"]) == {"threads"}


def test_a_gate_ends_a_run_in_which_a_side_is_slower_than_its_baseline(
    runner: Runner, tmp_path: Path
) -> None:
    """A large product is slower than a sum of the same size by more than any disturbance."""
    out = tmp_path / "out"
    ops = ("-m", "op=add,matmul", "size=512", "threads=1", "report.baseline={op: add}")
    longer = ("timing=quick", "compare.gate=true", f"hydra.sweep.dir={out}")
    done = runner(*ops, *longer, code=3)
    said = "matmul 512x512 float32 cpu threads=1: slower than its baseline by more than compare."
    assert said in done.stderr

    # the report of the same files says so too, where it is asked
    again = ("job=report", f"run={out}")
    assert said in runner(*again, "compare.gate=true", code=3).stderr
    refused = runner(*again, "compare.gate=true", "compare.slower_than=5", code=2)
    assert "compare.slower_than=5 is 500 %; 0.05 is 5 %" in refused.stderr


def test_a_gate_that_sees_nothing_does_not_pass(runner: Runner, tmp_path: Path) -> None:
    alone = ("op=add", "size=8", *QUICK, "compare.gate=true", "report.baseline=null")
    unclear = ("compare.unclear_exit=125", f"hydra.run.dir={tmp_path / 'out'}")
    done = runner(*alone, *unclear, code=125)
    assert "compare.gate=true: 0 % of 0 comparisons with a baseline could have" in done.stderr
    refused = runner(*alone, "compare.slower_than=5", f"hydra.run.dir={tmp_path / 'c'}", code=2)
    assert "compare.slower_than=5 is 500 %; 0.05 is 5 %" in refused.stderr
    assert not (tmp_path / "c").exists()  # before any time is spent
