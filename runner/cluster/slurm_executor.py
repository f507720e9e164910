"""Chunks as jobs of Slurm, through submitit.

A job writes each cell's results to a file in submitit's folder as soon as it ends, so that what
ends the job ends no more than the cell in it. That folder is the one thing that nodes and this
machine have to share, as submitit demands.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import time
import traceback
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submitit

from runner.cluster.chunk import Chunk
from runner.cluster.executor import ChunkRun
from runner.cluster.node import CellResult, ChunkStarted, run_chunk, versions
from runner.errors import ConfigError, one_line

LENGTH_BYTES = 8  # before each message: how long it is
GRACE_S = 5.0  # from a job's end until its file is taken to be whole: network disks are late
LONGEST_LOG = 20_000  # characters of a lost job's own output
PER_NODE = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb"}
NAMES = PER_NODE | {"nodes", "name", "stderr_to_stdout"}  # submitit's, whatever the cluster


@dataclass
class _Ended:
    """A job's last message; ``error`` is the traceback of what ended it, where something did."""

    error: str | None = None


@dataclass
class SlurmJob:
    """A job in Slurm's queue, which carries a chunk."""

    run: ChunkRun
    submitted: submitit.Job[None]
    messages: Path  # the file that the job writes its messages to
    read_bytes: int = 0  # how much of it has been read
    # when it was first seen to have left the queue, by the monotonic clock
    gone_since: float | None = None
    over: bool = False  # whether it has ended or been lost


