"""What the parent and the worker say to each other of sides that are measured in turn; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.cells.cell import Cell
from runner.measure.visits import Visits
from runner.rows.rows import PairVisit, Row, Sample

ALL_SIDES = -1  # whose step it is while they take turns


@dataclass(frozen=True)
class Plan:
    """How sides are to be measured in turn."""

    same_within: float  # relative difference up to which two sides count as the same
    processes: int = 1  # between which the visits are shared
    process: int = 1  # which of them this is
    visits_only: bool = False  # whether the rows are known already, and only visits are wanted
    gate: Mapping[float, float] = field(default_factory=dict)  # further claims, with their p values
    is_round: bool = False  # whether the sides are all calls of a workload, not one call


@dataclass(frozen=True)
class TurnsOutcome:
    """What came of it: each side's rows and samples, where they were wanted, and the visits."""

    rows: Sequence[Sequence[Row]]  # none of a side that had no memory beside the others
    samples: Sequence[Sequence[Sample]]
    pairs: Sequence[PairVisit]


def pairs_of(cells: Sequence[Cell], visits: Visits, other: int) -> list[PairVisit]:
    """The visits of a side with those of the baseline."""
    return [
        PairVisit(
            baseline_cell=cells[0].identity,
            other_cell=cells[other].identity,
            visit=number,
            baseline_turn=visit.turns[0].position,
            other_turn=visit.turns[other].position,
            baseline_allocation=visit.turns[0].allocation,
            other_allocation=visit.turns[other].allocation,
            baseline_s=visit.turns[0].seconds,
            other_s=visit.turns[other].seconds,
            machine_slowdown=visit.machine_slowdown,
            calm=visit.calm,
            undisturbed=visit.is_undisturbed((0, other)),
        )
        for number, visit in enumerate(visits.visits)
    ]
