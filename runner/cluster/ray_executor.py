"""Chunks as tasks of Ray, which sends a cell's results as it ends: a dying node takes one along.

Which node takes a chunk is decided here, and not by Ray: a node has a slot for each accelerator, or
one where it has none, and a chunk goes to another node than the one that lost it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.cluster.chunk import Chunk
from runner.cluster.executor import ChunkRun
from runner.cluster.node import CellResult, ChunkStarted, run_chunk, versions
from runner.errors import ConfigError, one_line

UPDATE_S = 2.0  # between two looks at which nodes there are
NODE_IS_GONE = (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError)
LONGEST_LOG = 20_000  # characters of a lost job's traceback
Stream = Iterator[Any]  # of references to a chunk's messages


@dataclass
class RayNode:
    """A node of Ray's, with a name that no other has had; each of its chunks sends a stream."""

    name: str
    slots: int
    accelerators: int
    cpus: float
    streams: list[Stream] = field(default_factory=list)


class RayExecutor:
    """A Ray cluster: one that runs, or this machine alone; ConfigError where there is none.

    ``init`` is what ``ray.init`` takes, and ``remote`` what ``ray.remote`` takes, except what is
    decided here.
    """

    def __init__(self, init: dict[str, Any], remote: dict[str, object]) -> None:
        try:
            ray.init(**init)
        except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
            advice = "see cluster.launcher.ray.init"
            raise ConfigError(f"cluster=ray: {one_line(error)}; {advice}") from error
        self._remote = remote
        self._nodes: dict[str, RayNode] = {}
        self._runs: dict[Stream, tuple[ChunkRun, str]] = {}  # with the name of the node
        self._names: dict[str, str] = {}  # Ray's of a node, by our identity
        self._gone: set[str] = set()  # for good: a node that comes back has another name
        self._updated_at = 0.0
        self._update_nodes()

    def slots(self) -> int:
        """How many chunks could run at once."""
        self._update_nodes()
        return sum(node.slots for node in self._nodes.values())

    def submit(self, chunk: Chunk) -> bool:
        """Send a chunk to a node with a free slot, if it can another than the one that lost it."""
        self._update_nodes()
        nodes = list(self._nodes.values())
        if chunk.needs_accelerator and any(node.accelerators for node in nodes):
            nodes = [node for node in nodes if node.accelerators]
        others = [node for node in nodes if node.name != self._names.get(chunk.avoid or "")]
        free = [node for node in others or nodes if len(node.streams) < node.slots]
        if not free:
            return False
        self._send(chunk, min(free, key=lambda node: len(node.streams) / node.slots))
        return True

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
                    run, name = self._runs.pop(stream)
                    if name in self._nodes:
                        self._nodes[name].streams.remove(stream)
                    over.append(run)
        return over

    def close(self) -> list[ChunkRun]:
        """Cancel what runs and leave the cluster."""
        unfinished = [run for run, _ in self._runs.values()]
        for stream in self._runs:
            ray.cancel(stream, force=True)
        self._runs = {}
        ray.shutdown()
        return unfinished

    def _send(self, chunk: Chunk, node: RayNode) -> None:
        options = {
            "num_cpus": node.cpus // node.slots,
            "num_gpus": 1 if chunk.needs_accelerator and node.accelerators else 0,
            **self._remote,
            "num_returns": "streaming",
            "max_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.name, soft=False),
        }
        threads = os.environ.get("OMP_NUM_THREADS") or str(int(node.cpus))
        stream = ray.remote(_run).options(**options).remote(chunk, versions(), threads)
        node.streams.append(stream)
        self._runs[stream] = (ChunkRun(chunk, f"{node.name[:12]}-{chunk.numbers[0]}"), node.name)

    def _take(self, stream: Stream) -> bool:
        """Take the next message of a stream; returns whether it has ended."""
        run, name = self._runs[stream]
        try:
            message: ChunkStarted | CellResult = ray.get(next(stream))
        except StopIteration:
            return True
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            run.lost = one_line(str(cause).partition("\n")[0] or type(cause).__name__)
            run.log = str(error)[-LONGEST_LOG:]
            if isinstance(error, NODE_IS_GONE):  # Ray goes on to list it for a while
                self._forget(name)
                run.refused = isinstance(error, ray.exceptions.TaskUnschedulableError)
            return True
        if isinstance(message, ChunkStarted):
            self._names[message.node] = name
        run.take(message)
        return False

    def _update_nodes(self) -> None:
        """See which nodes there are; those that went take their slots with them."""
        if time.monotonic() - self._updated_at < UPDATE_S:
            return
        self._updated_at = time.monotonic()
        alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        for name in self._nodes.keys() - alive.keys():
            self._forget(name)
        for name, resources in alive.items():
            if name not in self._nodes and name not in self._gone and resources.get("CPU"):
                accelerators = int(resources.get("GPU", 0))
                slots = max(1, accelerators)
                self._nodes[name] = RayNode(name, slots, accelerators, resources["CPU"])

    def _forget(self, name: str) -> None:
        if self._nodes.pop(name, None) is not None:
            print(f"node {name[:12]} of Ray is gone", file=sys.stderr, flush=True)
        self._gone.add(name)


def _run(
    chunk: Chunk, sender_versions: dict[str, str], threads: str
) -> Iterator[ChunkStarted | CellResult]:
    """Runs on the node, whose threads a cell takes; Ray gives one for each CPU it is asked for."""
    os.environ["OMP_NUM_THREADS"] = threads
    yield from run_chunk(chunk, sender_versions)
