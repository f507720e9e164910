"""What the parent and the worker say to each other of sides that are measured in turn; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.rows.rows import PairVisit, Row, Sample

ALL_SIDES = -1  # whose step it is while they take turns


@dataclass(frozen=True)
class Plan:
    """How sides are to be measured in turn.

    Attributes:
        same_within: relative difference up to which two sides count as the same.
        processes: between which the visits are shared.
        visits_only: whether the rows are known already, and only visits are wanted.
    """

    same_within: float
    processes: int = 1
    visits_only: bool = False


@dataclass(frozen=True)
class TurnsOutcome:
    """What came of it.

    Attributes:
        rows, samples: of each side; none where only visits were wanted.
        pairs: the visits.
        spoiled: whether the worker has to be replaced.
    """

    rows: Sequence[Sequence[Row]]
    samples: Sequence[Sequence[Sample]]
    pairs: Sequence[PairVisit]
    spoiled: bool