class SlurmExecutor:
    """Slurm, as ``sbatch`` here reaches it, with the settings of hydra-submitit-launcher.

    ConfigError where there is no Slurm, or it takes no such job.
    """

    def __init__(self, settings: dict[str, Any], root: Path) -> None:
        # Some settings are the launcher plugin's alone; the others are submitit's.
        own = {key: value for key, value in settings.items() if value is not None}
        own.pop("_target_", None)
        self._folder = Path(own.pop("submitit_folder") or root / ".submitit").absolute()
        self._gres = own.pop("gres", None)
        self._max_jobs = int(own.pop("array_parallelism", 256))
        self._partition = own.get("partition")
        limit_s = 60.0 * own.get("timeout_min", 60)
        # submitit ends a job so long before
        self._time_s = limit_s - min(own.get("signal_delay_s", 120), limit_s / 2)

        init = {f"slurm_{key}": own.pop(key) for key in ("max_num_timeout",) if key in own}
        prefixed = {f"slurm_{key}": own[key] for key in own.keys() - NAMES}
        self._parameters = prefixed | {key: own[key] for key in own.keys() & NAMES}
        try:
            self._submitit = submitit.AutoExecutor(cluster="slurm", folder=self._folder, **init)
            self._submitit.update_parameters(**self._parameters)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise ConfigError(f"cluster=slurm: {one_line(error)}; see cluster.launcher") from error

        self._folder.mkdir(parents=True, exist_ok=True)
        self._jobs: dict[str, SlurmJob] = {}
        self._names: dict[str, str] = {}  # Slurm's of a node, by our identity

    def slots(self) -> int:
        """How many jobs may be in the queue."""
        return self._max_jobs

    def submit(self, chunk: Chunk) -> bool:
        """Put a chunk into the queue, unless it is full."""
        if len(self._jobs) >= self._max_jobs:
            return False
        # A job for the CPU has its node to itself, since others would share what it measures.
        resources: dict[str, Any] = {"slurm_gres": self._gres, "slurm_exclusive": None}
        if not chunk.needs_accelerator:
            resources = {"slurm_gres": None, "slurm_exclusive": True}
        avoid = self._names.get(chunk.avoid or "")
        exclude = self._parameters.get("slurm_exclude")
        if avoid and self._has_others(avoid):
            exclude = avoid
        self._submitit.update_parameters(**resources, slurm_exclude=exclude)

        messages = self._folder / f"{uuid.uuid4().hex}.messages"
        try:
            job = self._submitit.submit(_run, chunk, versions(), messages, self._time_s)
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            reason = f"sbatch takes no such job: {one_line(error)}"
            raise ConfigError(f"cluster=slurm: {reason}") from error
        self._jobs[job.job_id] = SlurmJob(ChunkRun(chunk, job.job_id), job, messages)
        return True

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        """Read what jobs have written, and look once at the queue."""
        time.sleep(timeout_s)
        queue = _queue()
        for job_id, job in self._jobs.items():
            self._read(job)
            if job.over or queue is None or job_id in queue:
                continue
            job.gone_since = job.gone_since or time.monotonic()
            if time.monotonic() - job.gone_since > GRACE_S:
                self._read(job)
                if not job.over:
                    self._lose(job)
        over = [job_id for job_id, job in self._jobs.items() if job.over]
        return [self._cleaned_up(self._jobs.pop(job_id)) for job_id in over]

    def close(self) -> list[ChunkRun]:
        """Cancel what is in the queue."""
        unfinished = list(self._jobs.values())
        for job in unfinished:
            job.submitted.cancel(check=False)
            self._read(job)
        self._jobs = {}
        return [job.run for job in unfinished]

    def _read(self, job: SlurmJob) -> None:
        try:
            with job.messages.open("rb") as file:
                file.seek(job.read_bytes)
                while len(head := file.read(LENGTH_BYTES)) == LENGTH_BYTES:
                    length = int.from_bytes(head, "big")
                    body = file.read(length)
                    if len(body) < length:
                        return
                    job.read_bytes += LENGTH_BYTES + length
                    self._take(job, pickle.loads(body))
        except FileNotFoundError:  # it has not begun
            return

    @staticmethod
    def _take(job: SlurmJob, message: ChunkStarted | CellResult | _Ended) -> None:
        if not isinstance(message, _Ended):
            job.run.take(message)
            return
        job.over = True
        if message.error is not None:
            job.run.lost = one_line(message.error.strip().rpartition("\n")[2])
            job.run.log = message.error

    def _lose(self, job: SlurmJob) -> None:
        """Say of a job that left the queue without its last message what Slurm knows of its end."""
        job.over = True
        answer = _asked("scontrol", "show", "job", job.run.job_id)  # accounting need not be on
        facts = dict(re.findall(r"(\w+)=(\S*)", answer.stdout))
        nodes = facts.get("NodeList", "(null)")
        if job.run.started is not None and nodes not in ("", "(null)"):
            self._names[job.run.started.node] = nodes
        where = f" on {nodes}" if nodes != "(null)" else ""
        state = facts.get("JobState", "gone from the queue")
        ending = f"ended{where}: {state}, {facts.get('ExitCode')}"
        job.run.lost = f"Slurm's job {job.run.job_id} {ending}"
        output = filter(None, (job.submitted.stdout(), job.submitted.stderr()))
        job.run.log = "\n".join(output)[-LONGEST_LOG:]

    def _cleaned_up(self, job: SlurmJob) -> ChunkRun:
        """What a job leaves in submitit's folder is of no more use, once its results are here."""
        if job.run.lost is None:
            for path in [job.messages, *self._folder.glob(f"{job.run.job_id}_*")]:
                path.unlink(missing_ok=True)
        return job.run

    def _has_others(self, node: str) -> bool:
        command = ["sinfo", "-h", "-N", "-o", "%N"]
        if self._partition:
            command += ["-p", self._partition]
        return bool(set(_asked(*command).stdout.split()) - {node})


def _queue() -> set[str] | None:
    """The user's jobs that have not ended; None where Slurm does not answer just now."""
    answer = _asked("squeue", "-h", "--me", "-o", "%i")
    return set(answer.stdout.split()) if answer.returncode == 0 else None


def _asked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


class _JobEnded(KeyboardInterrupt):
    """Slurm ends the job: whatever runs is left where it is."""


def _end(number: int, frame: FrameType | None) -> None:
    raise _JobEnded


def _run(chunk: Chunk, sender_versions: dict[str, str], messages: Path, time_s: float) -> None:
    signal.signal(signal.SIGTERM, _end)  # submitit's own handler lets it pass
    with messages.open("ab", buffering=0) as file:

        def send(message: object) -> None:
            body = pickle.dumps(message)
            file.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            os.fsync(file.fileno())

        try:
            for message in run_chunk(chunk, sender_versions, time_s):
                send(message)
            send(_Ended())
        except _JobEnded:
            how = "by SIGTERM, as scancel and the queue's time limit end it"
            send(_Ended(f"the job was ended {how}"))
        except Exception:
            send(_Ended(traceback.format_exc()))
