"""What a model's calls take where the model makes them, and what its pass takes beside them.

A call that is timed alone finds its inputs in the cache and its memory in hand, and the clock sees
none of the Python between two calls. How much that is, is measured within passes of the model, the
clock around each call that PyTorch dispatches:

- outside: a pass that nothing watches, less the calls in the pass after it;
- caches: the calls in a pass, less the same calls made at once again;
- page faults, a part of these: pages that are new at a call and not when it is made again.

Beside the times it notes which call uses what which other one made, so that it can be told what
would have to move if some of the calls moved to another device.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from statistics import median

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runner.calls import Thunk
from runner.calls.bound_operation import storage_of
from runner.config.workload.call import HOST, PARTS
from runner.measure.page_faults import Probe, Touched, fault_s, is_counted, touched
from runner.tasks.recorder import NO_CALLS, Recorder

ROUNDS = 20  # at most, of three passes each
FEWEST_ROUNDS = 3
AGAIN = 3  # further calls, of which the median counts
FEWEST_PASSES = 2 + FEWEST_ROUNDS * (4 + AGAIN)  # that all of it takes the time of, at least
FRESH_BYTES = 16 * 2**20  # of which it is seen what a page costs that is new
LONGEST_TEXT = 40_000  # characters of a column; a model of a thousand calls has fewer

Moved = tuple[str, tuple[str, ...], int, int]
"""Who makes some values, who use them, how many they are in a pass, and their bytes."""


@dataclass(frozen=True)
class InModel:
    """Shares of a pass; ``calls`` are by their names in the workload. None: it cannot be told."""

    outside: float
    caches: float
    page_faults: float | None
    calls: Mapping[str, float]
    flow: Sequence[Moved]

    def columns(self, pass_s: float) -> dict[str, object]:
        """As columns of the model's row, for a pass of so many seconds."""
        shares = {part: getattr(self, part) for part in PARTS}
        parts: dict[str, object] = {
            f"{part}_s": None if share is None else share * pass_s for part, share in shares.items()
        }
        of_calls = {name: float(f"{share * pass_s:.4g}") for name, share in self.calls.items()}
        found = {"calls_s": of_calls, "flow": self.flow}
        texts = {name: json.dumps(values, separators=(",", ":")) for name, values in found.items()}
        parts["pass_s"] = pass_s  # of this process, of which a row of several has the first's parts
        return parts | {name: text for name, text in texts.items() if len(text) <= LONGEST_TEXT}


