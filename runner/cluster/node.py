"""The node's side: a chunk's cells run as a sweep's do, and each one's results are sent back.

This module is what Ray and submitit call on a node; opsweep has to be installed there.
"""

from __future__ import annotations

import math
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from hydra.core.utils import env_override

from runner import __version__
from runner.cells.cell import Cell
from runner.cluster.chunk import Chunk
from runner.cluster.messages import CellResult, ChunkStarted
from runner.errors import ConfigError
from runner.execute.cell_runner import LOG, CellRun, in_rounds
from runner.execute.environment import node_identity
from runner.execute.session import Session
from runner.execute.user_code import differing
from runner.rows.rows import PAIRS_FILE, SAMPLES_FILE

MARGIN_S = 10.0  # between the end of the last cell and the job's own


class NodeRefused(Exception):
    """This node cannot run what is sent to it; the message says why."""


class OperationsRefused(NodeRefused):
    """This node cannot run the operations of the chunk; others it may."""


def versions() -> dict[str, str]:
    """What has to be the same here and on every node."""
    return {
        "opsweep": __version__,
        "torch": version("torch").partition("+")[0],
        "python": platform.python_version(),
    }


def run_chunk(
    chunk: Chunk, sender_versions: dict[str, str], time_s: float | None = None
) -> Iterator[ChunkStarted | CellResult]:
    """Run a chunk's cells, and tell of each as it ends.

    A cell whose limit does not fit into what is left of the job's ``time_s`` seconds is not begun,
    unless none was before it. NodeRefused where the sender has other versions, or the operations
    cannot be called here.
    """
    end = math.inf if time_s is None else time.monotonic() + time_s
    _check_versions(sender_versions)
    # Chunks on one machine have devices of their own, but share the CPU: its cells wait in turn.
    cells = [replace(cell, on_contention="wait") for cell in chunk.cells]
    session = Session()
    try:
        with _main_hidden(), env_override(chunk.env_set):
            # the CPU is always there: a device that is not gives a row, as on one machine
            looked_at = [replace(cells[0], device="cpu"), *cells]
            try:
                session.cells.prepare(looked_at, require_devices=False)
            except ConfigError as error:
                raise OperationsRefused(f"{node_identity()}: {error}") from error
            environment = session.cells.environment
            if others := differing(chunk.code, environment["code"]):
                found = f"{node_identity()} has another {', '.join(others)} than the sender"
                raise OperationsRefused(f"{found}; copy the same to every node")
            yield ChunkStarted(node_identity(), environment)
            with tempfile.TemporaryDirectory(prefix="opsweep-") as folder:
                yield from _results(session, chunk, cells, Path(folder), end)
    finally:
        session.close()


def _check_versions(sender_versions: dict[str, str]) -> None:
    own = versions()
    differing = [
        f"{name} {own[name]} and not {senders}"
        for name, senders in sender_versions.items()
        if own[name] != senders
    ]
    if differing:
        raise NodeRefused(
            f"{node_identity()} has {', '.join(differing)}; install the same on every node"
        )


def _results(
    session: Session, chunk: Chunk, cells: Sequence[Cell], base: Path, end: float
) -> Iterator[CellResult]:
    """Each cell as it ends; those that have several processes in rounds, as in any sweep."""
    runs = [CellRun(cell, base / str(position)) for position, cell in enumerate(cells)]
    for run in runs:
        run.folder.mkdir()
    groups = session.cells.groups(runs, chunk.report, chunk.compare)

    # a baseline may be in several groups, and has ended with the last one of them
    groups_left = Counter(run.folder for run in chain.from_iterable(group.runs for group in groups))
    any_begun = False
    for process, group in in_rounds(groups):
        limits = [run.cell.limit.time_s + run.cell.timing.patience_s for run in group.runs]
        needed_s = sum(limits)
        if any_begun and end - MARGIN_S - time.monotonic() < needed_s:
            return
        any_begun = True
        session.cells.run_group(group, process, chunk.report.same_within)
        if process < group.processes:
            continue
        for run in group.runs:
            groups_left[run.folder] -= 1
            if not groups_left[run.folder]:
                yield _result(run)


def _result(run: CellRun) -> CellResult:
    samples, pairs, log = (_text(run.folder / name) for name in (SAMPLES_FILE, PAIRS_FILE, LOG))
    ended = datetime.now(timezone.utc).isoformat(timespec="seconds")
    shutil.rmtree(run.folder)
    return CellResult(run.cell.identity, run.rows, samples, log, ended, pairs)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep the spawned worker from importing the program that runs this one: Ray's takes long."""
    names = vars(sys.modules["__main__"])
    hidden: dict[str, object] = {
        name: names.pop(name) for name in ("__file__", "__spec__") if name in names
    }
    names["__spec__"] = None
    try:
        yield
    finally:
        names.update(hidden)
