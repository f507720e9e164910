"""The gate that a cell's moments pass: it waits for calm ones, and tells them from the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from runner.measure.gate import Gate
from runner.measure.kernels import OF_MACHINE, Kernels
from runner.measure.machine_best import is_of_latest, known_best, remember
from runner.measure.sentinel import Sentinel
from runner.rows.rows import LEARNED_AGAIN
from runner.tasks.task import SentinelKey, Task, WorkerState

SHORTEST_S = 0.2  # of timing.max_time_s: for less it is not worth while to look
# lost in a row that gave hardly a calm moment, or so many times what a cell may lose where that is
# more: nothing waits any more
FUTILE_S = 10.0
FUTILE_WAITS = 1.5


def gate_for(tasks: Sequence[Task], shares: int = 1) -> Gate:
    """The gate for cells that are measured in turn, or for one alone.

    Their patience is divided between so many gates, as where several processes measure them.
    """
    patience_s = _patience_s(tasks, shares)
    if not all(map(has_time_to_look, tasks)):
        return Gate(())
    sentinels: dict[SentinelKey, tuple[Sentinel, Callable[[], None]]] = {}
    for task in tasks:
        enter = partial(set_threads, task.threads)
        enter()
        sentinels[_key(task)] = (sentinel_of(task), enter)
    watch = [task.device.sensors.watch for task in tasks if not task.device.is_cpu]
    gate = Gate(list(sentinels.values()), patience_s, tasks[0].report_wait, watch)
    tasks[0].state.gates.append(gate)
    return gate


def _patience_s(tasks: Sequence[Task], shares: int = 1) -> float:
    """What these cells may lose to slow moments: all cells together no longer than the rest took.

    Where much was lost for nothing, none waits until calm moments are seen again.
    """
    state = tasks[0].state
    while state.gates:
        gate = state.gates.pop()
        state.lost_s += gate.lost_s
        state.futile_s = 0.0 if gate.is_worth_while else state.futile_s + gate.lost_s
    asked_s = [task.cell.timing.patience_s for task in tasks]
    if state.futile_s >= max(FUTILE_S, FUTILE_WAITS * max(asked_s)):
        return 0.0
    own_s = sum(asked_s) / shares
    other_s = time.monotonic() - state.began_s - state.lost_s
    return max(0.0, min(own_s, own_s + other_s - state.lost_s))


def slowdown_against(task: Task) -> str | None:
    """Whose best a cell's slowdown is against; None where nothing tells of one."""
    sentinel = task.state.sentinels.get(_key(task))
    if sentinel is None:
        return None
    this_run_again, latest_runs = LEARNED_AGAIN
    if sentinel.has_relearned:
        return this_run_again
    if sentinel.known is None:
        return "this run"
    return latest_runs if sentinel.is_of_latest else "earlier runs"


def keep_best(state: WorkerState) -> None:
    """Keep what the sentinels have seen for later runs, now and then."""
    for (device_name, threads, kernels), sentinel in state.sentinels.items():
        looked = sentinel.seconds - sentinel.kept_seconds
        if state.shares_best and looked >= kernels.kept_after:
            sentinel.kept_seconds = sentinel.seconds
            sentinel.relearn()
            seen = sentinel.began_s, sentinel.seconds, sentinel.own_best
            again = sentinel.has_relearned
            remember(device_name, threads, *seen, relearned=again, kernels=kernels)


def has_time_to_look(task: Task) -> bool:
    """Whether a cell is timed for long enough for the kernels to be read as well."""
    return task.cell.timing.max_time_s >= SHORTEST_S


def set_threads(threads: int) -> None:
    """Have so many intra-op threads, where there are others."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def sentinel_of(task: Task, kernels: Kernels = OF_MACHINE) -> Sentinel:
    """The worker's sentinel of such kernels on the cell's device, with as many threads."""
    sentinels, key = task.state.sentinels, _key(task, kernels)
    if key not in sentinels:
        known = known_best(*key) if task.state.shares_best else None
        clock = task.device.plain_clock()
        of_latest = known is not None and is_of_latest(*key)
        of_device = task.device.torch, clock, known
        sentinels[key] = Sentinel(*of_device, is_of_latest=of_latest, kernels=kernels)
    return sentinels[key]


def _key(task: Task, kernels: Kernels = OF_MACHINE) -> SentinelKey:
    return task.device.name, task.threads if task.device.is_cpu else 0, kernels
