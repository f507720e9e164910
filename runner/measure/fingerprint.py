"""What ran for a call, found by two further calls: kernels, and the pages that were new.

ATen's kernels are those that it was asked for, oneDNN's those that it says it ran.

Where two versions of an operation take different times, this is the first place to look.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from runner.calls import Thunk
from runner.measure.page_faults import is_counted, touched
from runner.measure.primitives import primitives_counted

MOST_NAMED = 100  # different kernels of a call


class _Asked(TorchDispatchMode):
    """Counts what a call asks ATen for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> object:
        self.calls[str(func).removeprefix("aten.").removesuffix(".default")] += 1
        return func(*args, **(kwargs or {}))


def fingerprint_of(call: Thunk, *, on_host: bool) -> dict[str, Any]:
    """What ran for an eager call, by the row's columns; None where it is not known.

    ``on_host``: pages of the host's memory tell of it too, and what oneDNN says.
    """
    asked, named = _Asked(), None
    primitives = primitives_counted() if on_host else nullcontext(Counter[str]())
    try:
        with primitives as ran, asked:
            call()
        named = json.dumps(dict([*_first(asked.calls), *_first(ran)]))
    except (RuntimeError, NotImplementedError, TypeError) as error:  # what cannot be watched
        print(f"aten_calls: not known: {error}")
    faults = touched(call).faults if on_host and is_counted() else None
    return {"aten_calls": named, "page_faults": faults}


def _first(counts: Counter[str]) -> list[tuple[str, int]]:
    return list(counts.items())[:MOST_NAMED]
