"""Has the gate tell what it spends: ``backend_module=tests.support.watched_gate``.

The module adds no device. Each process leaves a file in the folder that ``WATCHED_GATE``
names: the seconds that it sampled, and of these those that went to reading the sentinels, to
waiting (readings meanwhile included), and to sampling in slow moments.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runner.measure.gate import Gate

Result = TypeVar("Result")


class _Spent:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY)
        self._gate: Gate | None = None  # the latest
        self._is_within = False  # whether one of its methods has called another
        self._end_s = 0.0
        self._sampling_s = self._reading_s = self._waiting_s = self._slow_s = 0.0

    def watched(self, method: Callable[..., Result]) -> Callable[..., Result]:
        """The method, whose seconds are counted."""

        def run(gate: Gate, **settings: bool) -> Result:
            if self._is_within:
                return method(gate, **settings)
            self._is_within = True
            begun_s, waited_s, slow_s = time.perf_counter(), gate.waited_s, gate.slow_s
            try:
                return method(gate, **settings)
            finally:
                self._is_within = False
                self._slow_s += gate.slow_s - slow_s
                self._count(gate, begun_s, gate.waited_s - waited_s)

        return run

    def _count(self, gate: Gate, begun_s: float, waited_s: float) -> None:
        end_s = time.perf_counter()
        self._sampling_s += end_s - (self._end_s if gate is self._gate else begun_s)
        self._gate, self._end_s = gate, end_s
        self._waiting_s += waited_s
        self._reading_s += end_s - begun_s - waited_s
        seconds = self._sampling_s, self._reading_s, self._waiting_s, self._slow_s
        os.pwrite(self._file, " ".join(f"{s:15.6f}" for s in seconds).encode(), 0)


def spent_in(folder: Path) -> list[float]:
    """Seconds of sampling, reading, waiting and slow moments, of all processes together."""
    of_processes = [map(float, path.read_text().split()) for path in folder.iterdir()]
    return [sum(of_kind) for of_kind in zip(*of_processes, strict=True)]


if "WATCHED_GATE" in os.environ:
    _spent = _Spent(Path(os.environ["WATCHED_GATE"]) / str(os.getpid()))
    Gate.pass_by = _spent.watched(Gate.pass_by)
    Gate.look = _spent.watched(Gate.look)
