"""What the driver asks of a cluster."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runner.cluster.chunk import Chunk
from runner.cluster.messages import CellResult, ChunkStarted
from runner.errors import tell


@dataclass
class ChunkRun:
    """A chunk on its way, and what has come back of it."""

    chunk: Chunk
    folder: Path  # the chunk's own, in the sweep's
    messages: Path  # the file that has what its job says
    about: dict[str, Any] = field(default_factory=dict)  # what chunk.json says of it
    job_id: str = ""  # the cluster's name of the job that carries it
    place: str | None = None  # and of the node that has it, where that is known
    started: ChunkStarted | None = None  # what it said when it began; None before that
    results: dict[str, CellResult] = field(default_factory=dict)  # of the cells that have ended
    lost: str | None = None  # why it will not end on its own; None where it did
    log: str = ""  # what the job itself printed, where it was lost
    blameless: bool = False  # whether what ended it says nothing of its cells

    def take(self, message: ChunkStarted | CellResult) -> None:
        """Keep what came back, of a cell that was measured again the latest."""
        if isinstance(message, ChunkStarted):
            self.started = message
        else:
            self.results[message.cell] = message


class Refusals:
    """Which nodes are not used, by the cluster's names, and what for; each is named once.

    ``advice`` says how a node comes by the modules that operations lack there.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        # by the node, and the package that it cannot run, or nothing where it can run none
        self._why: dict[tuple[str, str], str] = {}

    def add(self, run: ChunkRun, why: str, *, of_node: bool) -> None:
        """A node has refused a chunk, which another is to have; it may be the node's as a whole."""
        packages = {""} if of_node else run.chunk.packages or {""}
        refused = {(run.place or "", package): why for package in packages}
        if not refused.keys() <= self._why.keys():
            advice = ""
            if re.search("No module named|cannot be imported", why):
                advice = "; install the same on every node" if of_node else f"; {self._advice}"
            tell(f"not used: {why}{advice}")
        self._why = refused | self._why
        run.blameless = True

    def of(self, chunk: Chunk) -> dict[str, str]:
        """The nodes that are not to have a chunk, with the reason."""
        needed = {"", *chunk.packages}
        return {place: why for (place, package), why in self._why.items() if package in needed}

    def of_all(self, chunk: Chunk, nodes: Collection[str]) -> str:
        """Why none of these nodes is to have a chunk; blank where one may, or there are none."""
        refused = self.of(chunk)
        if not nodes or not refused.keys() >= set(nodes):
            return ""
        return f"no node can run it: {'; '.join(dict.fromkeys(refused.values()))}"


class TakesNoMore(Exception):
    """The cluster takes no chunk now, though it took others; the message says why."""


class Executor(Protocol):
    """A cluster, as the driver sees it."""

    def has_room(self, chunk: Chunk) -> bool:
        """Whether a chunk can be sent now."""

    def refusal(self, chunk: Chunk) -> str:
        """Why no node that is there can run a chunk; blank where one may."""

    def send(self, run: ChunkRun) -> None:
        """Send a chunk for which there is room; TakesNoMore where it turns out not to be."""

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        """Wait for at most ``timeout_s``; returns the chunks that have ended or been lost."""

    def slots(self) -> int:
        """How many chunks could run at once; 0 where no node is left."""

    def close(self) -> list[ChunkRun]:
        """End what still runs; returns it with what has come back."""
