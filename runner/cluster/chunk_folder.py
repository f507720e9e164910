"""A chunk's results as they land here: one folder a chunk, with the rows of all its cells in one file."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runner.cells.cell import Cell
from runner.cluster.executor import Flight
from runner.rows.csv_store import write_atomically, write_rows
from runner.rows.environment_file import add_node
from runner.rows.rows import FILE_OF_JOB, Row, row_for


class Landing:
    """Writes chunks into a sweep's folder.

    Args:
        root: the sweep's folder.
        overrides: the overrides of a cell, by its number in the grid.
        samples: whether to keep the raw blocks, most of what a sweep leaves.
    """

    def __init__(self, root: Path, overrides: Callable[[int], Sequence[str]], *, samples: bool) -> None:
        self._root, self._overrides, self._samples = root, overrides, samples
        self._nodes: set[str] = set()
        self._good: dict[str, list[Row]] = {}  # of cells that have ended well, which no later loss takes away

    def land(self, flight: Flight, failed: Sequence[tuple[Cell, str, str]] = ()) -> dict[str, list[Row]]:
        """Write what came back of a chunk.

        Args:
            flight: the chunk.
            failed: cells that will not be tried again, each with its status and reason.

        Returns:
            the rows of each cell that is settled, by its identity.

        Raises:
            OSError: the folder cannot be written.
        """
        rows = {measured.cell: measured.rows for measured in flight.measured}
        self._good |= {cell: of_cell for cell, of_cell in rows.items() if all(row.status == "ok" for row in of_cell)}
        lost = [(cell, status, reason) for cell, status, reason in failed if cell.identity not in self._good]
        kept = {cell.identity: self._good[cell.identity] for cell, *_ in failed if cell.identity in self._good}
        rows |= {cell.identity: [row_for(cell, status, reason)] for cell, status, reason in lost}
        if flight.begun is not None and flight.begun.node not in self._nodes:
            self._nodes.add(flight.begun.node)
            changed = add_node(self._root, flight.begun.node, flight.begun.environment)
            if changed:
                print(f"{flight.begun.node} is not what it was: {'; '.join(changed)}", file=sys.stderr, flush=True)
        if not rows and not flight.lost:
            return kept
        folder = self._folder(flight)
        folder.mkdir()
        self._describe(folder, flight)
        labels = {cell.identity: cell.label for cell in flight.chunk.cells}
        logs = [f"== {m.cell} {labels[m.cell]}\n{m.log}\n" for m in flight.measured]
        logs += [f"== lost: {flight.lost}\n{flight.log}\n"] if flight.lost else []
        write_atomically(folder / "run.log", "".join(logs), durable=False)
        if self._samples:
            self._write_samples(folder, flight)
        for job, name in FILE_OF_JOB.items():
            of_job = [row for of_cell in rows.values() for row in of_cell if row.job == job]
            if of_job:
                write_rows(folder / name, of_job)
        return kept | rows

    def _folder(self, flight: Flight) -> Path:
        """A name that sorts by the first cell's number and is not taken."""
        number = min(flight.chunk.numbers)
        turn = flight.chunk.attempt
        while (folder := self._root / f"{number}_{len(flight.chunk.cells)}-cells-{turn}").exists():
            turn += 1
        return folder

    def _describe(self, folder: Path, flight: Flight) -> None:
        chunk, begun = flight.chunk, flight.begun
        about = {
            "job": flight.where,
            "node": begun.node if begun else None,
            "attempt": chunk.attempt,
            "lost": flight.lost,
            "started": begun.environment["started"] if begun else None,
            "ended": flight.measured[-1].ended if flight.measured else None,
            "variables": begun.environment["variables"] if begun else None,
            "cells": {
                cell.identity: " ".join(text for text in self._overrides(number) if not text.startswith("cluster"))
                for number, cell in zip(chunk.numbers, chunk.cells, strict=True)
            },
        }
        write_atomically(folder / "chunk.json", json.dumps(about, indent=1) + "\n", durable=False)

    @staticmethod
    def _write_samples(folder: Path, flight: Flight) -> None:
        """One table of all cells' blocks, compressed: it is read whole or not at all."""
        header, lines = "", []
        for measured in flight.measured:
            first, _, rest = measured.samples.partition("\n")
            header = header or first
            lines += [f"{measured.cell},{line}\n" for line in rest.splitlines()]
        if lines:
            with gzip.open(folder / "samples.csv.gz", "wt", encoding="utf-8", compresslevel=6) as file:
                file.writelines([f"cell,{header}\n", *lines])