@dataclass(eq=False)
class _Times(TorchDispatchMode):
    """Times each call of a pass, and with ``again`` the same call when it was just made."""

    again: bool
    first: list[Touched] = field(default_factory=list)
    second: list[Touched] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Make the call, with the clock around it."""
        named = kwargs or {}
        results: list[object] = []
        call = partial(func, *args, **named)
        first = touched(lambda: results.append(call()))
        if func.namespace not in NO_CALLS:
            self.first.append(first)
            if self.again:
                self._make_again(func, call)
        return results[0]

    def _make_again(self, func: OpOverload, call: Thunk) -> None:
        """Make it again; what changes its inputs, or draws numbers, is taken as it was."""
        is_seeded = torch.Tag.nondeterministic_seeded in func.tags
        if func._schema.is_mutable or is_seeded:
            self.second.append(self.first[-1])
            return
        turns = [touched(call) for _ in range(AGAIN)]
        faults, seconds = (median(values) for values in zip(*turns, strict=True))
        self.second.append(Touched(int(faults), seconds))


class _Flow(Recorder):  # type: ignore[no-untyped-call]  # as its base
    """Records which call uses what another one made, or the model was given."""

    def __init__(self, dtype: torch.dtype, inputs: Sequence[Tensor]) -> None:
        super().__init__(nn.Module(), dtype)  # whose parts do not matter here
        self._values: list[tuple[str, int, set[str]]] = []  # who made it, its bytes, who uses it
        self._latest: dict[int, int] = {}  # the value that a storage holds
        for tensor in inputs:
            self._make(tensor, HOST)

    def _made(self, func: OpOverload, given: object, result: object) -> None:
        """Note what a call uses and makes; a view makes nothing, but is made where its data are."""
        used, made = _storages_in(given), list(_tensors_in(result))
        self._use(used, self.order[-1])
        if func._schema.is_mutable or not all(storage_of(tensor) in used for tensor in made):
            for tensor in made:
                self._make(tensor, self.order[-1])

    def end(self, result: object) -> list[Moved]:
        """What the calls hand on, with those values together that go the same way."""
        self._use(_storages_in(result), HOST)
        together: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for maker, size, users in self._values:
            if users:
                counted = together.setdefault((maker, tuple(sorted(users))), [0, 0])
                counted[0] += 1
                counted[1] += size
        return [(*who, count, size) for who, (count, size) in together.items()]

    def _make(self, tensor: Tensor, maker: str) -> None:
        self._latest[storage_of(tensor)] = len(self._values)
        self._values.append((maker, tensor.untyped_storage().nbytes(), set()))

    def _use(self, storages: set[int], user: str) -> None:
        for storage in storages & self._latest.keys():  # the others are the model's own weights
            self._values[self._latest[storage]][2].add(user)


def _tensors_in(value: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _storages_in(value: object) -> set[int]:
    return set(map(storage_of, _tensors_in(value)))


def times_in_model(
    call: Thunk, dtype: torch.dtype, allowed_s: float, inputs: Sequence[Tensor] = ()
) -> InModel | None:
    """Watch passes of a model, for some time; None where no two of them make the same calls."""
    with _Flow(dtype, inputs) as recorder:
        result = call()
    flow = recorder.end(result)
    names, page_s = recorder.order, _page_fault_s()
    rounds: list[_Round] = []
    end = time.perf_counter() + allowed_s
    while len(rounds) < ROUNDS and (len(rounds) < FEWEST_ROUNDS or time.perf_counter() < end):
        call()  # so that the pass that is timed comes after one like itself
        pass_s = touched(call).seconds
        once, twice = _Times(again=False), _Times(again=True)
        for watch in (once, twice):
            with watch:
                call()
        if not len(once.first) == len(twice.second) == len(names):
            return None
        rounds.append(_Round(pass_s, once, twice, page_s))

    # what slows the machine for a while slows one pass of a round more than the others
    rounds = sorted(rounds, key=attrgetter("spent_s"))[: max(FEWEST_ROUNDS, len(rounds) // 2)]
    faults = [one.page_faults for one in rounds if one.page_faults is not None]
    of_calls = [_shares(names, one.once, one.pass_s) for one in rounds]
    return InModel(
        outside=median(one.outside for one in rounds),
        caches=median(one.caches for one in rounds),
        page_faults=median(faults) if faults else None,
        calls={name: median(shares[name] for shares in of_calls) for name in of_calls[0]},
        flow=flow,
    )


def share_of_calls(
    call: Thunk, order: Sequence[str], names: Collection[str], rounds: int
) -> float | None:
    """The share of a pass that the calls of these names take, at most 1.

    ``order`` has the names of all calls of a pass; None where a pass makes others.
    """
    shares = []
    for _ in range(rounds):
        pass_s, watch = touched(call).seconds, _Times(again=False)
        with watch:
            call()
        if len(watch.first) != len(order):
            return None
        of_calls = _shares(order, watch, pass_s)
        shares.append(sum(of_calls[name] for name in names))
    return min(1.0, median(shares))


@dataclass(frozen=True)
class _Round:
    """A pass that nothing watched, and two that were watched right after it."""

    pass_s: float
    once: _Times
    twice: _Times
    page_s: float | None  # seconds that a new page takes; None: not known

    @property
    def spent_s(self) -> float:
        """Seconds that the passes took, without the calls that were made again."""
        return self.pass_s + _total(self.once.first).seconds + _total(self.twice.first).seconds

    @property
    def outside(self) -> float:
        """The share of a pass that is in none of its calls."""
        return 1 - _total(self.once.first).seconds / self.pass_s

    @property
    def page_faults(self) -> float | None:
        """The share of a pass that goes to pages which are new, and are not at once again."""
        if self.page_s is None:
            return None
        more = _total(self.once.first).faults - _total(self.twice.second).faults
        return more * self.page_s / self.pass_s

    @property
    def caches(self) -> float:
        """The share of a pass that its calls would not take if they were made at once again."""
        more_s = _total(self.once.first).seconds - _total(self.twice.second).seconds
        return more_s / self.pass_s - (self.page_faults or 0.0)


def _shares(names: Sequence[str], watch: _Times, pass_s: float) -> dict[str, float]:
    """The share of a pass that each call takes, as often as it is made."""
    shares = dict.fromkeys(names, 0.0)
    for name, call in zip(names, watch.first, strict=True):
        shares[name] += call.seconds / pass_s
    return shares


def _total(touches: Sequence[Touched]) -> Touched:
    return Touched(sum(t.faults for t in touches), sum(t.seconds for t in touches))


def _page_fault_s() -> float | None:
    """Seconds that the first touch of a page takes; None where the platform does not count them."""
    if not is_counted():
        return None
    probe = Probe(FRESH_BYTES)
    turns = [(touched(probe.fresh), touched(probe.again)) for _ in range(FEWEST_ROUNDS)]
    fresh, again = zip(*turns, strict=True)
    return fault_s(fresh, again)
