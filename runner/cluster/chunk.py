"""Chunks: which cells go to a node together, to start and to import torch once for all of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from runner.cells.cell import Cell
from runner.config.axes import same_but
from runner.config.schema import ClusterConfig, Compare, Report
from runner.execute.user_code import packages_of
from runner.rows.rows import grouped
from runner.units import counted

START_S = 5.0  # a chunk's start: a process, importing torch, looking at the devices
OVERHEAD_S = 0.3  # a cell's own, apart from its timing: inputs, values, gradient
GRADIENT_S = 1.0  # a cell of another job than benchmark


@dataclass(frozen=True)
class Chunk:
    """Cells that one job of a cluster runs, one after another, on one node.

    They have these numbers in the whole grid, are sent for the ``attempt``-th time, and are to
    avoid the node that lost them, by the cluster's name, where there is another.
    """

    numbers: tuple[int, ...]
    cells: tuple[Cell, ...]
    attempt: int = 1
    avoid: str | None = None
    report: Report = field(default_factory=Report)
    compare: Compare = field(default_factory=lambda: Compare(in_turn=False))
    code: Mapping[str, Any] = field(default_factory=dict)  # of the sender, as environment.json has
    env_set: dict[str, str] = field(default_factory=dict)  # environment variables

    @property
    def needs_accelerator(self) -> bool:
        """Whether a cell asks for more than the CPU."""
        return any(cell.device != "cpu" for cell in self.cells)

    @property
    def expected_s(self) -> float:
        """What it is expected to take, in seconds, its start included."""
        starts = max(cell.processes for cell in self.cells)
        return START_S * starts + sum(map(expected_s, self.cells))

    @property
    def packages(self) -> frozenset[str]:
        """The packages beside torch that its operations are of."""
        one_of_each = {id(cell.definition): cell for cell in self.cells}.values()
        needed = (packages_of(cell.definition, cell.backend_module) for cell in one_of_each)
        return frozenset(chain.from_iterable(needed))

    @property
    def label(self) -> str:
        """The chunk in a few words."""
        return f"{counted(len(self.cells), 'cell')} from {self.cells[0].label}"


def expected_s(cell: Cell) -> float:
    """What a cell is expected to take, in seconds: at most its limit."""
    if cell.infeasible_reason:
        return 0.0
    measuring_s = GRADIENT_S
    if cell.job == "benchmark":
        measuring_s = cell.processes * (cell.timing.warmup_s + cell.timing.max_time_s)
    return min(OVERHEAD_S + measuring_s, cell.limit.time_s)


def plan(
    cells: Sequence[Cell], numbers: Sequence[int], config: ClusterConfig, axis: str
) -> list[Chunk]:
    """Divide those cells of a grid that are to run into chunks, in the grid's order."""
    groups = [[number] for number in numbers]
    if config.colocate_comparisons:
        groups = _compared(cells, numbers, axis)

    # A number of cells, where it was given, is the only limit.
    max_cells = config.cells_per_chunk or math.inf
    max_s = math.inf if config.cells_per_chunk else config.chunk_time_s - START_S
    parts: list[list[int]] = []
    part_s = 0.0
    for group in groups:
        group_s = sum(expected_s(cells[number]) for number in group)
        if not parts or len(parts[-1]) + len(group) > max_cells or part_s + group_s > max_s:
            parts.append([])
            part_s = 0.0
        parts[-1] += group
        part_s += group_s
    return [Chunk(tuple(part), tuple(cells[number] for number in part)) for part in parts]


def unfinished_parts(
    chunk: Chunk,
    finished: Collection[str],
    *,
    lost_on: str | None = None,
    lost: bool = False,
    blameless: bool = False,
) -> Iterator[Chunk]:
    """What of a chunk has to be sent again.

    Cells that are compared are measured again together, unless all of them are done: times of two
    nodes do not compare. Where the chunk was ``lost``, the cell that it was lost in goes alone with
    those that it is compared with, so that one that ends whatever runs it takes no others with it.
    Otherwise the time of its job was over, of which cells know nothing, or what ended it is
    ``blameless``: that counts as no try.
    """
    groups = _compared(chunk.cells, range(len(chunk.cells)), chunk.report.axis)
    identities = [cell.identity for cell in chunk.cells]
    unfinished = [
        group for group in groups if not all(identities[number] in finished for number in group)
    ]
    parts, is_try = [unfinished], lost
    if lost:
        parts = [unfinished[:1], unfinished[1:]]
    elif len(unfinished) == len(groups) and not blameless:
        # What nothing ends of would be sent for ever: it goes in halves, and what cannot be halved
        # has had a try.
        half = len(groups) // 2
        parts, is_try = [unfinished[:half], unfinished[half:]], not half

    for part in parts:
        positions = list(chain.from_iterable(part))
        if positions:
            yield replace(
                chunk,
                numbers=tuple(chunk.numbers[position] for position in positions),
                cells=tuple(chunk.cells[position] for position in positions),
                attempt=chunk.attempt + is_try,
                avoid=lost_on if lost else chunk.avoid,
            )


def _compared(cells: Sequence[Cell], positions: Iterable[int], axis: str) -> list[list[int]]:
    """Positions of cells in groups that are compared: all is the same but the axis."""
    of_group = same_but(axis)
    groups = grouped(positions, lambda at: (cells[at].job, of_group(cells[at])))
    return list(groups.values())
