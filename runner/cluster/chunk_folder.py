"""What a chunk leaves in the sweep's folder: a folder with the rows of all cells in a file.

It is there from when the chunk is sent: what its job has measured can be read whoever does it.
"""

from __future__ import annotations

import gzip
import json
import os
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path

from runner.cells.cell import Cell
from runner.cluster.chunk import Chunk
from runner.cluster.executor import ChunkRun
from runner.config.axes import label
from runner.errors import tell
from runner.files import write_atomically
from runner.rows.csv_store import write_rows
from runner.rows.environment_file import add_node
from runner.rows.rows import FILE_OF_JOB, PAIRS_FILE, PairVisit, Row, row_for

CHUNK_FILE = "chunk.json"
MESSAGES = ".messages"  # how the name of a file of messages ends


class ChunkWriter:
    """Writes chunks into a sweep's folder; with ``samples`` raw blocks too, most of what it leaves.

    ``overrides`` are those of a cell, by its number in the grid. What jobs say stands in the folder
    ``messages``, which nodes share, or else in that of the chunk.
    """

    def __init__(
        self,
        root: Path,
        overrides: Callable[[int], Sequence[str]] = lambda number: (),
        *,
        samples: bool,
        messages: Path | None = None,
    ) -> None:
        self._root, self._overrides, self._samples = root, overrides, samples
        self._messages = messages
        self._nodes: set[str] = set()
        # of cells that have ended well, which no later loss takes away
        self._good: dict[str, list[Row]] = {}

    def begin(self, chunk: Chunk) -> ChunkRun:
        """Make the folder of a chunk that is to be sent; its name sorts by the first number."""
        number, turn = min(chunk.numbers), chunk.attempt
        while (folder := self._root / f"{number}_{len(chunk.cells)}-cells-{turn}").exists():
            turn += 1
        folder.mkdir()
        cells = {}
        for cell_number, cell in zip(chunk.numbers, chunk.cells, strict=True):
            words = self._overrides(cell_number)
            cells[cell.identity] = " ".join(w for w in words if not w.startswith("cluster"))
        messages = (self._messages or folder) / f"{uuid.uuid4().hex}{MESSAGES}"
        messages.touch()
        run = ChunkRun(chunk, folder, messages, about={"attempt": chunk.attempt, "cells": cells})
        self.describe(run)
        return run

    def describe(self, run: ChunkRun, *, has_ended: bool = False) -> None:
        """Write down what is known of a chunk; where its messages are, until all are read."""
        environment = run.started.environment if run.started else {}
        run.about |= {
            "job": run.job_id or None,
            "node": run.started.node if run.started else None,
            "lost": run.lost,
            "started": environment.get("started"),
            "ended": max((result.ended for result in run.results.values()), default=None),
            "variables": environment.get("variables"),
            # from the chunk's folder on, wherever the sweep's is moved to
            "messages": None if has_ended else os.path.relpath(run.messages, run.folder),
        }
        write_atomically(run.folder / CHUNK_FILE, json.dumps(run.about, indent=1) + "\n")

    def write(
        self, run: ChunkRun, given_up: Collection[Cell] = (), reason: str = ""
    ) -> dict[str, list[Row]]:
        """Write what came back of a chunk, and why cells are given up; returns the rows of both.

        Nothing is left of a chunk that was not run.
        """
        self._write_node(run)
        rows = {result.cell: result.rows for result in run.results.values()}
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
            self.describe(run, has_ended=True)
        run.messages.unlink(missing_ok=True)
        if not (rows or run.lost):
            (run.folder / CHUNK_FILE).unlink()
            run.folder.rmdir()
        return earlier | rows

    def _write_node(self, run: ChunkRun) -> None:
        """Write down a chunk's machine, once, and say what changed there since an earlier sweep."""
        if run.started is None or not run.results or run.started.node in self._nodes:
            return
        node = run.started.node
        self._nodes.add(node)
        changes = add_node(self._root, node, run.started.environment)
        if changes:
            tell(f"{node} is not what it was: {'; '.join(changes)}")

    def _write_folder(self, run: ChunkRun, rows: Mapping[str, list[Row]]) -> None:
        folder, results = run.folder, run.results.values()
        write_atomically(folder / "run.log", _log(run), durable=False)
        if self._samples:
            _write_samples(folder, run)
        pairs = "".join(result.pairs.partition("\n")[2] for result in results)
        if pairs:
            header = ",".join(field.name for field in fields(PairVisit))
            write_atomically(folder / PAIRS_FILE, f"{header}\n{pairs}", durable=False)
        for job, name in FILE_OF_JOB.items():
            job_rows = [row for row in chain.from_iterable(rows.values()) if row.job == job]
            if job_rows:
                write_rows(folder / name, job_rows)


def _log(run: ChunkRun) -> str:
    """What each cell printed, and then the job itself where it was lost."""
    logs = []
    for result in run.results.values():
        said = label(result.rows[0].job, result.rows[0], lambda axis: axis != "threads")
        logs.append(f"== {result.cell} {said}\n{result.log}\n")
    if run.lost:
        logs.append(f"== lost: {run.lost}\n{run.log}\n")
    return "".join(logs)


def _write_samples(folder: Path, run: ChunkRun) -> None:
    """One table of all cells' blocks, compressed: it is read whole or not at all."""
    header, lines = "", []
    for result in run.results.values():
        first, _, rest = result.samples.partition("\n")
        header = header or first
        lines += [f"{result.cell},{line}\n" for line in rest.splitlines()]
    if lines:
        with gzip.open(folder / "samples.csv.gz", "wt", encoding="utf-8", compresslevel=6) as file:
            file.writelines([f"cell,{header}\n", *lines])
