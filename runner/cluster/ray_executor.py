"""Chunks as tasks of Ray, which sends a cell's results as it ends: a dying node takes one along.

Which node takes a chunk is decided here, and not by Ray: a node has a slot for each accelerator, or
one where it has none, and a chunk goes to another node than the one that lost it.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.cluster.chunk import Chunk
from runner.cluster.executor import ChunkRun, Refusals
from runner.cluster.messages import CellResult, ChunkStarted, append
from runner.cluster.node import NodeRefused, OperationsRefused, run_chunk, versions
from runner.errors import ConfigError, one_line, tell

UPDATE_S = 2.0  # between two looks at which nodes there are
ANSWER_LIMIT_S = 30.0  # for which an address may be silent
# How a client of HTTP/2 begins, which Ray speaks, and the kind of frame that is answered first.
GREETING, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\4"
NODE_IS_GONE = (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError)
LONGEST_LOG = 20_000  # characters of a lost job's traceback
ADVICE = "'+cluster.launcher.ray.init.runtime_env={working_dir: .}' takes this folder to each node"
Stream = Iterator[Any]  # of references to a chunk's messages


@dataclass
class RayNode:
    """A node of Ray's, with a name that no other has had; each of its chunks sends a stream."""

    name: str
    host: str
    slots: int
    accelerators: int
    cpus: float
    streams: list[Stream] = field(default_factory=list)


