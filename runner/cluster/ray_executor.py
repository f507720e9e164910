"""Chunks as tasks of Ray, which sends each cell's results as soon as it ends: a node that dies takes one cell with it.

Which node takes a chunk is decided here, and not by Ray: one chunk at a time for each accelerator, or for the node
where it has none, and another node than the one that lost it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.cluster.chunk import Chunk
from runner.cluster.executor import Flight
from runner.cluster.node import Begun, Measured, run_chunk, versions
from runner.errors import ConfigError, one_line

LOOK_S = 2.0  # between two looks at which nodes there are
NODE_IS_GONE = (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError)
LONGEST_LOG = 20_000  # characters of a lost job's traceback


@dataclass
class _Place:
    """A node of Ray's and the chunks that it has."""

    node: str
    chunks: int
    accelerators: int
    cpus: float
    flights: list[Any] = field(default_factory=list)


class RayExecutor:
    """A Ray cluster: one that runs, or this machine alone.

    Args:
        init: what ``ray.init`` takes.
        remote: what ``ray.remote`` takes, beside what is decided here.

    Raises:
        ConfigError: there is no cluster at the address.
    """

    def __init__(self, init: dict[str, Any], remote: dict[str, Any]) -> None:
        try:
            ray.init(**init)
        except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(f"cluster=ray: {one_line(error)}; see cluster.launcher.ray.init") from error
        self._remote = remote
        self._places: dict[str, _Place] = {}
        self._flights: dict[Any, tuple[Flight, str]] = {}
        self._identities: dict[str, str] = {}  # Ray's name of a node, by ours
        self._gone: set[str] = set()  # for good: a node that comes back has another name
        self._looked = 0.0
        self._look()

    def places(self) -> int:
        """How many chunks could run at once."""
        self._look()
        return sum(place.chunks for place in self._places.values())

    def submit(self, chunk: Chunk) -> bool:
        """Send a chunk to a free place, another than the one that lost it where there is one."""
        self._look()
        places = list(self._places.values())
        if chunk.needs_accelerator and any(place.accelerators for place in places):
            places = [place for place in places if place.accelerators]
        others = [place for place in places if place.node != self._identities.get(chunk.avoid or "")]
        free = [place for place in others or places if len(place.flights) < place.chunks]
        if not free:
            return False
        place = min(free, key=lambda place: len(place.flights) / place.chunks)
        self._send(chunk, place)
        return True

    def ended(self, timeout_s: float) -> list[Flight]:
        """Take what has come back, for as long as no chunk has ended."""
        over: list[Flight] = []
        deadline = time.monotonic() + timeout_s
        if not self._flights:
            time.sleep(timeout_s)
        while self._flights and not over and (left_s := deadline - time.monotonic()) > 0:
            ready, _ = ray.wait(list(self._flights), timeout=left_s, fetch_local=False)
            for stream in ready:
                if self._take(stream):
                    flight, node = self._flights.pop(stream)
                    if node in self._places:
                        self._places[node].flights.remove(stream)
                    over.append(flight)
        return over

    def close(self) -> list[Flight]:
        """Cancel what runs and leave the cluster."""
        left = [flight for flight, _ in self._flights.values()]
        for stream in self._flights:
            ray.cancel(stream, force=True)
        self._flights = {}
        ray.shutdown()
        return left

    def _send(self, chunk: Chunk, place: _Place) -> None:
        accelerators = 1 if chunk.needs_accelerator and place.accelerators else 0
        options = {
            "num_cpus": place.cpus // place.chunks,
            "num_gpus": accelerators,
            **self._remote,
            "num_returns": "streaming",
            "max_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        threads = os.environ.get("OMP_NUM_THREADS") or str(int(place.cpus))
        stream = ray.remote(_run).options(**options).remote(chunk, versions(), threads)
        place.flights.append(stream)
        self._flights[stream] = (Flight(chunk, f"{place.node[:12]}-{chunk.numbers[0]}"), place.node)

    def _take(self, stream: Any) -> bool:
        """Take the next message of a stream; returns whether it has ended."""
        flight, node = self._flights[stream]
        try:
            message: Begun | Measured = ray.get(next(stream))
        except StopIteration:
            return True
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            flight.lost = one_line(str(cause).partition("\n")[0] or type(cause).__name__)
            flight.log = str(error)[-LONGEST_LOG:]
            if isinstance(error, NODE_IS_GONE):  # Ray goes on to list it for a while
                self._forget(node)
                flight.refused = isinstance(error, ray.exceptions.TaskUnschedulableError)
            return True
        if isinstance(message, Begun):
            self._identities[message.node] = node
        flight.take(message)
        return False

    def _look(self) -> None:
        """See which nodes there are; those that went take their places with them."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        for name in self._places.keys() - alive.keys():
            self._forget(name)
        for name, resources in alive.items():
            if name not in self._places and name not in self._gone and resources.get("CPU"):
                accelerators = int(resources.get("GPU", 0))
                self._places[name] = _Place(name, max(1, accelerators), accelerators, resources["CPU"])

    def _forget(self, node: str) -> None:
        if self._places.pop(node, None) is not None:
            print(f"node {node[:12]} of Ray is gone", file=sys.stderr, flush=True)
        self._gone.add(node)


def _run(chunk: Chunk, wanted: dict[str, str], threads: str) -> Any:
    """Runs on the node. Ray gives a task one thread for each CPU that it asks for; a cell takes the node's."""
    os.environ["OMP_NUM_THREADS"] = threads
    yield from run_chunk(chunk, wanted)
