"""Which calls of a model to move to another device, when what they hand on has to move too.

With a time for each call on either side, and for each value that would cross, the best choice is a
minimum cut: Boykov, Veksler, Zabih, Fast approximate energy minimization via graph cuts, IEEE PAMI
23, 2001, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import networkx as nx

from runner.analysis.transfer_model import BothWays
from runner.config.workload.call import HOST

HERE, THERE = ("side", "here"), ("side", "there")  # nodes of the graph, beside the calls' names


@dataclass(frozen=True)
class Handed:
    """Values that one call makes and others use, in a pass."""

    maker: str
    users: tuple[str, ...]
    count: int
    size: int  # bytes of all of them


def flow_of(text: object) -> list[Handed]:
    """What a model's row says of its values; nothing where it does not, or was altered."""
    try:
        found = json.loads(text) if isinstance(text, str) else []
        return [
            Handed(str(maker), tuple(map(str, users)), int(count), int(size))
            for maker, users, count, size in found
        ]
    except (ValueError, TypeError, RecursionError, OverflowError):
        return []


def transfers_s(flow: Sequence[Handed], moved: Collection[str], ways: BothWays) -> float:
    """Seconds of the transfers in a pass in which these calls are made there."""
    total_s = 0.0
    for value in flow:
        is_there = value.maker in moved
        if any((user in moved) != is_there for user in value.users):
            way = ways.to_host if is_there else ways.to_device
            total_s += way.seconds(value.count, value.size).value
    return total_s


def best_plan(
    here_s: Mapping[str, float],
    there_s: Mapping[str, float],
    flow: Sequence[Handed],
    ways: BothWays,
) -> frozenset[str]:
    """The calls to be made there, for a pass to take the least time with its transfers.

    Seconds are of all calls of a name in a pass. What has no time here, or none there, stays here;
    so does what takes part in no flow, such as a view of a weight.
    """
    graph = nx.DiGraph()
    flowing = set(chain.from_iterable((value.maker, *value.users) for value in flow))
    graph.add_edge(HERE, HOST)  # without a capacity, which is without a limit
    for name, seconds in here_s.items():
        graph.add_edge(name, THERE, capacity=_whole(seconds))
        if name in there_s and name in flowing:
            graph.add_edge(HERE, name, capacity=_whole(there_s[name]))
        else:
            graph.add_edge(HERE, name)
    for number, value in enumerate(flow):
        who = {value.maker, *value.users}
        graph.add_edges_from((HERE, name) for name in who.difference(here_s, (HOST,)))
        costs = [_whole(model.seconds(value.count, value.size).value) for model in ways]
        over, back = ("there", number), ("back", number)
        graph.add_edge(value.maker, over, capacity=costs[0])  # once, whoever uses it there
        graph.add_edges_from((over, user) for user in value.users)
        graph.add_edge(back, value.maker, capacity=costs[1])
        graph.add_edges_from((user, back) for user in value.users)
    _, (_, there) = nx.minimum_cut(graph, HERE, THERE)
    return frozenset(name for name in here_s if name in there)


def _whole(seconds: float) -> int:
    """In picoseconds: flows of floating-point numbers may leave a rest that is none."""
    return round(seconds * 1e12)
