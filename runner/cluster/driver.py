"""The driver's loop: chunks out, rows in, what was lost out again."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable

from runner.cluster.chunk import Chunk, again
from runner.cluster.chunk_folder import Landing
from runner.cluster.executor import Executor, Flight
from runner.errors import one_line
from runner.execute.progress import Progress

POLL_S = 2.0
NO_NODE_LIMIT_S = 120.0  # after that a cluster without nodes is taken to stay so


class Driver:
    """Runs chunks on a cluster until each cell has its rows.

    Args:
        executor: the cluster.
        landing: takes what comes back.
        retries: how many times a lost chunk's cells are sent again.
        axis: along which rows are compared.
        progress: is told of each cell.
    """

    def __init__(self, executor: Executor, landing: Landing, *, retries: int, axis: str, progress: Progress) -> None:
        self._executor, self._landing, self._progress = executor, landing, progress
        self._retries, self._axis = retries, axis
        self._pending: deque[Chunk] = deque()
        self._last_log = ""

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Run the chunks; whatever ends this lands what has come back until then.

        Raises:
            OSError: the sweep's folder cannot be written.
        """
        self._pending = deque(chunks)
        flying = 0
        alone_since = time.monotonic()
        try:
            while self._pending or flying:
                while self._pending and self._executor.submit(self._pending[0]):
                    self._pending.popleft()
                    flying += 1
                if flying or self._executor.places():
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > NO_NODE_LIMIT_S:
                    self._give_up()
                    return
                for flight in self._executor.ended(POLL_S):
                    flying -= 1
                    self._settle(flight)
        finally:
            for flight in self._executor.close():
                if flight.measured:
                    self._landing.land(flight)

    def _settle(self, flight: Flight) -> None:
        chunk = flight.chunk
        done = [measured.cell for measured in flight.measured]
        node = flight.begun.node if flight.begun else None
        lost = flight.lost is not None
        if flight.refused:
            self._pending.append(chunk)
            return
        open_chunks = list(again(chunk, done, self._axis, lost_on=node, lost=lost))
        if lost:
            tries = f"attempt {chunk.attempt} of {self._retries + 1}"
            print(f"lost: {chunk.label}: {flight.lost} ({tries})", file=sys.stderr, flush=True)
            if flight.log and flight.log != self._last_log:
                print(flight.log.rstrip(), file=sys.stderr, flush=True)
            self._last_log = flight.log
        failed = []
        repeated: set[str] = set()
        for part in open_chunks:
            if part.attempt <= self._retries + 1:
                self._pending.append(part)
                repeated |= {cell.identity for cell in part.cells}
            else:
                reason = one_line(f"{flight.lost or 'the job ended before it'}; tried {chunk.attempt} times")
                failed += [(cell, "crashed", reason) for cell in part.cells if cell.identity not in done]
        rows = self._landing.land(flight, failed)
        for cell in chunk.cells:
            if cell.identity in rows and cell.identity not in repeated:
                self._progress.begin(cell)
                self._progress.end(cell, rows[cell.identity])

    def _give_up(self) -> None:
        for chunk in self._pending:
            flight = Flight(chunk, "none", lost="no node is left")
            rows = self._landing.land(flight, [(cell, "crashed", "no node is left") for cell in chunk.cells])
            for cell in chunk.cells:
                self._progress.end(cell, rows[cell.identity])
