"""Chunks as jobs of Slurm, through submitit.

A job writes each cell's results to a file in submitit's folder as soon as it ends, so that what
ends the job ends no more than the cell in it. That folder is the one thing that nodes and this
machine have to share, as submitit demands.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import submitit

from runner.cluster.chunk import START_S, Chunk, unfinished_parts
from runner.cluster.executor import ChunkRun, Refusals, TakesNoMore
from runner.cluster.messages import CellResult, Ending, JobEnded, append, read
from runner.cluster.node import MARGIN_S, NodeRefused, OperationsRefused, run_chunk, versions
from runner.cluster.slurm_queue import QueuedJob, facts_of, nodes_of, queued
from runner.errors import ConfigError, one_line, tell

GRACE_S = 5.0  # from a job's end until its file is taken to be whole: network disks are late
LONGEST_LOG = 20_000  # characters of a lost job's own output
PER_NODE = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb"}
NAMES = PER_NODE | {"nodes", "name", "stderr_to_stdout"}  # submitit's, whatever the cluster
SIGNAL_DELAY_S = 90.0  # submitit's own
SILENT_S = 45.0  # for which jobs may wait without a word, none of them running
AGAIN_S = 20.0  # from a job that sbatch did not take to the next, where it took others
REFUSED_LIMIT_S = 600.0  # for which it may take none, with none of ours in the queue
PASSING = "[Ll]imit|temporarily|[Tt]imed out|contact slurm controller"  # why it takes none
HOPELESS = {  # reasons to wait that do not pass by waiting
    *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"),
    *("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"),
}
ADVICE = "a job starts in this folder, with this PYTHONPATH: have both on every node"
ENDS = {
    "TIMEOUT": Ending.OUT_OF_TIME,
    "DEADLINE": Ending.OUT_OF_TIME,
    "PREEMPTED": Ending.PREEMPTED,
}
NO_PROGRAM = r"ModuleNotFoundError: .*|.*[Nn]o such file or directory.*"


@dataclass
class SlurmJob:
    """A job in Slurm's queue, which carries a chunk."""

    run: ChunkRun
    submitted: submitit.Job[None]
    read_bytes: int = 0  # how much of its messages has been read
    # when it was first seen to have left the queue, by the monotonic clock
    gone_since: float | None = None
    over: bool = False  # whether it has ended or been lost


