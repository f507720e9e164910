"""What the jobs of a driver that died have measured: a resumed sweep has it before it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runner.cluster.chunk import Chunk
from runner.cluster.chunk_folder import CHUNK_FILE, MESSAGES, ChunkWriter
from runner.cluster.executor import ChunkRun
from runner.cluster.messages import JobEnded, read
from runner.cluster.slurm_queue import end_jobs
from runner.errors import tell
from runner.files import bounded_text
from runner.units import counted


def take_over(root: Path) -> None:
    """Cancel what still stands in Slurm's queue for a sweep, and write what its jobs have said.

    Ray ends the jobs of a driver with it. ConfigError where a job cannot be ended from here.
    """
    runs = list(_left(root))
    in_slurm = [(run.job_id, run.messages) for run in runs if run.job_id.isdecimal()]
    cancelled = end_jobs(in_slurm) if in_slurm else []
    writer = ChunkWriter(root, samples=True)
    for run in runs:
        for message in read(run.messages)[0]:
            if not isinstance(message, JobEnded):
                run.take(message)
        writer.write(run)
    if runs:
        cells = sum(len(run.results) for run in runs)
        jobs = counted(len(runs), "job")
        was = f"{counted(cells, 'cell')} had ended in {jobs} whose driver was gone"
        tell(f"{was}; cancelled: {len(cancelled)}")


def _left(root: Path) -> Iterator[ChunkRun]:
    """The chunks whose messages were not read to their end, as far as they can be understood."""
    for path in sorted(root.glob(f"*/{CHUNK_FILE}")):
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
            about = json.loads(bounded_text(path))
            messages = (path.parent / about.pop("messages")).resolve()
            # the file may be anybody's, and what it names is removed in the end
            is_ours = re.fullmatch(rf"[0-9a-f]{{32}}{MESSAGES}", messages.name)
            if is_ours and not path.parent.is_symlink():
                job = str(about.get("job") or "")
                yield ChunkRun(Chunk((), ()), path.parent, messages, about, job)
