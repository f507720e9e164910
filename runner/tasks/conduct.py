"""Does a call do its own work, each time, before it returns? Otherwise its time says nothing.

Each question is asked by further calls, outside the clock, of callables that are not torch's own.
What is compared with the reference is what a row of calls gives that are made as the timed ones.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count, starmap
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation, is_differentiable, outputs_of, storage_of
from runner.calls.layouts import copy_of, stored
from runner.config.operation import Implemented
from runner.measure.detectors import AFFORDABLE, TimedCall
from runner.verify.values import allowed_error, relative_error

TRIES = 5
LATER_S = 0.02  # after a call has returned, for what goes on
OF_TORCH = ("torch", "runner")  # the latter are the operators of torch's database
SEED = 10_000  # beyond those of visits
FEWEST_IN_A_ROW, MOST_IN_A_ROW, ROW_S = (12, 24), 256, 0.2  # calls, as the timed ones are made
FEW = 64  # as many elements change as the root of all, over this: few look at one of them

Kernel = tuple[str, tuple[Any, ...]]


def _strided(results: object) -> list[Tensor]:
    """The tensors in results that lie in memory element by element."""
    return [tensor for tensor in outputs_of(results) if tensor.layout is torch.strided]


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What a call does: which kernels it asks for, and whether it calls one of some functions."""

    def __init__(self, functions: tuple[Any, ...] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: set[Kernel] = set()
        self.called = False
        self._functions = {getattr(function, "__code__", function) for function in functions}

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> object:
        returned = [part.alias_info for part in func._schema.returns]
        if not any(info and not info.is_write for info in returned):  # as of a view
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self.kernels.add((str(func), tuple((tuple(t.shape), t.dtype) for t in tensors)))
        return func(*args, **(kwargs or {}))

    def run(self, call: Callable[[], Any]) -> _Watch:
        """Watch a call; returns this."""
        before = sys.getprofile()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            with self:
                call()
        finally:
            sys.setprofile(before)
            threading.setprofile(before)
        return self

    def _note(self, frame: FrameType, event: str, function: object) -> None:
        if event in ("call", "c_call"):
            self.called |= (frame.f_code if event == "call" else function) in self._functions


class Conduct:
    """The questions about a call that was timed."""

    def __init__(self, timed: TimedCall, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize  # waits for all that the device is at
        self._timed, self._bound, self._drawn, self._allowed = timed, timed.bound, 0, 0.0
        if is_differentiable(timed.bound.dtype):
            given = timed.bound.op, timed.bound.dimensions, timed.bound.dtype
            self._allowed = 2 * allowed_error(*given)

    @property
    def is_asked(self) -> bool:
        """Whether anything is: not where a call takes long, or may be what it likes."""
        op = self._bound.op
        may_be_any = bool(op.random or op.restore)
        return not (op.package in OF_TORCH or self._timed.takes_long or may_be_any)

    def questions(self) -> Mapping[str, Callable[[], bool]]:
        """By the flag that a yes means."""
        if not self.is_asked:
            return {}
        names = ["reused_result", "late_work", "unrepeatable", "mutates_input"]
        if self._bound.is_compiled:  # which cannot be watched
            return {name: getattr(self, name) for name in names}
        if self._timed.cell.fill == "zeros" or self._timed.cell.layout == "expanded":
            names.append("short_cut")
        if isinstance(self._bound.op, Implemented):
            names.append("calls_reference")
        return {name: getattr(self, name) for name in names}

    @property
    def unseen(self) -> BoundOperation:
        """The operation with numbers that no call has seen."""
        return replace(self._bound, seed=self._bound.seed + SEED)

    def in_a_row(self, thunk: Thunk, tensors: list[Tensor]) -> object:
        """What one of a row of calls gives that finds in the tensors what they hold.

        The clock makes them, from where it makes those that it times. Each other one finds a few
        elements changed, at positions that nobody can guess and unknown to the tensors' versions: a
        call that looks at a part of its inputs, at who calls it, or at memory where an earlier
        result lies, gives a wrong result here. The last two find what they were given, and the last
        one the earlier result changed at a few elements.
        """
        call_s = self._timed.measured.median_s
        calls = random.SystemRandom().randint(*FEWEST_IN_A_ROW)
        if call_s * calls > AFFORDABLE * self._timed.cell.limit.time_s:
            return thunk()
        affordable = min(MOST_IN_A_ROW, int(ROW_S / call_s)) if call_s else 0
        calls += min(affordable, 2 * self._timed.measured.calls_per_sample)
        results: list[Any] = []  # of the last two calls, where who looks for it finds a wrong one
        found: list[Any] = []

        def change_result() -> None:
            # the one before is still there: what lies elsewhere, and where no input does, is the
            # caller's alone
            others = set(map(storage_of, [*tensors, *_strided(results[:-1])]))
            for tensor in _strided(results[-1:]):
                if storage_of(tensor) not in others:
                    self._changed_at_few(tensor)

        def before_each() -> Iterator[tuple[()]]:
            put_back: list[Callable[[], object]] = []
            for turn in count(1):
                while put_back:
                    put_back.pop()()
                if turn < calls - 1:
                    put_back.extend(chain.from_iterable(map(self._changed_at_few, tensors)))
                elif turn == calls:
                    change_result()
                if turn == calls + 1:  # a clock may make more
                    found.append(results[-1])
                del results[:-1]
                yield ()

        # in C throughout, so that the clock is who calls
        made = partial(next, map(results.append, starmap(thunk, before_each())))
        self._timed.clock.time(made, calls)
        return (found or results)[-1]

    def _changed_at_few(self, tensor: Tensor) -> list[Callable[[], object]]:
        """Change a few elements to others of the tensor; returns what puts them back."""
        op, elements = self._bound.op, stored(tensor.data)
        if op.prepare or op.structure or op.inputs_from or elements.numel() < 2:
            return []  # what is called has copies, or the numbers belong together
        if elements.dtype.itemsize == 1:  # some of these lack such an assignment
            elements = elements.view(torch.uint8)
        few, draw = max(1, math.isqrt(elements.numel()) // FEW), random.SystemRandom()

        def positions() -> tuple[Tensor, ...]:
            flat = torch.tensor(draw.sample(range(elements.numel()), few))
            along = torch.unravel_index(flat, elements.shape)
            return tuple(indices.to(elements.device) for indices in along)

        place = positions()
        before, other = elements[place], elements[positions()]
        elements[place] = other
        return [partial(elements.__setitem__, place, before)]

    def reused_result(self) -> bool:
        """Whether its result is an earlier call's: for the same contents, or at the same place."""
        mine = self._copies(self._timed.tensors)
        places = {storage_of(tensor) for tensor in mine}
        first = self._results(mine)
        if first and all(t.is_floating_point() and storage_of(t) not in places for t in first):
            values = [tensor.clone() for tensor in first]
            for tensor in first:
                tensor.fill_(math.nan)
            is_reused = all(t.numel() and bool(t.isnan().all()) for t in self._results(mine))
            for tensor, value in zip(first, values, strict=True):  # it may hand it back again
                tensor.copy_(value)
            if is_reused:
                return True

        # other contents at the same place: these are not seen yet, and then they are
        contents = self._fresh()
        for tensor, content in zip(mine, contents, strict=True):
            stored(tensor).copy_(stored(content))
        if self._kernels(mine) - self._kernels(mine):
            return True
        result, again = self._run(self._copies(contents)), self._run(self._copies(contents))
        is_stale = self._differ(self._run(mine), result) and not self._differ(again, result)
        return is_stale or self._is_same_of_others(contents, result)

    def _is_same_of_others(self, contents: list[Tensor], result: list[Tensor]) -> bool:
        """Whether other contents have this result too, and by the reference another one."""
        others = self._fresh()
        if self._bound.reference is None or any(map(relative_error, self._run(others), result)):
            return False
        right, other = (self._bound.expected([t.cpu() for t in of]) for of in (contents, others))
        return any(map(relative_error, right, other))

    def short_cut(self) -> bool:
        """Whether it does less for the cell's special contents than for ordinary ones."""
        ordinary = self._fresh(fill="normal", layout="contiguous")
        special = self._copies(self._timed.tensors)
        of_both = (_Watch().run(partial(self._run, mine)).kernels for mine in (ordinary, special))
        return bool(next(of_both) - next(of_both))

    def late_work(self) -> bool:
        """Whether its result is another some time later, or not there before it is looked at."""
        for _ in range(TRIES):
            mine, before = self._fresh(), set(threading.enumerate())
            results = self._results(mine)
            at_once = [t.clone() for t in results]
            started = set(threading.enumerate()) - before
            time.sleep(LATER_S)
            self._synchronize()
            if started or any(map(relative_error, results, at_once)):
                return True
        mine = self._fresh()
        kinds = {(type(t), *vars(t)) for t in mine}  # a device may have a kind of its own
        made = outputs_of(self._bound.call_with(mine)())
        for tensor in made:
            is_plain = type(tensor).__module__.startswith("torch") and not vars(tensor)
            is_left = tensor.is_neg() or tensor.is_conj()  # to whoever reads it
            if is_left or not (is_plain or (type(tensor), *vars(tensor)) in kinds):
                return True
        return False

    def unrepeatable(self) -> bool:
        """Whether it gives another result when called again, or on the same numbers elsewhere."""
        tensors = [t.detach() for t in self._timed.tensors]
        first, elsewhere, again = map(self._run, (tensors, self._copies(tensors), tensors))
        return self._differ(first, elsewhere) or self._differ(first, again)

    def mutates_input(self) -> bool:
        """Whether the inputs are not what they were before it was timed."""
        now = [t.detach().cpu() for t in self._timed.tensors]
        return any(map(relative_error, now, self._bound.draw()))

    def calls_reference(self) -> bool:
        """Whether it calls what it is compared with, or the one kernel that this consists of."""
        op, reference = self._bound.op.declared, self._bound.reference
        mine, functions = self._fresh(), (reference, op.load())
        bound = replace(self._bound, op=op, function=reference or op.load())
        watch = _Watch(functions).run(lambda: self._run(mine))
        right = _Watch().run(lambda: bound.outputs(mine)).kernels
        return watch.called or (len(right) == 1 and right <= watch.kernels)

    def _results(self, tensors: list[Tensor]) -> list[Tensor]:
        return [t.detach() for t in self._bound.outputs(tensors)]

    def _run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Copies of a call's results, whose memory the next call may use."""
        return [t.clone() for t in self._results(tensors)]

    def _kernels(self, tensors: list[Tensor]) -> set[str]:
        """The names of those that a call asks for; none of what is compiled."""
        if self._bound.is_compiled:
            return set()
        return {name for name, _ in _Watch().run(partial(self._run, tensors)).kernels}

    def _differ(self, some: list[Tensor], others: list[Tensor]) -> bool:
        return not all(error <= self._allowed for error in map(relative_error, some, others))

    def _fresh(self, **drawn: str) -> list[Tensor]:
        """Inputs of other numbers than before."""
        self._drawn += 1
        seeded = replace(self._bound, seed=self._bound.seed + SEED + self._drawn, **drawn)  # type: ignore[arg-type]
        return self._copies(seeded.draw())

    def _copies(self, tensors: list[Tensor]) -> list[Tensor]:
        return [copy_of(t.detach(), self._bound.device) for t in tensors]