class SlurmExecutor:
    """Slurm, as ``sbatch`` here reaches it, with the settings of hydra-submitit-launcher.

    Submitit works in ``folder``; ``longest_s`` is what a cell may take. ConfigError where there is
    no Slurm, it takes no such job, or a job has no time for such a cell.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path, longest_s: float) -> None:
        # Some settings are the launcher plugin's alone; the others are submitit's.
        own = {key: value for key, value in settings.items() if value is not None}
        for key in ("_target_", "submitit_folder"):
            own.pop(key, None)
        self._folder, self._was_there = folder, folder.exists()
        self._gres = own.pop("gres", None)
        self._max_jobs = int(own.pop("array_parallelism", 256))
        self._partition = own.get("partition")
        self._time_s = _time_left(own, longest_s)

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
        self._refusals = Refusals(ADVICE)
        self._waiting_since = time.monotonic()
        self._told: set[str] = set()  # the reasons to wait
        self._taken_at = -math.inf  # when sbatch last took a job, by the monotonic clock
        self._full_until = 0.0
        self._has_run = False  # whether any job has

    def slots(self) -> int:
        """How many jobs may be in the queue."""
        return self._max_jobs

    def has_room(self, chunk: Chunk) -> bool:
        """Whether the queue may have one job more."""
        return len(self._jobs) < self._max_jobs and time.monotonic() >= self._full_until

    def refusal(self, chunk: Chunk) -> str:
        """Why no node of the partition can run a chunk; blank where one may."""
        if not self._refusals.of(chunk):
            return ""
        return self._refusals.of_all(chunk, nodes_of(self._partition))

    def send(self, run: ChunkRun) -> None:
        """Put a chunk into the queue; TakesNoMore where a limit on a user's jobs is reached."""
        # A job for the CPU has its node to itself, since others would share what it measures.
        resources: dict[str, Any] = {"slurm_gres": self._gres, "slurm_exclusive": None}
        if not run.chunk.needs_accelerator:
            resources = {"slurm_gres": None, "slurm_exclusive": True}
        unused, lost_on = set(self._refusals.of(run.chunk)), {run.chunk.avoid or ""}
        if run.chunk.avoid and set(nodes_of(self._partition)) - unused - lost_on:
            unused |= lost_on
        unused.add(self._parameters.get("slurm_exclude") or "")
        exclude = ",".join(sorted(filter(None, unused))) or None
        self._submitit.update_parameters(**resources, slurm_exclude=exclude)
        try:
            job = self._submitit.submit(_run, run.chunk, versions(), run.messages, self._time_s)
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            self._check_takes_more(one_line(error), error)
        self._taken_at = time.monotonic()
        run.job_id = job.job_id
        self._jobs[job.job_id] = SlurmJob(run, job)

    def _check_takes_more(self, why: str, error: Exception) -> NoReturn:
        """Whether what sbatch refuses may be sent later; ConfigError for what it never takes."""
        now = time.monotonic()
        if self._jobs:
            self._taken_at = now
        if not re.search(PASSING, why) or now - self._taken_at > REFUSED_LIMIT_S:
            reason = f"sbatch takes no such job: {why}"
            raise ConfigError(f"cluster=slurm: {reason}; see cluster.launcher") from error
        self._full_until = now + AGAIN_S
        if why not in self._told:
            self._told.add(why)
            tell(f"sbatch takes no job more for now, which is sent later: {why}")
        raise TakesNoMore(why) from error

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        """Read what jobs have written, and look once at the queue.

        ConfigError where no job runs or has run, and the queue says that none of them ever will.
        """
        time.sleep(timeout_s)
        queue = queued()
        for job_id, job in self._jobs.items():
            self._read(job)
            if job.over or queue is None or job_id in queue:
                job.gone_since = None
                continue
            job.gone_since = job.gone_since or time.monotonic()
            if time.monotonic() - job.gone_since > GRACE_S:
                self._read(job)
                if not job.over:
                    self._lose(job)
        self._look(queue or {})
        over = [job_id for job_id, job in self._jobs.items() if job.over]
        return [self._cleaned_up(self._jobs.pop(job_id)) for job_id in over]

    def close(self) -> list[ChunkRun]:
        """Cancel what is in the queue, and leave no folder of submitit's where nothing has run."""
        unfinished = list(self._jobs.values())
        for job in unfinished:
            job.submitted.cancel(check=False)
            self._read(job)
            self._cleaned_up(job)
        self._jobs = {}
        if not (self._was_there or self._has_run):
            shutil.rmtree(self._folder)
        return [job.run for job in unfinished]

    def _look(self, queue: Mapping[str, QueuedJob]) -> None:
        """Say why jobs wait where none runs, once for each reason."""
        self._has_run |= any(job.run.started is not None for job in self._jobs.values())
        own = {job_id: queue[job_id] for job_id in self._jobs if job_id in queue}
        if any(job.state != "PENDING" for job in own.values()) or not own:
            self._waiting_since = time.monotonic()
            return
        is_long = time.monotonic() - self._waiting_since > SILENT_S
        for job_id, job in own.items():
            if job.reason not in self._told and (is_long or job.reason in HOPELESS):
                self._told.add(job.reason)
                tell(f"Slurm's job {job_id} waits, and none runs: {job.reason}")
        reasons = {job.reason for job in own.values()}
        if is_long and reasons <= HOPELESS:
            why = f"no job can ever run: {', '.join(sorted(reasons))}"
            raise ConfigError(f"cluster=slurm: {why}; see cluster.launcher")

    def _read(self, job: SlurmJob) -> None:
        messages, job.read_bytes = read(job.run.messages, job.read_bytes)
        for message in messages:
            if isinstance(message, JobEnded):
                self._end(job, message)
            else:
                job.run.take(message)

    def _end(self, job: SlurmJob, end: JobEnded) -> None:
        run = job.run
        job.over = end.how != Ending.TERMINATED  # or it has been put back into the queue
        run.place = end.place or run.place
        if end.how == Ending.REFUSED:
            self._refusals.add(run, end.text, of_node=end.of_node)
        elif end.how == Ending.RAISED:
            run.lost, run.log = one_line(end.text.strip().rpartition("\n")[2]), end.text
        elif end.how in (Ending.OUT_OF_TIME, Ending.PREEMPTED):
            run.blameless = end.how == Ending.PREEMPTED
            said = f"Slurm's job {run.job_id} was {Ending(end.how).value}"
            tell(f"{said}: what is left is sent again, which is no try")

    def _lose(self, job: SlurmJob) -> None:
        """End a job that left the queue without its last message, as Slurm says that it ended."""
        facts = facts_of(job.run.job_id)
        state, code = facts.get("JobState", "gone from the queue"), facts.get("ExitCode", "")
        place = facts.get("NodeList", "").replace("(null)", "")
        said = "\n".join(filter(None, (job.submitted.stdout(), job.submitted.stderr())))
        lacks = re.findall(NO_PROGRAM, said)
        if state == "FAILED" and job.run.started is None and lacks:
            end = JobEnded(Ending.REFUSED, f"{place}: {one_line(lacks[-1])}", place, of_node=True)
        else:
            where = f" on {place}" if place else ""
            ending = f"Slurm's job {job.run.job_id} ended{where}: {state} {code}"
            how = ENDS.get(state, Ending.RAISED)
            end = JobEnded(how, f"{said[-LONGEST_LOG:]}\n{ending}", place)
        self._end(job, end)

    def _cleaned_up(self, job: SlurmJob) -> ChunkRun:
        """What a job leaves in submitit's folder is of no more use, once its results are here."""
        self._has_run |= job.run.started is not None
        if job.run.lost is None:
            for path in self._folder.glob(f"{job.run.job_id}_*"):
                path.unlink(missing_ok=True)
        return job.run