class RayExecutor:
    """A Ray cluster: one that runs, or this machine alone; ConfigError where there is none.

    ``init`` is what ``ray.init`` takes, and ``remote`` what ``ray.remote`` takes, except what is
    decided here.
    """

    def __init__(self, init: dict[str, Any], remote: dict[str, Any]) -> None:
        check_answers(init.get("address") or os.environ.get("RAY_ADDRESS") or "auto")
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**init)
        except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
            advice = "see cluster.launcher.ray.init"
            raise ConfigError(f"cluster=ray: {one_line(error)}; {advice}") from error
        finally:
            signal.signal(signal.SIGTERM, terminated)  # in place of Ray's, which ends the process
        self._remote = remote
        self._nodes: dict[str, RayNode] = {}
        self._runs: dict[Stream, ChunkRun] = {}  # whose places are names of nodes
        self._gone: set[str] = set()  # for good: a node that comes back has another name
        self._refusals = Refusals(ADVICE)
        self._updated_at = 0.0
        self._update_nodes()
        most = max((node.cpus for node in self._nodes.values()), default=math.inf)
        if (asked := remote.get("num_cpus") or 0) > most:
            ray.shutdown()
            has = f"cluster.launcher.ray.remote.num_cpus={asked} is more than any node has"
            raise ConfigError(f"{has}; give {most:g} or less")

    def slots(self) -> int:
        """How many chunks could run at once."""
        self._update_nodes()
        return sum(node.slots for node in self._nodes.values())

    def has_room(self, chunk: Chunk) -> bool:
        """Whether a node for a chunk has a free slot."""
        return bool(self._free_nodes(chunk))

    def refusal(self, chunk: Chunk) -> str:
        """Why no node that is there can run a chunk; blank where one may."""
        return self._refusals.of_all(chunk, self._nodes)

    def _free_nodes(self, chunk: Chunk) -> list[RayNode]:
        """Where a chunk could go now, if it can to another node than the one that lost it."""
        self._update_nodes()
        refused = self._refusals.of(chunk)
        nodes = [node for node in self._nodes.values() if node.name not in refused]
        if chunk.needs_accelerator and any(node.accelerators for node in nodes):
            nodes = [node for node in nodes if node.accelerators]
        others = [node for node in nodes if node.name != chunk.avoid]
        return [node for node in others or nodes if len(node.streams) < node.slots]

    def ended(self, timeout_s: float) -> list[ChunkRun]:
        """Take what has come back, for as long as no chunk has ended."""
        over: list[ChunkRun] = []
        deadline = time.monotonic() + timeout_s
        if not self._runs:
            time.sleep(timeout_s)
        while self._runs and not over and (left_s := deadline - time.monotonic()) > 0:
            ready, _ = ray.wait(list(self._runs), timeout=left_s, fetch_local=False)
            for stream in ready:
                if self._take(stream):
                    run = self._runs.pop(stream)
                    if run.place in self._nodes:
                        self._nodes[run.place].streams.remove(stream)
                    over.append(run)
        return over

    def close(self) -> list[ChunkRun]:
        """Cancel what runs and leave the cluster."""
        unfinished = list(self._runs.values())
        for stream in self._runs:
            ray.cancel(stream, force=True)
        self._runs = {}
        ray.shutdown()
        return unfinished

    def send(self, run: ChunkRun) -> None:
        """Send a chunk to the least busy of the nodes that have room for it."""
        node = min(self._free_nodes(run.chunk), key=lambda node: len(node.streams) / node.slots)
        options = {
            "num_cpus": node.cpus // node.slots,
            "num_gpus": 1 if run.chunk.needs_accelerator and node.accelerators else 0,
            **self._remote,
            "num_returns": "streaming",
            "max_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.name, soft=False),
        }
        # whatever of its CPUs a node gives to a job, Ray binds nothing to them
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, int(options["num_cpus"] or 1)))
        stream = ray.remote(_run).options(**options).remote(run.chunk, versions(), threads)
        node.streams.append(stream)
        run.job_id, run.place = f"{node.name[:12]}-{run.chunk.numbers[0]}", node.name
        self._runs[stream] = run

    def _take(self, stream: Stream) -> bool:
        """Take the next message of a stream; returns whether it has ended."""
        run = self._runs[stream]
        try:
            message: ChunkStarted | CellResult = ray.get(next(stream))
        except StopIteration:
            return True
        except ray.exceptions.RayError as error:
            self._lose(run, error)
            return True
        append(run.messages, message)  # whatever becomes of this process
        run.take(message)
        return False

    def _lose(self, run: ChunkRun, error: ray.exceptions.RayError) -> None:
        cause = getattr(error, "cause", None) or error
        reason = one_line(str(cause).partition("\n")[0] or type(cause).__name__)
        place = run.place or ""
        if isinstance(cause, NodeRefused):
            of_node = not isinstance(cause, OperationsRefused)
            self._refusals.add(run, reason, of_node=of_node)
        elif run.started is None and "No module named" in reason:  # ours, or what it needs
            self._refusals.add(run, f"{self._nodes[place].host}: {reason}", of_node=True)
        elif isinstance(error, ray.exceptions.TaskUnschedulableError):  # before it got anywhere
            run.blameless = True
        else:
            run.lost, run.log = reason, str(error)[-LONGEST_LOG:]
        if isinstance(error, NODE_IS_GONE):  # Ray goes on to list it for a while
            self._forget(place)

    def _update_nodes(self) -> None:
        """See which nodes there are; those that went take their slots with them."""
        if time.monotonic() - self._updated_at < UPDATE_S:
            return
        self._updated_at = time.monotonic()
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for name in self._nodes.keys() - alive.keys():
            self._forget(name)
        for name, node in alive.items():
            resources = node["Resources"]
            if name not in self._nodes and name not in self._gone and resources.get("CPU"):
                accelerators = int(resources.get("GPU", 0))
                slots, host = max(1, accelerators), node["NodeManagerHostname"]
                self._nodes[name] = RayNode(name, host, slots, accelerators, resources["CPU"])

    def _forget(self, name: str) -> None:
        if node := self._nodes.pop(name, None):
            tell(f"node {node.host} of Ray is gone ({name[:12]})")
        self._gone.add(name)


def check_answers(address: str) -> None:
    """Refuse an address where nothing answers as Ray does, which itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_LIMIT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("0", "false"):
                connection.sendall(GREETING)
                with connection.makefile("rb") as answer:
                    if answer.read(4)[3:] != SETTINGS:
                        raise ConnectionError("what listens there is not Ray")
    except (OSError, OverflowError) as error:
        advice = "see cluster.launcher.ray.init.address and RAY_ADDRESS"
        raise ConfigError(
            f"cluster=ray: nothing answers at {address}: {error}; {advice}"
        ) from error


def _run(
    chunk: Chunk, sender_versions: dict[str, str], threads: str
) -> Iterator[ChunkStarted | CellResult]:
    """Runs on the node, with as many threads as the job has CPUs, whatever its process had."""
    os.environ["OMP_NUM_THREADS"] = threads
    yield from run_chunk(chunk, sender_versions)
