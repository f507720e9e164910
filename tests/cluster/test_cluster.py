"""Chunks, what is sent again, the driver's loop and a node's side.

A real cluster is in ``tests/end_to_end/test_ray.py``.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from runner.cells.cell import Cell
from runner.cluster import cluster as cluster_module
from runner.cluster import driver as driver_module
from runner.cluster.chunk import Chunk, expected_s, plan, unfinished_parts
from runner.cluster.chunk_folder import ChunkWriter
from runner.cluster.cluster import cluster_of
from runner.cluster.driver import Driver
from runner.cluster.executor import ChunkRun, Refusals, TakesNoMore
from runner.cluster.messages import CellResult, ChunkStarted
from runner.cluster.node import NodeRefused, run_chunk, versions
from runner.config.schema import ClusterConfig, Compare, Config, Report
from runner.errors import ConfigError
from runner.execute.progress import Progress
from runner.rows.csv_store import collect, collect_pairs
from runner.rows.rows import BenchmarkRow, identified
from tests.conftest import ROOT
from tests.support import factories
from tests.support.commands import answers
from tests.support.factories import op_file

OWN_CODE = "tests.support.plain_functions.function_target"
MINIMAL = yaml.safe_load((ROOT / "conf" / "timing" / "minimal.yaml").read_text())


def cell(op: str | dict[str, Any] = "add", **values: Any) -> Cell:
    """A cell that takes no time."""
    timing = MINIMAL | values.pop("timing", {})
    return factories.cell(op, **{"size": 8, "timing": timing, **values})


def grid(sizes: int) -> list[Cell]:
    """Each size on the CPU and on an accelerator."""
    return [
        cell(size=size, device=device) for size in range(4, 4 + sizes) for device in ("cpu", "gpu")
    ]


def sent(chunks: Sequence[Chunk]) -> list[tuple[int, ...]]:
    return [chunk.numbers for chunk in chunks]


def test_what_is_compared_is_sent_together_and_a_chunk_holds_as_many_cells_as_asked() -> None:
    cells = grid(4)
    assert sent(plan(cells, range(8), ClusterConfig(cells_per_chunk=5), "device")) == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
    ]
    alone = ClusterConfig(cells_per_chunk=5, colocate_comparisons=False)
    assert sent(plan(cells, range(8), alone, "device")) == [(0, 1, 2, 3, 4), (5, 6, 7)]
    assert sent(plan(cells, range(8), ClusterConfig(cells_per_chunk=1), "device")) == [
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),
    ]
    assert sent(plan(cells, [1, 6, 7], ClusterConfig(cells_per_chunk=2), "device")) == [
        (1,),
        (6, 7),
    ]
    by_size = plan(cells, range(8), ClusterConfig(cells_per_chunk=4), "size")
    assert sent(by_size) == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert [chunk.needs_accelerator for chunk in by_size] == [False, True]


def test_a_chunk_is_as_long_as_it_may_take() -> None:
    cells = [cell(seed=seed, timing={"max_time_s": 10.0}) for seed in range(40)]
    chunks = plan(cells, range(40), ClusterConfig(chunk_time_s=100), "device")
    assert sum(len(chunk.cells) for chunk in chunks) == 40
    assert all(chunk.expected_s <= 100 for chunk in chunks)
    assert len(chunks) == 5
    assert expected_s(cell({**op_file("add"), "dtypes": ["floating"]}, dtype="bool")) == 0
    assert expected_s(cell(limit={"time_s": 2.0}, timing={"max_time_s": 10.0})) == 2
    three = plan([cell(timing={"processes": 3})], [0], ClusterConfig(), "device")[0]
    assert three.expected_s > 3 * 5  # torch is imported in each


def test_a_lost_chunk_is_sent_again_without_what_is_done_and_its_suspect_alone() -> None:
    cells = grid(4)
    (chunk,) = plan(cells, range(8), ClusterConfig(), "device")
    done = [cells[number].identity for number in (0, 1, 2)]
    suspect, rest = unfinished_parts(chunk, done, lost_on="node-a", lost=True)
    assert (suspect.numbers, rest.numbers) == ((2, 3), (4, 5, 6, 7))  # 2 is measured again with 3
    assert {part.attempt for part in (suspect, rest)} == {2}
    assert suspect.avoid == "node-a"
    (left,) = unfinished_parts(chunk, done)
    assert (left.numbers, left.attempt, left.avoid) == ((2, 3, 4, 5, 6, 7), 1, None)
    assert not list(unfinished_parts(chunk, [c.identity for c in cells]))


def test_a_job_whose_time_was_too_short_for_anything_is_halved_and_then_has_had_a_try() -> None:
    cells = grid(3)
    (chunk,) = plan(cells, range(6), ClusterConfig(), "device")
    first, second = unfinished_parts(chunk, [cells[0].identity])  # of which 1 is measured with it
    assert (sent([first, second]), first.attempt) == ([(0, 1), (2, 3, 4, 5)], 1)
    (alone,) = unfinished_parts(first, [])
    assert (alone.numbers, alone.attempt) == ((0, 1), 2)
    (preempted,) = unfinished_parts(first, [], blameless=True)
    assert preempted == first


class Scripted:
    """A cluster of one slot, each of whose chunks ends as the next of a list of functions says."""

    def __init__(self, *endings: Any) -> None:
        self.endings = list(endings)
        self.runs: list[ChunkRun] = []
        self.sent: list[Chunk] = []
        self.refusals = Refusals("bring it there")
        self.nodes = 1

    def slots(self) -> int:
        return self.nodes

    def has_room(self, chunk: Chunk) -> bool:
        return bool(self.nodes) and not self.runs

    def refusal(self, chunk: Chunk) -> str:
        return self.refusals.of_all(chunk, ["node-a"])

    def send(self, run: ChunkRun) -> None:
        run.place = "node-a"
        self.runs.append(run)
        self.sent.append(run.chunk)

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        over, self.runs = self.runs, []
        for run in over:
            run.take(ChunkStarted("node-a", {"started": "now", "variables": {}}))
            ending = self.endings.pop(0) if self.endings else well
            if isinstance(ending, str):
                run.started = None
                self.refusals.add(run, ending, of_node=False)
            else:
                ending(run)
        return over

    def close(self) -> list[ChunkRun]:
        return self.runs


def measured(cell: Cell) -> CellResult:
    row = replace(identified(BenchmarkRow, cell), node="node-a", median_s=1e-6)
    return CellResult(cell.identity, [row], "calls,wall_s\n5,0.1\n", f"ran {cell.label}\n", "now")


def well(run: ChunkRun) -> None:
    for one in run.chunk.cells:
        run.take(measured(one))


def dies(after: int) -> Any:
    def end(run: ChunkRun) -> None:
        for one in run.chunk.cells[:after]:
            run.take(measured(one))
        run.lost, run.log = "the node is dead", "Traceback: far away"

    return end


def refused(run: ChunkRun) -> None:
    run.started, run.blameless = None, True


def drive(
    root: Path, cluster: Scripted, cells: list[Cell], retries: int = 1, **config: Any
) -> pd.DataFrame:
    """The rows that a sweep of these cells leaves."""
    root.mkdir()
    (root / "environment.json").write_text("{}")
    writer = ChunkWriter(
        root, lambda number: ["op=add", f"seed={number}", "cluster=ray"], samples=True
    )
    chunks = plan(cells, range(len(cells)), ClusterConfig(**config), "device")
    with Progress(len(cells)) as progress:
        Driver(cluster, writer, progress, retries, lambda: None).run(chunks)
    rows, damaged, _ = collect(root, "benchmark")
    assert not damaged
    return pd.DataFrame([vars(row) for row in rows])


def test_rows_land_chunk_by_chunk_in_a_folder_each(tmp_path: Path) -> None:
    cells = grid(3)
    rows = drive(tmp_path / "out", Scripted(), cells, cells_per_chunk=2)
    assert list(rows["cell"]) == [one.identity for one in cells]
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["0_2-cells-1", "2_2-cells-1", "4_2-cells-1"]
    first = tmp_path / "out" / "0_2-cells-1"
    samples = pd.read_csv(first / "samples.csv.gz")
    assert list(samples["cell"]) == [one.identity for one in cells[:2]]
    assert "ran add 4x4 float32 cpu" in (first / "run.log").read_text()
    about = json.loads((first / "chunk.json").read_text())
    assert about["cells"] == {
        cells[0].identity: "op=add seed=0",
        cells[1].identity: "op=add seed=1",
    }
    assert set(json.loads((tmp_path / "out" / "environment.json").read_text())["nodes"]) == {
        "node-a"
    }


def test_a_lost_chunks_cells_are_tried_again_until_the_tries_are_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = grid(3)
    cluster = Scripted(dies(3), refused)
    rows = drive(tmp_path / "out", cluster, cells)
    assert sorted(rows["cell"]) == sorted(one.identity for one in cells)
    assert set(rows["status"]) == {"ok"}
    assert sent(cluster.sent) == [(0, 1, 2, 3, 4, 5), (2, 3), (4, 5), (2, 3)]
    assert capsys.readouterr().err.count("Traceback: far away") == 1
    fatal = Scripted(dies(1), dies(1), dies(0))
    rows = drive(tmp_path / "fatal", fatal, cells[:4]).set_index("cell")
    assert list(rows.loc[[one.identity for one in cells[:4]], "status"]) == [
        "ok",
        "crashed",
        "crashed",
        "crashed",
    ]
    assert rows.loc[cells[1].identity, "reason"] == "the node is dead; tried 2 times"
    assert sent(fatal.sent) == [(0, 1, 2, 3), (0, 1), (2, 3)]
    assert any(
        "Traceback: far away" in path.read_text() for path in (tmp_path / "fatal").glob("*/run.log")
    )


def test_a_chunk_that_is_not_taken_for_now_is_sent_later(tmp_path: Path) -> None:
    class Limited(Scripted):
        refused = 0

        def send(self, run: ChunkRun) -> None:
            if len(self.sent) == 1 and self.refused < 2:
                self.refused += 1
                raise TakesNoMore("the limit of jobs")
            super().send(run)

    cells, cluster = grid(3), Limited()
    rows = drive(tmp_path / "out", cluster, cells, cells_per_chunk=2)
    assert list(rows["status"]) == ["ok"] * 6
    assert sent(cluster.sent) == [(0, 1), (2, 3), (4, 5)]
    assert cluster.refused == 2
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["0_2-cells-1", "2_2-cells-1", "4_2-cells-1"]


def test_a_cell_that_ended_well_is_not_lost_with_those_that_it_is_compared_with(
    tmp_path: Path,
) -> None:
    rows = drive(tmp_path / "out", Scripted(dies(1), dies(0)), grid(1))
    assert sorted(rows["status"]) == ["crashed", "ok"]


def test_a_cluster_without_nodes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "NO_NODE_LIMIT_S", 0.0)
    cluster = Scripted()
    cluster.nodes = 0
    rows = drive(tmp_path / "out", cluster, grid(2))
    assert list(rows["reason"]) == ["no node is left"] * 4


def test_what_no_node_can_run_is_given_up_and_what_needs_other_packages_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [cell({**op_file("add"), "call": "lacking.f"}, size=size) for size in (4, 5)]
    cluster = Scripted("node-a: No module named 'lacking'")
    rows = drive(tmp_path / "out", cluster, [*own, *grid(1)], cells_per_chunk=1, retries=0)
    reason = "no node can run it: node-a: No module named 'lacking'"
    assert list(rows["status"]) == ["crashed", "crashed", "ok", "ok"]
    assert set(rows["reason"][:2]) == {reason}
    assert sent(cluster.sent) == [(0,), (2, 3)]
    said = capsys.readouterr().err
    assert said.count("not used: node-a: No module named 'lacking'; bring it there") == 1


def test_a_node_without_opsweep_is_told_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    run = ChunkRun(Chunk((0,), (cell(),)), Path("folder"), Path("messages"), place="node-b")
    refusals = Refusals("bring it there")
    for _ in range(2):
        refusals.add(run, "node-b: No module named 'runner'", of_node=True)
    said = "not used: node-b: No module named 'runner'; install the same on every node\n"
    assert capsys.readouterr().err == said


def test_what_has_come_back_is_kept_when_the_sweep_is_interrupted(tmp_path: Path) -> None:
    class Interrupted(Scripted):
        def ended(self, timeout_s: float) -> list[ChunkRun]:
            self.runs[0].take(measured(self.runs[0].chunk.cells[0]))
            raise KeyboardInterrupt

    cells = grid(2)
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path / "out", Interrupted(), cells)
    assert [row.cell for row in collect(tmp_path / "out", "benchmark")[0]] == [cells[0].identity]


@pytest.mark.slow
def test_a_node_runs_a_chunk_with_its_own_worker_and_tells_of_each_cell() -> None:
    cells = (
        cell(),
        cell(device="gpu"),
        cell({**op_file("add"), "call": "os.abort"}),
        cell(seed=1),
        cell(seed=2),
    )
    late = replace(cells[-1], limit=replace(cells[-1].limit, time_s=10_000.0))
    chunk = Chunk((0, 1, 2, 3, 4), (*cells[:-1], late))
    begun, *told = list(run_chunk(chunk, versions(), time_s=1_000.0))
    assert isinstance(begun, ChunkStarted)
    assert begun.environment["torch"]["threads"] >= 1
    rows = {one.cell: one.rows[0] for one in told if isinstance(one, CellResult)}
    assert [row.cell for row in rows.values()] == [
        one.identity for one in cells[:-1]
    ]  # the last one would be too long
    assert {row.node for row in rows.values()} == {begun.node}
    statuses = [row.status for row in rows.values()]
    assert statuses[1] in ("ok", "unavailable")  # as the machine has an accelerator or not
    assert [statuses[0], *statuses[2:]] == ["ok", "failed", "ok"]
    assert isinstance(told[0], CellResult) and isinstance(told[2], CellResult)
    assert "Traceback" in told[2].log
    assert told[0].samples.startswith("calls,")
    assert "add 8x8 float32 cpu: ok" in told[0].log
    with pytest.raises(
        NodeRefused, match=r"has torch .* and not 1\.0; install the same on every node"
    ):
        list(run_chunk(chunk, {**versions(), "torch": "1.0"}))
    own = {"tests": {"content": {"tests/support/plain_functions.py": "another"}}}
    other = cell({"name": "own", "call": OWN_CODE, "signature": "n -> n"})
    with pytest.raises(NodeRefused, match=r"has another tests/support/plain_functions.py than"):
        list(run_chunk(Chunk((0,), (other,), code=own), versions()))


def test_a_node_measures_what_is_compared_in_turn(tmp_path: Path) -> None:
    sides = (cell(), cell(dtype="float64"))
    in_turn = Compare(in_turn=True)
    chunk = Chunk((0, 1), sides, report=Report(baseline={"dtype": "float32"}), compare=in_turn)
    writer = ChunkWriter(tmp_path, lambda number: ("op=add",), samples=True)
    run = writer.begin(chunk)
    for message in run_chunk(chunk, versions()):
        run.take(message)
    (tmp_path / "environment.json").write_text("{}")
    writer.write(run)
    visits, damaged = collect_pairs(tmp_path, {})
    assert not damaged
    assert {(visit.baseline_cell, visit.other_cell) for visit in visits} == {
        (sides[0].identity, sides[1].identity)
    }
    assert len(collect(tmp_path, "benchmark")[0]) == 2


def test_a_dry_run_says_how_many_jobs_and_how_long(tmp_path: Path) -> None:
    many, wrong = answers(
        tmp_path,
        [
            "+sweep=smoke op=add cluster=slurm cluster.cells_per_chunk=4 dry_run=true",
            "op=add cluster=ray cluster.retries=-1",
        ],
    )
    *_, count, jobs = many.stdout.splitlines()
    assert count == "8 cells"
    assert jobs.startswith(
        "2 jobs for slurm, of at most 4 cells and 6.240 s; 12.48 s in all on one device"
    )
    assert wrong.code == 2
    assert "cluster.retries=-1 is too small; give 0 or more" in wrong.stderr


def test_a_cluster_whose_packages_are_not_here_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cluster_module.NEEDS, "ray", ("no_such_package.at_all",))
    cluster = cluster_of(
        OmegaConf.merge(OmegaConf.structured(Config), {"cluster": {"name": "ray"}})
    )  # type: ignore[arg-type]
    assert cluster is not None
    with pytest.raises(
        ConfigError, match=r"needs packages that are not here: pip install 'opsweep\[ray\]'"
    ):
        cluster.check([cell()])
    wrong = OmegaConf.merge(OmegaConf.structured(Config), {"cluster": {"name": "rai"}})
    with pytest.raises(
        ConfigError,
        match=r"cluster.name=rai is unknown \(did you mean 'ray'\?\); allowed: ray, slurm",
    ):
        cluster_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"profile": True}, {"counts": "instructions"}])
def test_what_no_node_gives_is_refused_with_a_cluster(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cluster_module.NEEDS, "ray", ())
    named = OmegaConf.merge(OmegaConf.structured(Config), {"cluster": {"name": "ray"}})
    cluster = cluster_of(named)  # type: ignore[arg-type]
    assert cluster is not None
    cluster.check([cell()])
    ((key, value),) = asked.items()
    word = f"timing.{key}={str(value).lower()}"
    with pytest.raises(
        ConfigError, match=f"{word} goes without a cluster, and this is cluster=ray"
    ):
        cluster.check([cell(), cell(timing=asked)])