def _time_left(settings: Mapping[str, Any], longest_s: float) -> float:
    """The seconds that a job has until Slurm warns it; ConfigError where a cell needs more."""
    minutes: float = settings.get("timeout_min", 60)
    delay_s: float = settings.get("signal_delay_s", SIGNAL_DELAY_S)
    left_s, needed_s = 60.0 * minutes - delay_s, START_S + longest_s + MARGIN_S
    if left_s < needed_s:
        has = f"cluster.launcher.timeout_min={minutes} less signal_delay_s={delay_s:g} is"
        needs = f"and a job of a cell with limit.time_s={longest_s:g} may need {needed_s:g} s"
        least = -int(-(needed_s + delay_s) // 60)
        advice = f"give timeout_min={least} or more, or another signal_delay_s or limit.time_s"
        raise ConfigError(f"{has} {max(left_s, 0.0):g} s, {needs}; {advice}")
    return left_s


class _JobEnded(KeyboardInterrupt):
    """Slurm ends the job: whatever runs is left where it is."""


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends already
    raise _JobEnded


def _run(chunk: Chunk, sender_versions: dict[str, str], messages: Path, time_s: float) -> None:
    """Runs on the node; where Slurm has put the job into its queue again, what is done stays."""
    place = os.environ.get("SLURMD_NODENAME", "")
    if not messages.exists():  # another driver has taken the sweep over, and runs these cells
        return
    end = JobEnded(Ending.DONE, place=place)
    try:
        signal.signal(signal.SIGTERM, _stop)
        # Slurm's warning may come a minute early. Cells end in time without it, and submitit's own
        # handler would put the job back.
        for name in ("SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        cpus = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or 0
        if 0 < int(cpus) < len(os.sched_getaffinity(0)):  # nothing binds it to those it was given
            os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
        said, _ = read(messages)
        finished = {message.cell for message in said if isinstance(message, CellResult)}
        for part in unfinished_parts(chunk, finished, blameless=True):
            for message in run_chunk(part, sender_versions, time_s):
                append(messages, message)
    except _JobEnded:
        end = JobEnded(Ending.TERMINATED, place=place)
    except NodeRefused as refusal:
        of_node = not isinstance(refusal, OperationsRefused)
        end = JobEnded(Ending.REFUSED, str(refusal), place, of_node)
    except Exception:
        end = JobEnded(Ending.RAISED, traceback.format_exc(), place)
    append(messages, end)
