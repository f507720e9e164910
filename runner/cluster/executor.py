"""What the driver asks of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from runner.cluster.chunk import Chunk
from runner.cluster.node import Begun, Measured


@dataclass
class Flight:
    """A chunk on its way, and what has come back of it.

    Attributes:
        chunk: as it was sent.
        where: what the cluster calls its job.
        begun: what it said when it began; None before that.
        measured: the cells that have ended.
        lost: why it will not end by itself; None where it did.
        log: what the job itself printed, where it was lost.
        refused: whether the cluster lost it before it reached a node, which says nothing of its cells.
    """

    chunk: Chunk
    where: str
    begun: Begun | None = None
    measured: list[Measured] = field(default_factory=list)
    lost: str | None = None
    log: str = ""
    refused: bool = False

    def take(self, message: Begun | Measured) -> None:
        """Keep what came back."""
        if isinstance(message, Begun):
            self.begun = message
        else:
            self.measured.append(message)


class Executor(Protocol):
    """A cluster, as the driver sees it."""

    def submit(self, chunk: Chunk) -> bool:
        """Send a chunk, unless every place is taken; returns whether it was sent."""

    def ended(self, timeout_s: float) -> list[Flight]:
        """The chunks that have ended or been lost since the last call; waits for one, at most ``timeout_s``."""

    def places(self) -> int:
        """How many chunks could run at once; 0 where no node is left."""

    def close(self) -> list[Flight]:
        """End what still runs; returns it with what has come back."""
