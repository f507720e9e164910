"""Slurm's queue, as its commands on this machine tell of it; submitit is not needed for it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigError

END_LIMIT_S = 90.0  # from scancel until a job is taken never to end; Slurm kills it after 30
SCRIPT = "submission_file_"  # how submitit names what a job runs


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: its state, why it waits, and the script that it runs."""

    state: str
    reason: str
    script: Path


def asked(*command: str) -> subprocess.CompletedProcess[str]:
    """What one of Slurm's commands says; FileNotFoundError where it is not here."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def queued() -> dict[str, QueuedJob] | None:
    """The user's jobs that have not ended, by number; None where Slurm does not answer just now."""
    answer = asked("squeue", "-h", "--me", "-o", "%i|%T|%r|%o")
    if answer.returncode:
        return None
    lines = (line.split("|", 3) for line in answer.stdout.splitlines() if line.count("|") > 2)
    return {number: QueuedJob(state, why, Path(script)) for number, state, why, script in lines}


def facts_of(job_id: str) -> dict[str, str]:
    """What Slurm knows of a job that has ended, for a while; accounting need not be on."""
    return dict(re.findall(r"(\w+)=(\S*)", asked("scontrol", "show", "job", job_id).stdout))


def nodes_of(partition: str | None) -> list[str]:
    """The nodes that jobs may have."""
    named = ["-p", partition] if partition else []
    return sorted(set(asked("sinfo", "-h", "-N", "-o", "%N", *named).stdout.split()))


def end_jobs(left: Iterable[tuple[str, Path]]) -> list[str]:
    """Cancel those of these jobs, each with its file of messages, that have not ended, and wait.

    Returns them. A number alone might be another job's by now. ConfigError where they cannot be
    ended from here.
    """
    ids = dict(left)
    names = f"the jobs {', '.join(ids)} of Slurm, which this sweep has sent,"
    deadline, ended = time.monotonic() + END_LIMIT_S, list[str]()
    while True:
        try:
            queue = queued()
        except FileNotFoundError as error:
            advice = "resume where squeue is, or remove chunk.json from their folders"
            raise ConfigError(f"{names} may still run; {advice}") from error
        if queue is None or time.monotonic() > deadline:
            what = "do not end" if queue else "may still run, and Slurm does not answer"
            raise ConfigError(f"{names} {what}; wait, or see what squeue says")
        own = [
            job_id
            for job_id, messages in ids.items()
            if job_id in queue
            and queue[job_id].script.name.lstrip(".").startswith(SCRIPT)
            and messages.is_relative_to(queue[job_id].script.parent)
        ]
        if not own:
            return ended
        if not ended:
            asked("scancel", *own)
        ended = ended or own
        time.sleep(1.0)
