"""What the driver asks of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from runner.cluster.chunk import Chunk
from runner.cluster.node import CellResult, ChunkStarted


@dataclass
class ChunkRun:
    """A chunk on its way, and what has come back of it."""

    chunk: Chunk
    job_id: str  # the cluster's name of the job that carries it
    started: ChunkStarted | None = None  # what it said when it began; None before that
    results: list[CellResult] = field(default_factory=list)  # of the cells that have ended
    lost: str | None = None  # why it will not end on its own; None where it did
    log: str = ""  # what the job itself printed, where it was lost
    # whether it was lost before it reached a node, which says nothing of its cells
    refused: bool = False

    def take(self, message: ChunkStarted | CellResult) -> None:
        """Keep what came back."""
        if isinstance(message, ChunkStarted):
            self.started = message
        else:
            self.results.append(message)


class Executor(Protocol):
    """A cluster, as the driver sees it."""

    def submit(self, chunk: Chunk) -> bool:
        """Send a chunk, unless every slot is taken; returns whether it was sent."""

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        """Wait for at most ``timeout_s``; returns the chunks that have ended or been lost."""

    def slots(self) -> int:
        """How many chunks could run at once; 0 where no node is left."""

    def close(self) -> list[ChunkRun]:
        """End what still runs; returns it with what has come back."""
