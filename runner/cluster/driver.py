"""The driver's loop: chunks out, rows in, what was lost out again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from runner.cluster.chunk import Chunk, unfinished_parts
from runner.cluster.chunk_folder import ChunkWriter
from runner.cluster.executor import ChunkRun, Executor, TakesNoMore
from runner.errors import one_line, tell
from runner.execute.progress import Progress

POLL_S = 2.0
NO_NODE_LIMIT_S = 120.0  # after that a cluster without nodes is taken to stay so


class Driver:
    """Runs chunks on a cluster until each cell has its rows, or has been lost too often.

    It calls ``on_begin`` before it writes rows: until then nothing has been measured.
    """

    def __init__(
        self,
        executor: Executor,
        writer: ChunkWriter,
        progress: Progress,
        retries: int,
        on_begin: Callable[[], None],
    ) -> None:
        self._executor, self._writer, self._progress = executor, writer, progress
        self._max_attempts, self._on_begin = retries + 1, on_begin
        self._pending: deque[Chunk] = deque()
        self._running = 0
        self._last_log = ""

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Run the chunks; whatever ends this, what has come back until then is written."""
        self._pending = deque(chunks)
        last_node_at = time.monotonic()
        try:
            while self._pending or self._running:
                self._send()

                # A cluster that lost its last node may get others, as one that grows and shrinks.
                if self._running or self._executor.slots():
                    last_node_at = time.monotonic()
                elif time.monotonic() - last_node_at > NO_NODE_LIMIT_S:
                    while self._pending:
                        self._give_up(self._pending.popleft(), "no node is left")
                    return

                for run in self._executor.ended(POLL_S):
                    self._running -= 1
                    self._settle(run)
        finally:
            for run in self._executor.close():
                if run.results:
                    self._on_begin()
                self._writer.write(run)

    def _send(self) -> None:
        """Send chunks for as long as there is room; one that no node can run is given up."""
        while self._pending:
            if reason := self._executor.refusal(self._pending[0]):
                self._give_up(self._pending.popleft(), reason)
                continue
            if not self._executor.has_room(self._pending[0]):
                return
            run = self._writer.begin(self._pending.popleft())
            try:
                self._executor.send(run)
            except TakesNoMore:
                self._writer.write(run)
                self._pending.appendleft(run.chunk)
                return
            except BaseException:
                self._writer.write(run)
                raise
            self._writer.describe(run)  # with the number of its job
            self._running += 1

    def _settle(self, run: ChunkRun) -> None:
        chunk = run.chunk
        if run.lost is not None:
            self._report_loss(run)
        sent_again, lost = self._divided(run)
        given_up = [cell for cell in chunk.cells if cell.identity in lost]
        cause = run.lost or "the time of its job was over before it ended"
        reason = one_line(f"{cause}; tried {chunk.attempt} times")
        if run.results or given_up:
            self._on_begin()
        rows = self._writer.write(run, given_up, reason)
        for cell in chunk.cells:
            if cell.identity not in sent_again:
                self._progress.begin(cell)
                self._progress.end(cell, rows[cell.identity])

    def _divided(self, run: ChunkRun) -> tuple[set[str], set[str]]:
        """Which of a chunk's cells are pending again, and which are given up."""
        finished, again, given_up = run.results.keys(), set[str](), set[str]()
        how = {"lost": run.lost is not None, "blameless": run.blameless}
        for part in unfinished_parts(run.chunk, finished, lost_on=run.place, **how):
            identities = {cell.identity for cell in part.cells}
            if part.attempt <= self._max_attempts:
                self._pending.append(part)
                again |= identities
            else:  # a part holds also what came back and is compared with what did not
                given_up |= identities - finished
        return again, given_up

    def _report_loss(self, run: ChunkRun) -> None:
        """Say what was lost; the same output of several jobs once."""
        which = f"attempt {run.chunk.attempt} of {self._max_attempts}"
        tell(f"lost: {run.chunk.label}: {run.lost} ({which})")
        if run.log and run.log != self._last_log:
            tell(run.log.rstrip())
        self._last_log = run.log

    def _give_up(self, chunk: Chunk, reason: str) -> None:
        self._on_begin()
        run = self._writer.begin(chunk)
        run.lost = reason
        rows = self._writer.write(run, chunk.cells, one_line(reason))
        for cell in chunk.cells:
            self._progress.end(cell, rows[cell.identity])
