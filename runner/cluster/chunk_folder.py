"""What a chunk leaves in the sweep's folder: a folder with the rows of all cells in a file."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path

from runner.cells.cell import Cell
from runner.cluster.executor import ChunkRun
from runner.files import write_atomically
from runner.rows.csv_store import write_rows
from runner.rows.environment_file import add_node
from runner.rows.rows import FILE_OF_JOB, PAIRS_FILE, PairVisit, Row, row_for


class ChunkWriter:
    """Writes chunks into a sweep's folder; with ``samples`` raw blocks too, most of what it leaves.

    ``overrides`` are those of a cell, by its number in the grid.
    """

    def __init__(
        self, root: Path, overrides: Callable[[int], Sequence[str]], *, samples: bool
    ) -> None:
        self._root, self._overrides, self._samples = root, overrides, samples
        self._nodes: set[str] = set()
        # of cells that have ended well, which no later loss takes away
        self._good: dict[str, list[Row]] = {}

    def write(
        self, run: ChunkRun, given_up: Collection[Cell] = (), reason: str = ""
    ) -> dict[str, list[Row]]:
        """Write what came back of a chunk, and why cells are given up; returns the rows of both."""
        self._write_node(run)
        rows = {result.cell: result.rows for result in run.results}
        for identity, of_cell in rows.items():
            if all(row.status == "ok" for row in of_cell):
                self._good[identity] = of_cell

        # A cell may have ended well in an earlier chunk, which lost one that it is compared with.
        earlier = {}
        for cell in given_up:
            if cell.identity in self._good:
                earlier[cell.identity] = self._good[cell.identity]
            else:
                rows[cell.identity] = [row_for(cell, "crashed", reason)]
        if rows or run.lost:
            self._write_folder(run, rows)
        return earlier | rows

    def _write_node(self, run: ChunkRun) -> None:
        """Write down a chunk's machine, once, and say what changed there since an earlier sweep."""
        if run.started is None or run.started.node in self._nodes:
            return
        node = run.started.node
        self._nodes.add(node)
        changes = add_node(self._root, node, run.started.environment)
        if changes:
            print(f"{node} is not what it was: {'; '.join(changes)}", file=sys.stderr, flush=True)

    def _write_folder(self, run: ChunkRun, rows: Mapping[str, list[Row]]) -> None:
        folder = self._new_folder(run)
        description = json.dumps(self._description(run), indent=1) + "\n"
        write_atomically(folder / "chunk.json", description, durable=False)
        write_atomically(folder / "run.log", _log(run), durable=False)
        if self._samples:
            _write_samples(folder, run)
        pairs = "".join(result.pairs.partition("\n")[2] for result in run.results)
        if pairs:
            header = ",".join(field.name for field in fields(PairVisit))
            write_atomically(folder / PAIRS_FILE, f"{header}\n{pairs}", durable=False)
        for job, name in FILE_OF_JOB.items():
            job_rows = [row for row in chain.from_iterable(rows.values()) if row.job == job]
            if job_rows:
                write_rows(folder / name, job_rows)

    def _new_folder(self, run: ChunkRun) -> Path:
        """A folder whose name sorts by the first cell's number and was not taken."""
        number, turn = min(run.chunk.numbers), run.chunk.attempt
        while (folder := self._root / f"{number}_{len(run.chunk.cells)}-cells-{turn}").exists():
            turn += 1
        folder.mkdir()
        return folder

    def _description(self, run: ChunkRun) -> dict[str, object]:
        environment = run.started.environment if run.started else {}
        cells = {}
        for number, cell in zip(run.chunk.numbers, run.chunk.cells, strict=True):
            words = self._overrides(number)
            cells[cell.identity] = " ".join(w for w in words if not w.startswith("cluster"))
        return {
            "job": run.job_id,
            "node": run.started.node if run.started else None,
            "attempt": run.chunk.attempt,
            "lost": run.lost,
            "started": environment.get("started"),
            "ended": run.results[-1].ended if run.results else None,
            "variables": environment.get("variables"),
            "cells": cells,
        }


def _log(run: ChunkRun) -> str:
    """What each cell printed, and then the job itself where it was lost."""
    label_of = {cell.identity: cell.label for cell in run.chunk.cells}
    logs = [f"== {result.cell} {label_of[result.cell]}\n{result.log}\n" for result in run.results]
    if run.lost:
        logs.append(f"== lost: {run.lost}\n{run.log}\n")
    return "".join(logs)


def _write_samples(folder: Path, run: ChunkRun) -> None:
    """One table of all cells' blocks, compressed: it is read whole or not at all."""
    header, lines = "", []
    for result in run.results:
        first, _, rest = result.samples.partition("\n")
        header = header or first
        lines += [f"{result.cell},{line}\n" for line in rest.splitlines()]
    if lines:
        with gzip.open(folder / "samples.csv.gz", "wt", encoding="utf-8", compresslevel=6) as file:
            file.writelines([f"cell,{header}\n", *lines])
