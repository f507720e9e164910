"""Chunks: which cells go to a node together, so that starting and importing torch is paid once for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.cells.cell import Cell
from runner.config.axes import same_but
from runner.config.schema import ClusterConfig

START_S = 5.0  # a chunk's start: a process, importing torch, looking at the devices
OVERHEAD_S = 0.3  # a cell's own, beside its timing: inputs, values, gradient
GRADIENT_S = 1.0  # a cell of another job than benchmark


@dataclass(frozen=True)
class Chunk:
    """Cells that one job runs, one after another, on one node.

    Attributes:
        numbers: the cells' numbers in the whole grid.
        cells: the cells.
        attempt: how many times they have been sent, this one included.
        avoid: the node that lost them, which another is preferred to.
    """

    numbers: tuple[int, ...]
    cells: tuple[Cell, ...]
    attempt: int = 1
    avoid: str | None = None

    @property
    def needs_accelerator(self) -> bool:
        """Whether a cell asks for more than the CPU."""
        return any(cell.device != "cpu" for cell in self.cells)

    @property
    def expected_s(self) -> float:
        """What it is expected to take, in seconds, its start included."""
        return START_S * max(cell.processes for cell in self.cells) + sum(map(expected_s, self.cells))

    @property
    def label(self) -> str:
        """The chunk in a few words."""
        return f"{len(self.cells)} cells from {self.cells[0].label}"


def expected_s(cell: Cell) -> float:
    """What a cell is expected to take, in seconds: at most its limit."""
    if cell.infeasible_reason:
        return 0.0
    timing = cell.timing
    own = cell.processes * (timing.warmup_s + timing.max_time_s) if cell.job == "benchmark" else GRADIENT_S
    return min(OVERHEAD_S + own, cell.limit.time_s)


def group_of(cell: Cell, axis: str) -> tuple[Any, ...]:
    """What a cell has in common with those that it is compared with: all but the compared axis."""
    return cell.job, same_but(axis)(cell)


def plan(cells: Sequence[Cell], numbers: Sequence[int], config: ClusterConfig, axis: str) -> list[Chunk]:
    """Divide a sweep into chunks, in the grid's order.

    Args:
        cells: the whole grid.
        numbers: those of its cells that are to run.
        config: how large a chunk may be, and whether what is compared stays together.
        axis: along which rows are compared.
    """
    groups: dict[Any, list[int]] = {}
    for number in numbers:
        groups.setdefault(group_of(cells[number], axis) if config.colocate_comparisons else number, []).append(number)
    chunks, held, held_s = [], [], 0.0  # type: ignore[var-annotated]
    most = config.cells_per_chunk or math.inf
    most_s = math.inf if config.cells_per_chunk else config.chunk_time_s - START_S
    for group in groups.values():
        group_s = sum(expected_s(cells[number]) for number in group)
        if held and (len(held) + len(group) > most or held_s + group_s > most_s):
            chunks.append(_chunk(held, cells))
            held, held_s = [], 0.0
        held += group
        held_s += group_s
    return [*chunks, *([_chunk(held, cells)] if held else [])]


def again(chunk: Chunk, done: Iterable[str], axis: str, *, lost_on: str | None, lost: bool) -> Iterator[Chunk]:
    """What of a chunk has to be sent once more.

    Cells that are compared are measured anew together, unless all of them are done: times of two nodes do not compare.
    Where the chunk was lost, the cell that it was lost in goes alone with those that it is compared with, so that a
    cell that ends whatever runs it takes no others with it.

    Args:
        chunk: as it was sent.
        done: identities of the cells that came back.
        axis: along which rows are compared.
        lost_on: the node that lost it, where that is known.
        lost: whether it was lost, and did not end by itself for want of time.
    """
    there = set(done)
    groups: dict[Any, list[int]] = {}
    for position, cell in enumerate(chunk.cells):
        groups.setdefault(group_of(cell, axis), []).append(position)
    open_groups = [g for g in groups.values() if any(chunk.cells[p].identity not in there for p in g)]
    attempt = chunk.attempt + (lost or not there)
    parts = [open_groups[:1], open_groups[1:]] if lost else [open_groups]
    for part in parts:
        positions = [position for group in part for position in group]
        if positions:
            yield replace(
                chunk,
                numbers=tuple(chunk.numbers[p] for p in positions),
                cells=tuple(chunk.cells[p] for p in positions),
                attempt=attempt,
                avoid=lost_on if lost else chunk.avoid,
            )


def _chunk(numbers: list[int], cells: Sequence[Cell]) -> Chunk:
    return Chunk(tuple(numbers), tuple(cells[number] for number in numbers))
